//! parts: the logistic function. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math;
use crate::num::math::scalar::exp_parts;
use crate::num::simd::Vector;

/// `1 / (1 + exp(-x))`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sigmoid;

impl Pointwise for Sigmoid {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        math::sigmoid(x)
    }
}

impl Activation for Sigmoid {
    const INFO: Info = Info {
        name: "sigmoid",
        aliases: &["logistic"],
        formula: "1 / (1 + exp(-x))",
        derivative: "e / (1 + e)^2, e = exp(-|x|)",
        summary: "Squashes to (0, 1); its slope is at most 1/4, so deep stacks vanish.",
        reference: "Rumelhart, Hinton, Williams 1986, Nature 323:533",
        saturates: true,
        max_slope: 0.25,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        exp_parts(-x.abs(), 0.0)
    }
}
