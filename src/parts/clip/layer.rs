//! parts: clipping by each layer's own norm. Knows norms.

use super::{Rule, Scope};
use crate::num::scale::Scale;
use crate::parts::catalogue::{Given, Info, Param};

/// `g <- g min(1, max_norm / |g|)` for each layer's copy of each parameter.
#[derive(Clone, Copy, Debug)]
pub struct ClipLayer {
    most: f64,
}

impl Rule for ClipLayer {
    const INFO: &'static Info = &Info {
        name: "layer",
        aliases: &["clip_layer", "layer_norm_clip"],
        formula: "g <- g min(1, max_norm / |g|) for each layer's copy of each parameter",
        summary: "One exploding layer is cut without shortening the steps of the others.",
        reference: "Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, applied layer by layer",
        params: &[Param::bounded("max_norm", 1.0, f64::MIN_POSITIVE, f64::MAX, "largest norm of a layer")],
    };

    fn new(given: &Given) -> Self {
        Self { most: given.number("max_norm") }
    }

    fn scope(&self) -> Scope {
        Scope::Layer
    }

    fn factor(&self, norm: Scale, _: Scale) -> Scale {
        let most = Scale::from(self.most);
        if norm.above(most) || norm.m.is_nan() { most.over(norm) } else { Scale::ONE }
    }
}

by_factor!(ClipLayer);
