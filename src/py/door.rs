//! py: the one door: the interpreter released, Ctrl-C noticed, errors turned into the classes of `vgcore.errors`.

use crate::error::Error;
use pyo3::prelude::*;
use std::sync::Mutex;

/// A core error as the Python exception of its kind.
pub fn raise(py: Python<'_>, e: &Error) -> PyErr {
    let class = match e {
        Error::Shape(_) => "ShapeError",
        Error::Argument(_) => "ArgumentError",
        Error::Unknown { .. } => "UnknownNameError",
        Error::Label { .. } => "LabelError",
        Error::Memory { .. } | Error::Refused { .. } => "MemoryBudgetError",
        Error::Busy(_) => "BusyError",
        Error::Interrupted => "VgcoreError",
    };
    named(py, class, &e.to_string())
}

/// An exception of `vgcore.errors` by name.
pub fn named(py: Python<'_>, class: &str, message: &str) -> PyErr {
    let made = py.import("vgcore.errors").and_then(|m| m.getattr(class)).and_then(|c| c.call1((message,)));
    match made {
        Ok(e) => PyErr::from_value(e),
        Err(e) => e,
    }
}

/// The same for work that is whole wherever it is stopped: its result, and what stopped it.
pub fn detached_whole<R: Send>(
    py: Python<'_>,
    f: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<R, Error> + Send,
) -> PyResult<(R, Option<PyErr>)> {
    let (result, signal) = watched(py, f);
    result.map_or_else(|e| Err(raise(py, &e)), |r| Ok((r, signal)))
}

/// Runs `f` without the interpreter. `f` gets a function to ask now and then, on its own thread, whether to stop.
pub fn detached<R: Send>(
    py: Python<'_>,
    f: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<R, Error> + Send,
) -> PyResult<R> {
    let (result, signal) = watched(py, f);
    result.map_err(|e| signal.unwrap_or_else(|| raise(py, &e)))
}

fn watched<R: Send>(
    py: Python<'_>,
    f: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<R, Error> + Send,
) -> (Result<R, Error>, Option<PyErr>) {
    let signal: Mutex<Option<PyErr>> = Mutex::new(None);
    let result = py.detach(|| {
        f(&|| {
            Python::attach(|py| match py.check_signals() {
                Ok(()) => false,
                Err(e) => {
                    *signal.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(e);
                    true
                }
            })
        })
    });
    (result, signal.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}
