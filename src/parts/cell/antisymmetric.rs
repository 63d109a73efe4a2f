//! parts: the antisymmetric recurrent cell, a step of a stable differential equation. Knows no time.

use super::{CatalogueError, CellPart, Given, Info, Leaf, Param, Shape};
use crate::kernels::cell::{Back, CellMath, CellVisitor, P, S, Z};
use crate::kernels::number::Number;
use crate::num::simd::Vector;
use crate::parts::init::{Init, Value};

/// `h' = h + epsilon tanh(z)`
#[derive(Clone, Copy)]
struct Math {
    epsilon: f64,
}

impl CellMath for Math {
    const COLUMNS: usize = 1;
    const STATES: usize = 1;
    const VECTORS: usize = 0;
    const GATES: usize = 1;
    const DIRECT: bool = true;

    #[inline(always)]
    fn step<V: Vector>(&self, z: Z<V>, s: S<V>, _: P<V>) -> S<V> {
        [V::c(self.epsilon).fma(z[0].tanh().0, s[0]), V::zero()]
    }

    #[inline(always)]
    fn back<N: Number>(&self, z: Z<N>, _: S<N>, _: P<N>, d: S<N>) -> Back<N> {
        let o = N::zero();
        Back { z: [d[0].mul(N::c(self.epsilon)).mul(z[0].tanh().1), o, o, o], s: [d[0], o], p: [o; 3], c: o }
    }

    #[inline(always)]
    fn gates<V: Vector>(&self, z: Z<V>, _: S<V>, _: P<V>) -> Z<(V, V)> {
        let o = (V::zero(), V::zero());
        [z[0].tanh(), o, o, o]
    }
}

/// The cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Antisymmetric {
    epsilon: f64,
    gamma: f64,
}

impl CellPart for Antisymmetric {
    const INFO: &'static Info = &Info {
        name: "antisymmetric_rnn",
        aliases: &["AntisymmetricRNN", "asrnn"],
        formula: "h' = h + epsilon tanh(W_ih x + b_ih + (W_hh - W_hh^T - gamma I) h + b_hh)",
        summary: "A recurrent matrix with imaginary eigenvalues only: the state turns, and its gradient neither grows \
                  nor shrinks.",
        reference: "Chang, Chen, Haber, Chi 2019, AntisymmetricRNN, arXiv:1902.09689, eq. 12",
        params: &[
            Param::bounded("epsilon", 0.01, f64::MIN_POSITIVE, f64::MAX, "Step of the differential equation."),
            Param::bounded("gamma", 0.01, 0.0, f64::MAX, "Damping, which keeps the discrete steps stable."),
        ],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        Ok(Self { epsilon: given.number("epsilon"), gamma: given.number("gamma") })
    }
    fn shape(&self) -> Shape {
        Shape {
            gates: &["h"],
            ih: &[0],
            hh: &[0],
            columns: 1,
            states: 1,
            outputs: 1,
            vectors: (0, ""),
            bias: true,
            gated: true,
            antisymmetric: Some(self.gamma),
            keep: None,
            input: None,
        }
    }
    fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out {
        visitor.visit(Math { epsilon: self.epsilon })
    }
    fn start(&self, leaf: Leaf, fan_in: usize) -> Option<Init> {
        let std = Value::Number(1.0 / (fan_in as f64).sqrt());
        match leaf {
            Leaf::WeightIh | Leaf::WeightHh => Init::parse("normal", &[("std".into(), std)]).ok(),
            Leaf::Vectors => None,
        }
    }
    fn quiet(&self) -> bool {
        true
    }
}
