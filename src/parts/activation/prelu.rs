//! parts: the rectified linear unit whose negative slope is trained. Knows nothing of networks.

use super::{Activation, Info, Param};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `x for x > 0, else slope x`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prelu {
    /// Slope of negative arguments: the trained parameter, at first the value `init`.
    pub slope: f64,
}

impl Pointwise for Prelu {
    const TAILS: bool = false;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let (a, positive) = (V::c(self.slope), V::zero().lt(x));
        (V::select(positive, x, a.mul(x)), V::select(positive, V::c(1.0), a).unless_nan(x))
    }
}

impl Activation for Prelu {
    const INFO: Info = Info {
        name: "prelu",
        formula: "x for x > 0, else slope x",
        derivative: "1 for x > 0, else slope",
        summary: "A leaky rectifier that learns its negative slope.",
        reference: "He et al. 2015, arXiv:1502.01852",
        params: &[Param { name: "init", default: 0.25, doc: "first value of the trained slope", range: (-1e6, 1e6) }],
        gain: 1.371_988_681_140_07,
        fits: "he_normal",
        learned: true,
        ..Info::BASE
    };

    fn new(params: &[f64]) -> Result<Self, String> {
        Ok(Self { slope: params[0] })
    }

    fn max_slope(&self) -> f64 {
        self.slope.abs().max(1.0)
    }

    fn gain(&self) -> f64 {
        (2.0 / (1.0 + self.slope * self.slope)).sqrt()
    }
}
