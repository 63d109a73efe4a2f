//! engine: the figures of a pass, one entry a unit, and how chunk and block sums become them. Knows no threads.

use super::chunk_sums::ChunkGradient;
use super::groups::joined;
use super::op::{Kind, Op};
use super::sweep::Level;
use super::tape::ChunkForward;
use crate::error::Error;
use crate::kernels::gradient::GradientSums;
use crate::kernels::magnitudes::Magnitudes;
use crate::num::aligned::{NoMemory, filled};
use crate::num::scaled::log2_scaled;

/// Bins of the exponent histogram.
pub const BINS: usize = 32;

/// Figures by unit; lists that the level leaves out are empty.
#[derive(Default, Debug)]
pub struct Stats {
    /// Step of each unit.
    pub step: Vec<i64>,
    /// 0 dense, 1 activation, 2 residual, 3 normalisation, 4 gate, 5 concatenation, 6 dropout.
    pub kind: Vec<u8>,
    /// Output width.
    pub width: Vec<i64>,
    /// log2 of the norm of dL/d(output).
    pub grad_log2_norm: Vec<f64>,
    /// log2 of the norm of dL/d(pre-activation).
    pub delta_log2_norm: Vec<f64>,
    /// log2 of the norm of the weights' gradient.
    pub weight_grad_log2_norm: Vec<f64>,
    /// log2 of the norm of the bias's gradient.
    pub bias_grad_log2_norm: Vec<f64>,
    /// log2 of the norm of dL/d(input).
    pub input_grad_log2_norm: f64,
    /// The rest, at the full level.
    pub full: Option<Box<FullStats>>,
}

/// Figures of the full level.
#[derive(Default, Debug)]
#[allow(missing_docs)] // reason: the names are those of the table users read, where they are explained
pub struct FullStats {
    pub grad_spread: Vec<f64>,
    pub grad_zero_samples: Vec<i64>,
    pub delta_log2_max: Vec<f64>,
    pub delta_log2_mean_abs: Vec<f64>,
    pub delta_count: Vec<i64>,
    pub delta_zero: Vec<i64>,
    pub delta_nan: Vec<i64>,
    pub delta_inf: Vec<i64>,
    pub delta_flush: Vec<i64>,
    pub delta_subnormal: Vec<i64>,
    pub delta_overflow: Vec<i64>,
    pub delta_hist: Vec<i64>,
    pub delta_hist_top: Vec<i64>,
    pub weight_grad_log2_max: Vec<f64>,
    pub weight_grad_log2_mean_abs: Vec<f64>,
    pub weight_grad_count: Vec<i64>,
    pub weight_grad_zero: Vec<i64>,
    pub weight_grad_nonfinite: Vec<i64>,
    pub weight_grad_flush: Vec<i64>,
    pub weight_log2_norm: Vec<f64>,
    pub weight_unchanged: Vec<i64>,
    pub out_mean: Vec<f64>,
    pub out_var: Vec<f64>,
    pub pre_mean: Vec<f64>,
    pub pre_var: Vec<f64>,
    pub saturated: Vec<f64>,
    pub zero_slope: Vec<f64>,
    pub dead: Vec<i64>,
}

/// What the weight phase found out about one unit.
#[derive(Clone, Default)]
pub struct UnitSums {
    /// Of the weights' gradient, in the scale 2^exponent.
    pub weight: Option<GradientSums>,
    /// Of the bias's gradient, in the scale 2^(exponent - lift).
    pub bias: Option<GradientSums>,
    /// The scale.
    pub exponent: i64,
    /// What the inputs were lifted by, which is in the weights' scale but not in the bias's.
    pub lift: i64,
    /// Of the deltas.
    pub delta: Option<Box<Magnitudes>>,
    /// Of outputs and slopes.
    pub forward: Option<crate::kernels::unit::UnitForward>,
}

/// The backward sums of a unit over the whole batch.
pub struct UnitGradient {
    /// log2 of the norm of dL/d(output).
    gradient: f64,
    /// log2 of the norm of dL/d(pre-activation).
    delta: f64,
    /// Samples whose gradient is exactly zero.
    zero: i64,
    /// Deviation of log10 of the norm over the samples, where there are two.
    spread: Option<f64>,
}

