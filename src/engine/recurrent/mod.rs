//! engine: recurrent layers: cells, their weights and the stacks they form. Knows no passes.
//!
//! Depth and time are one axis: a stack is swept like a chain of layers, one time step a layer, save that every step has
//! the same weights and a new input. `forward.rs` and `backward.rs` are the sweep, `gradient.rs` is the weight phase.

mod apart;
mod backward;
mod figures;
mod forward;
mod gradient;
pub mod lyapunov;
pub mod plan;
mod run;
mod tape;

use super::program::{Origin, Tensor, fnv1a};
use crate::error::Error;
use crate::num::aligned::Buffer;
use crate::num::real::Real;
use crate::num::rng::{Key, Law, fill};
use crate::parts::cell::{Cell, Leaf, Shape};
use crate::parts::init::{Init, Value};
use crate::parts::layer::{GateBias, Recurrent as Description};
pub use figures::{NonFinite, TimeStats};
pub use gradient::narrowed;
pub use run::{Backward, Run, Seed, Setting};
pub use tape::{Key as TapeKey, Spare as TimeSpare};

/// The weights of one cell, as indices of tensors.
#[derive(Clone, Copy, Debug)]
pub struct CellWeights {
    /// Layer and direction, counted together: PyTorch's order.
    pub index: usize,
    /// Width of the input.
    pub in_width: usize,
    /// (gates * units, in)
    pub ih: usize,
    /// (gates * units, hidden)
    pub hh: Option<usize>,
    /// (gates * units,)
    pub bias_ih: Option<usize>,
    /// (gates * units,)
    pub bias_hh: Option<usize>,
    /// (vectors * units,)
    pub vectors: Option<usize>,
}

/// Cells on top of each other that run in one direction.
#[derive(Clone, Debug)]
pub struct Stack {
    /// From the last step to the first.
    pub reverse: bool,
    /// From the input up.
    pub cells: Vec<CellWeights>,
}

/// A recurrent layer, compiled.
#[derive(Debug)]
pub struct Recurrent {
    /// Its name.
    pub name: String,
    /// Its cell.
    pub cell: Cell,
    /// The cell's weights.
    pub shape: Shape,
    /// Units of a cell.
    pub units: usize,
    /// Width of a cell's output.
    pub hidden: usize,
    /// Width of the input.
    pub in_features: usize,
    /// Width of the output.
    pub out_features: usize,
    /// Whether the output is that of every step.
    pub every: bool,
    /// Whether cells above the first add their input to their output.
    pub residual: bool,
    /// Layers.
    pub num_layers: usize,
    /// 1 or 2.
    pub directions: usize,
    /// Parameters.
    pub tensors: Vec<Tensor>,
    /// Stacks that run over the same input; one level with one stack unless bidirectional.
    pub levels: Vec<Vec<Stack>>,
    /// The learned initial state: one tensor for each state of the cell.
    pub start: Vec<usize>,
    gate_bias: Option<GateBias>,
}

/// Names of a cell's states for users.
pub const STATE_NAMES: [&str; 2] = ["h", "c"];

