//! parts: clipping by the norm of all gradients together. Knows norms.

use super::{Norm, Rule, Scope};
use crate::num::scale::Scale;
use crate::parts::catalogue::{Given, Info, Param};

/// `g <- g min(1, max_norm / (|g| + 1e-6))`, or Pascanu's rule without the 1e-6.
#[derive(Clone, Copy, Debug)]
pub struct ClipNorm {
    most: f64,
    torch: bool,
    norm: Norm,
}

impl Rule for ClipNorm {
    const INFO: &'static Info = &Info {
        name: "norm",
        aliases: &["clip_norm", "clip_grad_norm", "global_norm"],
        formula: "torch: g <- g min(1, max_norm / (|g| + 1e-6)); pascanu: g <- g max_norm / |g| where |g| >= max_norm",
        summary: "The norm of all gradients together is at most max_norm; the direction stays.",
        reference: "Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063; torch.nn.utils.clip_grad_norm_",
        params: &[
            Param::bounded("max_norm", 1.0, f64::MIN_POSITIVE, f64::MAX, "largest norm"),
            Param::choice("rule", "torch", &["torch", "pascanu"], "with PyTorch's 1e-6, or without"),
            Param::choice("norm_type", "2", &["1", "2", "inf"], "sum of magnitudes, Euclidean, or largest magnitude"),
        ],
    };

    fn new(given: &Given) -> Self {
        let norm = match given.text("norm_type") {
            "1" => Norm::One,
            "inf" => Norm::Largest,
            _ => Norm::Two,
        };
        Self { most: given.number("max_norm"), torch: given.text("rule") == "torch", norm }
    }

    fn scope(&self) -> Scope {
        Scope::All
    }

    fn norm(&self) -> Norm {
        self.norm
    }

    fn factor(&self, norm: Scale, _: Scale) -> Scale {
        let most = Scale::from(self.most);
        if self.torch {
            most.over(norm.plus(1e-6.into())).at_most(Scale::ONE)
        } else if most.above(norm) || norm.m == 0.0 {
            Scale::ONE
        } else {
            most.over(norm)
        }
    }
}

by_factor!(ClipNorm);
