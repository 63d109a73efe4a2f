//! parts: Adagrad. Knows one vector of weights.

use super::{Numbers, Rule, rate};
use crate::kernels::update::{Gradient, Lanes, NUMBERS, STATES, above_zero, square};
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info, Param};

/// `sum <- sum + g^2; w <- w - lr g / (sqrt(sum) + eps)`.
#[derive(Clone, Copy, Debug)]
pub struct Adagrad {
    slower: f64,
    decay: f64,
    eps: f64,
}

impl Rule for Adagrad {
    const INFO: &'static Info = &Info {
        name: "adagrad",
        aliases: &[],
        formula: "sum <- sum + g^2; w <- w - lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + eps)",
        summary: "Each weight's step shrinks with the gradients it has seen.",
        reference: "Duchi, Hazan & Singer 2011, JMLR 12:2121; torch.optim.Adagrad",
        params: &[
            rate(0.01, "learning rate"),
            Param::bounded("lr_decay", 0.0, 0.0, f64::MAX, "how fast the learning rate falls besides"),
            Param::bounded("weight_decay", 0.0, 0.0, f64::MAX, "this much of the weight is added to its gradient"),
            Param::bounded("eps", 1e-10, 0.0, f64::MAX, "added to the root"),
        ],
    };
    const MEMORY: &'static [&'static str] = &["sum"];

    fn new(given: &Given) -> Self {
        Self { slower: given.number("lr_decay"), decay: given.number("weight_decay"), eps: given.number("eps") }
    }

    fn numbers(&self, rate: f64, t: u64) -> Numbers {
        [-rate / (1.0 + (t - 1) as f64 * self.slower), self.decay, self.eps, 0.0, 0.0, 0.0, 0.0, 0.0]
    }
}

impl Lanes for Adagrad {
    fn used(&self) -> usize {
        1
    }

    #[inline(always)]
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
        let [down, decay, eps, ..] = *k;
        let g = w.fma(decay, g.plain());
        s[0] = s[0].add(square(g, V::c(1.0)));
        (g.div(s[0].sqrt().add(above_zero(eps))).fma(down, w), s)
    }
}
