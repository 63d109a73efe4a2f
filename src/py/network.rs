//! py: the compiled network as a Python class. Knows dictionaries and arrays; computes nothing.

use super::arrays::{Float, array, read};
use super::door::{detached, named, raise};
use super::result::{Names, to_dict};
use super::spec::Given;
use super::words::{job, parse_level, parse_loss, parse_mode};
use crate::engine::network::Network as Net;
use crate::engine::pass::{Mode, Request, Time, Top, Training};
use crate::engine::program::Tensor;
use crate::engine::recurrent::lyapunov::lyapunov;
use crate::engine::sweep::Level;
use crate::error::Error;
use crate::parts::layer::Layer;
use crate::parts::loss::Target;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

pub(super) enum Inner {
    F32(Net<f32>),
    F64(Net<f64>),
}

/// A compiled program and its parameters.
#[pyclass(frozen, module = "vgcore._core")]
pub struct Network {
    pub(super) inner: Inner,
    layers: Vec<Layer>,
    seed: u64,
    stored: bool,
}

/// Runs the same code for either float type.
macro_rules! with {
    ($self:expr, $n:ident => $body:expr) => {
        match &$self.inner {
            Inner::F32($n) => $body,
            Inner::F64($n) => $body,
        }
    };
}

#[pymethods]
impl Network {
    #[new]
    #[pyo3(signature = (layers, in_features, dtype, seed, *, stored=true))]
    fn new(
        py: Python<'_>,
        layers: &Bound<'_, PyList>,
        in_features: usize,
        dtype: &str,
        seed: u64,
        stored: bool,
    ) -> PyResult<Self> {
        let mut given = Given::new();
        let layers = super::spec::layers(layers, &[], &mut given)?;
        let inner = match dtype {
            "float32" => Inner::F32(build(py, &layers, in_features, (seed, stored), &given)?),
            "float64" => Inner::F64(build(py, &layers, in_features, (seed, stored), &given)?),
            other => {
                let message = format!("dtype must be \"float32\" or \"float64\", got {other:?}");
                return Err(named(py, "DTypeError", &message));
            }
        };
        Ok(Self { inner, layers, seed, stored })
    }

