//! py: arrays in and out, through the buffer protocol. Knows NumPy only as the maker of empty arrays.

use super::door::{named, raise};
use crate::num::aligned::NoMemory;
use crate::num::real::Real;
use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A float type that both NumPy and the core know.
pub trait Float: Real + Element {}
impl Float for f32 {}
impl Float for f64 {}

/// A copy of an array's values in C order, and its shape. The Python layer has normalised byte order, alignment and
/// layout; what still does not fit is refused.
pub fn read<T: Element + Copy>(a: &Bound<'_, PyAny>, what: &str, dtype: &str) -> PyResult<(Vec<T>, Vec<usize>)> {
    let b = view::<T>(a, what, dtype)?;
    Ok((b.to_vec(a.py())?, b.shape().to_vec()))
}

/// A view of a contiguous array.
pub fn view<T: Element>(a: &Bound<'_, PyAny>, what: &str, dtype: &str) -> PyResult<PyBuffer<T>> {
    let b = PyBuffer::<T>::get(a).map_err(|_| {
        let got = a.getattr("dtype").map_or_else(|_| a.get_type().to_string(), |d| d.to_string());
        named(a.py(), "DTypeError", &format!("{what}: expected an aligned native array of {dtype}, got {got}"))
    })?;
    if !b.is_c_contiguous() {
        return Err(named(
            a.py(),
            "ShapeError",
            &format!("{what}: expected a C-contiguous array; use numpy.ascontiguousarray"),
        ));
    }
    Ok(b)
}

/// A new NumPy array.
pub fn array<'py, T: Element + Copy>(
    py: Python<'py>,
    values: &[T],
    shape: &[usize],
    dtype: &str,
) -> PyResult<Bound<'py, PyAny>> {
    // A buffer without axes has no shape to ask for, so a scalar is filled as one value and loses its axis after.
    let axes = if shape.is_empty() { &[1][..] } else { shape };
    let made = py.import("numpy")?.call_method1("empty", (PyTuple::new(py, axes)?, dtype));
    let a = made.map_err(|e| match e.is_instance_of::<PyMemoryError>(py) {
        true => raise(py, &NoMemory(size_of_val(values)).into()),
        false => e,
    })?;
    if !values.is_empty() {
        PyBuffer::<T>::get(&a)?.copy_from_slice(py, values)?;
    }
    if shape.is_empty() { a.call_method1("reshape", (PyTuple::empty(py),)) } else { Ok(a) }
}
