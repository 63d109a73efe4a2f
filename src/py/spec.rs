//! py: layer descriptions from Python's dictionaries. Knows the layer tree and the catalogues' parsers.

use super::door::{named, raise};
use crate::error::Error;
use crate::parts::activation::{Act, ActError};
use crate::parts::catalogue::Value;
use crate::parts::cell::Cell;
use crate::parts::init::Init;
use crate::parts::layer::{GateBias, Highway, Layer, Recurrent, Residual};
use crate::parts::norm::Norm;
use crate::parts::parametrization::Parametrization;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Explicit initial values: where they go, and the array.
pub type Given<'py> = Vec<(String, Bound<'py, PyAny>)>;

/// The layers of a list of dictionaries; arrays given as initial values are collected by parameter name.
pub fn layers<'py>(list: &Bound<'py, PyList>, path: &[String], given: &mut Given<'py>) -> PyResult<Vec<Layer>> {
    list.iter().map(|item| layer(item.cast::<PyDict>()?, path, given)).collect()
}

fn get<'py>(d: &Bound<'py, PyDict>, key: &str) -> PyResult<Bound<'py, PyAny>> {
    d.get_item(key)?.ok_or_else(|| named(d.py(), "ArgumentError", &format!("a layer description has no {key:?}: {d}")))
}

fn layer<'py>(d: &Bound<'py, PyDict>, path: &[String], given: &mut Given<'py>) -> PyResult<Layer> {
    let kind: String = get(d, "kind")?.extract()?;
    let name: String = get(d, "name")?.extract()?;
    let below: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
    let body = |given: &mut Given<'py>| layers(get(d, "body")?.cast::<PyList>()?, &below, given);
    Ok(match kind.as_str() {
        "dense" => {
            let bias: bool = get(d, "bias")?.extract()?;
            let parametrization = match d.get_item("parametrization")? {
                Some(p) if !p.is_none() => Some(parametrization(p.cast::<PyDict>()?)?),
                _ => None,
            };
            let leaf = parametrization.map_or("weight", |p| p.leaves()[0]);
            Layer::Dense {
                name,
                features: get(d, "features")?.extract()?,
                weight: init(&get(d, "init")?, &below, leaf, given)?,
                bias: bias.then(|| init(&get(d, "bias_init")?, &below, "bias", given)).transpose()?,
                parametrization,
            }
        }
        "activation" => {
            let function: String = get(d, "function")?.extract()?;
            let params = get(d, "params")?;
            Layer::Activation { name, act: act(d.py(), &function, params.cast::<PyDict>()?)? }
        }
        "repeat" => {
            Layer::Repeat { name, n: get(d, "n")?.extract()?, tied: get(d, "tied")?.extract()?, body: body(given)? }
        }
        "norm" => {
            let function: String = get(d, "norm")?.extract()?;
            let norm = Norm::parse(&function, &values(get(d, "params")?.cast::<PyDict>()?)?).map_err(|e| {
                let class = if e.is_unknown_name() { "UnknownNameError" } else { "ArgumentError" };
                named(d.py(), class, &e.to_string())
            })?;
            Layer::Norm { name, norm, affine: get(d, "affine")?.extract()? }
        }
        "recurrent" => recurrent(d, name, &below, given)?,
        "residual" => Layer::Residual(Residual {
            name,
            scale: get(d, "scale")?.extract()?,
            learned: get(d, "learned")?.extract()?,
            gain: get(d, "gain")?.extract()?,
            shortcut: {
                let inside: Vec<String> = below.iter().cloned().chain(["shortcut".into()]).collect();
                layers(get(d, "shortcut")?.cast::<PyList>()?, &inside, given)?
            },
            survival: get(d, "survival")?.extract()?,
            body: body(given)?,
        }),
        "highway" => {
            let mut part = |key: &str| layers(get(d, key)?.cast::<PyList>()?, &below, given);
            let (transform, gate, carry) = (part("body")?, part("gate")?, part("carry")?);
            Layer::Highway(Highway { name, transform, gate, carry })
        }
        "concat" => Layer::Concat { name, body: body(given)? },
        "dropout" => Layer::Dropout { name, p: get(d, "p")?.extract()? },
        other => {
            return Err(raise(
                d.py(),
                &Error::Unknown {
                    kind: "layer",
                    name: other.into(),
                    known: "dense, activation, norm, repeat, residual, highway, concat, dropout, recurrent".into(),
                },
            ));
        }
    })
}

