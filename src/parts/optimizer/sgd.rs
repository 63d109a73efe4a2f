//! parts: stochastic gradient descent, with momentum. Knows one vector of weights.

use super::{Numbers, Rule, rate};
use crate::kernels::update::{Gradient, Lanes, NUMBERS, STATES};
use crate::num::simd::Vector;
use crate::parts::catalogue::{CatalogueError, Given, Info, Param};

/// `v <- momentum v + g; w <- w - lr v`, with `g + weight_decay w` for g.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    momentum: f64,
    nesterov: bool,
    decay: f64,
}

impl Sgd {
    /// Without momentum and decay a step is a multiple of the gradient.
    fn bare(&self) -> bool {
        self.momentum == 0.0 && self.decay == 0.0
    }
}

impl Rule for Sgd {
    const INFO: &'static Info = &Info {
        name: "sgd",
        aliases: &["gradient_descent"],
        formula: "v <- momentum v + g; w <- w - lr v (nesterov: w - lr (g + momentum v))",
        summary: "Gradient descent; with momentum, along a decaying sum of past gradients.",
        reference: "Robbins & Monro 1951; Polyak 1964; Nesterov 1983; torch.optim.SGD",
        params: &[
            rate(0.01, "learning rate"),
            Param::bounded("momentum", 0.0, 0.0, 1.0, "what is kept of the last step"),
            Param::flag("nesterov", false, "look ahead along the momentum; needs momentum above 0"),
            Param::bounded("weight_decay", 0.0, 0.0, f64::MAX, "this much of the weight is added to its gradient"),
        ],
    };
    const MEMORY: &'static [&'static str] = &["momentum"];

    fn check(given: &Given) -> Result<(), CatalogueError> {
        if given.flag("nesterov") && given.number("momentum") == 0.0 {
            let expected = "above 0 where nesterov is on, to look ahead along".to_owned();
            return Err(Self::INFO.invalid("momentum", "0".to_owned(), expected));
        }
        Ok(())
    }

    fn new(given: &Given) -> Self {
        let number = |n| given.number(n);
        Self { momentum: number("momentum"), nesterov: given.flag("nesterov"), decay: number("weight_decay") }
    }

    fn numbers(&self, rate: f64, _: u64) -> Numbers {
        [-rate, self.momentum, self.decay, 0.0, 0.0, 0.0, 0.0, 0.0]
    }

    fn rate_is_a_factor(&self) -> bool {
        self.bare()
    }
}

impl Lanes for Sgd {
    fn used(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }

    #[inline(always)]
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
        let [down, momentum, decay, ..] = *k;
        if self.bare() {
            return (g.x.fma(g.factor, w), s);
        }
        let mut g = g.plain();
        if self.decay != 0.0 {
            g = w.fma(decay, g);
        }
        if self.momentum != 0.0 {
            s[0] = s[0].fma(momentum, g);
            g = if self.nesterov { s[0].fma(momentum, g) } else { s[0] };
        }
        (g.fma(down, w), s)
    }
}
