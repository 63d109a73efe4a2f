//! parts: Adam with a rate for each layer. Knows one vector of weights and its layer's norms.

use super::adam::Moments;
use super::{Layer, Numbers, Rounds, Rule, rate};
use crate::kernels::update::{Gradient, Lanes, NUMBERS, STATES};
use crate::num::scale::Scale;
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info, Param};

/// `r = m^ / (sqrt(v^) + eps) + weight_decay w; w <- w - lr |w| / |r| r`.
#[derive(Clone, Copy, Debug)]
pub struct Lamb {
    moments: Moments,
    decay: f64,
}

impl Rule for Lamb {
    const INFO: &'static Info = &Info {
        name: "lamb",
        aliases: &[],
        formula: "r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w; w <- w - lr |w| / |r| r",
        summary: "Adam's direction with a step for each layer that is a share of its weights' norm.",
        reference: "You et al. 2020, arXiv:1904.00962",
        params: &[
            rate(0.001, "learning rate"),
            Param::bounded("beta1", 0.9, 0.0, 1.0 - f64::EPSILON, "what the running mean keeps"),
            Param::bounded("beta2", 0.999, 0.0, 1.0 - f64::EPSILON, "what the running mean of squares keeps"),
            Param::bounded("eps", 1e-6, 0.0, f64::MAX, "added to the root"),
            Param::bounded("weight_decay", 0.0, 0.0, f64::MAX, "this much of the weight is added to its direction"),
        ],
    };
    const MEMORY: &'static [&'static str] = &["mean", "square"];
    const ROUNDS: Rounds = Rounds::Twice;

    fn new(given: &Given) -> Self {
        Self { moments: Moments::new(given, false), decay: given.number("weight_decay") }
    }

    fn numbers(&self, rate: f64, t: u64) -> Numbers {
        let ([a, b, c, d, e], correction) = self.moments.numbers(t);
        [a, b, c, d, e, 1.0 / correction, self.decay, -rate]
    }

    fn layer(&self, k: &mut Numbers, layer: &Layer) -> Scale {
        if layer.weights.m != 0.0 && layer.direction.m != 0.0 {
            k[7] *= layer.weights.over(layer.direction).value();
        }
        Scale::ONE
    }
}

impl Lanes for Lamb {
    fn used(&self) -> usize {
        2
    }

    #[inline(always)]
    fn direction<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
        let [a, b, c, d, e, correct, decay, _] = *k;
        let r = self.moments.direction([a, b, c, d, e], g.plain(), &mut s);
        (w.fma(decay, r.mul(correct)), s)
    }

    #[inline(always)]
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, _: Gradient<V>, s: [V; STATES]) -> (V, [V; STATES]) {
        let [a, b, c, d, e, correct, decay, down] = *k;
        let r = w.fma(decay, self.moments.again([a, b, c, d, e], &s).mul(correct));
        (r.fma(down, w), s)
    }
}
