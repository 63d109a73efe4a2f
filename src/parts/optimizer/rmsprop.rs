//! parts: RMSprop. Knows one vector of weights.

use super::{Numbers, Rule, rate};
use crate::kernels::update::{Gradient, Lanes, NUMBERS, STATES, above_zero, square};
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info, Param};

/// `square <- alpha square + (1 - alpha) g^2; w <- w - lr g / (sqrt(square) + eps)`.
#[derive(Clone, Copy, Debug)]
pub struct RmsProp {
    alpha: f64,
    momentum: f64,
    decay: f64,
    eps: f64,
    centered: bool,
}

impl Rule for RmsProp {
    const INFO: &'static Info = &Info {
        name: "rmsprop",
        aliases: &["rms_prop"],
        formula: "square <- alpha square + (1 - alpha) g^2; u = g / (sqrt(square) + eps); w <- w - lr u \
                  (momentum: buffer <- momentum buffer + u; w <- w - lr buffer)",
        summary: "Gradients over their running root mean square.",
        reference: "Tieleman & Hinton 2012, Coursera lecture 6.5; Graves 2013 (centered); torch.optim.RMSprop",
        params: &[
            rate(0.01, "learning rate"),
            Param::bounded("alpha", 0.99, 0.0, 1.0, "what the running mean of squares keeps"),
            Param::bounded("momentum", 0.0, 0.0, 1.0, "what is kept of the last step"),
            Param::bounded("weight_decay", 0.0, 0.0, f64::MAX, "this much of the weight is added to its gradient"),
            Param::bounded("eps", 1e-8, 0.0, f64::MAX, "added to the root"),
            Param::flag("centered", false, "take the running mean off the square first"),
        ],
    };
    const MEMORY: &'static [&'static str] = &["square", "buffer", "mean"];

    fn new(given: &Given) -> Self {
        let number = |n| given.number(n);
        Self {
            alpha: number("alpha"),
            momentum: number("momentum"),
            decay: number("weight_decay"),
            eps: number("eps"),
            centered: given.flag("centered"),
        }
    }

    fn numbers(&self, rate: f64, _: u64) -> Numbers {
        [-rate, self.alpha, 1.0 - self.alpha, self.momentum, self.decay, self.eps, 0.0, 0.0]
    }
}

impl Lanes for RmsProp {
    fn used(&self) -> usize {
        if self.centered {
            3
        } else {
            1 + usize::from(self.momentum != 0.0)
        }
    }

    #[inline(always)]
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
        let [down, alpha, rest, momentum, decay, eps, ..] = *k;
        let g = w.fma(decay, g.plain());
        s[0] = s[0].fma(alpha, square(g, rest));
        let mut spread = s[0];
        if self.centered {
            s[2] = g.sub(s[2]).fma(rest, s[2]);
            let left = s[2].neg().fma(s[2], spread);
            // Rounding alone can take it below zero, where there is no root; NaN still comes through.
            spread = V::select(left.lt(V::zero()), V::zero(), left);
        }
        let mut u = g.div(spread.sqrt().add(above_zero(eps)));
        if self.momentum != 0.0 {
            s[1] = s[1].fma(momentum, u);
            u = s[1];
        }
        (u.fma(down, w), s)
    }
}