    #[getter]
    fn in_features(&self) -> usize {
        with!(self, n => n.in_features)
    }
    #[getter]
    fn out_features(&self) -> usize {
        with!(self, n => n.out_features())
    }
    #[getter]
    fn dtype(&self) -> &'static str {
        self.kind()
    }
    #[getter]
    fn num_parameters(&self) -> usize {
        with!(self, n => n.num_parameters())
    }
    #[getter]
    fn num_steps(&self) -> usize {
        with!(self, n => n.program().map_or(0, |p| p.steps))
    }
    #[getter]
    fn axis(&self) -> &'static str {
        with!(self, n => if n.program().is_some() { "depth" } else { "time" })
    }
    #[getter]
    fn num_units(&self) -> usize {
        with!(self, n => n.program().map_or(0, |p| p.units))
    }

    /// Names and shapes of the parameters.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        with!(self, n => shapes(n.tensors().filter(|t| t.learned())))
    }

    /// Names and shapes of what no gradient changes: running statistics.
    fn buffers(&self) -> Vec<(String, Vec<usize>)> {
        with!(self, n => shapes(n.tensors().filter(|t| !t.trainable)))
    }

    /// Names of weights that are made from parameters; `get` gives their values.
    fn derived(&self) -> Vec<String> {
        with!(self, n => n.tensors().filter(|t| t.derived().is_some()).map(|t| t.name.clone()).collect())
    }

    /// A copy of a parameter.
    fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        with!(self, n => {
            let t = n.find(name).map_err(|e| raise(py, &e))?;
            let values = py.detach(|| n.get(t)).map_err(|e| raise(py, &e))?;
            array(py, &values, &n.tensor(t).shape, self.dtype())
        })
    }

    /// Replaces a parameter's values.
    fn set(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        with!(self, n => put(py, n, name, value))
    }

    /// The output for a batch; with time, also the final states. `training`: seed and step of what is drawn.
    #[pyo3(signature = (x, *, lengths=None, state=None, training=None))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'_, PyAny>,
        lengths: Option<&Bound<'_, PyAny>>,
        state: Option<Vec<Bound<'_, PyAny>>>,
        training: Option<(u64, u64)>,
    ) -> PyResult<Bound<'py, PyAny>> {
        with!(self, n => forward(py, n, x, self.dtype(), lengths, state.as_deref(), training))
    }

    /// One pass.
    #[pyo3(signature = (x, target, loss, cotangent, *, mode, lr, stats, memory_budget, lengths=None, state=None, truncate=None, inputs=true, training=None))]
    #[allow(clippy::too_many_arguments)] // reason: the arguments of the Python method
    fn run<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'_, PyAny>,
        target: Option<&Bound<'_, PyAny>>,
        loss: Option<&Bound<'_, PyDict>>,
        cotangent: Option<&Bound<'_, PyAny>>,
        mode: &str,
        lr: Option<f64>,
        stats: &str,
        memory_budget: Option<u64>,
        lengths: Option<&Bound<'_, PyAny>>,
        state: Option<Vec<Bound<'_, PyAny>>>,
        truncate: Option<usize>,
        inputs: bool,
        training: Option<(u64, u64)>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mode = parse_mode(py, mode)?;
        let level = parse_level(py, stats)?;
        if mode == Mode::Step && lr.is_none() {
            return Err(named(py, "ArgumentError", "a step needs lr, a learning rate"));
        }
        with!(self, n => {
            let given = TimeGiven { lengths, state: state.as_deref(), truncate, inputs };
            run(py, n, self.dtype(), x, target, loss, cotangent, (mode, level, lr, memory_budget), &given, training)
        })
    }

    /// Bytes of the pass that would be taken without a budget; with `least`, the least that a budget may be.
    #[pyo3(signature = (batch, steps, mode, stats, *, least=false))]
    fn memory_estimate(
        &self,
        py: Python<'_>,
        batch: usize,
        steps: usize,
        mode: &str,
        stats: &str,
        least: bool,
    ) -> PyResult<u64> {
        let job = job(py, batch, steps, mode, stats, true)?;
        Ok(with!(self, n => if least { n.least(&job) } else { n.memory(&job) }))
    }

    /// Leading Lyapunov exponents along one sample, nats per step.
    #[pyo3(signature = (x, *, k, state=None, memory_budget=None))]
    fn lyapunov<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'_, PyAny>,
        k: usize,
        state: Option<Vec<Bound<'_, PyAny>>>,
        memory_budget: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        with!(self, n => {
            let (x, one, steps) = batch(py, n, x)?;
            let given = TimeGiven { lengths: None, state: state.as_deref(), truncate: None, inputs: false };
            let read = TimeRead::new(py, &given, one, steps.unwrap_or(1))?;
            let state = read.state.as_deref();
            let found = detached(py, |poll| lyapunov(n, &x, steps.unwrap_or(1), state, k, memory_budget, poll))?;
            array(py, &found, &[k], "float64")
        })
    }

    /// The memory plan of a pass in words, and its extra forward work.
    #[pyo3(signature = (batch, steps, mode, stats, memory_budget, *, inputs=true))]
    #[allow(clippy::too_many_arguments)] // reason: the arguments of the Python method
    fn plan(
        &self,
        py: Python<'_>,
        batch: usize,
        steps: usize,
        mode: &str,
        stats: &str,
        memory_budget: Option<u64>,
        inputs: bool,
    ) -> PyResult<(String, f64)> {
        let job = job(py, batch, steps, mode, stats, inputs)?;
        with!(self, n => {
            let (text, _, again) = n.plans(&job, memory_budget).map_err(|e| raise(py, &e))?.describe(n);
            Ok((text, again))
        })
    }

    /// An independent copy.
    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        fn copy<T: Float>(
            py: Python<'_>,
            n: &Net<T>,
            layers: &[Layer],
            (seed, stored): (u64, bool),
        ) -> PyResult<Net<T>> {
            py.detach(|| {
                let new = Net::new(layers, n.in_features, seed, stored)?;
                new.copy_from(n)?;
                Ok(new)
            })
            .map_err(|e: Error| raise(py, &e))
        }
        let inner = match &self.inner {
            Inner::F32(n) => Inner::F32(copy(py, n, &self.layers, (self.seed, self.stored))?),
            Inner::F64(n) => Inner::F64(copy(py, n, &self.layers, (self.seed, self.stored))?),
        };
        Ok(Self { inner, layers: self.layers.clone(), seed: self.seed, stored: self.stored })
    }
}

impl Network {
    /// Names of the weight matrices that an optimizer changes.
    pub(super) fn matrices(&self) -> Vec<String> {
        let matrix = |t: &&Tensor| t.trainable && t.derived().is_none() && t.shape.len() == t.lead + 2;
        with!(self, n => n.tensors().filter(matrix).map(|t| t.name.clone()).collect())
    }

