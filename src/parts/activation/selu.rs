//! parts: the self-normalising exponential linear unit. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::ExpNeg;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::simd::Vector;

/// `s x for x > 0, else s a (exp(x) - 1), s = 1.0507009873554805, a = 1.6732632423543772`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selu;

impl Pointwise for Selu {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let e = ExpNeg::new(V::zero().min(x));
        let (a, s, positive) = (V::c(SCALE * ALPHA), V::c(SCALE), V::zero().lt(x));
        let slope = ExpNeg::down(a.mul(e.scaled()));
        (V::select(positive, s.mul(x), a.mul(e.expm1())), V::select(positive, s, slope))
    }
}

impl Activation for Selu {
    const INFO: Info = Info {
        name: "selu",
        formula: "s x for x > 0, else s a (exp(x) - 1), s = 1.0507009873554805, a = 1.6732632423543772",
        derivative: "s for x > 0, else s a exp(x)",
        summary: "An ELU whose constants hold mean 0 and variance 1 as a stable fixed point.",
        reference: "Klambauer, Unterthiner, Mayr, Hochreiter 2017, arXiv:1706.02515",
        gain: 0.75,
        fits: "lecun_normal",
        max_slope: SCALE * ALPHA,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let (m, k) = exp_parts(x, 0.0);
        normalize(SCALE * ALPHA * m, k)
    }
}

const ALPHA: f64 = 1.673_263_242_354_377_2;
const SCALE: f64 = 1.050_700_987_355_480_5;
