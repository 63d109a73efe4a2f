//! kernels: copies of parts of a product's operands, laid out for its tiles. Pure data movement;
//! knows no arithmetic.

use super::{Matrix, transpose};
use crate::num::real::Real;
use crate::num::simd::{Isa, Kernel, Path, Vector, dispatch_on, path};

/// Rows of equal length copied from one distance to another, with zeros up to a whole number of vectors.
struct Copy<'a, T> {
    from: &'a [T],
    from_row: usize,
    to: &'a mut [T],
    to_row: usize,
    rows: usize,
    width: usize,
    /// Elements of each row written, at least `width`.
    padded: usize,
}

impl<T: Real> Kernel for Copy<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { from, from_row, to, to_row, rows, width, padded } = self;
        if rows == 0 || width == 0 {
            return;
        }
        assert!(width <= padded, "a copy is narrower than its original");
        assert!((rows - 1) * from_row + width <= from.len() && (rows - 1) * to_row + padded <= to.len());
        let lanes = T::V::<I>::LANES;
        let (mut src, mut dst) = (from.as_ptr(), to.as_mut_ptr());
        for _ in 0..rows {
            let mut j = 0;
            // SAFETY: the assertion puts `width` elements of every row of `from`, and `padded` of `to`, in their slices.
            unsafe {
                while j + lanes <= width {
                    T::V::<I>::load(src.add(j)).store(dst.add(j));
                    j += lanes;
                }
                while j < padded {
                    let v = T::V::<I>::load_partial(src.add(j.min(width)), (width.max(j) - j).min(lanes));
                    v.store_partial(dst.add(j), lanes.min(padded - j));
                    j += lanes;
                }
            }
            src = src.wrapping_add(from_row);
            dst = dst.wrapping_add(to_row);
        }
    }
}

/// Rows of B, `width` wide from column `col`, side by side with zeros up to `padded`.
pub fn pack_rows<'p, T: Real>(
    path: Path,
    b: Matrix<'_, T>,
    k: usize,
    col: usize,
    width: usize,
    padded: usize,
    panel: &'p mut Vec<T>,
) -> &'p [T] {
    let (from, to) = (&b.data[col.min(b.data.len())..], on_a_line(panel, k * padded));
    dispatch_on(path, Copy { from, from_row: b.row, to: &mut *to, to_row: padded, rows: k, width, padded });
    to
}

/// The same for a B whose columns are contiguous: transposed block by block in registers.
pub fn pack_transposed<'p, T: Real>(
    path: Path,
    b: Matrix<'_, T>,
    k: usize,
    col: usize,
    width: usize,
    padded: usize,
    panel: &'p mut Vec<T>,
) -> &'p [T] {
    let panel = on_a_line(panel, k * padded);
    let side = transpose::side::<T>();
    let whole = k - k % side;
    for j in (0..padded).step_by(side) {
        if j + side <= width {
            for i in (0..whole).step_by(side) {
                let src = &b.data[(col + j) * b.col + i..];
                let dst = &mut panel[i * padded + j..];
                assert!(src.len() > (side - 1) * b.col + side - 1 && dst.len() > (side - 1) * padded + side - 1);
                // Two blocks on, in these columns or the next: turning a block takes less time than its lines take to
                // come from the second-level cache, and so many streams are not foreseen by the processor.
                let (on, cols) = if i + 2 * side < whole { (i + 2 * side, 0) } else { (i + 2 * side - whole, side) };
                let ahead = b.data.as_ptr().wrapping_add((col + j + cols) * b.col + on);
                // SAFETY: the assertion puts both blocks inside their slices; one is a shared and one a unique borrow.
                unsafe { transpose::block(path, src.as_ptr(), b.col, dst.as_mut_ptr(), padded, ahead) };
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
    panel
}

/// The first `len` elements of a buffer, grown as needed, that begin on a cache line: a vector that straddles two of
/// them is stored and loaded twice.
pub fn on_a_line<T: Real>(panel: &mut Vec<T>, len: usize) -> &mut [T] {
    let line = 64 / size_of::<T>();
    grow(panel, len + line);
    let at = panel.as_ptr().align_offset(64).min(line);
    &mut panel[at..at + len]
}

/// Rows of `a`, `width` wide and `a.row` apart, one after another. Shape of `to`: (rows, width).
pub fn gather_rows<T: Real>(a: Matrix<'_, T>, width: usize, to: &mut [T]) {
    let rows = to.len() / width.max(1);
    dispatch_on(path(), Copy { from: a.data, from_row: a.row, to, to_row: width, rows, width, padded: width });
}

/// Elements between the copied rows of A beyond their length: rows then start in different cache sets.
const APART: usize = 16;

/// Copies `m` rows and `k` columns of A for tiles of `mr` rows. Element (r, k) of the tile that begins at row s is then at
/// `s * stride + r * row + k * col`; returns (stride, row, col).
pub fn pack_strips<T: Real>(
    path: Path,
    a: Matrix<'_, T>,
    (m, k): (usize, usize),
    mr: usize,
    strips: &mut Vec<T>,
) -> (usize, usize, usize) {
    if a.col == 1 {
        let to_row = k + APART;
        grow(strips, m * to_row);
        dispatch_on(path, Copy { from: a.data, from_row: a.row, to: strips, to_row, rows: m, width: k, padded: k });
        return (to_row, to_row, 1);
    }
    // Read down its columns: the rows of a tile lie side by side for each k.
    grow(strips, m.next_multiple_of(mr) * k);
    for s in (0..m).step_by(mr) {
        let (from, to) = (&a.data[s..], &mut strips[s * k..]);
        let width = mr.min(m - s);
        dispatch_on(path, Copy { from, from_row: a.col, to, to_row: mr, rows: k, width, padded: width });
    }
    (k, 1, mr)
}

fn grow<T: Real>(panel: &mut Vec<T>, len: usize) {
    if panel.len() < len {
        panel.resize(len, T::ZERO);
    }
}
