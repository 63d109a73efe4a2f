//! parts: the plain recurrent cell with any activation, and its two best known starts. Knows no time.

use super::{CatalogueError, CellPart, Given, Info, Leaf, Param, Shape};
use crate::kernels::cell::{Back, CellMath, CellVisitor, P, S, Z};
use crate::kernels::number::{Curve, Number};
use crate::num::simd::Vector;
use crate::parts::activation::{Act, ActVisitor, Activation};
use crate::parts::init::{Init, Value};
use std::marker::PhantomData;

/// `h' = phi(z)`
#[derive(Clone, Copy)]
struct Math<A> {
    act: A,
    /// 1 / max |phi'|
    scale: f64,
}

impl<A: Activation> Curve for Math<A> {
    #[inline(always)]
    fn slope<V: Vector>(&self, x: V) -> V {
        self.act.eval(x).1
    }
    fn scaled_slope(&self, x: f64) -> (f64, i64) {
        self.act.scaled_derivative(x)
    }
}

impl<A: Activation> CellMath for Math<A> {
    const COLUMNS: usize = 1;
    const STATES: usize = 1;
    const VECTORS: usize = 0;
    const GATES: usize = 1;
    const DIRECT: bool = false;
    const TAILS: bool = A::TAILS;

    #[inline(always)]
    fn step<V: Vector>(&self, z: Z<V>, _: S<V>, _: P<V>) -> S<V> {
        [self.act.value(z[0]), V::zero()]
    }

    #[inline(always)]
    fn back<N: Number>(&self, z: Z<N>, _: S<N>, _: P<N>, d: S<N>) -> Back<N> {
        let o = N::zero();
        Back { z: [d[0].mul(z[0].slope(self)), o, o, o], s: [o; 2], p: [o; 3], c: o }
    }

    #[inline(always)]
    fn gates<V: Vector>(&self, z: Z<V>, _: S<V>, _: P<V>) -> Z<(V, V)> {
        let o = (V::zero(), V::zero());
        let (y, d) = self.act.eval(z[0]);
        [(y, d.mul(V::c(self.scale))), o, o, o]
    }
}

/// Calls a cell visitor with the arithmetic of an activation.
struct Through<V>(V);

impl<V: CellVisitor> ActVisitor for Through<V> {
    type Out = V::Out;
    fn visit<A: Activation>(self, act: A) -> V::Out {
        let scale = 1.0 / act.max_slope();
        self.0.visit(Math { act, scale })
    }
}

const SHAPE: Shape = Shape {
    gates: &["h"],
    ih: &[0],
    hh: &[0],
    columns: 1,
    states: 1,
    outputs: 1,
    vectors: (0, ""),
    bias: true,
    gated: true,
    antisymmetric: None,
    keep: None,
    input: None,
};

/// What tells the plain cells apart: their names and their starts.
pub trait Start: Copy + 'static {
    /// Its line in the catalogue.
    const INFO: &'static Info;
    /// Biases start at zero.
    const QUIET: bool;
    /// How a leaf starts, where not as in PyTorch.
    fn leaf(leaf: Leaf) -> Option<Init>;
}

/// A plain cell with a start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elman<S> {
    act: Act,
    start: PhantomData<S>,
}

impl<S: Start> CellPart for Elman<S> {
    const INFO: &'static Info = S::INFO;
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        let name = given.text("activation");
        // The catalogue has checked that there is one of that name.
        let act =
            Act::parse(name, &[]).map_err(|e| given.info().invalid("activation", name.to_owned(), e.to_string()))?;
        Ok(Self { act, start: PhantomData })
    }
    fn shape(&self) -> Shape {
        SHAPE
    }
    fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out {
        self.act.visit(Through(visitor))
    }
    fn start(&self, leaf: Leaf, _: usize) -> Option<Init> {
        S::leaf(leaf)
    }
    fn quiet(&self) -> bool {
        S::QUIET
    }
}

/// PyTorch's start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standard;
/// The plain cell.
pub type Rnn = Elman<Standard>;

impl Start for Standard {
    const INFO: &'static Info = &Info {
        name: "rnn",
        aliases: &["RNN", "elman", "SimpleRNN", "vanilla_rnn"],
        formula: "h' = phi(W_ih x + b_ih + W_hh h + b_hh)",
        summary: "The plain recurrent cell; its gradient is a product of Jacobians diag(phi') W_hh, one a step.",
        reference: "Elman 1990, Cognitive Science 14:179; equations as in PyTorch torch.nn.RNN",
        params: &[Param::activation("activation", "tanh", "The function phi, by its name.")],
    };
    const QUIET: bool = false;
    fn leaf(_: Leaf) -> Option<Init> {
        None
    }
}

/// The identity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity;
/// The plain cell with relu, started at the identity.
pub type Irnn = Elman<Identity>;

impl Start for Identity {
    const INFO: &'static Info = &Info {
        name: "irnn",
        aliases: &["IRNN", "identity_rnn"],
        formula: "h' = relu(W_ih x + b_ih + W_hh h + b_hh), W_hh starts at I, biases at 0",
        summary: "A relu network that starts by remembering: at the identity the gradient neither grows nor shrinks.",
        reference: "Le, Jaitly, Hinton 2015, arXiv:1504.00941, section 2",
        params: &[Param::activation("activation", "relu", "The function phi, by its name.")],
    };
    const QUIET: bool = true;
    fn leaf(leaf: Leaf) -> Option<Init> {
        match leaf {
            Leaf::WeightIh => Init::parse("normal", &[("std".into(), Value::Number(0.001))]).ok(),
            Leaf::WeightHh => Init::parse("identity", &[]).ok(),
            Leaf::Vectors => None,
        }
    }
}

/// A rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation;
/// The plain cell started at an orthogonal matrix.
pub type OrthogonalRnn = Elman<Rotation>;

impl Start for Rotation {
    const INFO: &'static Info = &Info {
        name: "orthogonal_rnn",
        aliases: &["ornn", "unitary_rnn", "orthogonal"],
        formula: "h' = phi(W_ih x + b_ih + W_hh h + b_hh), W_hh starts orthogonal, biases at 0",
        summary: "A plain cell whose recurrent matrix starts as a rotation, so that only phi' shrinks the gradient.",
        reference: "Saxe, McClelland, Ganguli 2014, arXiv:1312.6120; Henaff, Szlam, LeCun 2016, arXiv:1602.06662",
        params: &[Param::activation("activation", "tanh", "The function phi, by its name.")],
    };
    const QUIET: bool = true;
    fn leaf(leaf: Leaf) -> Option<Init> {
        match leaf {
            Leaf::WeightIh => Init::parse("glorot_uniform", &[]).ok(),
            Leaf::WeightHh => Init::parse("orthogonal", &[]).ok(),
            Leaf::Vectors => None,
        }
    }
}
