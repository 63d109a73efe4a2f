//! parts: the signs of gradients. Knows one vector of a gradient.

use super::{Rule, Scope, Shown};
use crate::kernels::update::Entries;
use crate::num::scale::Scale;
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info};

/// `g <- sign(g)`.
#[derive(Clone, Copy, Debug)]
pub struct SignGradient;

impl Rule for SignGradient {
    const INFO: &'static Info = &Info {
        name: "sign",
        aliases: &["sign_gradient", "signsgd"],
        formula: "g <- sign(g)",
        summary: "Every weight moves by the same amount; only directions count.",
        reference: "Riedmiller & Braun 1993 (Rprop); Bernstein et al. 2018, arXiv:1802.04434",
        params: &[],
    };

    fn new(_: &Given) -> Self {
        Self
    }

    fn scope(&self) -> Scope {
        Scope::Entry
    }

    fn shown(&self, _: Scale) -> Option<Shown> {
        Some(Shown { exponent: None, limit: 1.0 })
    }
}

impl Entries for SignGradient {
    #[inline(always)]
    fn entry<V: Vector>(self, x: V, one: V) -> V {
        let zero = V::zero();
        let up = V::select(zero.lt(x), one, zero);
        V::select(x.lt(zero), one.neg(), up).unless_nan(x)
    }
}