impl UnitGradient {
    /// Joins the sums of all chunks.
    pub fn new(chunks: &[ChunkGradient]) -> Self {
        let ChunkGradient { gradient, delta, zero, spread, .. } = joined(chunks);
        Self {
            gradient: gradient.log2_sqrt(),
            delta: delta.log2_sqrt(),
            zero: i64::from(zero),
            spread: spread.deviation(),
        }
    }
}

impl Stats {
    /// Room for `units` units.
    pub fn new(units: usize, level: Level) -> Result<Self, Error> {
        if level == Level::None {
            return Ok(Self::default());
        }
        let nan = || filled(f64::NAN, units);
        let int = |k: usize| filled(0i64, units.saturating_mul(k));
        let full = || -> Result<_, NoMemory> {
            Ok(Box::new(FullStats {
                grad_spread: nan()?,
                grad_zero_samples: int(1)?,
                delta_log2_max: nan()?,
                delta_log2_mean_abs: nan()?,
                delta_count: int(1)?,
                delta_zero: int(1)?,
                delta_nan: int(1)?,
                delta_inf: int(1)?,
                delta_flush: int(6)?,
                delta_subnormal: int(6)?,
                delta_overflow: int(6)?,
                delta_hist: int(BINS)?,
                delta_hist_top: int(1)?,
                weight_grad_log2_max: nan()?,
                weight_grad_log2_mean_abs: nan()?,
                weight_grad_count: int(1)?,
                weight_grad_zero: int(1)?,
                weight_grad_nonfinite: int(1)?,
                weight_grad_flush: int(6)?,
                weight_log2_norm: nan()?,
                weight_unchanged: int(1)?,
                out_mean: nan()?,
                out_var: nan()?,
                pre_mean: nan()?,
                pre_var: nan()?,
                saturated: nan()?,
                zero_slope: nan()?,
                dead: int(1)?,
            }))
        };
        Ok(Self {
            step: int(1)?,
            kind: filled(0, units)?,
            width: int(1)?,
            grad_log2_norm: nan()?,
            delta_log2_norm: nan()?,
            weight_grad_log2_norm: nan()?,
            bias_grad_log2_norm: nan()?,
            input_grad_log2_norm: f64::NAN,
            full: if level == Level::Full { Some(full()?) } else { None },
        })
    }

    /// Bytes of all lists for `units` units, and of the largest once more.
    pub fn bytes(units: usize, level: Level) -> u64 {
        const WORD: u64 = size_of::<f64>() as u64;
        // Step, width and four norms are words, the kind a byte.
        let norms = 6 * WORD + 1;
        // Floats, whole numbers, numbers by format, and the histogram.
        let full = (12 + 11 + 4 * 6 + BINS as u64) * WORD;
        let (each, largest) = match level {
            Level::None => (0, 0),
            Level::Norms => (norms, WORD),
            Level::Full => (norms + full, BINS as u64 * WORD),
        };
        (each + largest).saturating_mul(units as u64)
    }

    /// Enters the backward sums of a unit.
    pub fn enter_gradient(&mut self, u: usize, g: &UnitGradient, has_delta: bool) {
        self.grad_log2_norm[u] = g.gradient;
        if has_delta {
            self.delta_log2_norm[u] = g.delta;
        }
        if let Some(f) = &mut self.full {
            f.grad_zero_samples[u] = g.zero;
            if let Some(spread) = g.spread {
                f.grad_spread[u] = spread;
            }
        }
    }

