//! parts: the piecewise linear sigmoid. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `min(1, max(0, x/6 + 1/2))`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hardsigmoid;

impl Pointwise for Hardsigmoid {
    const TAILS: bool = false;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let t = V::c(3.0).min(V::c(-3.0).max(x));
        let inside = V::select(x.abs().lt(V::c(3.0)), V::c(1.0 / 6.0), V::zero());
        (t.add(V::c(3.0)).mul(V::c(1.0 / 6.0)), inside.unless_nan(x))
    }
}

impl Activation for Hardsigmoid {
    const INFO: Info = Info {
        name: "hardsigmoid",
        formula: "min(1, max(0, x/6 + 1/2))",
        derivative: "1/6 for |x| < 3, else 0",
        summary: "A sigmoid of three straight pieces.",
        reference: "Courbariaux, Bengio, David 2015, arXiv:1511.00363; Howard et al. 2019, arXiv:1905.02244",
        saturates: true,
        max_slope: 1.0 / 6.0,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }
}
