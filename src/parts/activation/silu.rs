//! parts: the sigmoid linear unit. Knows nothing of networks.

use super::{Activation, Info, Param};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::math::{gated, product, split};
use crate::num::simd::Vector;

/// `x s(beta x), s the logistic function`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Silu {
    /// Factor of the argument inside the gate.
    pub beta: f64,
}

impl Pointwise for Silu {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        // Beyond the bound the gate is an exact 0 or 1.
        let bound = V::c(1000.0 / self.beta);
        let t = bound.neg().max(bound.min(x));
        let z = product(split(self.beta), t);
        gated(x, z, z.0)
    }
}

impl Activation for Silu {
    const INFO: Info = Info {
        name: "silu",
        aliases: &["swish"],
        formula: "x s(beta x), s the logistic function",
        derivative: "s(z) (1 + z s(-z)), z = beta x",
        summary: "A smooth rectifier that gates its argument by a sigmoid of itself.",
        reference: "Elfwing, Uchibe, Doya 2018, arXiv:1702.03118; Ramachandran et al. 2017, arXiv:1710.05941",
        params: &[Param {
            name: "beta",
            default: 1.0,
            doc: "factor of the argument inside the gate",
            range: (1e-6, 1e6),
        }],
        fits: "he_normal",
        max_slope: 1.099_839_320_128_867,
        ..Info::BASE
    };

    fn new(params: &[f64]) -> Result<Self, String> {
        Ok(Self { beta: params[0] })
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let z = self.beta * x;
        let (m, k) = exp_parts(z, self.beta.mul_add(x, -z));
        normalize(m * (1.0 + z), k)
    }
}
