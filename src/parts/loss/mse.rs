//! parts: mean squared error. Knows one sample.

use super::{Rule, Scaled, TargetRow};
use crate::parts::catalogue::{Given, Info};
use crate::num::real::Real;

/// Mean over all elements of `(z - y)^2`.
#[derive(Clone, Copy, Debug)]
pub struct Mse;

impl Rule for Mse {
    const INFO: &'static Info = &Info {
        name: "mse",
        aliases: &["mean_squared_error", "MSELoss", "l2"],
        formula: "mean((z - y)^2)",
        summary: "Mean squared error over all elements.",
        reference: "Gauss 1809; torch.nn.MSELoss",
        params: &[],
    };

    fn new(_: &Given) -> Self {
        Self
    }

    fn row<T: Real>(&self, z: &[T], target: TargetRow<'_, T>, gradient: &mut [Scaled]) -> f64 {
        let TargetRow::Values(y) = target else { return f64::NAN };
        let mut sum = 0.0;
        for ((g, z), y) in gradient.iter_mut().zip(z).zip(y) {
            let d = z.to_f64() - y.to_f64();
            *g = (2.0 * d, 0);
            sum += d * d;
        }
        sum
    }
}
