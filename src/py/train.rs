//! py: training as a Python class. Knows dictionaries and arrays; computes nothing.

use super::arrays::{Float, array, read};
use super::door::{detached_whole, named, raise};
use super::network::{Inner as Net, Network, output_shape};
use super::spec::values;
use super::words::parse_loss;
use crate::engine::clipping::{self, Lone};
use crate::engine::network;
use crate::engine::sweep::Level;
use crate::engine::train::{Data, Plan, Report, Targets, Trainer as Core, Watch, units};
use crate::engine::update::Rules;
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::parts::catalogue::{CatalogueError, Value};
use crate::parts::clip::Clip;
use crate::parts::constraint::Constraint;
use crate::parts::optimizer::Optimizer;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Work<T: Float> {
    core: Core<T>,
    data: Option<Data<T>>,
}

enum Inner {
    F32(Work<f32>),
    F64(Work<f64>),
}

/// A training in work: what is remembered between steps.
#[pyclass(frozen, module = "vgcore._core")]
pub struct Trainer {
    net: Py<Network>,
    inner: Mutex<Inner>,
}

/// Runs the same code for either float type.
macro_rules! with {
    ($self:expr, $py:expr, |$n:ident, $w:ident| $body:expr) => {{
        let net = $self.net.get();
        let mut inner = $self.lock($py)?;
        match (&net.inner, &mut *inner) {
            (Net::F32($n), Inner::F32($w)) => $body,
            (Net::F64($n), Inner::F64($w)) => $body,
            _ => Err(named($py, "DTypeError", "the trainer and its network differ in float type")),
        }
    }};
}

fn refused(py: Python<'_>, e: &CatalogueError) -> PyErr {
    named(py, if e.is_unknown_name() { "UnknownNameError" } else { "ArgumentError" }, &e.to_string())
}

/// How a catalogue reads a part.
type Parse<P> = fn(&str, &[(String, Value)]) -> Result<P, CatalogueError>;

/// A part by the dictionary that describes it: its name, and its parameters.
fn part<P>(d: &Bound<'_, PyDict>, parse: Parse<P>) -> PyResult<P> {
    let rest = d.copy()?;
    let name: String = match rest.get_item("name")? {
        Some(n) => n.extract()?,
        None => return Err(named(d.py(), "ArgumentError", "a description has no name")),
    };
    rest.del_item("name")?;
    parse(&name, &values(&rest)?).map_err(|e| refused(d.py(), &e))
}

/// Looks at the description of an optimizer, a clip or a constraint: raises where it makes no sense.
#[pyfunction]
pub fn check_part(py: Python<'_>, kind: &str, spec: &Bound<'_, PyDict>) -> PyResult<()> {
    match kind {
        "optimizer" => part(spec, Optimizer::parse).map(|_| ()),
        "clip" => part(spec, Clip::parse).map(|_| ()),
        "constraint" => part(spec, Constraint::parse).map(|_| ()),
        other => Err(named(py, "ArgumentError", &format!("no kind of part is called {other:?}"))),
    }
}

