//! parts: the logarithm of the logistic function. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::scalar::exp_parts;
use crate::num::math::{Logistic, log1p_unit};
use crate::num::simd::Vector;

/// `-log(1 + exp(-x))`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logsigmoid;

impl Pointwise for Logsigmoid {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let l = Logistic::new(x);
        let slope = V::select(V::zero().lt(x), l.small(), l.r);
        (V::zero().min(x).sub(log1p_unit(l.e)), slope)
    }
}

impl Activation for Logsigmoid {
    const INFO: Info = Info {
        name: "logsigmoid",
        formula: "-log(1 + exp(-x))",
        derivative: "1 / (1 + exp(x))",
        summary: "Log-probability of a sigmoid; softplus mirrored.",
        reference: "PyTorch torch.nn.LogSigmoid",
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        exp_parts(-x, 0.0)
    }
}
