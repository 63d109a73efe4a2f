//! parts: gradients kept between two norms. Knows norms.

use super::{Rule, Scope};
use crate::num::scale::Scale;
use crate::parts::catalogue::{CatalogueError, Given, Info, Param};

/// Norms below the floor are lifted to it, norms above the ceiling cut to it.
#[derive(Clone, Copy, Debug)]
pub struct NormBand {
    floor: f64,
    ceiling: f64,
    scope: Scope,
}

impl Rule for NormBand {
    const INFO: &'static Info = &Info {
        name: "band",
        aliases: &["norm_band"],
        formula: "g <- g floor / |g| where 0 < |g| < floor; g <- g ceiling / |g| where |g| > ceiling",
        summary: "Gradients that are too small are scaled up, those too large down; zero stays zero.",
        reference: "Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, with a floor beside the ceiling",
        params: &[
            Param::bounded("floor", 1e-3, 0.0, f64::MAX, "least norm"),
            Param::bounded("ceiling", 1.0, f64::MIN_POSITIVE, f64::MAX, "largest norm"),
            Param::choice("scope", "layer", &["layer", "all"], "each layer's norm, or that of all gradients together"),
        ],
    };

    fn check(given: &Given) -> Result<(), CatalogueError> {
        let (floor, ceiling) = (given.number("floor"), given.number("ceiling"));
        if floor > ceiling {
            return Err(Self::INFO.invalid("floor", floor.to_string(), format!("at most the ceiling, {ceiling}")));
        }
        Ok(())
    }

    fn new(given: &Given) -> Self {
        let scope = if given.text("scope") == "all" { Scope::All } else { Scope::Layer };
        Self { floor: given.number("floor"), ceiling: given.number("ceiling"), scope }
    }

    fn scope(&self) -> Scope {
        self.scope
    }

    fn factor(&self, norm: Scale, _: Scale) -> Scale {
        let (floor, ceiling) = (Scale::from(self.floor), Scale::from(self.ceiling));
        if norm.m.is_nan() {
            norm
        } else if norm.above(ceiling) {
            ceiling.over(norm)
        } else if floor.above(norm) && norm.m != 0.0 {
            floor.over(norm)
        } else {
            Scale::ONE
        }
    }
}

by_factor!(NormBand);