impl Recurrent {
    /// Compiles a description for inputs of a width.
    pub fn compile(d: &Description, in_features: usize) -> Result<Self, Error> {
        let shape = d.cell.shape();
        let bad = |what: String| Err(Error::Argument(format!("Recurrent {:?}: {what}", d.name)));
        if d.hidden == 0 || !d.hidden.is_multiple_of(shape.outputs) {
            let multiple = shape.outputs;
            return bad(format!(
                "hidden_size must be a positive multiple of {multiple} for cell {:?}, got {}",
                d.cell.info().name,
                d.hidden
            ));
        }
        if d.num_layers == 0 || in_features == 0 {
            return bad(format!(
                "needs at least one layer and one input feature, got {} and {in_features}",
                d.num_layers
            ));
        }
        if d.residual && d.bidirectional {
            return bad("residual=True needs one direction: a bidirectional output is twice as wide as a layer".into());
        }
        if let (Some(_), None) = (d.gate_bias, shape.keep) {
            return bad(format!(
                "cell {:?} has no gate that keeps the state, so gate_bias has no meaning",
                d.cell.info().name
            ));
        }
        if let (Some(_), false) = (d.gate_bias, d.bias) {
            return bad("gate_bias needs biases, but bias is False".into());
        }
        let directions = 1 + usize::from(d.bidirectional);
        let mut r = Self {
            name: d.name.clone(),
            cell: d.cell,
            shape,
            units: d.hidden / shape.outputs,
            hidden: d.hidden,
            in_features,
            out_features: d.hidden * directions,
            every: d.every,
            residual: d.residual,
            num_layers: d.num_layers,
            directions,
            tensors: Vec::new(),
            levels: Vec::new(),
            start: Vec::new(),
            gate_bias: d.gate_bias,
        };
        for layer in 0..d.num_layers {
            let in_width = if layer == 0 { in_features } else { r.out_features };
            let cells =
                (0..directions).map(|dir| r.cell_weights(d, layer, dir, in_width)).collect::<Result<Vec<_>, _>>()?;
            if d.bidirectional {
                let stack = |(i, c): (usize, &CellWeights)| Stack { reverse: i == 1, cells: vec![*c] };
                r.levels.push(cells.iter().enumerate().map(stack).collect());
            } else if let Some(stack) = r.levels.first_mut().and_then(|l| l.first_mut()) {
                stack.cells.extend(cells);
            } else {
                r.levels.push(vec![Stack { reverse: false, cells }]);
            }
        }
        if d.learned {
            for name in STATE_NAMES.iter().take(shape.states / shape.outputs) {
                let rows = d.num_layers * directions;
                let t = r.tensor(format!("{name}0"), &[rows, d.hidden], 1, &Init::constant(0.0))?;
                r.start.push(t);
            }
        }
        Ok(r)
    }

    fn cell_weights(
        &mut self,
        d: &Description,
        layer: usize,
        dir: usize,
        in_width: usize,
    ) -> Result<CellWeights, Error> {
        let (u, s) = (self.units, self.shape);
        let suffix = format!("l{layer}{}", if dir == 1 { "_reverse" } else { "" });
        let bound = 1.0 / (self.hidden as f64).sqrt();
        let uniform = || {
            let range = [("low".into(), Value::Number(-bound)), ("high".into(), Value::Number(bound))];
            Init::parse("uniform", &range).unwrap_or_else(|_| Init::constant(0.0))
        };
        let own =
            |given: &Option<Init>, leaf, fan| given.clone().or_else(|| d.cell.start(leaf, fan)).unwrap_or_else(uniform);
        let gates = s.gates.len();
        let ih = own(&d.init, Leaf::WeightIh, in_width);
        let ih = self.tensor(format!("weight_ih_{suffix}"), &[gates * u, in_width], gates, &ih)?;
        let mut w = CellWeights {
            index: layer * self.directions + dir,
            in_width,
            ih,
            hh: None,
            bias_ih: None,
            bias_hh: None,
            vectors: None,
        };
        if !s.hh.is_empty() {
            let hh = own(&d.recurrent_init, Leaf::WeightHh, self.hidden);
            w.hh = Some(self.tensor(format!("weight_hh_{suffix}"), &[gates * u, self.hidden], gates, &hh)?);
        }
        let zero = Init::constant(0.0);
        let bias = d.bias_init.clone().unwrap_or_else(|| if d.cell.quiet() { zero.clone() } else { uniform() });
        if d.bias && s.bias {
            w.bias_ih = Some(self.tensor(format!("bias_ih_{suffix}"), &[gates * u], gates, &bias)?);
            if !s.hh.is_empty() {
                w.bias_hh = Some(self.tensor(format!("bias_hh_{suffix}"), &[gates * u], gates, &bias)?);
            }
        }
        if s.vectors.0 > 0 {
            w.vectors = Some(self.tensor(format!("{}_{suffix}", s.vectors.1), &[s.vectors.0 * u], 1, &zero)?);
        }
        Ok(w)
    }

