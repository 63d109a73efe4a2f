//! parts: the long short-term memory, with or without peepholes. Knows no time.

use super::{CatalogueError, CellPart, Given, Info, Param, Shape};
use crate::kernels::cell::{Back, CellMath, CellVisitor, P, S, Z};
use crate::kernels::number::Number;
use crate::num::simd::Vector;

/// `z = [i, f, g, o]`, `s = [h, c]`, `p = [p_i, p_f, p_o]`.
#[derive(Clone, Copy)]
struct Math<const PEEPHOLE: bool>;

impl<const PEEPHOLE: bool> Math<PEEPHOLE> {
    /// Values and slopes of i, f and g, and the new c.
    #[inline(always)]
    fn inner<N: Number>(z: Z<N>, s: S<N>, p: P<N>) -> ([(N, N); 3], N) {
        let (zi, zf) = if PEEPHOLE { (p[0].fma(s[1], z[0]), p[1].fma(s[1], z[1])) } else { (z[0], z[1]) };
        let (i, f, g) = (zi.sigmoid(), zf.sigmoid(), z[2].tanh());
        ([i, f, g], i.0.fma(g.0, f.0.mul(s[1])))
    }

    #[inline(always)]
    fn out<N: Number>(z: Z<N>, p: P<N>, c: N) -> (N, N) {
        (if PEEPHOLE { p[2].fma(c, z[3]) } else { z[3] }).sigmoid()
    }
}

impl<const PEEPHOLE: bool> CellMath for Math<PEEPHOLE> {
    const COLUMNS: usize = 4;
    const STATES: usize = 2;
    const VECTORS: usize = if PEEPHOLE { 3 } else { 0 };
    const GATES: usize = 4;
    const DIRECT: bool = true;

    #[inline(always)]
    fn step<V: Vector>(&self, z: Z<V>, s: S<V>, p: P<V>) -> S<V> {
        let (_, c) = Self::inner(z, s, p);
        [Self::out(z, p, c).0.mul(c.tanh().0), c]
    }

    #[inline(always)]
    fn back<N: Number>(&self, z: Z<N>, s: S<N>, p: P<N>, d: S<N>) -> Back<N> {
        let ([i, f, g], c) = Self::inner(z, s, p);
        let (o, t) = (Self::out(z, p, c), c.tanh());
        let zo = d[0].mul(t.0).mul(o.1);
        let mut dc = d[0].mul(o.0).fma(t.1, d[1]);
        if PEEPHOLE {
            dc = zo.fma(p[2], dc);
        }
        let zi = dc.mul(g.0).mul(i.1);
        let zf = dc.mul(s[1]).mul(f.1);
        let zg = dc.mul(i.0).mul(g.1);
        let mut ds = dc.mul(f.0);
        let mut dp = [N::zero(); 3];
        if PEEPHOLE {
            ds = zi.fma(p[0], zf.fma(p[1], ds));
            dp = [zi.mul(s[1]), zf.mul(s[1]), zo.mul(c)];
        }
        Back { z: [zi, zf, zg, zo], s: [N::zero(), ds], p: dp, c: dc }
    }

    #[inline(always)]
    fn gates<V: Vector>(&self, z: Z<V>, s: S<V>, p: P<V>) -> Z<(V, V)> {
        let ([i, f, g], c) = Self::inner(z, s, p);
        let (o, four) = (Self::out(z, p, c), V::c(4.0));
        [(i.0, i.1.mul(four)), (f.0, f.1.mul(four)), g, (o.0, o.1.mul(four))]
    }
}

/// The cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lstm {
    peephole: bool,
}

impl CellPart for Lstm {
    const INFO: &'static Info = &Info {
        name: "lstm",
        aliases: &["LSTM", "long_short_term_memory"],
        formula: "i, f, o = sigmoid(.), g = tanh(.) of W_ih x + b_ih + W_hh h + b_hh; c' = f c + i g; h' = o tanh(c')",
        summary: "A cell state that is added to, so that its gradient is a product of forget gates instead of matrices.",
        reference: "Hochreiter, Schmidhuber 1997, Neural Computation 9:1735; forget gate: Gers, Schmidhuber, Cummins \
                    2000; peepholes: Gers, Schraudolph, Schmidhuber 2002; equations as in PyTorch torch.nn.LSTM",
        params: &[Param::bounded("peephole", 0.0, 0.0, 1.0, "1: gates i and f see p c, gate o sees p c'.")],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        Ok(Self { peephole: given.number("peephole") != 0.0 })
    }
    fn shape(&self) -> Shape {
        Shape {
            gates: &["i", "f", "g", "o"],
            ih: &[0, 1, 2, 3],
            hh: &[0, 1, 2, 3],
            columns: 4,
            states: 2,
            outputs: 1,
            vectors: if self.peephole { (3, "peephole") } else { (0, "") },
            bias: true,
            gated: true,
            antisymmetric: None,
            keep: Some((1, 1.0)),
            input: Some(0),
        }
    }
    fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out {
        if self.peephole { visitor.visit(Math::<true>) } else { visitor.visit(Math::<false>) }
    }
}
