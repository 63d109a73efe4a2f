//! parts: the Gaussian error linear unit. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::scalar::{exp_parts, mills, normalize};
use crate::num::math::{ExpNeg, Normal, tables};
use crate::num::simd::Vector;

/// `x Phi(x), Phi the normal distribution function`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gelu;

impl Pointwise for Gelu {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let negative = x.lt(V::zero());
        let t = Normal::<V>::bound().min(x.abs());
        let n = Normal::new(t);
        // What the unit loses against a rectifier: t (1 - Phi(t)).
        let lost = ExpNeg::down(n.density_scaled.mul(n.mills).mul(t));
        let below = ExpNeg::down(n.density_scaled.mul(n.mills.sub(t)));
        let slope = V::select(negative, below, V::c(1.0).sub(below));
        (V::select(negative, lost.neg(), x.sub(lost)), slope)
    }
}

impl Activation for Gelu {
    const INFO: Info = Info {
        name: "gelu",
        aliases: &["gelu_erf", "gelu_exact"],
        formula: "x Phi(x), Phi the normal distribution function",
        derivative: "Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi); for x < 0 by Mills' ratio",
        summary: "Weighs its argument by the probability that a normal variable is smaller.",
        reference: "Hendrycks, Gimpel 2016, arXiv:1606.08415",
        fits: "he_normal",
        max_slope: 1.128_904_145_185_154_8,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let t = x.abs().min(6e7);
        let w = t * t;
        let (m, k) = exp_parts(-0.5 * w, -0.5 * t.mul_add(t, -w));
        normalize(m * tables::INV_SQRT_2PI[2] * (mills(t) - t), k)
    }
}