    /// A parameter whose gates are filled one by one, each with the fans of one gate.
    fn tensor(&mut self, leaf: String, shape: &[usize], gates: usize, init: &Init) -> Result<usize, Error> {
        let name = [self.name.as_str(), &leaf].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(".");
        let cols = shape.get(1).copied().unwrap_or(1);
        if shape[0].checked_mul(cols).is_none_or(|n| n >= 1 << 48) {
            return Err(Error::Memory { what: format!("parameter {name}"), need: u64::MAX, limit: 1 << 48 });
        }
        self.tensors.push(Tensor {
            key: fnv1a(&name),
            name,
            shape: shape.to_vec(),
            rows: shape[0] / gates,
            cols,
            copies: gates,
            fans: (if shape.len() > 1 { cols } else { self.hidden }, self.units),
            init: init.clone(),
            shared: true,
            slope: false,
            lead: 0,
            trainable: true,
            origin: Origin::Drawn,
            uses: usize::MAX,
        });
        Ok(self.tensors.len() - 1)
    }

    /// Sets what initializers cannot know: per-unit parameters, and the biases of gates.
    pub fn finish_start<T: Real>(&self, params: &mut [Buffer<T>], seed: u64) {
        let u = self.units;
        for w in self.levels.iter().flatten().flat_map(|s| &s.cells) {
            let uniform = |n: usize, stream: u32| {
                let mut out = vec![0.0f64; n];
                let key = Key { seed, tensor: self.tensors[w.ih].key, layer: u32::MAX };
                fill(&mut out, key, stream, 0, Law::Unit, 1.0, 0.0);
                out
            };
            if let Some(v) = w.vectors {
                let draws = uniform(3 * u, 1);
                for j in 0..u {
                    let start = self.cell.start_vectors([draws[j], draws[u + j], draws[2 * u + j]]);
                    for (i, x) in start.into_iter().enumerate().take(self.shape.vectors.0) {
                        params[v][i * u + j] = T::from_f64(x);
                    }
                }
            }
            let (Some(rule), Some((keep, sign)), Some(b)) = (self.gate_bias, self.shape.keep, w.bias_ih) else {
                continue;
            };
            let draws = uniform(u, 2);
            for (j, draw) in draws.into_iter().enumerate() {
                let edge = 1.0 / self.hidden as f64;
                let value = match rule {
                    GateBias::Forget(x) => x,
                    GateBias::Chrono(steps) => crate::num::math::scalar::log(1.0 + draw * (steps - 2.0)),
                    GateBias::Uniform => {
                        let p = edge + draw * (1.0 - 2.0 * edge);
                        crate::num::math::scalar::log(p / (1.0 - p))
                    }
                };
                let mut set = |gate: usize, value: f64| {
                    params[b][gate * u + j] = T::from_f64(value);
                    if let Some(b) = w.bias_hh {
                        params[b][gate * u + j] = T::ZERO;
                    }
                };
                set(keep, sign * value);
                if let (Some(input), false) = (self.shape.input, matches!(rule, GateBias::Forget(_))) {
                    set(input, -sign * value);
                }
            }
        }
    }

    /// Width of a state row: all runs of all units.
    pub fn state_width(&self) -> usize {
        self.shape.states * self.units
    }

    /// Width of a row of deltas: dL/dz, then the parts of dL/dp.
    pub fn delta_width(&self) -> usize {
        (self.shape.columns + self.shape.vectors.0) * self.units
    }

    /// Width of a row of pre-activations.
    pub fn z_width(&self) -> usize {
        self.shape.columns * self.units
    }

    /// Runs of gates whose recurrent products go to neighbouring columns: (first gate, gates, first column).
    pub fn runs(&self) -> Vec<(usize, usize, usize)> {
        let mut out: Vec<(usize, usize, usize)> = Vec::new();
        for (gate, &column) in self.shape.hh.iter().enumerate() {
            match out.last_mut() {
                Some((_, n, first)) if *first + *n == column => *n += 1,
                _ => out.push((gate, 1, column)),
            }
        }
        out
    }
}
