//! kernels: the product of a few rows with a B whose columns are contiguous, as the forward pass has it. Knows no layers.
//!
//! Turning B, so that a vector holds neighbouring columns, costs as much as half the product where A has 16 rows. Here a
//! vector holds 16 rows of A instead: only A and the output are turned, which are smaller, and B is read as it lies. Each
//! element is the same chain of fused multiply-adds, so that no bit tells which way was taken.

use super::ahead::Claim;
use super::{Matrix, Scratch, Start, on_a_line, pack_transposed, transpose};
use crate::num::real::Real;
use crate::num::simd::Path;
#[cfg(target_arch = "x86_64")]
use crate::num::simd::{Avx512, Vector};

/// Most vectors of rows: with more, turning B once is cheaper than reading it so often.
const STRIPS: usize = 2;

/// Whether [`product`] takes a shape: on AVX-512 alone, whose 32 registers hold a block of sums. `c (m, n) = a (m, k) b`.
pub(super) fn takes<T: Real>(
    path: Path,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    start: Start<'_, T>,
) -> bool {
    let side = transpose::side::<T>();
    let whole = m.is_multiple_of(side) && n.is_multiple_of(side) && k > 0;
    let few = m <= STRIPS * side && 2 * m <= n;
    path == Path::Avx512 && whole && few && a.col == 1 && b.row == 1 && b.col != 1 && !matches!(start, Start::Output)
}

/// `c = start + a b` for shapes that [`takes`] is true of.
pub(super) fn product<T: Real>(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    start: Start<'_, T>,
    c: &mut [T],
    scratch: &mut Scratch<T>,
    claim: &mut [T],
) {
    let side = transpose::side::<T>();
    let Scratch { panel, strips, ahead } = scratch;
    let tiles = (n / side) * (m / side);
    ahead.spread(tiles);
    let mut claim = Claim::new(claim, tiles);
    let rows = Matrix { data: a.data, row: 1, col: a.row };
    let turned = pack_transposed(Path::Avx512, rows, k, 0, m, m, panel);
    let block = on_a_line(strips, side * side);
    for col in (0..n).step_by(side) {
        // Their last element was checked to be there.
        let columns = &b.data[col * b.col..];
        let bias = match start {
            Start::Row(r) => Some(&r[col..col + side]),
            _ => None,
        };
        for strip in (0..m).step_by(side) {
            let next = ahead.take(k).unwrap_or((turned.as_ptr(), 0));
            let out = &mut c[strip * n + col..];
            assert!(out.len() >= (side - 1) * n + side, "turned product: the output is too short");
            // SAFETY: `takes` said AVX-512; the panel holds k rows of m, the columns are k long and `b.col` apart, as
            // `product_on` checked, the bias has a number for each, and the block and the output were checked above.
            unsafe {
                sums(&turned[strip..], m, (columns, b.col, k), bias, block, next);
                transpose::block(Path::Avx512, block.as_ptr(), side, out.as_mut_ptr(), n, block.as_ptr());
            }
            claim.take();
        }
    }
    ahead.clear();
}

/// A block of sums: `out[j][r] = start[j] + sum_k b[k][j] a[r][k]`, a vector of rows of A for each of so many columns.
///
/// # Safety
/// The processor has AVX-512; `a` holds k rows of a vector, `a_row` apart; the columns of `b` are k long and `b_col` apart;
/// `out` holds a square block, `bias` a vector.
#[cfg(target_arch = "x86_64")]
unsafe fn sums<T: Real>(
    a: &[T],
    a_row: usize,
    (b, b_col, k): (&[T], usize, usize),
    bias: Option<&[T]>,
    out: &mut [T],
    next: (*const T, usize),
) {
    let (a, b, out) = (a.as_ptr(), b.as_ptr(), out.as_mut_ptr());
    let bias = bias.map_or(std::ptr::null(), <[T]>::as_ptr);
    // SAFETY: the caller's promise; 16 columns for 16 lanes of float32, 8 for 8 of float64.
    unsafe {
        if transpose::side::<T>() == 16 {
            on_avx512::<T, 16>((a, a_row), (b, b_col), k, bias, out, next)
        } else {
            on_avx512::<T, 8>((a, a_row), (b, b_col), k, bias, out, next)
        }
    }
}

/// There is no such path: [`takes`] is never true.
///
/// # Safety
/// None is needed.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn sums<T: Real>(
    _: &[T],
    _: usize,
    _: (&[T], usize, usize),
    _: Option<&[T]>,
    _: &mut [T],
    _: (*const T, usize),
) {
}

/// # Safety
/// As [`sums`], with pointers in the place of slices.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn on_avx512<T: Real, const N: usize>(
    (a, a_row): (*const T, usize),
    (b, b_col): (*const T, usize),
    k: usize,
    bias: *const T,
    out: *mut T,
    (mut next, next_step): (*const T, usize),
) {
    type V<T> = <T as Real>::V<Avx512>;
    // SAFETY: the caller's promise puts every address in its slice; `next` is only asked for.
    unsafe {
        let mut sum = [V::<T>::zero(); N];
        if !bias.is_null() {
            for (j, s) in sum.iter_mut().enumerate() {
                *s = V::<T>::splat(*bias.add(j));
            }
        }
        // Columns in groups of four from one base pointer, as in `micro`.
        let base: [*const T; 4] = std::array::from_fn(|g| b.wrapping_add(4 * g * b_col));
        for i in 0..k {
            let v = V::<T>::load(a.add(i * a_row));
            for (j, s) in sum.iter_mut().enumerate() {
                *s = V::<T>::splat(*base[j / 4].add((j % 4) * b_col + i)).fma(v, *s);
            }
            V::<T>::prefetch(next);
            next = next.wrapping_add(next_step);
        }
        for (j, s) in sum.iter().enumerate() {
            s.store(out.add(j * N));
        }
    }
}
