//! parts: Mish. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::math::{ExpNeg, recip_wide};
use crate::num::simd::Vector;

/// `x tanh(log(1 + exp(x)))`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mish;

impl Pointwise for Mish {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        // x < 0: tanh(softplus x) = e (e + 2)/D, D = e^2 + 2 e + 2, e = exp(x);
        // x > 0: (1 + 2 e)/D, D = 1 + 2 e + 2 e^2, e = exp(-x).
        let p = ExpNeg::new(x.abs().neg());
        let (e_scaled, negative) = (p.scaled(), x.lt(V::zero()));
        let e = ExpNeg::down(e_scaled);
        let (one, two) = (V::c(1.0), V::c(2.0));
        let double = e.add(e);
        let d = V::select(negative, e.fma(e, double.add(two)), double.fma(e, double.add(one)));
        let r = recip_wide(d);
        let bounded = V::c(-1e30).max(x);
        // Where exp is an exact zero the bound keeps its product with x finite.
        let t = V::c(1000.0).min(V::c(-1000.0).max(x));
        let four = t.mul(V::c(4.0)).mul(one.add(e));
        let n = e.add(two);
        let below = ExpNeg::down(e_scaled.mul(n.fma(d, four)).mul(r.mul(r)));
        let above = four.mul(e.mul(e)).mul(r).fma(r, double.add(one).mul(r));
        let value =
            V::select(negative, ExpNeg::down(e_scaled.mul(n).mul(r).mul(bounded)), x.mul(double.add(one).mul(r)));
        (value, V::select(negative, below, above))
    }
}

impl Activation for Mish {
    const INFO: Info = Info {
        name: "mish",
        formula: "x tanh(log(1 + exp(x)))",
        derivative: "n/(n + 2) + 4 x w (1 + w)/(n + 2)^2, w = exp(x), n = w (w + 2)",
        summary: "A smooth rectifier gated by tanh of softplus.",
        reference: "Misra 2019, arXiv:1908.08681",
        fits: "he_normal",
        max_slope: 1.088_498_161_251_728,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let (m, k) = exp_parts(x, 0.0);
        normalize(m * (1.0 + x), k)
    }
}
