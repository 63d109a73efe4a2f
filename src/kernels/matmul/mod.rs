//! kernels: the matrix product of every pass: forward, delta and weight gradient. Knows no layers and no threads.
//!
//! The three products of a dense layer, with activations x (batch, in), weights w (out, in), deltas d (batch, out):
//! ```text
//! forward          h (batch, out) = b + x w^T      B is w, transposed while it is packed
//! delta            g (batch, in)  = d w            B is w as it lies
//! weight gradient  dw (out, in)   = d^T x          A is d, read down its columns; B is x
//! ```

mod micro;
mod packed;
#[cfg(test)]
mod tests;
mod transpose;

use crate::num::real::Real;
use crate::num::simd::{Path, path};
pub use micro::Start as RawStart;
use micro::{Tile, micro, shape};
pub use packed::Packed;

/// A matrix inside a slice: element (r, c) is at `r * row + c * col`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    /// The memory.
    pub data: &'a [T],
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub col: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows one after another, `width` apart.
    pub fn rows(data: &'a [T], width: usize) -> Self {
        Self { data, row: width, col: 1 }
    }
    /// The transpose of [`Matrix::rows`].
    pub fn columns(data: &'a [T], width: usize) -> Self {
        Self { data, row: 1, col: width }
    }
    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0
            || cols == 0
            || (rows - 1)
                .checked_mul(self.row)
                .zip((cols - 1).checked_mul(self.col))
                .and_then(|(a, b)| a.checked_add(b))
                .is_some_and(|last| last < self.data.len())
    }
}

/// What the sums start from.
#[derive(Clone, Copy)]
pub enum Start<'a, T> {
    /// Zero.
    Zero,
    /// A row vector for every row: a bias.
    Row(&'a [T]),
    /// What the output holds: an accumulation.
    Output,
}

/// Memory for packed panels, one per thread, grown on demand and used again.
#[derive(Default)]
pub struct Scratch<T> {
    panel: Vec<T>,
}

/// `c (m, n) = start + a (m, k) b (k, n)`, one chain of fused multiply-adds over k for each element.
///
/// # Panics
/// Where a slice is too short for its shape: a programming error of the caller, never of user data.
pub fn product<T: Real>(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    start: Start<'_, T>,
    c: &mut [T],
    scratch: &mut Scratch<T>,
) {
    product_on(path(), (m, n, k), a, b, start, c, scratch);
}

/// [`product`] on a given instruction path.
pub fn product_on<T: Real>(
    path: Path,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    start: Start<'_, T>,
    c: &mut [T],
    scratch: &mut Scratch<T>,
) {
    assert!(a.holds(m, k) && b.holds(k, n) && c.len() >= m * n, "matrix product: a slice is too short");
    assert!(b.row == 1 || b.col == 1, "matrix product: B must be contiguous one way");
    if let Start::Row(r) = start {
        assert!(r.len() >= n, "matrix product: the bias is too short");
    }
    if m == 0 || n == 0 {
        return;
    }
    let lanes = transpose::side::<T>();
    let vectors = n.div_ceil(lanes);
    let mut v = 0;
    while v < vectors {
        let (mr, nv) = shape(path, m, vectors - v);
        let col = v * lanes;
        let width = (n - col).min(nv * lanes);
        let last = width - (nv - 1) * lanes;
        // B is read once per tile of rows. Rows that lie a power of two apart fall into few cache sets, so a panel that
        // will be read often is copied; a transposed or ragged one must be.
        let (panel, panel_row) = if b.col != 1 {
            pack_transposed(path, b, k, col, width, nv * lanes, &mut scratch.panel);
            (scratch.panel.as_ptr(), nv * lanes)
        } else if last < lanes || (m > 2 * mr && k * b.row > 8192) {
            pack_rows(b, k, col, width, nv * lanes, &mut scratch.panel);
            (scratch.panel.as_ptr(), nv * lanes)
        } else {
            (b.data.as_ptr().wrapping_add(col), b.row)
        };
        let mut r = 0;
        while r < m {
            let rows = mr.min(m - r);
            let tile = Tile {
                k,
                a: a.data.as_ptr().wrapping_add(r * a.row),
                a_row: a.row,
                a_col: a.col,
                b: panel,
                b_row: panel_row,
                c: c.as_mut_ptr().wrapping_add(r * n + col),
                c_row: n,
                last,
                start: match start {
                    Start::Zero => RawStart::Zero,
                    Start::Row(p) => RawStart::Row(p.as_ptr().wrapping_add(col)),
                    Start::Output => RawStart::Output,
                },
            };
            // SAFETY: the assertions at the top put every element of A, B, C and the bias inside its slice; the panel
            // holds k rows of nv vectors, and an unpacked B has whole vectors because last == lanes.
            unsafe { micro::<T>(path, rows, nv)(&tile) };
            r += rows;
        }
        v += nv;
    }
}

/// Rows of B, `width` wide from column `col`, side by side with zeros up to `padded`.
fn pack_rows<T: Real>(b: Matrix<'_, T>, k: usize, col: usize, width: usize, padded: usize, panel: &mut Vec<T>) {
    grow(panel, k * padded);
    for (i, row) in panel.chunks_exact_mut(padded).take(k).enumerate() {
        row[..width].copy_from_slice(&b.data[i * b.row + col..][..width]);
        row[width..].fill(T::ZERO);
    }
}

/// The same for a B whose columns are contiguous: transposed block by block in registers.
fn pack_transposed<T: Real>(
    path: Path,
    b: Matrix<'_, T>,
    k: usize,
    col: usize,
    width: usize,
    padded: usize,
    panel: &mut Vec<T>,
) {
    grow(panel, k * padded);
    let side = transpose::side::<T>();
    let whole = k - k % side;
    for j in (0..padded).step_by(side) {
        if j + side <= width {
            for i in (0..whole).step_by(side) {
                let src = &b.data[(col + j) * b.col + i..];
                let dst = &mut panel[i * padded + j..];
                assert!(src.len() > (side - 1) * b.col + side - 1 && dst.len() > (side - 1) * padded + side - 1);
                // SAFETY: the assertion puts both blocks inside their slices; one is a shared and one a unique borrow.
                unsafe { transpose::block(path, src.as_ptr(), b.col, dst.as_mut_ptr(), padded) };
            }
        }
        let done = if j + side <= width { whole } else { 0 };
        for jj in j..j + side {
            if jj < width {
                let src = &b.data[(col + jj) * b.col..][..k];
                for i in done..k {
                    panel[i * padded + jj] = src[i];
                }
            } else {
                for i in done..k {
                    panel[i * padded + jj] = T::ZERO;
                }
            }
        }
    }
}

fn grow<T: Real>(panel: &mut Vec<T>, len: usize) {
    if panel.len() < len {
        panel.resize(len, T::ZERO);
    }
}
