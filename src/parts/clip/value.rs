//! parts: clipping by value. Knows one vector of a gradient.

use super::{Rule, Scope, Shown};
use crate::kernels::update::Entries;
use crate::num::scale::Scale;
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info, Param};

/// `g <- min(max(g, -value), value)`.
#[derive(Clone, Copy, Debug)]
pub struct ClipValue {
    value: f64,
}

impl Rule for ClipValue {
    const INFO: &'static Info = &Info {
        name: "value",
        aliases: &["clip_value", "clip_grad_value"],
        formula: "g <- min(max(g, -value), value)",
        summary: "No entry is larger than the value; directions change.",
        reference: "Mikolov 2012 (thesis); torch.nn.utils.clip_grad_value_",
        params: &[Param::bounded("value", 1.0, f64::MIN_POSITIVE, f64::MAX, "largest magnitude of an entry")],
    };

    fn new(given: &Given) -> Self {
        Self { value: given.number("value") }
    }

    fn scope(&self) -> Scope {
        Scope::Entry
    }

    fn shown(&self, largest: Scale) -> Option<Shown> {
        let limit = Scale::from(self.value);
        // Where something is clipped, the limit is the largest entry that is left, so its scale suits them all.
        largest.above(limit).then_some(Shown { exponent: Some(limit.e), limit: limit.m })
    }
}

impl Entries for ClipValue {
    #[inline(always)]
    fn entry<V: Vector>(self, x: V, limit: V) -> V {
        x.min(limit).max(limit.neg()).unless_nan(x)
    }
}
