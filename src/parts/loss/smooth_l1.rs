//! parts: smooth L1 (Huber) loss. Knows one sample.

use super::{Rule, Scaled, TargetRow};
use crate::parts::catalogue::{Given, Info, Param};
use crate::num::real::Real;

/// Quadratic within `beta` of the target, linear beyond.
#[derive(Clone, Copy, Debug)]
pub struct SmoothL1 {
    beta: f64,
}

impl Rule for SmoothL1 {
    const INFO: &'static Info = &Info {
        name: "smooth_l1",
        aliases: &["SmoothL1Loss", "huber"],
        formula: "mean(d^2 / (2 beta) if |d| < beta else |d| - beta/2), d = z - y",
        summary: "Absolute error, rounded off to a square near the target.",
        reference: "Girshick 2015, Fast R-CNN, eq. 3; torch.nn.SmoothL1Loss",
        params: &[Param::bounded("beta", 1.0, f64::MIN_POSITIVE, f64::MAX, "half-width of the quadratic part")],
    };

    fn new(given: &Given) -> Self {
        Self { beta: given.number("beta") }
    }

    fn row<T: Real>(&self, z: &[T], target: TargetRow<'_, T>, gradient: &mut [Scaled]) -> f64 {
        let TargetRow::Values(y) = target else { return f64::NAN };
        let mut sum = 0.0;
        for ((g, z), y) in gradient.iter_mut().zip(z).zip(y) {
            let d = z.to_f64() - y.to_f64();
            if d.abs() < self.beta {
                *g = (d / self.beta, 0);
                sum += 0.5 * d * d / self.beta;
            } else {
                // A NaN lands here and stays one.
                *g = (d / d.abs(), 0);
                sum += d.abs() - 0.5 * self.beta;
            }
        }
        sum
    }
}
