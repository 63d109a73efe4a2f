//! py: functions of the module that need no network. Know arrays and catalogues.

use super::arrays::{Float, array, read, view};
use super::door::{named, raise};
use super::spec::{act, initializer};
use crate::error::Error;
use crate::kernels::magnitudes::Magnitudes;
use crate::num::foreign::Foreign;
use crate::num::rng::Key;
use crate::num::{peak, pool, simd};
use crate::parts::activation::Act;
use crate::parts::init::{InitError, check_range};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Version, instruction path and threads.
#[pyfunction]
pub fn config(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let d = PyDict::new(py);
    d.set_item("version", env!("CARGO_PKG_VERSION"))?;
    d.set_item("isa", simd::path().name())?;
    d.set_item("isa_available", simd::available().iter().map(|p| p.name()).collect::<Vec<_>>())?;
    d.set_item("num_threads", pool::num_threads())?;
    Ok(d)
}

/// Sets the number of threads of later passes.
#[pyfunction]
pub fn set_num_threads(py: Python<'_>, n: usize) -> PyResult<()> {
    if n == 0 || n > pool::MAX_THREADS {
        let message = format!("the number of threads must be 1..={}, got {n}", pool::MAX_THREADS);
        return Err(named(py, "ArgumentError", &message));
    }
    pool::set_num_threads(n);
    Ok(())
}

/// Threads that passes use.
#[pyfunction]
pub fn get_num_threads() -> usize {
    pool::num_threads()
}

/// Fused-multiply-add GFLOP/s.
#[pyfunction]
pub fn measure_peak(py: Python<'_>, dtype: &str, threads: usize, seconds: f64) -> PyResult<f64> {
    match dtype {
        "float32" => Ok(py.detach(|| peak::fma_peak::<f32>(threads, seconds))),
        "float64" => Ok(py.detach(|| peak::fma_peak::<f64>(threads, seconds))),
        other => Err(named(py, "DTypeError", &format!("dtype must be \"float32\" or \"float64\", got {other:?}"))),
    }
}

/// Whether an array holds float32 (true) or float64 (false).
fn single(a: &Bound<'_, PyAny>, what: &str) -> PyResult<bool> {
    let dtype: String = a.getattr("dtype")?.getattr("name")?.extract()?;
    match dtype.as_str() {
        "float32" => Ok(true),
        "float64" => Ok(false),
        other => Err(named(a.py(), "DTypeError", &format!("{what}: expected float32 or float64, got {other}"))),
    }
}

/// An activation's value, derivative, or derivative as mantissa and exponent.
#[pyfunction]
pub fn activation<'py>(
    py: Python<'py>,
    name: &str,
    params: &Bound<'_, PyDict>,
    x: &Bound<'_, PyAny>,
    what: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let act = act(py, name, params)?;
    if single(x, "x")? { evaluate::<f32>(py, act, x, what) } else { evaluate::<f64>(py, act, x, what) }
}

fn evaluate<'py, T: Float>(py: Python<'py>, act: Act, x: &Bound<'_, PyAny>, what: &str) -> PyResult<Bound<'py, PyAny>> {
    let (x, shape) = read::<T>(x, "x", T::NAME)?;
    let mut y = vec![T::ZERO; x.len()];
    match what {
        "value" => {
            py.detach(|| act.apply(&x, &mut y, None));
            array(py, &y, &shape, T::NAME)
        }
        "derivative" => {
            let mut d = vec![T::ZERO; x.len()];
            py.detach(|| act.apply(&x, &mut y, Some(&mut d)));
            array(py, &d, &shape, T::NAME)
        }
        "scaled_derivative" => {
            let (mut m, mut k) = (vec![0.0; x.len()], vec![0; x.len()]);
            py.detach(|| act.scaled_derivatives(&x, &mut m, &mut k));
            let m: Vec<T> = m.into_iter().map(T::from_f64).collect();
            let pair = (array(py, &m, &shape, T::NAME)?, array(py, &k, &shape, "int64")?);
            Ok(pair.into_pyobject(py)?.into_any())
        }
        other => Err(named(
            py,
            "ArgumentError",
            &format!("what must be value, derivative or scaled_derivative, got {other:?}"),
        )),
    }
}

