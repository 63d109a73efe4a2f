//! parts: Adam with the decay of weights apart from the gradient. Knows one vector of weights.

use super::adam::Moments;
use super::{Numbers, Rule, rate};
use crate::kernels::update::{Gradient, Lanes, NUMBERS, STATES};
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info, Param};

/// `w <- (1 - lr weight_decay) w`, then Adam's step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    moments: Moments,
    decay: f64,
}

impl Rule for AdamW {
    const INFO: &'static Info = &Info {
        name: "adamw",
        aliases: &["adam_w"],
        formula: "w <- (1 - lr weight_decay) w, then adam's step",
        summary: "Adam, where weights decay by themselves instead of through the gradient.",
        reference: "Loshchilov & Hutter 2019, arXiv:1711.05101; torch.optim.AdamW",
        params: &[
            rate(0.001, "learning rate"),
            Param::bounded("beta1", 0.9, 0.0, 1.0 - f64::EPSILON, "what the running mean keeps"),
            Param::bounded("beta2", 0.999, 0.0, 1.0 - f64::EPSILON, "what the running mean of squares keeps"),
            Param::bounded("eps", 1e-8, 0.0, f64::MAX, "added to the root"),
            Param::bounded("weight_decay", 0.01, 0.0, f64::MAX, "share of a weight, times lr, lost in a step"),
            Param::flag("amsgrad", false, "divide by the largest mean of squares so far"),
        ],
    };
    const MEMORY: &'static [&'static str] = &["mean", "square", "greatest"];

    fn new(given: &Given) -> Self {
        Self { moments: Moments::new(given, given.flag("amsgrad")), decay: given.number("weight_decay") }
    }

    fn numbers(&self, rate: f64, t: u64) -> Numbers {
        let ([a, b, c, d, e], correction) = self.moments.numbers(t);
        [a, b, c, d, e, -rate / correction, 1.0 - rate * self.decay, 0.0]
    }
}

impl Lanes for AdamW {
    fn used(&self) -> usize {
        self.moments.used()
    }

    #[inline(always)]
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
        let [a, b, c, d, e, down, stay, _] = *k;
        let u = self.moments.direction([a, b, c, d, e], g.plain(), &mut s);
        (u.fma(down, w.mul(stay)), s)
    }
}