    /// The float type's name.
    pub(super) fn kind(&self) -> &'static str {
        match self.inner {
            Inner::F32(_) => "float32",
            Inner::F64(_) => "float64",
        }
    }
}

fn shapes<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Vec<(String, Vec<usize>)> {
    tensors.map(|t| (t.name.clone(), t.shape.clone())).collect()
}

fn build<T: Float>(
    py: Python<'_>,
    list: &[Layer],
    in_features: usize,
    (seed, stored): (u64, bool),
    given: &Given<'_>,
) -> PyResult<Net<T>> {
    let net = py.detach(|| Net::new(list, in_features, seed, stored)).map_err(|e| raise(py, &e))?;
    for (name, value) in given {
        put(py, &net, name, value)?;
    }
    if !given.is_empty() {
        py.detach(|| net.restart()).map_err(|e| raise(py, &e))?;
    }
    Ok(net)
}

/// Sets a parameter; under a Repeat, one array without the leading axes serves every copy.
fn put<T: Float>(py: Python<'_>, n: &Net<T>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let t = n.find(name).map_err(|e| raise(py, &e))?;
    let tensor = n.tensor(t);
    let (mut values, shape) = read::<T>(value, &format!("parameter {name}"), T::NAME)?;
    let inner = &tensor.shape[tensor.lead..];
    if shape == inner && shape != tensor.shape {
        values = values.repeat(tensor.copies);
    } else if shape != tensor.shape {
        let message = format!(
            "parameter {name} has shape {:?}, or {inner:?} for every copy alike; got an array of shape {shape:?}",
            tensor.shape
        );
        return Err(named(py, "ShapeError", &message));
    }
    py.detach(|| n.set(t, &values)).map_err(|e| raise(py, &e))
}

/// What only networks with time take, as it came.
struct TimeGiven<'a, 'py> {
    lengths: Option<&'a Bound<'py, PyAny>>,
    state: Option<&'a [Bound<'py, PyAny>]>,
    truncate: Option<usize>,
    inputs: bool,
}

/// The same, read.
struct TimeRead<T> {
    lengths: Option<Vec<usize>>,
    state: Option<Vec<Vec<T>>>,
}

impl<T: Float> TimeRead<T> {
    fn new(py: Python<'_>, given: &TimeGiven<'_, '_>, batch: usize, steps: usize) -> PyResult<Self> {
        let lengths = given.lengths.map(|l| -> PyResult<_> {
            let (v, shape) = read::<i64>(l, "lengths", "int64")?;
            let good = shape == [batch] && v.iter().all(|&n| n >= 1 && n as usize <= steps);
            if !good {
                let message = format!("lengths must be {batch} numbers from 1 to {steps}, got {v:?}");
                return Err(named(py, "ShapeError", &message));
            }
            Ok(v.into_iter().map(|n| n as usize).collect())
        });
        let state = given
            .state
            .map(|list| -> PyResult<_> { list.iter().map(|a| Ok(read::<T>(a, "state", T::NAME)?.0)).collect() });
        Ok(Self { lengths: lengths.transpose()?, state: state.transpose()? })
    }

    fn time(&self, given: &TimeGiven<'_, '_>, steps: usize) -> Time<'_, T> {
        Time {
            steps,
            lengths: self.lengths.as_deref(),
            state: self.state.as_deref(),
            truncate: given.truncate,
            inputs: given.inputs,
        }
    }
}

/// A batch: values, number of samples, and time steps where there is time.
pub(super) fn batch<T: Float>(
    py: Python<'_>,
    n: &Net<T>,
    x: &Bound<'_, PyAny>,
) -> PyResult<(Vec<T>, usize, Option<usize>)> {
    let (values, shape) = read::<T>(x, "x", T::NAME)?;
    let width = n.in_features;
    match shape[..] {
        [b, w] if b > 0 && w == width && n.program().is_some() => Ok((values, b, None)),
        [b, t, w] if b > 0 && t > 0 && w == width && n.program().is_none() => Ok((values, b, Some(t))),
        _ => {
            let form = if n.program().is_some() { "(batch, " } else { "(batch, time, " };
            let message = format!("x must be {form}{width}) with at least one sample, got shape {shape:?}");
            Err(named(py, "ShapeError", &message))
        }
    }
}

/// The shape of the output.
pub(super) fn output_shape<T: Float>(n: &Net<T>, batch: usize, steps: Option<usize>) -> Vec<usize> {
    match (n.every(), steps) {
        (Some(true), Some(t)) => vec![batch, t, n.out_features()],
        _ => vec![batch, n.out_features()],
    }
}

