//! parts: layer-wise adaptive rate scaling. Knows one vector of weights and its layer's norms.

use super::{Layer, Numbers, Rounds, Rule, rate};
use crate::kernels::update::{Gradient, Lanes, NUMBERS, STATES};
use crate::num::scale::Scale;
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info, Param};

/// `v <- momentum v + lr trust (g + weight_decay w); w <- w - v`, where a layer's trust is the ratio of norms.
#[derive(Clone, Copy, Debug)]
pub struct Lars {
    momentum: f64,
    decay: f64,
    trust: f64,
}

impl Rule for Lars {
    const INFO: &'static Info = &Info {
        name: "lars",
        aliases: &[],
        formula: "local = trust |w| / (|g| + weight_decay |w|); v <- momentum v + lr local (g + weight_decay w); \
                  w <- w - v",
        summary: "Momentum with a rate for each layer that makes its step a fixed share of its weights' norm.",
        reference: "You, Gitman & Ginsburg 2017, arXiv:1708.03888",
        params: &[
            rate(1.0, "learning rate"),
            Param::bounded("momentum", 0.9, 0.0, 1.0, "what is kept of the last step"),
            Param::bounded("weight_decay", 0.0, 0.0, f64::MAX, "this much of the weight is added to its gradient"),
            Param::bounded("trust", 0.001, 0.0, f64::MAX, "share of a layer's norm that a step may be"),
        ],
    };
    const MEMORY: &'static [&'static str] = &["momentum"];
    const ROUNDS: Rounds = Rounds::Layerwise;

    fn new(given: &Given) -> Self {
        let number = |n| given.number(n);
        Self { momentum: number("momentum"), decay: number("weight_decay"), trust: number("trust") }
    }

    fn numbers(&self, rate: f64, _: u64) -> Numbers {
        [rate, self.momentum, self.decay, 0.0, 0.0, 0.0, 0.0, 0.0]
    }

    fn layer(&self, k: &mut Numbers, layer: &Layer) -> Scale {
        let rate = Scale::from(k[0]);
        // Weights or gradients of zero have no ratio: they get the plain rate, as the reference code does.
        let local = if layer.weights.m == 0.0 || layer.gradient.m == 0.0 {
            rate
        } else {
            let below = layer.gradient.plus(layer.weights.times(self.decay.into()));
            rate.times(Scale::from(self.trust)).times(layer.weights).over(below)
        };
        k[2] = if self.decay == 0.0 { 0.0 } else { local.times(self.decay.into()).value() };
        local
    }
}

impl Lanes for Lars {
    fn used(&self) -> usize {
        1
    }

    #[inline(always)]
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
        let [_, momentum, decay, ..] = *k;
        s[0] = s[0].fma(momentum, w.fma(decay, g.plain()));
        (w.sub(s[0]), s)
    }
}
