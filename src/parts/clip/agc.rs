//! parts: adaptive gradient clipping, by units. Knows norms.

use super::{Rule, Scope};
use crate::num::scale::Scale;
use crate::parts::catalogue::{Given, Info, Param};

/// `g <- g clipping max(|w|, eps) / |g|` for each row whose ratio of norms is above `clipping`.
#[derive(Clone, Copy, Debug)]
pub struct Agc {
    clipping: f64,
    eps: f64,
    last: bool,
}

impl Rule for Agc {
    const INFO: &'static Info = &Info {
        name: "agc",
        aliases: &["adaptive_gradient_clipping"],
        formula: "g <- g clipping max(|w|, eps) / |g| where |g| / max(|w|, eps) > clipping, row by row",
        summary: "No unit's gradient is larger than a share of the norm of its weights.",
        reference: "Brock, De, Smith & Simonyan 2021, arXiv:2102.06171",
        params: &[
            Param::bounded("clipping", 0.01, f64::MIN_POSITIVE, f64::MAX, "largest ratio of the two norms"),
            Param::bounded("eps", 1e-3, 0.0, f64::MAX, "weights count as at least this norm"),
            Param::flag("last", false, "clip the network's last layer too"),
        ],
    };

    fn new(given: &Given) -> Self {
        Self { clipping: given.number("clipping"), eps: given.number("eps"), last: given.flag("last") }
    }

    fn scope(&self) -> Scope {
        Scope::Row
    }

    fn factor(&self, norm: Scale, weights: Scale) -> Scale {
        let most = weights.at_least(self.eps.into()).times(self.clipping.into());
        if norm.above(most) || norm.m.is_nan() { most.over(norm) } else { Scale::ONE }
    }

    fn spares_the_last(&self) -> bool {
        !self.last
    }
}

by_factor!(Agc);
