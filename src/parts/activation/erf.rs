//! parts: the error function. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::math::tables::TWO_OVER_SQRT_PI;
use crate::num::simd::Vector;

/// `2/sqrt(pi) int_0^x exp(-t^2) dt`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Erf;

impl Pointwise for Erf {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        math::erf_with_slope(x)
    }
}

impl Activation for Erf {
    const INFO: Info = Info {
        name: "erf",
        formula: "2/sqrt(pi) int_0^x exp(-t^2) dt",
        derivative: "2/sqrt(pi) exp(-x^2)",
        summary: "The error function: mean-field integrals over it have closed forms.",
        reference: "Williams 1997, NIPS; Saad, Solla 1995, PRE 52:4225",
        saturates: true,
        max_slope: std::f64::consts::FRAC_2_SQRT_PI,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let t = x.abs().min(4e7);
        let w = t * t;
        let (m, k) = exp_parts(-w, -t.mul_add(t, -w));
        normalize(TWO_OVER_SQRT_PI[2] * m, k)
    }
}
