//! engine: the figures of a recurrent layer, by cell and time step, and how chunks' sums become them. Knows no threads.

use super::Recurrent;
use super::forward::{Ready, Scene};
use crate::engine::groups::{Spread, Sums, joined};
use crate::engine::sweep::Level;
use crate::error::Error;
use crate::kernels::cell::{CellMath, CellVisitor, MAX, RowBack};
use crate::kernels::cell_figures::{Figures, StepFigures, Tables as Weights, figures};
use crate::num::aligned::filled;
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, log2_scaled};

/// Where the forward pass first left the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// Time step.
    pub step: usize,
    /// Layer.
    pub layer: usize,
    /// Direction.
    pub direction: usize,
    /// States, over the batch, that are NaN or infinite there.
    pub units: usize,
}

/// Sums over a chunk of rows of one step's gradients.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepSums {
    output: ScaledSum,
    cell: ScaledSum,
    delta: ScaledSum,
    /// Samples with a finite norm above zero.
    spread: Spread,
    whole: bool,
}

impl StepSums {
    /// Adds a row whose gradient has exponent `e`.
    pub fn add_row(&mut self, b: &RowBack, e: i64, spread: bool) {
        let at = |s: ScaledSum, e: i64| ScaledSum { s: s.s, e: s.e + 2 * e };
        self.output.add(at(b.output, e));
        self.cell.add(at(b.cell, e));
        self.delta.add(at(b.delta, e + b.shift));
        if spread && b.output.s > 0.0 && b.output.s.is_finite() {
            self.spread.push(0.5 * log2_scaled(b.output.s, b.output.e + 2 * e));
        }
    }
}

impl Sums for StepSums {
    fn add(&mut self, o: &Self) {
        self.output.add(o.output);
        self.cell.add(o.cell);
        self.delta.add(o.delta);
        self.spread.add(o.spread);
    }
    fn whole(&mut self) -> &mut bool {
        &mut self.whole
    }
}

/// What is known of a cell's recurrent weights for the norm of a step's Jacobian.
pub struct Tables<T> {
    diagonal: Vec<T>,
    gram: Vec<T>,
}

impl<T: Real> Tables<T> {
    /// Diagonals and products of rows of the recurrent matrices.
    pub fn new(scene: &Scene<'_, T>, k: usize) -> Self {
        let (r, ready, c) = (scene.r, &scene.ready[k], &scene.stack.cells[k]);
        let (u, n, columns) = (r.units, r.hidden, r.shape.columns);
        let (mut diagonal, mut gram) = (vec![T::ZERO; columns * u], vec![T::ZERO; columns * columns * u]);
        let w: &[T] = match (&ready.hh, c.hh) {
            (Some(w), _) => w,
            (None, Some(t)) => &scene.params[t],
            (None, None) => return Self { diagonal, gram },
        };
        for (a, &ca) in r.shape.hh.iter().enumerate() {
            for j in 0..u {
                diagonal[ca * u + j] = w[(a * u + j) * n + j];
            }
            for (b, &cb) in r.shape.hh.iter().enumerate() {
                for j in 0..u {
                    let (x, y) = (&w[(a * u + j) * n..][..n], &w[(b * u + j) * n..][..n]);
                    let dot: f64 = x.iter().zip(y).map(|(x, y)| x.to_f64() * y.to_f64()).sum();
                    gram[(ca * columns + cb) * u + j] = T::from_f64(dot);
                }
            }
        }
        Self { diagonal, gram }
    }

    /// The figures of one row of one step.
    pub fn row(&self, r: &Recurrent, p: &[T], z: &[T], s: &[T], new: &[T]) -> StepFigures {
        struct Row<'a, T> {
            units: usize,
            outputs: usize,
            z: &'a [T],
            s: &'a [T],
            new: &'a [T],
            p: &'a [T],
            tables: Weights<'a, T>,
        }
        impl<T: Real> CellVisitor for Row<'_, T> {
            type Out = StepFigures;
            fn visit<M: CellMath>(self, cell: M) -> StepFigures {
                let Self { units, outputs, z, s, new, p, tables } = self;
                figures(Figures { cell, units, outputs, z, s, new, p, tables })
            }
        }
        let tables = Weights { diagonal: &self.diagonal, gram: &self.gram };
        r.cell.visit(Row { units: r.units, outputs: r.shape.outputs, z, s, new, p, tables })
    }
}

/// Figures by cell and time step: the entry of cell `index` at time t is at `index * steps + t`. Lists that the level
/// leaves out are empty.
#[derive(Debug, Default)]
pub struct TimeStats {
    /// Time steps.
    pub steps: usize,
    /// log2 of the norm of dL/dh.
    pub grad_log2_norm: Vec<f64>,
    /// log2 of the norm of dL/dc, where the cell has a c.
    pub cell_grad_log2_norm: Vec<f64>,
    /// log2 of the norm of dL/dz.
    pub delta_log2_norm: Vec<f64>,
    /// log2 of the norm of dL/d(initial state), by cell.
    pub state_grad_log2_norm: Vec<f64>,
    /// log2 of the norm of each step's part of the gradient of the weights from the input.
    pub ih_log2_norm: Vec<f64>,
    /// The same for the weights from the state.
    pub hh_log2_norm: Vec<f64>,
    /// Standard deviation over samples of log10 of the norm of dL/dh.
    pub grad_spread: Vec<f64>,
    /// Mean value of each gate: (cells, gates, steps).
    pub gate_mean: Vec<f64>,
    /// Share of gates on a flat part: (cells, gates, steps).
    pub gate_saturated: Vec<f64>,
    /// log2 of the root mean square over samples of ||d(state)/d(previous state)||_F / sqrt(size of the state).
    pub jacobian_log2_norm: Vec<f64>,
    /// Mean and variance of the outputs.
    pub hidden_mean: Vec<f64>,
    /// See `hidden_mean`.
    pub hidden_var: Vec<f64>,
}

