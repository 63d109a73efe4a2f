//! kernels: a matrix product whose B was packed before: weights that one pass uses at every time step. Knows no time.

use super::{Matrix, RawStart, Start, micro, pack_rows, pack_transposed, transpose};
use crate::kernels::matmul::micro::{Tile, shape};
use crate::num::real::Real;
use crate::num::simd::path;

/// B (k, n) laid out for tiles of products with `m` rows.
pub struct Packed<T> {
    panels: Vec<T>,
    /// First element, first column, columns and vectors of each panel.
    parts: Vec<(usize, usize, usize, usize)>,
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
        let (mut panels, mut parts, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        let mut v = 0;
        while v < vectors && m > 0 {
            let nv = shape(path(), m, vectors - v).1;
            let (col, padded) = (v * lanes, nv * lanes);
            let width = (n - col).min(padded);
            if b.col == 1 {
                pack_rows(path(), b, k, col, width, padded, &mut spare);
            } else {
                pack_transposed(path(), b, k, col, width, padded, &mut spare);
            }
            parts.push((panels.len(), col, width, nv));
            panels.extend_from_slice(&spare[..k * padded]);
            v += nv;
        }
        Self { panels, parts, k, n, m }
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
        for &(at, col, width, nv) in &self.parts {
            let mr = shape(path(), m, nv).0;
            let mut r = 0;
            while r < m {
                let rows = mr.min(m - r);
                let tile = Tile {
                    k,
                    a: a.data.as_ptr().wrapping_add(r * a.row),
                    a_row: a.row,
                    a_col: a.col,
                    b: self.panels[at..].as_ptr(),
                    b_row: nv * lanes,
                    c: c.as_mut_ptr().wrapping_add(r * c_row + col),
                    c_row,
                    last: width - (nv - 1) * lanes,
                    start: match start {
                        Start::Zero => RawStart::Zero,
                        Start::Row(p) => RawStart::Row(p.as_ptr().wrapping_add(col)),
                        Start::Output => RawStart::Output,
                    },
                    // The panels stay in cache from one use to the next: nothing need be fetched.
                    next: self.panels[at..].as_ptr(),
                    next_step: 0,
                };
                // SAFETY: the assertions at the top put every element of A, C and the bias inside its slice; the panel
                // holds k rows of nv vectors, as `new` packed it.
                unsafe { micro::micro::<T>(path(), rows, nv)(&tile) };
                r += rows;
            }
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
