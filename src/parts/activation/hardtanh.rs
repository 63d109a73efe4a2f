//! parts: the clipped identity. Knows nothing of networks.

use super::{Activation, Info, Param};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `min(max_val, max(min_val, x))`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hardtanh {
    /// Least value.
    pub min_val: f64,
    /// Greatest value.
    pub max_val: f64,
}

impl Pointwise for Hardtanh {
    const TAILS: bool = false;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let (a, b) = (V::c(self.min_val), V::c(self.max_val));
        let inside = V::select(a.lt(x), V::select(x.lt(b), V::c(1.0), V::zero()), V::zero());
        (b.min(a.max(x)), inside.unless_nan(x))
    }
}

impl Activation for Hardtanh {
    const INFO: Info = Info {
        name: "hardtanh",
        formula: "min(max_val, max(min_val, x))",
        derivative: "1 for min_val < x < max_val, else 0",
        summary: "Clips to an interval.",
        reference: "Collobert 2004, thesis, Universite de Paris VI",
        params: &[
            Param { name: "min_val", default: -1.0, doc: "least value", range: (-1e6, 1e6) },
            Param { name: "max_val", default: 1.0, doc: "greatest value", range: (-1e6, 1e6) },
        ],
        saturates: true,
        ..Info::BASE
    };

    fn new(params: &[f64]) -> Result<Self, String> {
        if params[0] >= params[1] {
            return Err(format!("expected min_val < max_val, got {} and {}", params[0], params[1]));
        }
        Ok(Self { min_val: params[0], max_val: params[1] })
    }
}
