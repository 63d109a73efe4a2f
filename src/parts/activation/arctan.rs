//! parts: the inverse tangent. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math;
use crate::num::math::scalar::normalize;
use crate::num::simd::Vector;

/// `atan(x)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arctan;

impl Pointwise for Arctan {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        math::atan_with_slope(x)
    }
}

impl Activation for Arctan {
    const INFO: Info = Info {
        name: "arctan",
        aliases: &["atan"],
        formula: "atan(x)",
        derivative: "1 / (1 + x^2)",
        summary: "Squashes to (-pi/2, pi/2) with slopes that decay as a power.",
        reference: "Kamruzzaman, Aziz 2002, IJCNN",
        saturates: true,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        // 1 + x^2 is x^2 here.
        let (m, k) = normalize(1.0 / x.abs(), 0);
        normalize(m * m, 2 * k)
    }
}
