//! py: the words that a request for a pass is made of. Knows names; runs nothing.

use super::door::named;
use super::spec::values;
use crate::engine::memory::Job;
use crate::engine::pass::Mode;
use crate::engine::sweep::Level;
use crate::parts::loss::Loss;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Which figures are wanted.
pub fn parse_level(py: Python<'_>, stats: &str) -> PyResult<Level> {
    Ok(match stats {
        "none" => Level::None,
        "norms" => Level::Norms,
        "full" => Level::Full,
        other => {
            return Err(named(py, "ArgumentError", &format!("stats must be none, norms or full, got {other:?}")));
        }
    })
}

/// A pass, as far as its memory goes.
pub fn job(py: Python<'_>, batch: usize, steps: usize, mode: &str, stats: &str, inputs: bool) -> PyResult<Job> {
    Ok(Job { batch, steps, mode: parse_mode(py, mode)?, level: parse_level(py, stats)?, inputs })
}

/// What a pass is for.
pub fn parse_mode(py: Python<'_>, mode: &str) -> PyResult<Mode> {
    Ok(match mode {
        "loss" => Mode::Loss,
        "probe" => Mode::Probe,
        "gradients" => Mode::Gradients,
        "step" => Mode::Step,
        other => {
            let message = format!("mode must be loss, probe, gradients or step, got {other:?}");
            return Err(named(py, "ArgumentError", &message));
        }
    })
}

/// A loss and whether it can take class labels.
pub fn parse_loss(py: Python<'_>, d: &Bound<'_, PyDict>) -> PyResult<(Loss, bool)> {
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