#[pymethods]
impl Trainer {
    #[new]
    #[pyo3(signature = (network, optimizer, clips, constraints, loss, *, batch_size, seed, shuffle, truncate=None))]
    #[allow(clippy::too_many_arguments)] // reason: the arguments of the Python constructor
    fn new(
        py: Python<'_>,
        network: Py<Network>,
        optimizer: &Bound<'_, PyDict>,
        clips: Vec<Bound<'_, PyDict>>,
        constraints: Vec<(Bound<'_, PyDict>, Vec<String>)>,
        loss: &Bound<'_, PyDict>,
        batch_size: usize,
        seed: u64,
        shuffle: bool,
        truncate: Option<usize>,
    ) -> PyResult<Self> {
        let optimizer = part(optimizer, Optimizer::parse)?;
        let clips = clips.iter().map(|c| part(c, Clip::parse)).collect::<PyResult<Vec<_>>>()?;
        let held = constraints
            .iter()
            .map(|(c, names)| Ok((part(c, Constraint::parse)?, names.clone())))
            .collect::<PyResult<Vec<_>>>()?;
        let (loss, _) = parse_loss(py, loss)?;
        if batch_size == 0 || truncate == Some(0) {
            return Err(named(py, "ArgumentError", "batch_size and truncate must be at least 1, got 0"));
        }
        let net = network.get();
        let matrices = net.matrices();
        for (c, names) in &held {
            if !names.iter().any(|n| matrices.contains(n)) {
                let message = format!("constraint {}: no weight matrix is among {names:?}", c.name());
                return Err(named(py, "ArgumentError", &message));
            }
        }
        let plan = |names: Vec<String>| {
            let on =
                |held: &[String]| names.iter().map(|n| held.contains(n) && matrices.contains(n)).collect::<Vec<_>>();
            let constraints = held.iter().map(|(c, held)| (*c, on(held))).collect();
            let rules = Rules { optimizer, clips: clips.clone(), constraints };
            Plan { rules, loss, batch: batch_size, seed, shuffle, truncate }
        };
        fn make<T: Float>(
            py: Python<'_>,
            n: &network::Network<T>,
            plan: impl Fn(Vec<String>) -> Plan,
        ) -> PyResult<Work<T>> {
            let core = Core::new(n, plan(n.tensors().map(|t| t.name.clone()).collect()));
            Ok(Work { core: core.map_err(|e| raise(py, &e))?, data: None })
        }
        let inner = match &net.inner {
            Net::F32(n) => Inner::F32(make(py, n, plan)?),
            Net::F64(n) => Inner::F64(make(py, n, plan)?),
        };
        Ok(Self { net: network, inner: Mutex::new(inner) })
    }

    /// Sets what is trained on.
    #[pyo3(signature = (x, y, lengths=None))]
    fn load(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        y: &Bound<'_, PyAny>,
        lengths: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        with!(self, py, |n, w| {
            w.data = Some(data(py, n, w.core.plan.loss.takes_classes(), x, y, lengths)?);
            Ok(())
        })
    }

    /// Takes a step for each learning rate, at most to the end of the epoch in work. `every`: steps between closer looks.
    #[pyo3(signature = (rates, *, every, stats, memory_budget=None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        rates: &Bound<'_, PyAny>,
        every: u64,
        stats: &str,
        memory_budget: Option<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (rates, _) = read::<f64>(rates, "rates", "float64")?;
        let level = match stats {
            "none" => Level::None,
            "norms" => Level::Norms,
            "full" => Level::Full,
            other => {
                return Err(named(py, "ArgumentError", &format!("stats must be none, norms or full, got {other:?}")));
            }
        };
        with!(self, py, |n, w| {
            let Work { core, data: Some(data) } = w else {
                return Err(named(py, "ArgumentError", "nothing to train on: load data first"));
            };
            let (report, signal) = detached_whole(py, |poll| {
                core.run(n, data, &rates, &Watch { every, level, budget: memory_budget, poll })
            })?;
            let d = tell(py, &report)?;
            d.set_item("signal", signal.map(|s| s.into_value(py)))?;
            Ok(d)
        })
    }

    /// Steps taken in all, epochs completed, steps taken of the epoch in work, and steps left of it.
    fn progress(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64)> {
        with!(self, py, |_n, w| {
            let rows = w.data.as_ref().map_or(0, |d| d.rows);
            Ok((w.core.step, w.core.epoch, w.core.position, w.core.left(rows)))
        })
    }

    /// Names, steps and kinds of what closer looks tell about.
    fn units<'py>(&self, py: Python<'py>) -> PyResult<(Vec<String>, Bound<'py, PyAny>, Vec<u8>)> {
        with!(self, py, |n, _w| {
            let (names, steps, kinds) = units(n).map_err(|e| raise(py, &e))?;
            Ok((names, array(py, &steps, &[steps.len()], "int64")?, kinds))
        })
    }

    /// What is remembered, as arrays by name, and the counts.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dtype = self.net.get().kind();
        with!(self, py, |n, w| {
            let d = PyDict::new(py);
            for (name, b, shape) in entries(n, &mut w.core) {
                if !b.is_empty() {
                    d.set_item(name, array(py, b, &shape, dtype)?)?;
                }
            }
            d.set_item("step", w.core.step)?;
            d.set_item("epoch", w.core.epoch)?;
            d.set_item("position", w.core.position)?;
            Ok(d)
        })
    }

    /// Puts back what `state` gave.
    fn load_state(&self, py: Python<'_>, state: &Bound<'_, PyDict>) -> PyResult<()> {
        let count = |name: &str| -> PyResult<u64> {
            match state.get_item(name)? {
                Some(n) => n.extract(),
                None => Err(named(py, "ArgumentError", &format!("state: expected an entry {name:?}, got none"))),
            }
        };
        with!(self, py, |n, w| {
            let counts = (count("step")?, count("epoch")?, count("position")?);
            let mut all = Vec::new();
            for (name, b, shape) in entries(n, &mut w.core) {
                if b.is_empty() {
                    continue;
                }
                let Some(a) = state.get_item(&name)? else {
                    let message = format!("state: expected an array {name:?}, got none; it is of another training");
                    return Err(named(py, "ArgumentError", &message));
                };
                let (values, got) = read(&a, &format!("state[{name:?}]"), self.net.get().kind())?;
                if got != shape {
                    let message = format!("state[{name:?}]: expected shape {shape:?}, got {got:?}");
                    return Err(named(py, "ShapeError", &message));
                }
                all.push((b, values));
            }
            // All fit: now they are put in place together.
            all.into_iter().for_each(|(b, values)| b.copy_from_slice(&values));
            (w.core.step, w.core.epoch, w.core.position) = counts;
            Ok(())
        })
    }
}

