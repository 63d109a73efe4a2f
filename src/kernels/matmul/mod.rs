//! kernels: the matrix product of every pass: forward, delta and weight gradient. Knows no layers and no threads.
//!
//! The three products of a dense layer, with activations x (batch, in), weights w (out, in), deltas d (batch, out):
//! ```text
//! forward          h (batch, out) = b + x w^T      B is w, transposed while it is packed
//! delta            g (batch, in)  = d w            B is w as it lies
//! weight gradient  dw (out, in)   = d^T x          A is d, read down its columns; B is x
//! ```

mod ahead;
mod micro;
mod pack;
mod packed;
#[cfg(test)]
mod tests;
mod transpose;
mod turned;

use crate::num::real::Real;
use crate::num::simd::{Path, path};
pub use ahead::Ahead;
use ahead::Claim;
pub use micro::Start as RawStart;
use micro::{Tile, micro, shape};
pub use pack::gather_rows;
use pack::{on_a_line, pack_rows, pack_strips, pack_transposed};
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
    strips: Vec<T>,
    /// What the next product asks for on its way.
    pub ahead: Ahead,
}

/// Length of the chains that one round over the output adds to: a panel of B then stays in the first-level cache.
const DEPTH: usize = 256;
/// Most rows of A that are packed together: they stay in the second-level cache.
const BAND: usize = 256;
/// A is packed where this many panels share the copy, and fewer would miss the cache for it.
const SHARED: usize = 4;

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
    product_on(path(), (m, n, k), a, b, start, (c, &mut []), scratch);
}

/// [`product`] that claims memory on its way, which is written next and was last read by another core.
pub fn product_claiming<T: Real>(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    start: Start<'_, T>,
    c: &mut [T],
    scratch: &mut Scratch<T>,
    claim: &mut [T],
) {
    product_on(path(), (m, n, k), a, b, start, (c, claim), scratch);
}

/// [`product_claiming`] on a given instruction path.
pub fn product_on<T: Real>(
    path: Path,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    start: Start<'_, T>,
    (c, claim): (&mut [T], &mut [T]),
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
    if k <= DEPTH && turned::takes(path, (m, n, k), a, b, start) {
        return turned::product((m, n, k), a, b, start, c, scratch, claim);
    }
    let vectors = n.div_ceil(transpose::side::<T>());
    let (rounds, bands) = (k.div_ceil(DEPTH).max(1), m.div_ceil(BAND));
    let band = m.div_ceil(bands);
    let (mr, nv) = shape(path, band, vectors);
    let tiles = rounds * bands * band.div_ceil(mr) * vectors.div_ceil(nv);
    scratch.ahead.spread(tiles);
    let mut claim = Claim::new(claim, tiles);
    for round in 0..rounds {
        let k0 = round * DEPTH;
        // Later rounds go on with the chains where the output holds them.
        let start = if round == 0 { start } else { Start::Output };
        let round_b = Matrix { data: &b.data[(k0 * b.row).min(b.data.len())..], ..b };
        for r0 in (0..m).step_by(band) {
            let a = Matrix { data: &a.data[(r0 * a.row + k0 * a.col).min(a.data.len())..], ..a };
            let c = &mut c[r0 * n..];
            multiply(path, (band.min(m - r0), n, DEPTH.min(k - k0)), a, round_b, start, c, (scratch, &mut claim));
        }
    }
    scratch.ahead.clear();
}

/// True where lines so many elements apart fall into so few sets of the first-level cache that they push each other out.
fn crowds<T>(stride: usize) -> bool {
    (stride * size_of::<T>()).is_multiple_of(2048)
}

/// True where the rows or columns of A that a tile reads should be copied before many panels read them again.
fn conflicts<T>(a: Matrix<'_, T>, k: usize) -> bool {
    crowds::<T>(a.row.max(a.col)) || (a.col > 1 && a.col * k * size_of::<T>() > 1 << 18)
}

/// One round over one band of rows: `c += a b` for a B that is packed panel by panel.
fn multiply<T: Real>(
    path: Path,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    start: Start<'_, T>,
    c: &mut [T],
    (scratch, claim): (&mut Scratch<T>, &mut Claim<'_, T>),
) {
    let lanes = transpose::side::<T>();
    let vectors = n.div_ceil(lanes);
    let (mr, most) = shape(path, m, vectors);
    let Scratch { panel: packed, strips, ahead } = scratch;
    // Where the tile that begins at row s finds its part of A: at s * a_tile.
    let (a_from, a_tile, a_row, a_col) = if m > mr && vectors >= SHARED * most && conflicts(a, k) {
        let (tile, row, col) = pack_strips(path, a, (m, k), mr, strips);
        (strips.as_ptr(), tile, row, col)
    } else {
        (a.data.as_ptr(), a.row, a.row, a.col)
    };
    let mut v = 0;
    while v < vectors {
        let nv = shape(path, m, vectors - v).1;
        let col = v * lanes;
        let width = (n - col).min(nv * lanes);
        let last = width - (nv - 1) * lanes;
        // B is read once per tile of rows, so a panel that will be read often is copied, sooner where its rows push each
        // other out of the cache; a transposed or ragged one must be. The limits are measured.
        let often = if crowds::<T>(b.row) { 2 } else { 8 };
        let copied = last < lanes || (m > often * mr && k * b.row > 8192);
        let (panel, panel_row) = if b.col != 1 {
            (pack_transposed(path, b, k, col, width, nv * lanes, packed).as_ptr(), nv * lanes)
        } else if copied {
            (pack_rows(path, b, k, col, width, nv * lanes, packed).as_ptr(), nv * lanes)
        } else {
            (b.data.as_ptr().wrapping_add(col), b.row)
        };
        let mut r = 0;
        while r < m {
            let rows = mr.min(m - r);
            // Where nothing else is wanted, the first tiles fetch the next panel's rows, a vector's width each.
            let (next, next_step) = match ahead.take(k) {
                Some(next) => next,
                None if copied && b.col == 1 && r < nv * mr => {
                    (b.data.as_ptr().wrapping_add(col + width + r / mr * lanes), b.row)
                }
                None => (panel, 0),
            };
            let tile = Tile {
                k,
                a: a_from.wrapping_add(r * a_tile),
                a_row,
                a_col,
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
                next,
                next_step,
            };
            // SAFETY: `product_on` checked that every element of A, B, C and the bias is inside its slice; packed copies
            // hold m x k and k x nv vectors, and an unpacked B has whole vectors because last == lanes.
            unsafe { micro::<T>(path, rows, nv)(&tile) };
            claim.take();
            r += rows;
        }
        v += nv;
    }
}
