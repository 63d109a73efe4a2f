//! parts: the smooth rectifier. Knows nothing of networks.

use super::{Activation, Info, Param};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::scalar::exp_parts;
use crate::num::math::{Logistic, log1p_unit, product, split};
use crate::num::simd::Vector;

/// `log(1 + exp(beta x)) / beta; x where beta x > threshold`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softplus {
    /// Sharpness.
    pub beta: f64,
    /// Above it, `beta x` counts as linear.
    pub threshold: f64,
}

impl Pointwise for Softplus {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        // Beyond the bound the exponential is an exact zero.
        let bound = V::c(1000.0 / self.beta);
        let z = product(split(self.beta), bound.neg().max(bound.min(x)));
        let l = Logistic::of_sum(z.0, z.1);
        let (negative, linear) = (x.lt(V::zero()), V::c(self.threshold).lt(z.0));
        let value = log1p_unit(l.e).fma(V::c(1.0 / self.beta), V::zero().max(x));
        let small = l.small();
        let slope = V::select(negative, small, l.r);
        (V::select(linear, x, value), V::select(linear, V::c(1.0), slope))
    }
}

impl Activation for Softplus {
    const INFO: Info = Info {
        name: "softplus",
        formula: "log(1 + exp(beta x)) / beta; x where beta x > threshold",
        derivative: "1 / (1 + exp(-beta x)); 1 where beta x > threshold",
        summary: "A smooth rectifier, everywhere positive.",
        reference: "Dugas et al. 2001, NIPS; PyTorch's threshold",
        params: &[
            Param { name: "beta", default: 1.0, doc: "sharpness", range: (1e-6, 1e6) },
            Param {
                name: "threshold",
                default: 20.0,
                doc: "beta x above which the function is taken as linear",
                range: (-1e6, 1e6),
            },
        ],
        ..Info::BASE
    };

    fn new(params: &[f64]) -> Result<Self, String> {
        Ok(Self { beta: params[0], threshold: params[1] })
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        let z = self.beta * x;
        exp_parts(z, self.beta.mul_add(x, -z))
    }
}