impl TimeStats {
    /// Room for all cells of a layer.
    pub fn new(r: &Recurrent, steps: usize, level: Level) -> Result<Self, Error> {
        let cells = r.num_layers * r.directions;
        let nan = |yes: bool, n: usize| filled(f64::NAN, if yes { n } else { 0 });
        let (some, full) = (level > Level::None, level == Level::Full);
        let n = cells * steps;
        let gates = n * r.shape.gates.len();
        Ok(Self {
            steps,
            grad_log2_norm: nan(some, n)?,
            cell_grad_log2_norm: nan(some && r.shape.states > r.shape.outputs, n)?,
            delta_log2_norm: nan(some, n)?,
            state_grad_log2_norm: nan(some, cells)?,
            ih_log2_norm: nan(full, n)?,
            hh_log2_norm: nan(full, n)?,
            grad_spread: nan(full, n)?,
            gate_mean: nan(full, gates)?,
            gate_saturated: nan(full, gates)?,
            jacobian_log2_norm: nan(full, n)?,
            hidden_mean: nan(full, n)?,
            hidden_var: nan(full, n)?,
        })
    }

    /// Bytes of all lists, and of the largest once more.
    pub fn bytes(r: &Recurrent, steps: usize, level: Level) -> u64 {
        let (cell, gates) = (u64::from(r.shape.states > r.shape.outputs), r.shape.gates.len() as u64);
        let words = match level {
            Level::None => 0,
            Level::Norms => 2 + cell + 1,
            Level::Full => 8 + cell + 2 * gates + gates.max(1),
        };
        let each = words * size_of::<f64>() as u64 * (r.num_layers * r.directions) as u64;
        each.saturating_mul(steps as u64)
    }

    /// Enters a cell's figures of the step at time `t`.
    pub fn enter(&mut self, r: &Recurrent, index: usize, t: usize, f: &StepEntry) {
        let at = index * self.steps + t;
        self.grad_log2_norm[at] = f.grad;
        self.delta_log2_norm[at] = f.delta;
        if let Some(c) = self.cell_grad_log2_norm.get_mut(at) {
            *c = f.cell;
        }
        let Some(full) = &f.full else { return };
        self.grad_spread[at] = full.spread;
        self.hidden_mean[at] = full.mean;
        self.hidden_var[at] = full.variance;
        self.jacobian_log2_norm[at] = full.jacobian;
        if r.shape.gated {
            let gates = r.shape.gates.len();
            for g in 0..gates {
                let to = (index * gates + g) * self.steps + t;
                self.gate_mean[to] = full.gate[g];
                self.gate_saturated[to] = full.saturated[g];
            }
        }
    }
}

/// The figures of one cell at one step.
#[derive(Clone, Debug)]
pub struct StepEntry {
    grad: f64,
    cell: f64,
    delta: f64,
    full: Option<Box<FullEntry>>,
}

#[derive(Clone, Debug)]
struct FullEntry {
    spread: f64,
    gate: [f64; MAX.0],
    saturated: [f64; MAX.0],
    mean: f64,
    variance: f64,
    jacobian: f64,
}

impl StepEntry {
    /// From a step's chunks, in their order. `lives`: samples that have the step.
    pub fn new(r: &Recurrent, sums: &[StepSums], figures: &[StepFigures], lives: usize) -> Self {
        let s = joined(sums);
        let full = (!figures.is_empty()).then(|| Box::new(FullEntry::new(r, s.spread, figures, lives as f64)));
        Self { grad: s.output.log2_sqrt(), cell: s.cell.log2_sqrt(), delta: s.delta.log2_sqrt(), full }
    }
}

impl FullEntry {
    fn new(r: &Recurrent, spread: Spread, figures: &[StepFigures], rows: f64) -> Self {
        let mut f = StepFigures::default();
        figures.iter().for_each(|c| f.add(c));
        let (per_gate, outputs) = (rows * r.units as f64, rows * r.hidden as f64);
        let mean = f.sum / outputs;
        let variance = f.squares / outputs - mean * mean;
        Self {
            spread: spread.deviation().unwrap_or(f64::NAN),
            gate: f.gate.map(|x| x / per_gate),
            saturated: f.saturated.map(|x| x / per_gate),
            mean,
            variance: if variance < 0.0 { 0.0 } else { variance },
            jacobian: 0.5 * log2_scaled(f.jacobian.s / (rows * r.state_width() as f64), f.jacobian.e),
        }
    }
}

/// All cells of a stack made ready.
pub fn ready<T: Real>(r: &Recurrent, stack: &super::Stack, params: &[crate::num::aligned::Buffer<T>]) -> Vec<Ready<T>> {
    stack.cells.iter().map(|c| Ready::new(r, c, params)).collect()
}
