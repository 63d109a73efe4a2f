//! parts: the rectified linear unit clipped at 6. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `min(6, max(0, x))`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relu6;

impl Pointwise for Relu6 {
    const TAILS: bool = false;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let six = V::c(6.0);
        let inside = V::select(V::zero().lt(x), V::select(x.lt(six), V::c(1.0), V::zero()), V::zero());
        (six.min(V::zero().max(x)), inside.unless_nan(x))
    }
}

impl Activation for Relu6 {
    const INFO: Info = Info {
        name: "relu6",
        formula: "min(6, max(0, x))",
        derivative: "1 for 0 < x < 6, else 0",
        summary: "A rectifier clipped at 6, for low precision.",
        reference: "Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10",
        saturates: true,
        fits: "he_normal",
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }
}
