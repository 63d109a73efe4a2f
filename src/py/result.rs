//! py: the outcome of a pass as a dictionary of arrays. Knows names; computes nothing.

use super::arrays::{Float, array};
use crate::engine::network::Network;
use crate::engine::pass::Outcome;
use crate::engine::stats::{BINS, Stats};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::mem::take;

/// What the dictionary says beside the outcome.
pub struct Names<'a, T: Float> {
    /// For parameters' names and shapes.
    pub net: &'a Network<T>,
    /// Of the arrays.
    pub dtype: &'a str,
    /// Samples.
    pub batch: usize,
    /// Time steps, where there is time.
    pub steps: Option<usize>,
    /// The initial state was given, and its gradient is wanted with the others.
    pub state: bool,
    /// Whether gradients were asked for.
    pub gradients: bool,
    /// The rate given, if any.
    pub rate: Option<f64>,
}

/// The dictionary.
pub fn to_dict<'py, T: Float>(py: Python<'py>, n: &Names<'_, T>, mut o: Outcome<T>) -> PyResult<Bound<'py, PyDict>> {
    let d = PyDict::new(py);
    d.set_item("loss", o.loss)?;
    d.set_item("correct", o.correct)?;
    d.set_item("batch", n.batch)?;
    let depth = n.net.program().map(|p| p.steps);
    d.set_item("steps", n.steps.or(depth))?;
    d.set_item("plan", o.plan.0)?;
    d.set_item("segment", o.plan.1)?;
    d.set_item("recompute", o.plan.2)?;
    stats(py, &d, &mut o.stats, n.rate.is_some())?;
    if let (Some(t), Some(steps)) = (&mut o.time, n.steps) {
        super::time::enter(py, &d, n, t, steps)?;
    }
    if n.gradients {
        let g = PyDict::new(py);
        for (t, kept) in n.net.tensors().zip(o.gradients) {
            let Some(kept) = kept else { continue };
            let lead = &t.shape[..t.lead];
            g.set_item(
                &t.name,
                (array(py, &kept.mantissa, &t.shape, n.dtype)?, array(py, &kept.exponent, lead, "int64")?),
            )?;
        }
        if let Some(t) = o.time.as_ref().filter(|_| n.state) {
            super::time::state_gradients(py, &g, n, t)?;
        }
        d.set_item("gradients", g)?;
        let (m, e) = &o.input_gradient;
        let lead = [&[n.batch][..], &n.steps.into_iter().collect::<Vec<_>>()].concat();
        if !e.is_empty() {
            let m = array(py, m, &[&lead[..], &[n.net.in_features]].concat(), n.dtype)?;
            d.set_item("input_gradient", (m, array(py, e, &lead, "int64")?))?;
        }
    }
    Ok(d)
}

/// Enters the figures of units. Each list is given back once its array is made, so that no two stay.
pub(super) fn stats(py: Python<'_>, d: &Bound<'_, PyDict>, s: &mut Stats, rate: bool) -> PyResult<()> {
    let units = s.step.len();
    if units == 0 {
        return Ok(());
    }
    let floats = |name: &str, v: &mut Vec<f64>| d.set_item(name, array(py, &take(v), &[units], "float64")?);
    let ints = |name: &str, v: &mut Vec<i64>, k: usize| {
        let shape = if k == 1 { vec![units] } else { vec![units, k] };
        d.set_item(name, array(py, &take(v), &shape, "int64")?)
    };
    ints("step", &mut s.step, 1)?;
    ints("width", &mut s.width, 1)?;
    d.set_item("kind", array(py, &s.kind, &[units], "uint8")?)?;
    floats("grad_log2_norm", &mut s.grad_log2_norm)?;
    floats("delta_log2_norm", &mut s.delta_log2_norm)?;
    floats("weight_grad_log2_norm", &mut s.weight_grad_log2_norm)?;
    floats("bias_grad_log2_norm", &mut s.bias_grad_log2_norm)?;
    d.set_item("input_grad_log2_norm", s.input_grad_log2_norm)?;
    let Some(f) = &mut s.full else { return Ok(()) };
    for (name, v) in [
        ("grad_spread", &mut f.grad_spread),
        ("delta_log2_max", &mut f.delta_log2_max),
        ("delta_log2_mean_abs", &mut f.delta_log2_mean_abs),
        ("weight_grad_log2_max", &mut f.weight_grad_log2_max),
        ("weight_grad_log2_mean_abs", &mut f.weight_grad_log2_mean_abs),
        ("weight_log2_norm", &mut f.weight_log2_norm),
        ("out_mean", &mut f.out_mean),
        ("out_var", &mut f.out_var),
        ("pre_mean", &mut f.pre_mean),
        ("pre_var", &mut f.pre_var),
        ("saturated", &mut f.saturated),
        ("zero_slope", &mut f.zero_slope),
    ] {
        floats(name, v)?;
    }
    for (name, v, k) in [
        ("grad_zero_samples", &mut f.grad_zero_samples, 1),
        ("delta_count", &mut f.delta_count, 1),
        ("delta_zero", &mut f.delta_zero, 1),
        ("delta_nan", &mut f.delta_nan, 1),
        ("delta_inf", &mut f.delta_inf, 1),
        ("delta_flush", &mut f.delta_flush, 6),
        ("delta_subnormal", &mut f.delta_subnormal, 6),
        ("delta_overflow", &mut f.delta_overflow, 6),
        ("delta_hist", &mut f.delta_hist, BINS),
        ("delta_hist_top", &mut f.delta_hist_top, 1),
        ("weight_grad_count", &mut f.weight_grad_count, 1),
        ("weight_grad_zero", &mut f.weight_grad_zero, 1),
        ("weight_grad_nonfinite", &mut f.weight_grad_nonfinite, 1),
        ("weight_grad_flush", &mut f.weight_grad_flush, 6),
        ("dead", &mut f.dead, 1),
    ] {
        ints(name, v, k)?;
    }
    if rate {
        ints("weight_unchanged", &mut f.weight_unchanged, 1)?;
    }
    Ok(())
}
