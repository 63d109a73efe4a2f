//! parts: the minimal gated recurrent unit, whose gates do not see the state. Knows no time.

use super::{CatalogueError, CellPart, Given, Info, Shape};
use crate::kernels::cell::{Back, CellMath, CellVisitor, P, S, Z};
use crate::kernels::number::Number;
use crate::num::simd::Vector;

/// `z = [z, n]`, `h' = (1 - sigmoid(z)) h + sigmoid(z) n`
#[derive(Clone, Copy)]
struct Math;

impl CellMath for Math {
    const COLUMNS: usize = 2;
    const STATES: usize = 1;
    const VECTORS: usize = 0;
    const GATES: usize = 2;
    const DIRECT: bool = true;

    #[inline(always)]
    fn step<V: Vector>(&self, z: Z<V>, s: S<V>, _: P<V>) -> S<V> {
        let (take, keep, _) = z[0].two_sides();
        [keep.fma(s[0], take.mul(z[1])), V::zero()]
    }

    #[inline(always)]
    fn back<N: Number>(&self, z: Z<N>, s: S<N>, _: P<N>, d: S<N>) -> Back<N> {
        let (take, keep, slope) = z[0].two_sides();
        let o = N::zero();
        let dz = d[0].mul(z[1].sub(s[0])).mul(slope);
        Back { z: [dz, d[0].mul(take), o, o], s: [d[0].mul(keep), o], p: [o; 3], c: o }
    }

    #[inline(always)]
    fn gates<V: Vector>(&self, z: Z<V>, _: S<V>, _: P<V>) -> Z<(V, V)> {
        let (u, o) = (z[0].sigmoid(), (V::zero(), V::zero()));
        [(u.0, u.1.mul(V::c(4.0))), (z[1], V::c(1.0)), o, o]
    }
}

/// The cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinGru;

impl CellPart for MinGru {
    const INFO: &'static Info = &Info {
        name: "min_gru",
        aliases: &["minGRU"],
        formula: "z = sigmoid(W_z x + b_z), n = W_n x + b_n; h' = (1 - z) h + z n",
        summary: "Gates that see the input alone: the gradient through time is an exact diagonal product.",
        reference: "Feng et al. 2024, Were RNNs all we needed?, arXiv:2410.01201, section 3.1",
        params: &[],
    };
    fn new(_: &Given) -> Result<Self, CatalogueError> {
        Ok(Self)
    }
    fn shape(&self) -> Shape {
        Shape {
            gates: &["z", "n"],
            ih: &[0, 1],
            hh: &[],
            columns: 2,
            states: 1,
            outputs: 1,
            vectors: (0, ""),
            bias: true,
            gated: true,
            antisymmetric: None,
            keep: Some((0, -1.0)),
            input: None,
        }
    }
    fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out {
        visitor.visit(Math)
    }
}
