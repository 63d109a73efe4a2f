//! kernels: square blocks transposed in registers. Pure data movement; knows no products.

use crate::num::real::Real;
use crate::num::simd::Path;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Side of a block: the lanes of a vector.
pub const fn side<T: Real>() -> usize {
    if T::MANTISSA_BITS == 23 { 16 } else { 8 }
}

/// Writes `dst[c * dst_row + r] = src[r * src_row + c]` for a block of [`side`] rows and columns. Where the path's
/// own block does so, it asks for the rows at `ahead`, any address at all, as far apart as those of `src`.
///
/// # Safety
/// Both blocks are valid, `dst` for writing; they do not overlap; `path` is available.
#[inline]
pub unsafe fn block<T: Real>(path: Path, src: *const T, src_row: usize, dst: *mut T, dst_row: usize, ahead: *const T) {
    // SAFETY: the pointer casts keep the element type, told by its size; the rest is the caller's contract.
    unsafe {
        match (path, side::<T>()) {
            #[cfg(target_arch = "x86_64")]
            (Path::Avx512, 16) => avx512_f32(src.cast(), src_row, dst.cast(), dst_row, ahead.cast()),
            #[cfg(target_arch = "x86_64")]
            (Path::Avx512, _) => avx512_f64(src.cast(), src_row, dst.cast(), dst_row, ahead.cast()),
            #[cfg(target_arch = "x86_64")]
            (Path::Avx2, 16) => {
                for half in 0..2 {
                    avx2_f32(src.add(8 * half * src_row).cast(), src_row, dst.add(8 * half).cast(), dst_row);
                }
            }
            _ => {
                for r in 0..side::<T>() {
                    for c in 0..side::<T>() {
                        *dst.add(c * dst_row + r) = *src.add(r * src_row + c);
                    }
                }
            }
        }
    }
}

/// Rows i, i+4, i+8, i+12 are gathered into one register by loads, so that only the 4 x 4 transposes inside the 128-bit
/// lanes cost shuffles: 32 instead of 64. The lines ahead are asked for in between: all at once they fill the queue.
///
/// # Safety
/// As [`block`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
unsafe fn avx512_f32(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize, ahead: *const f32) {
    // SAFETY: addresses lie in the 16 x 16 blocks the caller vouches for.
    unsafe {
        let quarter = |r: usize, c: usize| _mm_loadu_ps(src.add(r * src_row + c));
        for c in (0..16).step_by(4) {
            let gather = |i: usize| {
                let v = _mm512_castps128_ps512(quarter(i, c));
                let v = _mm512_insertf32x4::<1>(v, quarter(i + 4, c));
                let v = _mm512_insertf32x4::<2>(v, quarter(i + 8, c));
                _mm512_insertf32x4::<3>(v, quarter(i + 12, c))
            };
            for r in c..c + 4 {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(r * src_row).cast());
            }
            let (t0, t1, t2, t3) = (gather(0), gather(1), gather(2), gather(3));
            let (a, b) = (_mm512_castps_pd(_mm512_unpacklo_ps(t0, t1)), _mm512_castps_pd(_mm512_unpacklo_ps(t2, t3)));
            let (p, q) = (_mm512_castps_pd(_mm512_unpackhi_ps(t0, t1)), _mm512_castps_pd(_mm512_unpackhi_ps(t2, t3)));
            let out = [
                _mm512_unpacklo_pd(a, b),
                _mm512_unpackhi_pd(a, b),
                _mm512_unpacklo_pd(p, q),
                _mm512_unpackhi_pd(p, q),
            ];
            for (i, v) in out.into_iter().enumerate() {
                _mm512_storeu_ps(dst.add((c + i) * dst_row), _mm512_castpd_ps(v));
            }
        }
    }
}

/// # Safety
/// As [`block`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
unsafe fn avx512_f64(src: *const f64, src_row: usize, dst: *mut f64, dst_row: usize, ahead: *const f64) {
    // SAFETY: addresses lie in the 8 x 8 blocks the caller vouches for.
    unsafe {
        let pair = |r: usize, c: usize| _mm_loadu_pd(src.add(r * src_row + c));
        for c in (0..8).step_by(2) {
            let gather = |i: usize| {
                let v = _mm512_castpd128_pd512(pair(i, c));
                let v = _mm512_insertf64x2::<1>(v, pair(i + 2, c));
                let v = _mm512_insertf64x2::<2>(v, pair(i + 4, c));
                _mm512_insertf64x2::<3>(v, pair(i + 6, c))
            };
            for r in c..c + 2 {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(r * src_row).cast());
            }
            let (t0, t1) = (gather(0), gather(1));
            _mm512_storeu_pd(dst.add(c * dst_row), _mm512_unpacklo_pd(t0, t1));
            _mm512_storeu_pd(dst.add((c + 1) * dst_row), _mm512_unpackhi_pd(t0, t1));
        }
    }
}

/// Eight rows and 16 columns.
///
/// # Safety
/// As [`block`], for half its rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2_f32(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
    // SAFETY: addresses lie in the blocks the caller vouches for.
    unsafe {
        let quarter = |r: usize, c: usize| _mm_loadu_ps(src.add(r * src_row + c));
        for c in (0..16).step_by(4) {
            let gather = |i: usize| _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(quarter(i, c)), quarter(i + 4, c));
            let (t0, t1, t2, t3) = (gather(0), gather(1), gather(2), gather(3));
            let (a, b) = (_mm256_castps_pd(_mm256_unpacklo_ps(t0, t1)), _mm256_castps_pd(_mm256_unpacklo_ps(t2, t3)));
            let (p, q) = (_mm256_castps_pd(_mm256_unpackhi_ps(t0, t1)), _mm256_castps_pd(_mm256_unpackhi_ps(t2, t3)));
            let out = [
                _mm256_unpacklo_pd(a, b),
                _mm256_unpackhi_pd(a, b),
                _mm256_unpacklo_pd(p, q),
                _mm256_unpackhi_pd(p, q),
            ];
            for (i, v) in out.into_iter().enumerate() {
                _mm256_storeu_ps(dst.add((c + i) * dst_row), _mm256_castpd_ps(v));
            }
        }
    }
}
