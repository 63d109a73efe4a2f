//! parts: the minimal long short-term memory, whose gates do not see the state. Knows no time.

use super::{CatalogueError, CellPart, Given, Info, Shape};
use crate::kernels::cell::{Back, CellMath, CellVisitor, P, S, Z};
use crate::kernels::number::Number;
use crate::num::simd::Vector;

/// `z = [f, i, n]`, `h' = (f h + i n) / (f + i)`, in shares: both gates may be closed beyond the type's range.
#[derive(Clone, Copy)]
struct Math;

impl CellMath for Math {
    const COLUMNS: usize = 3;
    const STATES: usize = 1;
    const VECTORS: usize = 0;
    const GATES: usize = 3;
    const DIRECT: bool = true;

    #[inline(always)]
    fn step<V: Vector>(&self, z: Z<V>, s: S<V>, _: P<V>) -> S<V> {
        let share = V::shares(z[0], z[1]);
        [share.keep.fma(s[0], share.take.mul(z[2])), V::zero()]
    }

    #[inline(always)]
    fn back<N: Number>(&self, z: Z<N>, s: S<N>, _: P<N>, d: S<N>) -> Back<N> {
        let (share, o) = (N::shares(z[0], z[1]), N::zero());
        let pull = d[0].mul(s[0].sub(z[2])).mul(share.keep).mul(share.take);
        let (df, di) = (pull.mul(share.rest_f), pull.mul(share.rest_i).neg());
        Back { z: [df, di, d[0].mul(share.take), o], s: [d[0].mul(share.keep), o], p: [o; 3], c: o }
    }

    #[inline(always)]
    fn gates<V: Vector>(&self, z: Z<V>, _: S<V>, _: P<V>) -> Z<(V, V)> {
        let (f, i, four) = (z[0].sigmoid(), z[1].sigmoid(), V::c(4.0));
        [(f.0, f.1.mul(four)), (i.0, i.1.mul(four)), (z[2], V::c(1.0)), (V::zero(), V::zero())]
    }
}

/// The cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinLstm;

impl CellPart for MinLstm {
    const INFO: &'static Info = &Info {
        name: "min_lstm",
        aliases: &["minLSTM"],
        formula: "f, i = sigmoid(W x + b), n = W_n x + b_n; h' = (f h + i n) / (f + i)",
        summary: "Two gates that see the input alone and share the state between old and new.",
        reference: "Feng et al. 2024, Were RNNs all we needed?, arXiv:2410.01201, section 3.2",
        params: &[],
    };
    fn new(_: &Given) -> Result<Self, CatalogueError> {
        Ok(Self)
    }
    fn shape(&self) -> Shape {
        Shape {
            gates: &["f", "i", "n"],
            ih: &[0, 1, 2],
            hh: &[],
            columns: 3,
            states: 1,
            outputs: 1,
            vectors: (0, ""),
            bias: true,
            gated: true,
            antisymmetric: None,
            keep: Some((0, 1.0)),
            input: Some(1),
        }
    }
    fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out {
        visitor.visit(Math)
    }
}
