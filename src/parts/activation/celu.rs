//! parts: the continuously differentiable exponential linear unit. Knows nothing of networks.

use super::{Activation, Info, Param};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::math::{ExpNeg, split};
use crate::num::simd::Vector;

/// `x for x > 0, else alpha (exp(x / alpha) - 1)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Celu {
    /// Minus the limit at minus infinity.
    pub alpha: f64,
}

impl Pointwise for Celu {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let (hi, lo) = split::<V>(self.alpha);
        let inverse = V::c(1.0 / self.alpha);
        // x / alpha as a quotient and its rest; beyond the bound exp is an exact zero.
        let t = V::c(-1000.0 * self.alpha).max(V::zero().min(x));
        let z = t.mul(inverse);
        let rest = z.neg().fma(lo, z.neg().fma(hi, t)).mul(inverse);
        let e = ExpNeg::of_sum(z, rest);
        let positive = V::zero().lt(x);
        (V::select(positive, x, hi.mul(e.expm1())), V::select(positive, V::c(1.0), e.value()))
    }
}

impl Activation for Celu {
    const INFO: Info = Info {
        name: "celu",
        formula: "x for x > 0, else alpha (exp(x / alpha) - 1)",
        derivative: "1 for x > 0, else exp(x / alpha)",
        summary: "An ELU with a continuous derivative for every alpha.",
        reference: "Barron 2017, arXiv:1704.07483",
        params: &[Param { name: "alpha", default: 1.0, doc: "minus the limit at minus infinity", range: (1e-6, 1e6) }],
        fits: "he_normal",
        ..Info::BASE
    };

    fn new(params: &[f64]) -> Result<Self, String> {
        Ok(Self { alpha: params[0] })
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let z = x / self.alpha;
        let (m, k) = exp_parts(z, (-z).mul_add(self.alpha, x) / self.alpha);
        normalize(m, k)
    }
}
