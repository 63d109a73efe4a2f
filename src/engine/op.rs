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
    /// Normalisation, then gain and shift.
    Norm(super::norm::Norm),
    /// Only a pointwise function.
    Pointwise,
    /// Branches begin: the gradients of all but the first are to be added to it.
    Fork {
        /// How many are added.
        joins: usize,
    },
    /// One branch ends and the next begins: on the way back, the gradient of the one is exchanged for that of the other.
    Switch {
        /// Place of the other's on the stack, counted from its top.
        back: usize,
    },
    /// A branch begins that may be left out.
    Maybe(Chance),
    /// Two branches end in a sum: `y = gain * skip + scale * f`.
    Join(Join),
    /// Gated branches end: `y = t h + c x`, where c is `1 - t` unless it is a branch of its own.
    Gate(Gate),
    /// Two branches end side by side: `y = [x, f]`.
    Concat {
        /// x
        skip: Source,
    },
    /// Inverted dropout: a unit is zero with probability `p`, else `x / (1 - p)`.
    Drop {
        /// Probability.
        p: f64,
        /// What is drawn.
        noise: Noise,
    },
}

/// The end of a residual branch f.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// Factor of the branch, where it is not learned.
    pub scale: f64,
    /// The learned factor, and the delta whose rows hold its gradient.
    pub learned: Option<(Ref, usize)>,
    /// Factor of the shortcut.
    pub gain: f64,
    /// Where the shortcut ended.
    pub skip: Source,
    /// The branch may be left out; it begins there.
    pub chance: Option<Chance>,
}

/// What a gate reads beside the transform h, which is its operation's input.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// x
    pub skip: Source,
    /// t, a sigmoid.
    pub gate: Source,
    /// Slot of the gate's slope, which is `t (1 - t)`.
    pub slope: usize,
    /// c
    pub carry: Option<Source>,
}

/// A branch that is there with some probability, drawn once a batch.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// The probability.
    pub survival: f64,
    /// What is drawn.
    pub noise: Noise,
    /// The operation at the other end of the branch.
    pub end: usize,
}

/// A layer's random numbers: each of its applications, counted as parameters' copies are, draws its own.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Hash of the layer's path.
    pub key: u32,
    /// Application in iteration 0.
    pub first: usize,
    /// Applications further per iteration.
    pub stride: usize,
}

/// One operation of a block's body.
#[derive(Clone, Debug)]
pub struct Op {
    /// What it does.
    pub kind: Kind,
    /// Its input.
    pub source: Source,
    /// Its output's slot; unused by `Fork`, `Switch` and `Maybe`.
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

impl Op {
    /// The learned number it has, and the delta whose rows hold its gradient.
    pub fn scalar(&self) -> Option<(Ref, usize)> {
        match &self.kind {
            Kind::Join(j) => j.learned,
            _ => Some((self.act.as_ref()?.slope?, self.delta?)),
        }
    }

    /// The parameters it uses.
    pub fn refs(&self) -> impl Iterator<Item = Ref> {
        let dense = match &self.kind {
            Kind::Dense { weight, bias } => [Some(*weight), *bias, None, None],
            Kind::Norm(n) => n.refs(),
            _ => [None; 4],
        };
        dense.into_iter().chain([self.scalar().map(|(r, _)| r)]).flatten()
    }

    /// Elements of its weights.
    pub fn weights(&self) -> usize {
        if let Kind::Dense { .. } = self.kind { self.widths.0 * self.widths.1 } else { 0 }
    }
}