fn forward<'py, T: Float>(
    py: Python<'py>,
    n: &Net<T>,
    x: &Bound<'_, PyAny>,
    dtype: &str,
    lengths: Option<&Bound<'_, PyAny>>,
    state: Option<&[Bound<'_, PyAny>]>,
    training: Option<(u64, u64)>,
) -> PyResult<Bound<'py, PyAny>> {
    let (x, batch, steps) = batch(py, n, x)?;
    let given = TimeGiven { lengths, state, truncate: None, inputs: false };
    let read = TimeRead::new(py, &given, batch, steps.unwrap_or(1))?;
    let time = read.time(&given, steps.unwrap_or(1));
    let out = detached(py, |poll| {
        n.pass(&Request {
            x: &x,
            batch,
            top: Top::None,
            mode: Mode::Forward,
            rate: None,
            level: Level::None,
            budget: None,
            training: training.map(|(seed, step)| Training { seed, step }),
            time,
            poll,
        })
    })?;
    let y = array(py, &out.output, &output_shape(n, batch, steps), dtype)?;
    let Some(time) = &out.time else { return Ok(y) };
    let names = Names { net: n, dtype, batch, steps, state: false, gradients: false, rate: None };
    Ok((y, super::time::last_states(py, &names, time)?).into_pyobject(py)?.into_any())
}

#[allow(clippy::too_many_arguments)] // reason: the arguments of the Python method
fn run<'py, T: Float>(
    py: Python<'py>,
    n: &Net<T>,
    dtype: &str,
    x: &Bound<'_, PyAny>,
    target: Option<&Bound<'_, PyAny>>,
    loss: Option<&Bound<'_, PyDict>>,
    cotangent: Option<&Bound<'_, PyAny>>,
    (mode, level, rate, budget): (Mode, Level, Option<f64>, Option<u64>),
    given: &TimeGiven<'_, '_>,
    training: Option<(u64, u64)>,
) -> PyResult<Bound<'py, PyDict>> {
    let (x, batch, steps) = batch(py, n, x)?;
    let read_time = TimeRead::new(py, given, batch, steps.unwrap_or(1))?;
    let shape = output_shape(n, batch, steps);
    let width = n.out_features();
    let (classes, values): (Vec<i64>, Vec<T>);
    let full = |a: &Bound<'_, PyAny>, what: &str| -> PyResult<Vec<T>> {
        let (v, s) = read::<T>(a, what, T::NAME)?;
        if s != shape {
            return Err(named(py, "ShapeError", &format!("{what} must have the output's shape {shape:?}, got {s:?}")));
        }
        Ok(v)
    };
    let top = match (loss, target, cotangent) {
        (None, None, Some(v)) => {
            values = full(v, "cotangent")?;
            Top::Cotangent(&values)
        }
        (Some(l), Some(y), None) => {
            let (loss, labels) = parse_loss(py, l)?;
            if labels && let Ok((v, s)) = read::<i64>(y, "y", "int64") {
                let rows = &shape[..shape.len() - 1];
                if s != rows {
                    let message = format!("y must hold one label for each output row, shape {rows:?}, got {s:?}");
                    return Err(named(py, "ShapeError", &message));
                }
                // What lies behind a sample's end is not looked at.
                let lives = |i: usize| match (&read_time.lengths, rows) {
                    (Some(n), [_, t]) => i % t < n[i / t],
                    _ => true,
                };
                let wrong = |(i, l): &(usize, &i64)| lives(*i) && !(0..width as i64).contains(*l);
                if let Some((sample, &label)) = v.iter().enumerate().find(wrong) {
                    return Err(raise(py, &Error::Label { sample, label, classes: width }));
                }
                classes = v;
                Top::Loss(loss, Target::Classes(&classes))
            } else {
                values = full(y, "y")?;
                Top::Loss(loss, Target::Values(&values))
            }
        }
        _ => return Err(named(py, "ArgumentError", "give either y with loss=, or cotangent=")),
    };
    if given.truncate == Some(0) {
        return Err(named(py, "ArgumentError", "truncate must be at least 1 step, got 0"));
    }
    let training = training.map(|(seed, step)| Training { seed, step });
    let time = read_time.time(given, steps.unwrap_or(1));
    let outcome =
        detached(py, |poll| n.pass(&Request { x: &x, batch, top, mode, rate, level, budget, training, time, poll }))?;
    let (gradients, state) = (mode == Mode::Gradients, given.state.is_some());
    to_dict(py, &Names { net: n, dtype, batch, steps, state, gradients, rate }, outcome)
}
