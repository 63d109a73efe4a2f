//! py: the catalogues as dictionaries. Names, docs, the command line and the tests of Python all follow from these.

use super::door::raise;
use crate::error::Error;
use crate::parts::activation::Act;
use crate::parts::catalogue::{Info, Kind, Value};
use crate::parts::cell::Cell;
use crate::parts::clip::Clip;
use crate::parts::constraint::Constraint;
use crate::parts::init::Init;
use crate::parts::loss::Loss;
use crate::parts::norm::Norm;
use crate::parts::optimizer::Optimizer;
use crate::parts::parametrization::Parametrization;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The entries of the catalogue of a kind.
#[pyfunction]
pub fn catalogue<'py>(py: Python<'py>, kind: &str) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    match kind {
        "activation" => {
            for i in Act::infos() {
                let d = entry(py, i.name, i.aliases, i.formula, i.summary, i.reference)?;
                let params: Vec<_> = i.params.iter().map(|p| (p.name, p.doc, p.default)).collect();
                set_params(py, &d, &params)?;
                d.set_item("derivative", i.derivative)?;
                d.set_item("gain", i.gain)?;
                d.set_item("saturates", i.saturates)?;
                d.set_item("fits", i.fits)?;
                d.set_item("max_slope", i.max_slope)?;
                d.set_item("learned", i.learned)?;
                list.append(d)?;
            }
        }
        "initializer" => {
            for i in Init::infos() {
                list.append(plain(py, i)?)?;
            }
        }
        "norm" => {
            for i in Norm::infos() {
                let d = plain(py, i)?;
                if let Some(params) = d.get_item("params")? {
                    for (q, p) in params.cast::<PyList>()?.iter().zip(i.params) {
                        // A negative number stands for none.
                        if matches!(p.default_value(), Value::Number(x) if x < 0.0) {
                            q.set_item("default", py.None())?;
                        }
                    }
                }
                list.append(d)?;
            }
        }
        "loss" => {
            for loss in Loss::all() {
                let d = plain(py, loss.0)?;
                d.set_item("classes", loss.1)?;
                list.append(d)?;
            }
        }
        "parametrization" => {
            for (info, leaves) in Parametrization::all() {
                let d = plain(py, info)?;
                d.set_item("leaves", leaves.to_vec())?;
                list.append(d)?;
            }
        }
        "cell" => {
            for cell in Cell::all() {
                let (d, shape) = (plain(py, cell.info())?, cell.shape());
                d.set_item("gates", shape.gates)?;
                d.set_item("states", ["h", "c"][..shape.states / shape.outputs].to_vec())?;
                d.set_item("recurrent_weight", !shape.hh.is_empty())?;
                d.set_item("bias", shape.bias)?;
                d.set_item("keep", shape.keep.map(|(gate, _)| shape.gates[gate]))?;
                list.append(d)?;
            }
        }
        "optimizer" => {
            for (info, memory) in Optimizer::all() {
                let d = plain(py, info)?;
                d.set_item("memory", memory.to_vec())?;
                list.append(d)?;
            }
        }
        "clip" => {
            for i in Clip::infos() {
                list.append(plain(py, i)?)?;
            }
        }
        "constraint" => {
            for i in Constraint::infos() {
                list.append(plain(py, i)?)?;
            }
        }
        other => {
            let known =
                "activation, cell, clip, constraint, initializer, loss, norm, optimizer, parametrization".into();
            return Err(raise(py, &Error::Unknown { kind: "catalogue", name: other.into(), known }));
        }
    }
    Ok(list)
}

/// An entry with the parameters every catalogue but that of the activations describes in one way.
fn plain<'py>(py: Python<'py>, i: &Info) -> PyResult<Bound<'py, PyDict>> {
    let d = entry(py, i.name, i.aliases, i.formula, i.summary, i.reference)?;
    let params = PyList::empty(py);
    for p in i.params {
        let q = param(py, p.name, p.doc)?;
        match p.default_value() {
            Value::Number(x) if matches!(p.kind, Kind::Flag { .. }) => q.set_item("default", x == 1.0)?,
            Value::Number(x) => q.set_item("default", x)?,
            Value::Text(s) => q.set_item("default", s)?,
        }
        params.append(q)?;
    }
    d.set_item("params", params)?;
    Ok(d)
}

fn entry<'py>(
    py: Python<'py>,
    name: &str,
    aliases: &[&str],
    formula: &str,
    summary: &str,
    reference: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let d = PyDict::new(py);
    d.set_item("name", name)?;
    d.set_item("aliases", aliases)?;
    d.set_item("formula", formula)?;
    d.set_item("summary", summary)?;
    d.set_item("reference", reference)?;
    Ok(d)
}

fn param<'py>(py: Python<'py>, name: &str, doc: &str) -> PyResult<Bound<'py, PyDict>> {
    let d = PyDict::new(py);
    d.set_item("name", name)?;
    d.set_item("doc", doc)?;
    Ok(d)
}

fn set_params(py: Python<'_>, d: &Bound<'_, PyDict>, params: &[(&str, &str, f64)]) -> PyResult<()> {
    let list = PyList::empty(py);
    for (name, doc, default) in params {
        let p = param(py, name, doc)?;
        p.set_item("default", default)?;
        list.append(p)?;
    }
    d.set_item("params", list)
}
