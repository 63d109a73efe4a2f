//! py: the compiled network as a Python class. Knows dictionaries and arrays; computes nothing.

use super::arrays::{Float, array, read};
use super::door::{detached, named, raise};
use super::result::{Names, to_dict};
use super::spec::{Given, values};
use crate::engine::network::Network as Net;
use crate::engine::pass::{Mode, Request, Top};
use crate::engine::program::Tensor;
use crate::engine::sweep::Level;
use crate::error::Error;
use crate::parts::layer::Layer;
use crate::parts::loss::{Loss, Target};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

enum Inner {
    F32(Net<f32>),
    F64(Net<f64>),
}

/// A compiled program and its parameters.
#[pyclass(frozen, module = "vgcore._core")]
pub struct Network {
    inner: Inner,
    layers: Vec<Layer>,
    seed: u64,
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
    fn new(py: Python<'_>, layers: &Bound<'_, PyList>, in_features: usize, dtype: &str, seed: u64) -> PyResult<Self> {
        let mut given = Given::new();
        let layers = super::spec::layers(layers, &[], &mut given)?;
        let inner = match dtype {
            "float32" => Inner::F32(build(py, &layers, in_features, seed, &given)?),
            "float64" => Inner::F64(build(py, &layers, in_features, seed, &given)?),
            other => {
                let message = format!("dtype must be \"float32\" or \"float64\", got {other:?}");
                return Err(named(py, "DTypeError", &message));
            }
        };
        Ok(Self { inner, layers, seed })
    }

    #[getter]
    fn in_features(&self) -> usize {
        with!(self, n => n.program.in_features)
    }
    #[getter]
    fn out_features(&self) -> usize {
        with!(self, n => n.program.out_features)
    }
    #[getter]
    fn dtype(&self) -> &'static str {
        match self.inner {
            Inner::F32(_) => "float32",
            Inner::F64(_) => "float64",
        }
    }
    #[getter]
    fn num_parameters(&self) -> usize {
        with!(self, n => n.num_parameters())
    }
    #[getter]
    fn num_steps(&self) -> usize {
        with!(self, n => n.program.steps)
    }
    #[getter]
    fn num_units(&self) -> usize {
        with!(self, n => n.program.units)
    }

    /// Names and shapes of the parameters.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        with!(self, n => n.program.tensors.iter().map(|t: &Tensor| (t.name.clone(), t.shape.clone())).collect())
    }

    /// A copy of a parameter.
    fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        with!(self, n => {
            let t = n.find(name).map_err(|e| raise(py, &e))?;
            let values = py.detach(|| n.get(t));
            array(py, &values, &n.program.tensors[t].shape, self.dtype())
        })
    }

    /// Replaces a parameter's values.
    fn set(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        with!(self, n => put(py, n, name, value))
    }

    /// The output for a batch.
    fn forward<'py>(&self, py: Python<'py>, x: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        with!(self, n => forward(py, n, x, self.dtype()))
    }

    /// One pass.
    #[pyo3(signature = (x, target, loss, cotangent, *, mode, lr, stats, memory_budget))]
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
    ) -> PyResult<Bound<'py, PyDict>> {
        let mode = match mode {
            "loss" => Mode::Loss,
            "probe" => Mode::Probe,
            "gradients" => Mode::Gradients,
            "step" => Mode::Step,
            other => {
                return Err(named(
                    py,
                    "ArgumentError",
                    &format!("mode must be loss, probe, gradients or step, got {other:?}"),
                ));
            }
        };
        let level = match stats {
            "none" => Level::None,
            "norms" => Level::Norms,
            "full" => Level::Full,
            other => {
                return Err(named(py, "ArgumentError", &format!("stats must be none, norms or full, got {other:?}")));
            }
        };
        if mode == Mode::Step && lr.is_none() {
            return Err(named(py, "ArgumentError", "a step needs lr, a learning rate"));
        }
        with!(self, n => run(py, n, self.dtype(), x, target, loss, cotangent, (mode, level, lr, memory_budget)))
    }

    /// Bytes a pass needs beside the parameters.
    fn memory_estimate(&self, py: Python<'_>, batch: usize, mode: &str) -> PyResult<u64> {
        let mode = if mode == "gradients" { Mode::Gradients } else { Mode::Probe };
        with!(self, n => n.memory(batch, mode, None).map_err(|e| raise(py, &e)))
    }

    /// An independent copy.
    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        fn copy<T: Float>(py: Python<'_>, n: &Net<T>, layers: &[Layer], seed: u64) -> PyResult<Net<T>> {
            py.detach(|| {
                let new = Net::new(layers, n.program.in_features, seed)?;
                new.copy_from(n);
                Ok(new)
            })
            .map_err(|e: Error| raise(py, &e))
        }
        let inner = match &self.inner {
            Inner::F32(n) => Inner::F32(copy(py, n, &self.layers, self.seed)?),
            Inner::F64(n) => Inner::F64(copy(py, n, &self.layers, self.seed)?),
        };
        Ok(Self { inner, layers: self.layers.clone(), seed: self.seed })
    }
}

