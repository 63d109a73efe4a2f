//! parts: softsign. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::pick;
use crate::num::math::scalar::normalize;
use crate::num::simd::Vector;

/// `x / (1 + |x|)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softsign;

impl Pointwise for Softsign {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        // Beyond the bound the value is +-1 and the square below underflows in any case.
        let bound = pick::<V>(2f64.powi(100), 2f64.powi(600));
        let t = bound.neg().max(bound.min(x));
        let r = V::c(1.0).div(V::c(1.0).add(t.abs()));
        (t.mul(r), r.mul(r))
    }
}

impl Activation for Softsign {
    const INFO: Info = Info {
        name: "softsign",
        formula: "x / (1 + |x|)",
        derivative: "1 / (1 + |x|)^2",
        summary: "Squashes to (-1, 1) with slopes that decay as a power, not exponentially.",
        reference: "Glorot, Bengio 2010, AISTATS",
        saturates: true,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        // 1 + |x| is |x| here.
        let (m, k) = normalize(1.0 / x.abs(), 0);
        normalize(m * m, 2 * k)
    }
}
