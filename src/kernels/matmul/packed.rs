//! kernels: a matrix product whose B was packed before: weights that one pass uses at every time step. Knows no time.

use super::{Matrix, RawStart, Start, micro, on_a_line, pack_rows, pack_transposed, transpose};
use crate::kernels::matmul::micro::{Micro, Tile, shape};
use crate::num::real::Real;
use crate::num::simd::path;

/// A tile of the output, as far as it is known when B is packed.
struct Part<T> {
    /// Where its panel begins, and vectors there.
    panel: usize,
    vectors: usize,
    /// First row and first column.
    row: usize,
    col: usize,
    /// Columns of its last vector.
    last: usize,
    run: Micro<T>,
}

/// B (k, n) laid out for tiles of products with `m` rows.
pub struct Packed<T> {
    panels: Vec<T>,
    /// Element of `panels` that begins on a cache line: the first that is used.
    first: usize,
    tiles: Vec<Part<T>>,
    k: usize,
    n: usize,
    m: usize,
}

impl<T: Real> Packed<T> {
    /// Packs `b`, (k, n), for products with `m` rows.
    ///
    /// # Panics
    /// Where the slice is too short or B is contiguous neither way: a programming error of the caller.
    pub fn new(b: Matrix<'_, T>, (m, n, k): (usize, usize, usize)) -> Self {
        assert!(b.holds(k, n) && (b.row == 1 || b.col == 1), "packed product: B does not fit its shape");
        let lanes = transpose::side::<T>();
        let vectors = n.div_ceil(lanes);
        let (mut panels, mut tiles, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        let mut v = 0;
        while v < vectors && m > 0 {
            let nv = shape(path(), m, vectors - v).1;
            let (col, padded) = (v * lanes, nv * lanes);
            let width = (n - col).min(padded);
            let packed = if b.col == 1 {
                pack_rows(path(), b, k, col, width, padded, &mut spare)
            } else {
                pack_transposed(path(), b, k, col, width, padded, &mut spare)
            };
            on_a_line(&mut panels, k * vectors * lanes)[k * col..][..packed.len()].copy_from_slice(packed);
            let (most, last) = (shape(path(), m, nv).0, width - (nv - 1) * lanes);
            for row in (0..m).step_by(most) {
                let run = micro::micro::<T>(path(), most.min(m - row), nv);
                tiles.push(Part { panel: k * col, vectors: nv, row, col, last, run });
            }
            v += nv;
        }
        let first = panels.as_ptr().align_offset(64);
        Self { panels, first, tiles, k, n, m }
    }

    /// `c (m, n) = start + a (m, k) b`, the rows of c `c_row` apart; one chain over k for each element, as in
    /// [`super::product`] and with its bits.
    ///
    /// # Panics
    /// Where a slice is too short for its shape: a programming error of the caller.
    pub fn product(&self, a: Matrix<'_, T>, start: Start<'_, T>, c: &mut [T], c_row: usize) {
        let Self { m, n, k, .. } = *self;
        if m == 0 || n == 0 {
            return;
        }
        assert!(a.holds(m, k) && c_row >= n && c.len() >= (m - 1) * c_row + n, "packed product: a slice is too short");
        if let Start::Row(r) = start {
            assert!(r.len() >= n, "packed product: the bias is too short");
        }
        let lanes = transpose::side::<T>();
        for part in &self.tiles {
            let panel = self.panels.as_ptr().wrapping_add(self.first + part.panel);
            let tile = Tile {
                k,
                a: a.data.as_ptr().wrapping_add(part.row * a.row),
                a_row: a.row,
                a_col: a.col,
                b: panel,
                b_row: part.vectors * lanes,
                c: c.as_mut_ptr().wrapping_add(part.row * c_row + part.col),
                c_row,
                last: part.last,
                start: match start {
                    Start::Zero => RawStart::Zero,
                    Start::Row(p) => RawStart::Row(p.as_ptr().wrapping_add(part.col)),
                    Start::Output => RawStart::Output,
                },
                next: panel,
                next_step: 0,
            };
            // SAFETY: the assertions at the top put every element of A, C and the bias inside its slice; the panel holds
            // k rows of its vectors, as `new` packed it, and `run` is the kernel of the tile's own rows and vectors.
            unsafe { (part.run)(&tile) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul::{Scratch, product};

    fn values(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| (0.37 * i as f32 + seed).sin()).collect()
    }

    #[test]
    fn the_same_bits_as_the_plain_product() {
        for (m, n, k) in [(1, 1, 1), (1, 130, 33), (4, 37, 20), (16, 512, 40), (29, 48, 17)] {
            let (a, w, bias) = (values(m * (k + 3), 0.1), values(n * k, 0.7), values(n, 1.9));
            for transposed in [false, true] {
                let b = if transposed { Matrix::columns(&w, k) } else { Matrix::rows(&w, n) };
                let a = Matrix { data: &a, row: k + 3, col: 1 };
                let mut want = vec![0.0; m * n];
                product((m, n, k), a, b, Start::Row(&bias), &mut want, &mut Scratch::default());
                let c_row = n + 5;
                let mut got = vec![0.0; m * c_row];
                let packed = Packed::new(b, (m, n, k));
                packed.product(a, Start::Row(&bias), &mut got, c_row);
                for r in 0..m {
                    assert_eq!(got[r * c_row..][..n], want[r * n..][..n], "{m} {n} {k} {transposed}");
                    assert_eq!(got[r * c_row + n..][..c_row - n], [0.0; 5]);
                }
            }
        }
    }
}