impl Trainer {
    fn lock(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Inner>> {
        // A second thread that trains with the same trainer would wait with the interpreter held.
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(std::sync::TryLockError::Poisoned(p)) => Ok(PoisonError::into_inner(p)),
            Err(std::sync::TryLockError::WouldBlock) => Err(named(
                py,
                "BusyError",
                "this training is at work, on another thread or around this very call; ask again when it is over",
            )),
        }
    }
}

/// An array that is remembered: its name, the buffer, and its shape.
type Entry<'a, T> = (String, &'a mut Buffer<T>, Vec<usize>);

fn entries<'a, T: Float>(n: &network::Network<T>, core: &'a mut Core<T>) -> Vec<Entry<'a, T>> {
    let rules = &core.plan.rules;
    let mut out = Vec::new();
    for (memory, of) in rules.optimizer.memory().iter().zip(&mut core.memory.states) {
        for (t, b) in n.tensors().zip(of) {
            out.push((format!("{memory}/{}", t.name), b, t.shape.clone()));
        }
    }
    for (i, of) in core.memory.held.iter_mut().enumerate() {
        for (t, b) in n.tensors().zip(of) {
            out.push((format!("constraint{i}/{}", t.name), b, vec![t.copies, t.cols]));
        }
    }
    out
}

fn data<T: Float>(
    py: Python<'_>,
    n: &network::Network<T>,
    classes: bool,
    x: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    lengths: Option<&Bound<'_, PyAny>>,
) -> PyResult<Data<T>> {
    let (x, rows, steps) = super::network::batch(py, n, x)?;
    let shape = output_shape(n, rows, steps);
    let fits = |got: &[usize], want: &[usize]| {
        if got == want {
            return Ok(());
        }
        Err(named(py, "ShapeError", &format!("y must have shape {want:?}, got {got:?}")))
    };
    let y = match read::<i64>(y, "y", "int64") {
        Ok((v, s)) if classes => {
            fits(&s, &shape[..shape.len() - 1])?;
            Targets::Classes(v)
        }
        _ => {
            let (v, s) = read::<T>(y, "y", T::NAME)?;
            fits(&s, &shape)?;
            Targets::Values(v)
        }
    };
    let steps = steps.unwrap_or(1);
    let lengths = lengths.map(|l| -> PyResult<_> {
        let (v, s) = read::<i64>(l, "lengths", "int64")?;
        if s != [rows] || v.iter().any(|&n| n < 1 || n as usize > steps) {
            return Err(named(py, "ShapeError", &format!("lengths must be {rows} numbers from 1 to {steps}")));
        }
        Ok(v.into_iter().map(|n| n as usize).collect::<Vec<_>>())
    });
    Ok(Data { x, y, rows, steps, lengths: lengths.transpose()? })
}

