//! engine: the operations of a flat program, and where they find what they read. Knows no memory and no numbers.

use crate::parts::activation::Act;

/// Which copy of a tensor an operation uses in iteration i: `first + i * stride`.
#[derive(Clone, Copy, Debug)]
pub struct Ref {
    /// Index of the tensor.
    pub tensor: usize,
    /// Copy in iteration 0.
    pub first: usize,
    /// Copies further per iteration; 0 when tied.
    pub stride: usize,
}

impl Ref {
    /// The copy in iteration `i`.
    pub fn copy(&self, i: usize) -> usize {
        self.first + i * self.stride
    }
}

/// Where an operation finds its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The input of the iteration.
    Input,
    /// A slot of the same iteration.
    Slot(usize),
}

/// A pointwise function and the learned slope it may have.
#[derive(Clone, Copy, Debug)]
pub struct ActUse {
    /// The function.
    pub act: Act,
    /// Its learned parameter.
    pub slope: Option<Ref>,
    /// Slot of the derivative phi'(h).
    pub d: usize,
    /// Slot of the pre-activation, kept only where a learned slope needs it.
    pub h: Option<usize>,
}

/// What an operation does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Product with weights, then bias.
    Dense {
        /// (out, in)
        weight: Ref,
        /// (out,)
        bias: Option<Ref>,
    },
    /// Only a pointwise function.
    Pointwise,
    /// A residual branch begins: its input is remembered.
    Fork,
    /// A residual branch ends: `y = x + scale * f`.
    Join {
        /// Factor of the branch.
        scale: f64,
        /// What the branch started from.
        skip: Source,
    },
}

/// One operation of a block's body.
#[derive(Clone, Debug)]
pub struct Op {
    /// What it does.
    pub kind: Kind,
    /// Its input.
    pub source: Source,
    /// Its output's slot; unused by `Fork`.
    pub y: usize,
    /// The pointwise function applied to the result.
    pub act: Option<ActUse>,
    /// Slot of the delta, kept for the weight phase.
    pub delta: Option<usize>,
    /// Widths of input and output.
    pub widths: (usize, usize),
    /// Number of its unit within the iteration.
    pub unit: Option<usize>,
}