    /// Enters a unit of a branch that was left out: the loss does not depend on it, so all its gradients are zero.
    pub fn enter_absence(&mut self, u: usize, op: &Op, batch: usize) {
        self.grad_log2_norm[u] = f64::NEG_INFINITY;
        if op.delta.is_some() {
            self.delta_log2_norm[u] = f64::NEG_INFINITY;
        }
        let (weights, bias) = match &op.kind {
            Kind::Dense { bias, .. } => (op.weights(), bias.is_some()),
            Kind::Norm(n) if n.weight.is_some() => (op.widths.1, n.bias.is_some()),
            _ => (0, false),
        };
        if weights > 0 {
            self.weight_grad_log2_norm[u] = f64::NEG_INFINITY;
        }
        if bias {
            self.bias_grad_log2_norm[u] = f64::NEG_INFINITY;
        }
        let Some(f) = &mut self.full else { return };
        f.grad_zero_samples[u] = batch as i64;
        if op.delta.is_some() {
            f.delta_count[u] = (batch * op.widths.1) as i64;
            f.delta_zero[u] = f.delta_count[u];
            f.delta_log2_max[u] = f64::NEG_INFINITY;
            f.delta_log2_mean_abs[u] = f64::NEG_INFINITY;
        }
        if weights > 0 {
            f.weight_grad_count[u] = weights as i64;
            f.weight_grad_zero[u] = weights as i64;
            f.weight_grad_log2_max[u] = f64::NEG_INFINITY;
            f.weight_grad_log2_mean_abs[u] = f64::NEG_INFINITY;
        }
    }

    /// Enters the forward sums of a unit over `count` pre-activations.
    pub fn enter_forward(&mut self, u: usize, chunks: &[ChunkForward], count: usize) {
        let Some(f) = &mut self.full else { return };
        let (sum, squares) = chunks.iter().fold((0.0, 0.0), |s, c| (s.0 + c.sum, s.1 + c.squares));
        let mean = sum / count as f64;
        f.pre_mean[u] = mean;
        let var = squares / count as f64 - mean * mean;
        f.pre_var[u] = if var < 0.0 { 0.0 } else { var };
    }

    /// Enters what the weight phase found.
    pub fn enter_weights(&mut self, u: usize, s: &UnitSums) {
        let norm = |x: &GradientSums, e: i64| x.squares.log2_sqrt() + e as f64;
        if let Some(w) = &s.weight {
            self.weight_grad_log2_norm[u] = norm(w, s.exponent);
        }
        if let Some(b) = &s.bias {
            self.bias_grad_log2_norm[u] = norm(b, s.exponent - s.lift);
        }
        let Some(f) = &mut self.full else { return };
        if let Some(w) = &s.weight {
            f.weight_grad_log2_max[u] = log2_scaled(w.largest, s.exponent);
            f.weight_grad_log2_mean_abs[u] = log2_scaled(w.abs / w.count.max(1) as f64, s.exponent);
            f.weight_grad_count[u] = w.count as i64;
            f.weight_grad_zero[u] = w.zero as i64;
            f.weight_grad_nonfinite[u] = w.nonfinite as i64;
            f.weight_log2_norm[u] = w.weights.log2_sqrt();
            f.weight_unchanged[u] = w.unchanged as i64;
            for (i, &x) in w.flush.iter().enumerate() {
                f.weight_grad_flush[u * 6 + i] = x as i64;
            }
        }
        if let Some(d) = &s.delta {
            f.delta_log2_max[u] = d.log2_max();
            f.delta_log2_mean_abs[u] = d.log2_mean_abs();
            f.delta_count[u] = d.count() as i64;
            f.delta_zero[u] = d.zero() as i64;
            f.delta_nan[u] = d.nan() as i64;
            f.delta_inf[u] = d.inf() as i64;
            for (to, from) in [
                (&mut f.delta_flush, d.flush()),
                (&mut f.delta_subnormal, d.subnormal()),
                (&mut f.delta_overflow, d.overflow()),
            ] {
                for (i, x) in from.into_iter().enumerate() {
                    to[u * 6 + i] = x as i64;
                }
            }
            let (hist, top) = d.hist32();
            f.delta_hist_top[u] = top;
            for (i, x) in hist.into_iter().enumerate() {
                f.delta_hist[u * BINS + i] = x as i64;
            }
        }
        if let Some(x) = &s.forward {
            f.out_mean[u] = x.mean;
            f.out_var[u] = x.variance;
            f.saturated[u] = x.saturated;
            f.zero_slope[u] = x.zero_slope;
            f.dead[u] = x.dead;
        }
    }
}
