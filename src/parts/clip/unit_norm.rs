//! parts: gradients of norm one. Knows norms.

use super::{Rule, Scope};
use crate::num::scale::Scale;
use crate::parts::catalogue::{Given, Info};

/// `g <- g / |g|` for each layer's copy of each parameter.
#[derive(Clone, Copy, Debug)]
pub struct UnitNorm;

impl Rule for UnitNorm {
    const INFO: &'static Info = &Info {
        name: "unit_norm",
        aliases: &["normalize"],
        formula: "g <- g / |g| for each layer's copy of each parameter; zero stays zero",
        summary: "Every layer takes a step of one length, however faint or strong its gradient.",
        reference: "Hazan, Levy & Shalev-Shwartz 2015, arXiv:1507.02030; Yu et al. 2017, arXiv:1707.04822 (by layers)",
        params: &[],
    };

    fn new(_: &Given) -> Self {
        Self
    }

    fn scope(&self) -> Scope {
        Scope::Layer
    }

    fn factor(&self, norm: Scale, _: Scale) -> Scale {
        if norm.m == 0.0 { Scale::ONE } else { Scale::ONE.over(norm) }
    }
}

by_factor!(UnitNorm);
