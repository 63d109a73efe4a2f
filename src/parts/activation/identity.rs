//! parts: the identity. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `x`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity;

impl Pointwise for Identity {
    const TAILS: bool = false;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        (x, V::c(1.0))
    }
}

impl Activation for Identity {
    const INFO: Info = Info {
        name: "identity",
        aliases: &["linear"],
        formula: "x",
        derivative: "1",
        summary: "Leaves its argument as it is: a deep linear network.",
        reference: "Saxe, McClelland, Ganguli 2014, arXiv:1312.6120",
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }
}
