//! parts: the hyperbolic tangent. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::simd::Vector;

/// `tanh(x)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tanh;

impl Pointwise for Tanh {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        math::tanh(x)
    }
}

impl Activation for Tanh {
    const INFO: Info = Info {
        name: "tanh",
        formula: "tanh(x)",
        derivative: "4 e / (1 + e)^2, e = exp(-2 |x|)",
        summary: "Squashes to (-1, 1), centred on zero.",
        reference: "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp",
        gain: 5.0 / 3.0,
        saturates: true,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let (m, k) = exp_parts(-2.0 * x.abs(), 0.0);
        normalize(m, k + 2)
    }
}