fn recurrent<'py>(d: &Bound<'py, PyDict>, name: String, below: &[String], given: &mut Given<'py>) -> PyResult<Layer> {
    let py = d.py();
    let cell: String = get(d, "cell")?.extract()?;
    let cell = Cell::parse(&cell, &values(get(d, "params")?.cast::<PyDict>()?)?).map_err(|e| {
        let class = if e.is_unknown_name() { "UnknownNameError" } else { "ArgumentError" };
        named(py, class, &e.to_string())
    })?;
    let (num_layers, bidirectional) = (get(d, "num_layers")?.extract()?, get(d, "bidirectional")?.extract()?);
    let mut start = |key: &str, leaves: &[&str]| -> PyResult<Option<Init>> {
        let spec = get(d, key)?;
        if spec.is_none() {
            return Ok(None);
        }
        let mut found = None;
        // An explicit array is that of every layer and direction.
        for leaf in leaves {
            for layer in 0..num_layers {
                for suffix in ["", "_reverse"].into_iter().take(1 + usize::from(bidirectional)) {
                    found = Some(init(&spec, below, &format!("{leaf}_l{layer}{suffix}"), given)?);
                }
            }
        }
        Ok(found)
    };
    let (input, state) = (start("init", &["weight_ih"])?, start("recurrent_init", &["weight_hh"])?);
    let recurrent = !cell.shape().hh.is_empty();
    let biases = start("bias_init", if recurrent { &["bias_ih", "bias_hh"] } else { &["bias_ih"] })?;
    let gate_bias = match get(d, "gate_bias")? {
        rule if rule.is_none() => None,
        rule => {
            let rule = rule.cast::<PyDict>()?;
            let kind: String = get(rule, "kind")?.extract()?;
            Some(match kind.as_str() {
                "forget" => GateBias::Forget(get(rule, "value")?.extract()?),
                "chrono" => GateBias::Chrono(get(rule, "T")?.extract()?),
                "uniform" => GateBias::Uniform,
                other => {
                    let known = "forget, chrono, uniform".into();
                    return Err(raise(py, &Error::Unknown { kind: "gate bias", name: other.into(), known }));
                }
            })
        }
    };
    let (read, start_state): (String, String) = (get(d, "read")?.extract()?, get(d, "state")?.extract()?);
    Ok(Layer::Recurrent(Box::new(Recurrent {
        name,
        cell,
        hidden: get(d, "hidden")?.extract()?,
        num_layers,
        bidirectional,
        residual: get(d, "residual")?.extract()?,
        bias: get(d, "bias")?.extract()?,
        every: read == "every",
        learned: start_state == "learned",
        init: input,
        recurrent_init: state,
        bias_init: biases,
        gate_bias,
    })))
}

/// An activation by name and parameters.
pub fn act(py: Python<'_>, name: &str, params: &Bound<'_, PyDict>) -> PyResult<Act> {
    Act::parse(name, &numbers(params)?).map_err(|e| match e {
        ActError::Unknown { name } => {
            let known = Act::infos().iter().map(|i| i.name).collect::<Vec<_>>().join(", ");
            raise(py, &Error::Unknown { kind: "activation", name, known })
        }
        other => named(py, "ArgumentError", &other.to_string()),
    })
}

/// Named numbers.
fn numbers(params: &Bound<'_, PyDict>) -> PyResult<Vec<(String, f64)>> {
    params.iter().map(|(k, v)| Ok((k.extract()?, v.extract()?))).collect()
}

/// Named numbers and strings.
pub fn values(params: &Bound<'_, PyDict>) -> PyResult<Vec<(String, Value)>> {
    params
        .iter()
        .map(|(k, v)| {
            Ok((k.extract()?, v.extract::<f64>().map(Value::Number).or_else(|_| v.extract().map(Value::Text))?))
        })
        .collect()
}

/// A parametrization by name and parameters.
fn parametrization(d: &Bound<'_, PyDict>) -> PyResult<Parametrization> {
    let name: String = get(d, "name")?.extract()?;
    Parametrization::parse(&name, &values(get(d, "params")?.cast::<PyDict>()?)?).map_err(|e| {
        let class = if e.is_unknown_name() { "UnknownNameError" } else { "ArgumentError" };
        named(d.py(), class, &e.to_string())
    })
}

/// An initializer by name and parameters.
pub fn initializer(py: Python<'_>, name: &str, params: &Bound<'_, PyDict>) -> PyResult<Init> {
    Init::parse(name, &values(params)?).map_err(|e| {
        let class = if e.is_unknown_name() { "UnknownNameError" } else { "ArgumentError" };
        named(py, class, &e.to_string())
    })
}

fn init<'py>(spec: &Bound<'py, PyAny>, path: &[String], leaf: &str, given: &mut Given<'py>) -> PyResult<Init> {
    let d = spec.cast::<PyDict>()?;
    if let Some(array) = d.get_item("array")? {
        let name = path.iter().map(String::as_str).chain([leaf]).filter(|s| !s.is_empty());
        given.push((name.collect::<Vec<_>>().join("."), array));
        return Ok(Init::constant(0.0));
    }
    let name: String = get(d, "name")?.extract()?;
    initializer(d.py(), &name, get(d, "params")?.cast::<PyDict>()?)
}
