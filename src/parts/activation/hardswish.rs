//! parts: the piecewise quadratic swish. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `x min(1, max(0, x/6 + 1/2))`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hardswish;

impl Pointwise for Hardswish {
    const TAILS: bool = false;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let three = V::c(3.0);
        // NaN fails both comparisons and takes the middle piece.
        let (below, above) = (x.le(three.neg()), three.le(x));
        let middle = x.mul(x.add(three)).mul(V::c(1.0 / 6.0));
        let slope = x.add(x).add(three).mul(V::c(1.0 / 6.0));
        let value = V::select(below, V::c(-0.0), V::select(above, x, middle));
        (value, V::select(below, V::zero(), V::select(above, V::c(1.0), slope)))
    }
}

impl Activation for Hardswish {
    const INFO: Info = Info {
        name: "hardswish",
        aliases: &["hardsilu"],
        formula: "x min(1, max(0, x/6 + 1/2))",
        derivative: "0 for x <= -3, 1 for x >= 3, else (2 x + 3)/6",
        summary: "Swish of polynomial pieces, cheap on small devices.",
        reference: "Howard et al. 2019, arXiv:1905.02244",
        fits: "he_normal",
        max_slope: 1.5,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }
}