/// Values an initializer gives a matrix (rows, cols) = (fan-out, fan-in).
#[pyfunction]
#[allow(clippy::too_many_arguments)] // reason: the arguments of the Python function
pub fn initialize<'py>(
    py: Python<'py>,
    name: &str,
    params: &Bound<'_, PyDict>,
    rows: usize,
    cols: usize,
    dtype: &str,
    seed: u64,
    tensor: u32,
    layer: u32,
) -> PyResult<Bound<'py, PyAny>> {
    let init = initializer(py, name, params)?;
    fn fill<T: Float>(init: &crate::parts::init::Init, rows: usize, cols: usize, key: Key) -> Result<Vec<T>, Error> {
        let len = rows.checked_mul(cols).filter(|&n| n < 1 << 40);
        let len = len.ok_or_else(|| Error::Argument(format!("a matrix of {rows} x {cols} is too large")))?;
        let mut v = vec![T::ZERO; len];
        let refused = |e: InitError| Error::Argument(e.to_string());
        init.fill(&mut v, rows, cols, cols, rows, key).map_err(refused)?;
        check_range(&v).map_err(refused)?;
        Ok(v)
    }
    let key = Key { seed, tensor, layer };
    let made = match dtype {
        "float32" => py.detach(|| fill::<f32>(&init, rows, cols, key)).map(|v| array(py, &v, &[rows, cols], dtype)),
        "float64" => py.detach(|| fill::<f64>(&init, rows, cols, key)).map(|v| array(py, &v, &[rows, cols], dtype)),
        other => {
            return Err(named(py, "DTypeError", &format!("dtype must be \"float32\" or \"float64\", got {other:?}")));
        }
    };
    made.map_err(|e| raise(py, &e))?
}

/// Figures of any array of floats, read once by all threads.
#[pyfunction]
pub fn gradient_stats<'py>(py: Python<'py>, a: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    if single(a, "array")? { figures::<f32>(py, a) } else { figures::<f64>(py, a) }
}

fn figures<'py, T: Float>(py: Python<'py>, a: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let view = view::<T>(a, "array", T::NAME)?;
    #[allow(deprecated)]
    // reason: the cells only become a `Foreign`, which copies; no plain float is borrowed from them
    let cells = view.as_slice(py).ok_or_else(|| named(py, "ShapeError", "expected a C-contiguous array"))?;
    let values =
        Foreign::<T>::from_cells(cells).ok_or_else(|| named(py, "DTypeError", "expected an array of floats"))?;
    let m = py.detach(|| Magnitudes::of(values, pool::num_threads()));
    let d = PyDict::new(py);
    for (name, v) in
        [("count", m.count()), ("zero", m.zero()), ("nan", m.nan()), ("inf", m.inf()), ("positive", m.positive())]
    {
        d.set_item(name, v)?;
    }
    for (name, v) in [
        ("log2_norm", m.log2_norm()),
        ("log2_max", m.log2_max()),
        ("log2_min", m.log2_min()),
        ("log2_mean_abs", m.log2_mean_abs()),
        ("mean", m.mean()),
    ] {
        d.set_item(name, v)?;
    }
    for (name, v) in [("flush", m.flush()), ("subnormal", m.subnormal()), ("overflow", m.overflow())] {
        d.set_item(name, array(py, &v.map(|x| x as i64), &[6], "int64")?)?;
    }
    let (first, counts) = m.full_hist();
    let counts: Vec<i64> = counts.into_iter().map(|x| x as i64).collect();
    d.set_item("hist_first", first)?;
    d.set_item("hist", array(py, &counts, &[counts.len()], "int64")?)?;
    Ok(d)
}
