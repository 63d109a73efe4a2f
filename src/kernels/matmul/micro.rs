//! kernels: one tile of a matrix product held in registers. Knows no blocking, packing or threads.
//!
//! Every output element is one chain of fused multiply-adds over k, in order, whatever the tile's shape; so tile
//! shapes, threads and instruction paths cannot change a bit.

use crate::num::real::Real;
#[cfg(target_arch = "x86_64")]
use crate::num::simd::{Avx2, Avx512};
use crate::num::simd::{Path, Scalar, Vector};

/// What the sums of a tile start from.
#[derive(Clone, Copy)]
pub enum Start<T> {
    /// Zero.
    Zero,
    /// A row vector added to every row (a bias); already offset to the tile's first column.
    Row(*const T),
    /// What the output holds.
    Output,
}

/// One tile: `c[r][j] = start + sum_k a[r][k] b[k][j]`.
pub struct Tile<T> {
    /// Length of the chains.
    pub k: usize,
    /// First element of A; element (r, k) is at `r * a_row + k * a_col`.
    pub a: *const T,
    /// Distance between rows of A.
    pub a_row: usize,
    /// Distance between columns of A.
    pub a_col: usize,
    /// First element of B; row k is at `k * b_row`, and whole vectors are readable there.
    pub b: *const T,
    /// Distance between rows of B.
    pub b_row: usize,
    /// First element of the output.
    pub c: *mut T,
    /// Distance between rows of the output.
    pub c_row: usize,
    /// Columns of the last vector that exist in the output, 1..=LANES.
    pub last: usize,
    /// What the sums start from.
    pub start: Start<T>,
    /// Memory asked for on the way, any address at all, and how far on with each step.
    pub next: *const T,
    /// See `next`.
    pub next_step: usize,
}

/// A compiled tile kernel.
pub type Micro<T> = unsafe fn(&Tile<T>);

/// Most rows of a tile on any path.
pub const MAX_ROWS: usize = 14;

/// The tile: MR rows by NV vectors.
///
/// # Safety
/// All of A's MR x k, B's k x NV vectors and C's MR x (NV - 1 vectors + last) elements are valid, C for writing.
#[inline(always)]
unsafe fn tile<V: Vector, const MR: usize, const NV: usize>(t: &Tile<V::Elem>) {
    let full = NV - 1;
    // SAFETY: the caller vouches for all addresses formed here.
    unsafe {
        let mut sum = [[V::zero(); NV]; MR];
        match t.start {
            Start::Zero => {}
            Start::Row(p) => {
                let mut row = [V::zero(); NV];
                for (j, v) in row.iter_mut().enumerate().take(full) {
                    *v = V::load(p.add(j * V::LANES));
                }
                row[full] = V::load_partial(p.add(full * V::LANES), t.last);
                sum = [row; MR];
            }
            Start::Output => {
                for (r, s) in sum.iter_mut().enumerate() {
                    let p = t.c.add(r * t.c_row);
                    for (j, v) in s.iter_mut().enumerate().take(full) {
                        *v = V::load(p.add(j * V::LANES));
                    }
                    s[full] = V::load_partial(p.add(full * V::LANES), t.last);
                }
            }
        }
        // Rows in groups of four from one base pointer: strides 1, 2 and 3 then fit x86 address forms, and the
        // pointers of a 14-row tile fit the registers.
        let mut base = [t.a; MAX_ROWS.div_ceil(4)];
        for (g, p) in base.iter_mut().enumerate() {
            *p = t.a.wrapping_add(4 * g * t.a_row);
        }
        let (mut b, mut next) = (t.b, t.next);
        for _ in 0..t.k {
            let mut row = [V::zero(); NV];
            for (j, v) in row.iter_mut().enumerate() {
                *v = V::load(b.add(j * V::LANES));
            }
            for (r, s) in sum.iter_mut().enumerate() {
                let a = V::splat(*base[r / 4].add((r % 4) * t.a_row));
                for j in 0..NV {
                    s[j] = a.fma(row[j], s[j]);
                }
            }
            for p in &mut base {
                *p = p.wrapping_add(t.a_col);
            }
            b = b.wrapping_add(t.b_row);
            V::prefetch(next);
            next = next.wrapping_add(t.next_step);
        }
        for (r, s) in sum.iter().enumerate() {
            let p = t.c.add(r * t.c_row);
            for (j, v) in s.iter().enumerate().take(full) {
                v.store(p.add(j * V::LANES));
            }
            s[full].store_partial(p.add(full * V::LANES), t.last);
        }
    }
}

/// # Safety
/// As [`tile`].
unsafe fn scalar<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>) {
    // SAFETY: passed on.
    unsafe { tile::<T::V<Scalar>, MR, NV>(t) }
}

/// # Safety
/// As [`tile`], on a processor with these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>) {
    // SAFETY: passed on.
    unsafe { tile::<T::V<Avx2>, MR, NV>(t) }
}

/// # Safety
/// As [`tile`], on a processor with these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>) {
    // SAFETY: passed on.
    unsafe { tile::<T::V<Avx512>, MR, NV>(t) }
}

macro_rules! pick {
    ($f:ident, $mr:expr, $nv:expr, { $($nvl:literal: $($mrl:literal)+;)+ }) => {
        match ($nv, $mr) {
            $($(($nvl, $mrl) => $f::<T, $mrl, $nvl>,)+)+
            _ => unreachable!("tile {}x{} is not planned", $mr, $nv),
        }
    };
}

/// The kernel for a tile of `mr` rows by `nv` vectors; only shapes that [`shape`] plans exist.
pub fn micro<T: Real>(path: Path, mr: usize, nv: usize) -> Micro<T> {
    match path {
        Path::Scalar => pick!(scalar, mr, nv, { 1: 1 2 3 4; 2: 1 2; 4: 1; }),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => pick!(avx2, mr, nv, { 1: 1 2 3 4 5 6; 2: 1 2 3; 4: 1; }),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => pick!(avx512, mr, nv, {
            1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 4: 1 2 3 4 5 6 7; 8: 1 2 3;
        }),
        #[cfg(not(target_arch = "x86_64"))]
        _ => pick!(scalar, mr, nv, { 1: 1 2 3 4; 2: 1 2; 4: 1; }),
    }
}

/// The tile for `m` rows and `vectors` columns of vectors left: few rows take wide tiles, so that enough sums are in
/// flight to hide the four cycles of a fused multiply-add.
pub fn shape(path: Path, m: usize, vectors: usize) -> (usize, usize) {
    let sums = match path {
        Path::Scalar => 4,
        Path::Avx2 => 6,
        Path::Avx512 => 28,
    };
    let mut nv = match (path, m) {
        (Path::Avx512, 1..=3) => 8,
        (Path::Avx512, 4..=7) => 4,
        (Path::Avx512, _) => 2,
        (_, 1) => 4,
        (_, 2..=3) => 2,
        _ => 1,
    };
    while nv > vectors {
        nv /= 2;
    }
    let most = (sums / nv).min(MAX_ROWS);
    let blocks = m.div_ceil(most);
    (m.div_ceil(blocks), nv)
}
