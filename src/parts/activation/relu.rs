//! parts: the rectified linear unit. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `max(0, x)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relu;

impl Pointwise for Relu {
    const TAILS: bool = false;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let positive = V::zero().lt(x);
        // NaN is kept: the maximum returns its second argument for it.
        (V::zero().max(x), V::select(positive, V::c(1.0), V::zero()).unless_nan(x))
    }
}

impl Activation for Relu {
    const INFO: Info = Info {
        name: "relu",
        aliases: &["rectifier"],
        formula: "max(0, x)",
        derivative: "1 for x > 0, else 0",
        summary: "Passes positive arguments, cuts negative ones.",
        reference: "Nair, Hinton 2010, ICML; He et al. 2015, arXiv:1502.01852",
        gain: std::f64::consts::SQRT_2,
        fits: "he_normal",
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }
}
