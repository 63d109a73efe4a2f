//! parts: the gated recurrent unit in PyTorch's form. Knows no time.

use super::{CatalogueError, CellPart, Given, Info, Shape};
use crate::kernels::cell::{Back, CellMath, CellVisitor, P, S, Z};
use crate::num::math::{sigmoid, tanh};
use crate::num::simd::Vector;

/// `sigmoid(x)`, `1 - sigmoid(x)` and the slope: each with full relative accuracy in saturation, where the difference
/// of one and the value would be lost.
#[inline(always)]
pub(super) fn two_sides<V: Vector>(x: V) -> (V, V, V) {
    let (s, d) = sigmoid(x);
    (s, V::select(x.lt(V::zero()), V::c(1.0).sub(s), d.div(s)), d)
}

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
        let (r, (keep, take, _)) = (sigmoid(z[0]).0, two_sides(z[1]));
        let n = tanh(r.fma(z[3], z[2])).0;
        [keep.fma(s[0], take.mul(n)), V::zero()]
    }

    #[inline(always)]
    fn back<V: Vector>(&self, z: Z<V>, s: S<V>, _: P<V>, d: S<V>) -> Back<V> {
        let (r, (keep, take, slope)) = (sigmoid(z[0]), two_sides(z[1]));
        let n = tanh(r.0.fma(z[3], z[2]));
        let dn = d[0].mul(take).mul(n.1);
        let dz = d[0].mul(s[0].sub(n.0)).mul(slope);
        let dr = dn.mul(z[3]).mul(r.1);
        Back { z: [dr, dz, dn, dn.mul(r.0)], s: [d[0].mul(keep), V::zero()], p: [V::zero(); 3], c: V::zero() }
    }

    #[inline(always)]
    fn gates<V: Vector>(&self, z: Z<V>, _: S<V>, _: P<V>) -> Z<(V, V)> {
        let (r, u, four) = (sigmoid(z[0]), sigmoid(z[1]), V::c(4.0));
        let n = tanh(r.0.fma(z[3], z[2]));
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
