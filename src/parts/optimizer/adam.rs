//! parts: Adam, and what it shares with its relatives. Knows one vector of weights.

use super::{Numbers, Rule, rate};
use crate::kernels::update::{Gradient, Lanes, NUMBERS, STATES, above_zero, square};
use crate::num::simd::Vector;
use crate::parts::catalogue::{Given, Info, Param};

/// Running means of the gradient and its square, corrected for their start at zero.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    betas: [f64; 2],
    eps: f64,
    greatest: bool,
}

impl Moments {
    /// From the parameters beta1, beta2 and eps, and amsgrad where there is one.
    pub fn new(given: &Given, greatest: bool) -> Self {
        let number = |n| given.number(n);
        Self { betas: [number("beta1"), number("beta2")], eps: number("eps"), greatest }
    }

    /// 1 - beta1, beta2, 1 - beta2, 1 / sqrt(1 - beta2^t), eps, and 1 - beta1^t for the step's length.
    pub fn numbers(&self, t: u64) -> ([f64; 5], f64) {
        let [first, second] = self.betas;
        let corrections = self.betas.map(|b| 1.0 - power(b, t));
        ([1.0 - first, second, 1.0 - second, 1.0 / corrections[1].sqrt(), self.eps], corrections[0])
    }

    /// Arrays that it remembers.
    pub fn used(&self) -> usize {
        2 + usize::from(self.greatest)
    }

    /// `m / (sqrt(v) / sqrt(1 - beta2^t) + eps)` after both have seen g.
    #[inline(always)]
    pub fn direction<V: Vector>(&self, k: [V; 5], g: V, s: &mut [V; STATES]) -> V {
        let [rest, keep, other, correct, eps] = k;
        s[0] = g.sub(s[0]).fma(rest, s[0]);
        s[1] = s[1].fma(keep, square(g, other));
        let mut v = s[1];
        if self.greatest {
            s[2] = V::select(v.lt(s[2]), s[2], v);
            v = s[2];
        }
        s[0].div(v.sqrt().fma(correct, above_zero(eps)))
    }

    /// The same from what is remembered already.
    #[inline(always)]
    pub fn again<V: Vector>(&self, k: [V; 5], s: &[V; STATES]) -> V {
        let [.., correct, eps] = k;
        s[0].div(s[1].sqrt().fma(correct, above_zero(eps)))
    }
}

/// `b^t` by squaring: one order of operations, so that the bits are the same everywhere.
pub fn power(b: f64, t: u64) -> f64 {
    let (mut out, mut square, mut t) = (1.0, b, t);
    while t > 0 {
        if t & 1 == 1 {
            out *= square;
        }
        square *= square;
        t >>= 1;
    }
    out
}

/// `w <- w - lr m^ / (sqrt(v^) + eps)`, with `g + weight_decay w` for g.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    moments: Moments,
    decay: f64,
}

impl Rule for Adam {
    const INFO: &'static Info = &Info {
        name: "adam",
        aliases: &[],
        formula: "m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2; \
                  w <- w - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)",
        summary: "Running mean of the gradient over that of its square, both corrected for their start at zero.",
        reference: "Kingma & Ba 2015, arXiv:1412.6980; Reddi 2018 (amsgrad); torch.optim.Adam",
        params: &[
            rate(0.001, "learning rate"),
            Param::bounded("beta1", 0.9, 0.0, 1.0 - f64::EPSILON, "what the running mean keeps"),
            Param::bounded("beta2", 0.999, 0.0, 1.0 - f64::EPSILON, "what the running mean of squares keeps"),
            Param::bounded("eps", 1e-8, 0.0, f64::MAX, "added to the root"),
            Param::bounded("weight_decay", 0.0, 0.0, f64::MAX, "this much of the weight is added to its gradient"),
            Param::flag("amsgrad", false, "divide by the largest mean of squares so far"),
        ],
    };
    const MEMORY: &'static [&'static str] = &["mean", "square", "greatest"];

    fn new(given: &Given) -> Self {
        Self { moments: Moments::new(given, given.flag("amsgrad")), decay: given.number("weight_decay") }
    }

    fn numbers(&self, rate: f64, t: u64) -> Numbers {
        let ([a, b, c, d, e], correction) = self.moments.numbers(t);
        [a, b, c, d, e, -rate / correction, self.decay, 0.0]
    }
}

impl Lanes for Adam {
    fn used(&self) -> usize {
        self.moments.used()
    }

    #[inline(always)]
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
        let [a, b, c, d, e, down, decay, _] = *k;
        let g = w.fma(decay, g.plain());
        let u = self.moments.direction([a, b, c, d, e], g, &mut s);
        (u.fma(down, w), s)
    }
}
