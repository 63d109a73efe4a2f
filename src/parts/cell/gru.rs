//! parts: the gated recurrent unit in PyTorch's form. Knows no time.

use super::{CatalogueError, CellPart, Given, Info, Shape};
use crate::kernels::cell::{Back, CellMath, CellVisitor, P, S, Z};
use crate::kernels::number::Number;
use crate::num::simd::Vector;

/// `z = [r, z, n from the input, n from the state]`, `s = [h]`.
#[derive(Clone, Copy)]
struct Math;

impl CellMath for Math {
    const COLUMNS: usize = 4;
    const STATES: usize = 1;
    const VECTORS: usize = 0;
    const GATES: usize = 3;
    const DIRECT: bool = true;

    #[inline(always)]
    fn step<V: Vector>(&self, z: Z<V>, s: S<V>, _: P<V>) -> S<V> {
        let (r, (keep, take, _)) = (z[0].sigmoid().0, z[1].two_sides());
        let n = r.fma(z[3], z[2]).tanh().0;
        [keep.fma(s[0], take.mul(n)), V::zero()]
    }

    #[inline(always)]
    fn back<N: Number>(&self, z: Z<N>, s: S<N>, _: P<N>, d: S<N>) -> Back<N> {
        let (r, (keep, take, slope)) = (z[0].sigmoid(), z[1].two_sides());
        let (n, o) = (r.0.fma(z[3], z[2]).tanh(), N::zero());
        let dn = d[0].mul(take).mul(n.1);
        let dz = d[0].mul(s[0].sub(n.0)).mul(slope);
        let dr = dn.mul(z[3]).mul(r.1);
        Back { z: [dr, dz, dn, dn.mul(r.0)], s: [d[0].mul(keep), o], p: [o; 3], c: o }
    }

    #[inline(always)]
    fn gates<V: Vector>(&self, z: Z<V>, _: S<V>, _: P<V>) -> Z<(V, V)> {
        let (r, u, four) = (z[0].sigmoid(), z[1].sigmoid(), V::c(4.0));
        let n = r.0.fma(z[3], z[2]).tanh();
        [(r.0, r.1.mul(four)), (u.0, u.1.mul(four)), n, (V::zero(), V::zero())]
    }
}

/// The cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gru;

impl CellPart for Gru {
    const INFO: &'static Info = &Info {
        name: "gru",
        aliases: &["GRU", "gated_recurrent_unit"],
        formula: "r, z = sigmoid(.), n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1 - z) n + z h",
        summary: "One state and two gates; the update gate z carries the state, and its gradient, through.",
        reference: "Cho et al. 2014, arXiv:1406.1078; reset gate after the product as in PyTorch torch.nn.GRU",
        params: &[],
    };
    fn new(_: &Given) -> Result<Self, CatalogueError> {
        Ok(Self)
    }
    fn shape(&self) -> Shape {
        Shape {
            gates: &["r", "z", "n"],
            ih: &[0, 1, 2],
            hh: &[0, 1, 3],
            columns: 4,
            states: 1,
            outputs: 1,
            vectors: (0, ""),
            bias: true,
            gated: true,
            antisymmetric: None,
            keep: Some((1, 1.0)),
            input: None,
        }
    }
    fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out {
        visitor.visit(Math)
    }
}
