//! parts: the argument less its tanh. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math;
use crate::num::math::scalar::normalize;
use crate::num::simd::Vector;

/// `x - tanh(x)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tanhshrink;

impl Pointwise for Tanhshrink {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        math::tanhshrink(x)
    }
}

impl Activation for Tanhshrink {
    const INFO: Info = Info {
        name: "tanhshrink",
        formula: "x - tanh(x)",
        derivative: "tanh(x)^2",
        summary: "Flat at zero, slope one far out: vanishes for small signals.",
        reference: "PyTorch torch.nn.Tanhshrink",
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        // tanh(x) is x where the square is this small.
        let (m, k) = normalize(x, 0);
        normalize(m * m, 2 * k)
    }
}
