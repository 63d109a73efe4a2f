//! parts: binary cross entropy of logits. Knows one sample.

use super::{Rule, Scaled, TargetRow};
use crate::parts::catalogue::{Given, Info};
use crate::num::math::scalar::{exp, exp_parts, log1p};
use crate::num::real::Real;

/// Mean over all elements of the cross entropy of `sigmoid(z)` against probabilities.
#[derive(Clone, Copy, Debug)]
pub struct BceWithLogits;

impl Rule for BceWithLogits {
    const INFO: &'static Info = &Info {
        name: "bce_with_logits",
        aliases: &["binary_cross_entropy_with_logits", "BCEWithLogitsLoss", "bce"],
        formula: "mean(log(1 + e^-|z|) + max(z, 0) - z y)",
        summary: "Binary cross entropy of sigmoid(z) against targets in [0, 1], over all elements.",
        reference: "Good 1952; torch.nn.BCEWithLogitsLoss",
        params: &[],
    };

    fn new(_: &Given) -> Self {
        Self
    }

    fn row<T: Real>(&self, z: &[T], target: TargetRow<'_, T>, gradient: &mut [Scaled]) -> f64 {
        let TargetRow::Values(y) = target else { return f64::NAN };
        let mut sum = 0.0;
        for ((g, z), y) in gradient.iter_mut().zip(z).zip(y) {
            let (z, y) = (z.to_f64(), y.to_f64());
            let e = exp(-z.abs());
            sum += log1p(e) + (z.max(0.0) - z * y);
            // sigmoid(z) - y without cancellation at the two targets that are labels: there the gradient is one tail
            // of the sigmoid, which no float may lose.
            *g = if (y == 0.0 && z < 0.0) || (y == 1.0 && z > 0.0) {
                let (m, k) = exp_parts(-z.abs(), 0.0);
                (if y == 0.0 { m / (1.0 + e) } else { -m / (1.0 + e) }, k)
            } else {
                let s = if z >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
                (s - y, 0)
            };
        }
        sum
    }
}