fn tell<'py>(py: Python<'py>, r: &Report) -> PyResult<Bound<'py, PyDict>> {
    let d = PyDict::new(py);
    let n = r.steps.len();
    let floats = |name: &str, v: Vec<f64>, shape: &[usize]| d.set_item(name, array(py, &v, shape, "float64")?);
    floats("loss", r.steps.iter().map(|s| s.loss).collect(), &[n])?;
    floats("lr", r.steps.iter().map(|s| s.rate).collect(), &[n])?;
    if r.steps.iter().all(|s| s.correct.is_some()) {
        let share = |c: (usize, usize)| c.0 as f64 / c.1.max(1) as f64;
        floats("accuracy", r.steps.iter().filter_map(|s| s.correct).map(share).collect(), &[n])?;
    }
    let epochs: Vec<i64> = r.steps.iter().map(|s| s.epoch as i64).collect();
    d.set_item("epoch", array(py, &epochs, &[n], "int64")?)?;
    let k = r.looks.len();
    let steps: Vec<i64> = r.looks.iter().map(|l| l.step as i64).collect();
    d.set_item("recorded", array(py, &steps, &[k], "int64")?)?;
    let width = |w: Option<usize>| [k, w.unwrap_or(0)];
    let first = r.looks.first();
    floats(
        "log2_grad_norm",
        r.looks.iter().flat_map(|l| l.gradient.iter().copied()).collect(),
        &width(first.map(|l| l.gradient.len())),
    )?;
    if first.is_some_and(|l| !l.ratio.is_empty()) {
        floats(
            "update_ratio",
            r.looks.iter().flat_map(|l| l.ratio.iter().copied()).collect(),
            &width(first.map(|l| l.ratio.len())),
        )?;
        let same: Vec<i64> = r.looks.iter().flat_map(|l| l.unchanged.iter().copied()).collect();
        d.set_item("unchanged", array(py, &same, &width(first.map(|l| l.unchanged.len())), "int64")?)?;
        let zero: Vec<i64> = r.looks.iter().flat_map(|l| l.zero.iter().copied()).collect();
        d.set_item("zero_weights", array(py, &zero, &width(first.map(|l| l.zero.len())), "int64")?)?;
    }
    if first.is_some_and(|l| !l.dead.is_empty()) {
        let dead: Vec<i64> = r.looks.iter().flat_map(|l| l.dead.iter().copied()).collect();
        d.set_item("dead", array(py, &dead, &width(first.map(|l| l.dead.len())), "int64")?)?;
    }
    d.set_item("stopped", &r.stopped)?;
    d.set_item("interrupted", r.interrupted)?;
    Ok(d)
}

/// What clips, in order, make of gradients: a list of (mantissas, exponents in a row, weights or None, number of
/// leading axes, of the last layer) gives a list of (mantissas, exponents).
#[pyfunction]
pub fn clip<'py>(
    py: Python<'py>,
    clips: Vec<Bound<'_, PyDict>>,
    gradients: &Bound<'py, PyList>,
    dtype: &str,
) -> PyResult<Bound<'py, PyList>> {
    let clips = clips.iter().map(|c| part(c, Clip::parse)).collect::<PyResult<Vec<_>>>()?;
    if dtype == "float32" { clip_in::<f32>(py, &clips, gradients) } else { clip_in::<f64>(py, &clips, gradients) }
}

type Row<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>, usize, bool);

fn clip_in<'py, T: Float>(
    py: Python<'py>,
    clips: &[Clip],
    gradients: &Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyList>> {
    let (mut list, mut shapes) = (Vec::new(), Vec::new());
    for item in gradients.iter() {
        let (m, e, w, lead, last): Row<'_> = item.extract()?;
        let (mantissa, shape) = read::<T>(&m, "gradient", T::NAME)?;
        let (exponent, _) = read::<i64>(&e, "exponent", "int64")?;
        let weights = match &w {
            Some(w) => read::<T>(w, "weights", T::NAME)?.0,
            None => vec![T::from_f64(0.0); mantissa.len()],
        };
        let copies: usize = shape[..lead.min(shape.len())].iter().product();
        if weights.len() != mantissa.len() || exponent.len() != copies {
            return Err(named(py, "ShapeError", "a gradient, its exponents and its weights differ in shape"));
        }
        let cols = (shape.len() > lead + 1).then(|| shape[shape.len() - 1]);
        list.push(Lone { mantissa, exponent, weights, cols, last });
        shapes.push(shape);
    }
    py.detach(|| clipping::clip(pool::num_threads(), clips, &mut list));
    let out = PyList::empty(py);
    for (g, shape) in list.iter().zip(&shapes) {
        let exponents = array(py, &g.exponent, &[g.exponent.len()], "int64")?;
        out.append((array(py, &g.mantissa, shape, T::NAME)?, exponents))?;
    }
    Ok(out)
}
