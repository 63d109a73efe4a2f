//! py: what only networks with time yield, as dictionaries of arrays. Knows names; computes nothing.

use super::arrays::{Float, array};
use super::result::Names;
use crate::engine::chain::TimeOutcome;
use crate::engine::network::Stage;
use crate::engine::recurrent::{Recurrent, STATE_NAMES, TimeStats};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::mem::take;

/// Enters the figures along time.
pub fn enter<T: Float>(
    py: Python<'_>,
    d: &Bound<'_, PyDict>,
    n: &Names<'_, T>,
    o: &mut TimeOutcome<T>,
    steps: usize,
) -> PyResult<()> {
    d.set_item("axis", "time")?;
    let list = PyList::empty(py);
    for (i, s) in &mut o.stats {
        let Stage::Recurrent(r) = &n.net.stages[*i] else { continue };
        let own = layer(py, r, s, steps)?;
        own.set_item("stage", *i)?;
        list.append(own)?;
    }
    d.set_item("time", list)?;
    let feeds = PyList::empty(py);
    let last = o.feeds.len().saturating_sub(1);
    for (k, (i, s)) in o.feeds.iter_mut().enumerate() {
        let own = PyDict::new(py);
        super::result::stats(py, &own, s, n.rate.is_some())?;
        if k == last {
            d.update(own.as_mapping())?;
        }
        own.set_item("stage", *i)?;
        feeds.append(&own)?;
    }
    d.set_item("stages", feeds)?;
    d.set_item("input_grad_log2_norm", o.input_norm)?;
    let norms = PyDict::new(py);
    for (t, &x) in n.net.tensors().zip(&o.norms).filter(|(t, _)| t.trainable) {
        if !x.is_nan() || t.is_empty() {
            norms.set_item(&t.name, x)?;
        }
    }
    d.set_item("weight_norms", norms)?;
    let bad = o.nonfinite.map(|(stage, b)| -> PyResult<_> {
        let own = PyDict::new(py);
        own.set_item("stage", stage)?;
        own.set_item("step", b.step)?;
        own.set_item("layer", b.layer)?;
        own.set_item("direction", b.direction)?;
        own.set_item("units", b.units)?;
        Ok(own)
    });
    d.set_item("nonfinite", bad.transpose()?)
}

fn layer<'py>(py: Python<'py>, r: &Recurrent, s: &mut TimeStats, steps: usize) -> PyResult<Bound<'py, PyDict>> {
    let d = PyDict::new(py);
    let (cells, gates) = (r.num_layers * r.directions, r.shape.gates.len());
    d.set_item("name", &r.name)?;
    d.set_item("cell", r.cell.info().name)?;
    d.set_item("gates", r.shape.gates)?;
    d.set_item("layers", r.num_layers)?;
    d.set_item("directions", r.directions)?;
    d.set_item("hidden", r.hidden)?;
    d.set_item("steps", steps)?;
    // Each list is given back once its array is made, so that no two stay.
    let put = |name: &str, v: &mut Vec<f64>, shape: &[usize]| -> PyResult<()> {
        if v.is_empty() { Ok(()) } else { d.set_item(name, array(py, &take(v), shape, "float64")?) }
    };
    for (name, v) in [
        ("grad_log2_norm", &mut s.grad_log2_norm),
        ("cell_grad_log2_norm", &mut s.cell_grad_log2_norm),
        ("delta_log2_norm", &mut s.delta_log2_norm),
        ("weight_ih_grad_log2_norm", &mut s.ih_log2_norm),
        ("weight_hh_grad_log2_norm", &mut s.hh_log2_norm),
        ("grad_spread", &mut s.grad_spread),
        ("jacobian_log2_norm", &mut s.jacobian_log2_norm),
        ("hidden_mean", &mut s.hidden_mean),
        ("hidden_var", &mut s.hidden_var),
    ] {
        put(name, v, &[cells, steps])?;
    }
    put("state_grad_log2_norm", &mut s.state_grad_log2_norm, &[cells])?;
    put("gate_mean", &mut s.gate_mean, &[cells, gates, steps])?;
    put("gate_saturated", &mut s.gate_saturated, &[cells, gates, steps])?;
    Ok(d)
}

/// The first recurrent layer.
fn first<'a, T: Float>(n: &Names<'a, T>) -> Option<&'a Recurrent> {
    n.net.stages.iter().find_map(|s| match s {
        Stage::Recurrent(r) => Some(&**r),
        Stage::Feed(_) => None,
    })
}

/// dL/d(initial state) under the names "state.h" and "state.c".
pub fn state_gradients<T: Float>(
    py: Python<'_>,
    g: &Bound<'_, PyDict>,
    n: &Names<'_, T>,
    o: &TimeOutcome<T>,
) -> PyResult<()> {
    let Some(r) = first(n) else { return Ok(()) };
    let cells = r.num_layers * r.directions;
    for (name, s) in STATE_NAMES.iter().zip(&o.states) {
        // Rows of zeros carry no exponent of their own.
        let e: Vec<i64> = s.e.iter().map(|&e| if e == crate::engine::sweep::NO_SCALE { 0 } else { e }).collect();
        let m = array(py, &s.g, &[cells, n.batch, r.hidden], n.dtype)?;
        g.set_item(format!("state.{name}"), (m, array(py, &e, &[cells, n.batch], "int64")?))?;
    }
    Ok(())
}

/// The final states as a list of arrays.
pub fn last_states<'py, T: Float>(
    py: Python<'py>,
    n: &Names<'_, T>,
    o: &TimeOutcome<T>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    let Some(r) = first(n) else { return Ok(list) };
    for s in &o.last {
        list.append(array(py, s, &[r.num_layers * r.directions, n.batch, r.hidden], n.dtype)?)?;
    }
    Ok(list)
}
