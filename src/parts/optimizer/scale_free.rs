//! parts: descent along gradients of norm one, layer by layer. Knows one vector of weights and its layer's norms.

use super::{Layer, Numbers, Rounds, Rule, rate};
use crate::kernels::update::{Gradient, Lanes, NUMBERS, STATES};
use crate::num::scale::Scale;
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info, Param};

/// `u = g / rms(g); m <- momentum m + (1 - momentum) u; w <- w - lr max(rms(w), floor) m^`.
#[derive(Clone, Copy, Debug)]
pub struct ScaleFree {
    momentum: f64,
    floor: f64,
}

impl Rule for ScaleFree {
    const INFO: &'static Info = &Info {
        name: "scale_free",
        aliases: &["normalized_gradient"],
        formula: "u = g / rms(g); m <- momentum m + (1 - momentum) u; \
                  w <- w - lr max(rms(w), floor) m / (1 - momentum^t); rms over each layer's copy of a parameter",
        summary: "Only the direction of a layer's gradient counts, at whatever exponent: one of 1e-4000 moves its layer too.",
        reference: "Hazan, Levy & Shalev-Shwartz 2015, arXiv:1507.02030 (normalised gradients); You et al. 2017 (relative steps)",
        params: &[
            rate(0.01, "size of a step, as a share of the root mean square of the layer's weights"),
            Param::bounded("momentum", 0.9, 0.0, 1.0 - f64::EPSILON, "what the running mean of directions keeps"),
            Param::bounded("floor", 0.001, 0.0, f64::MAX, "weights count as at least this large; biases start at zero"),
        ],
    };
    const MEMORY: &'static [&'static str] = &["mean"];
    const ROUNDS: Rounds = Rounds::Layerwise;

    fn new(given: &Given) -> Self {
        Self { momentum: given.number("momentum"), floor: given.number("floor") }
    }

    fn numbers(&self, rate: f64, t: u64) -> Numbers {
        let correction = 1.0 - super::adam::power(self.momentum, t);
        [-rate / correction, self.momentum, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    }

    fn layer(&self, k: &mut Numbers, layer: &Layer) -> Scale {
        let root = Scale::from((layer.count.max(1) as f64).sqrt());
        k[0] *= layer.weights.over(root).at_least(self.floor.into()).value();
        // A gradient of zero has no direction and stays zero.
        if layer.gradient.m == 0.0 {
            return Scale::ONE;
        }
        Scale::from(1.0 - self.momentum).times(root).over(layer.gradient)
    }
}

impl Lanes for ScaleFree {
    fn used(&self) -> usize {
        1
    }

    #[inline(always)]
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
        let [down, momentum, ..] = *k;
        s[0] = s[0].fma(momentum, g.plain());
        (s[0].fma(down, w), s)
    }
}
