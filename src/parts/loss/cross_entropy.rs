//! parts: cross entropy of softmax. Knows one sample.

use super::{Rule, Scaled, TargetRow};
use crate::parts::catalogue::{Given, Info, Param};
use crate::num::math::scalar::{exp, exp_parts, log};
use crate::num::real::Real;

/// Mean over samples of `-sum_j q_j log softmax(z)_j`.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    smoothing: f64,
}

impl Rule for CrossEntropy {
    const INFO: &'static Info = &Info {
        name: "cross_entropy",
        aliases: &["softmax_cross_entropy", "categorical_cross_entropy", "CrossEntropyLoss", "ce"],
        formula: "mean over samples of -sum_j q_j log softmax(z)_j, q = (1 - s) y + s / classes",
        summary: "Cross entropy of softmax(z) against class labels or probabilities.",
        reference: "Bridle 1990; Szegedy et al. 2016, sec. 7 (label smoothing); torch.nn.CrossEntropyLoss",
        params: &[Param::bounded(
            "label_smoothing",
            0.0,
            0.0,
            1.0,
            "share s of the target that is spread evenly over all classes",
        )],
    };
    const CLASSES: bool = true;

    fn new(given: &Given) -> Self {
        Self { smoothing: given.number("label_smoothing") }
    }

    fn row<T: Real>(&self, z: &[T], target: TargetRow<'_, T>, gradient: &mut [Scaled]) -> f64 {
        if z.iter().any(|z| !z.finite()) {
            // A softmax of infinities or NaN has no value.
            gradient.fill((f64::NAN, 0));
            return f64::NAN;
        }
        let n = z.len() as f64;
        let max = z.iter().fold(f64::NEG_INFINITY, |m, z| m.max(z.to_f64()));
        let total: f64 = z.iter().map(|z| exp(z.to_f64() - max)).sum();
        let log_total = log(total);
        let q = |j: usize| {
            let y = match target {
                TargetRow::Class(c) => f64::from(u8::from(c == j)),
                TargetRow::Values(y) => y[j].to_f64(),
            };
            (1.0 - self.smoothing) * y + self.smoothing / n
        };
        let mass: f64 = (0..z.len()).map(q).sum();
        let mut loss = 0.0;
        for (j, (g, z)) in gradient.iter_mut().zip(z).enumerate() {
            let (z, q) = (z.to_f64() - max, q(j));
            if q != 0.0 {
                loss -= q * (z - log_total);
            }
            // mass * p_j - q_j; p_j with an exponent of its own, as e^-20000 is a probability too.
            let (m, k) = exp_parts(z, 0.0);
            *g = if q == 0.0 { (mass * m / total, k) } else { (mass * exp(z) / total - q, 0) };
        }
        if let (TargetRow::Class(c), true) = (target, self.smoothing == 0.0) {
            // p_c - 1 = -(sum of the others): the subtraction would lose what a sure and right network has left.
            let others = gradient.iter().enumerate().filter(|(j, _)| *j != c).map(|(_, g)| g.1).max();
            let top = others.unwrap_or(0);
            let sum: f64 = gradient
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != c)
                .map(|(_, g)| crate::num::scaled::mul_pow2(g.0, g.1 - top))
                .sum();
            gradient[c] = (-sum, top);
            // The loss itself is log(1 + others) where the label has the largest logit.
            if z[c].to_f64() == max {
                loss = crate::num::math::scalar::log1p(total_without(z, c, max));
            }
        }
        loss
    }
}

/// sum over j other than c of e^(z_j - max).
fn total_without<T: Real>(z: &[T], c: usize, max: f64) -> f64 {
    z.iter().enumerate().filter(|(j, _)| *j != c).map(|(_, z)| exp(z.to_f64() - max)).sum()
}
