//! parts: the exponential linear unit. Knows nothing of networks.

use super::{Activation, Info, Param};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::ExpNeg;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::simd::Vector;

/// `x for x > 0, else alpha (exp(x) - 1)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elu {
    /// Minus the limit at minus infinity.
    pub alpha: f64,
}

impl Pointwise for Elu {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        // The minimum keeps NaN, which is its second argument.
        let e = ExpNeg::new(V::zero().min(x));
        let (a, positive) = (V::c(self.alpha), V::zero().lt(x));
        let slope = ExpNeg::down(a.mul(e.scaled()));
        (V::select(positive, x, a.mul(e.expm1())), V::select(positive, V::c(1.0), slope))
    }
}

impl Activation for Elu {
    const INFO: Info = Info {
        name: "elu",
        formula: "x for x > 0, else alpha (exp(x) - 1)",
        derivative: "1 for x > 0, else alpha exp(x)",
        summary: "Linear above zero, exponential approach to -alpha below.",
        reference: "Clevert, Unterthiner, Hochreiter 2016, arXiv:1511.07289",
        params: &[Param { name: "alpha", default: 1.0, doc: "minus the limit at minus infinity", range: (0.0, 1e6) }],
        fits: "he_normal",
        ..Info::BASE
    };

    fn new(params: &[f64]) -> Result<Self, String> {
        Ok(Self { alpha: params[0] })
    }

    fn max_slope(&self) -> f64 {
        self.alpha.max(1.0)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        if self.alpha == 0.0 {
            return (0.0, 0);
        }
        let (m, k) = exp_parts(x, 0.0);
        normalize(self.alpha * m, k)
    }
}