fn build<T: Float>(
    py: Python<'_>,
    list: &[Layer],
    in_features: usize,
    seed: u64,
    given: &Given<'_>,
) -> PyResult<Net<T>> {
    let net = py.detach(|| Net::new(list, in_features, seed)).map_err(|e| raise(py, &e))?;
    for (name, value) in given {
        put(py, &net, name, value)?;
    }
    Ok(net)
}

/// Sets a parameter; under a Repeat, one array without the leading axes serves every copy.
fn put<T: Float>(py: Python<'_>, n: &Net<T>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let t = n.find(name).map_err(|e| raise(py, &e))?;
    let tensor = &n.program.tensors[t];
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

/// A batch: values and number of samples.
fn batch<T: Float>(py: Python<'_>, n: &Net<T>, x: &Bound<'_, PyAny>) -> PyResult<(Vec<T>, usize)> {
    let (values, shape) = read::<T>(x, "x", T::NAME)?;
    let width = n.program.in_features;
    match shape[..] {
        [b, w] if b > 0 && w == width => Ok((values, b)),
        _ => Err(named(
            py,
            "ShapeError",
            &format!("x must be (batch, {width}) with at least one sample, got shape {shape:?}"),
        )),
    }
}

fn forward<'py, T: Float>(
    py: Python<'py>,
    n: &Net<T>,
    x: &Bound<'_, PyAny>,
    dtype: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let (x, batch) = batch(py, n, x)?;
    let out = detached(py, |poll| {
        n.pass(&Request {
            x: &x,
            batch,
            top: Top::None,
            mode: Mode::Forward,
            rate: None,
            level: Level::None,
            budget: None,
            poll,
        })
    })?;
    array(py, &out.output, &[batch, n.program.out_features], dtype)
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
) -> PyResult<Bound<'py, PyDict>> {
    let (x, batch) = batch(py, n, x)?;
    let width = n.program.out_features;
    let shape = [batch, width];
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
                if s != [batch] {
                    return Err(named(
                        py,
                        "ShapeError",
                        &format!("y must hold one label a sample, shape [{batch}], got {s:?}"),
                    ));
                }
                if let Some((sample, &label)) = v.iter().enumerate().find(|(_, l)| !(0..width as i64).contains(*l)) {
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
    let outcome = detached(py, |poll| n.pass(&Request { x: &x, batch, top, mode, rate, level, budget, poll }))?;
    to_dict(py, &Names { program: &n.program, dtype, batch, gradients: mode == Mode::Gradients, rate }, outcome)
}

/// A loss and whether it can take class labels.
fn parse_loss(py: Python<'_>, d: &Bound<'_, PyDict>) -> PyResult<(Loss, bool)> {
    let rest = d.copy()?;
    let name: String = match rest.get_item("name")? {
        Some(n) => n.extract()?,
        None => return Err(named(py, "ArgumentError", "a loss description has no name")),
    };
    rest.del_item("name")?;
    let loss = Loss::parse(&name, &values(&rest)?).map_err(|e| {
        let class = if e.is_unknown_name() { "UnknownNameError" } else { "ArgumentError" };
        named(py, class, &e.to_string())
    })?;
    Ok((loss, loss.takes_classes()))
}
