//! parts: the scaled hyperbolic tangent. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::math::{ExpNeg, Tanh, pick, product, split};
use crate::num::simd::Vector;

/// `1.7159 tanh(2 x / 3)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LecunTanh;

impl Pointwise for LecunTanh {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        // Beyond the bound exp(-4|x|/3) is an exact zero.
        let a = pick::<V>(200.0, 1000.0).min(x.abs());
        let (hi, lo) = split::<V>(-4.0 / 3.0);
        let z = product((hi, lo.add(V::c(REST))), a);
        let t = Tanh::from_exp(ExpNeg::of_sum(z.0, z.1));
        (t.value.mul(V::c(SCALE)).with_sign_of(x), t.slope.mul(V::c(SLOPE)))
    }
}

impl Activation for LecunTanh {
    const INFO: Info = Info {
        name: "lecun_tanh",
        aliases: &["scaled_tanh"],
        formula: "1.7159 tanh(2 x / 3)",
        derivative: "1.7159 (2/3) 4 e / (1 + e)^2, e = exp(-4 |x| / 3)",
        summary: "tanh scaled so that f(1) = 1 and variance 1 stays near 1.",
        reference: "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp",
        saturates: true,
        max_slope: SLOPE,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let a = x.abs();
        let z = -4.0 / 3.0 * a;
        let (m, k) = exp_parts(z, (-4.0f64 / 3.0).mul_add(a, -z) + REST * a);
        normalize(4.0 * SLOPE * m, k)
    }
}

const SCALE: f64 = 1.7159;
const SLOPE: f64 = SCALE * 2.0 / 3.0;
/// -4/3 less its double.
const REST: f64 = -7.401_486_830_834_377e-17;
