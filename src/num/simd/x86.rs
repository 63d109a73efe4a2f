//! num: the lanes of half a virtual vector joined by halves, for both x86 paths. Knows no algorithm.

use std::arch::x86_64::*;

macro_rules! joined {
    ($total:ident, $top:ident, $v:ty, $t:ty, $low:ident, $high:ident, $add:ident, $max:ident, $swap:expr, $first:ident) => {
        /// Sum of the lanes.
        ///
        /// # Safety
        /// The processor has AVX2.
        #[inline(always)]
        pub(super) unsafe fn $total(v: $v) -> $t {
            // SAFETY: the caller's promise.
            unsafe {
                let mut s = $add($low(v), $high::<1>(v));
                for swap in $swap {
                    s = $add(s, swap(s));
                }
                $first(s)
            }
        }

        /// The largest lane.
        ///
        /// # Safety
        /// The processor has AVX2.
        #[inline(always)]
        pub(super) unsafe fn $top(v: $v) -> $t {
            // SAFETY: the caller's promise.
            unsafe {
                let mut s = $max($high::<1>(v), $low(v));
                for swap in $swap {
                    s = $max(swap(s), s);
                }
                $first(s)
            }
        }
    };
}

/// Lanes 2 and 3 where 0 and 1 were.
#[inline(always)]
unsafe fn far_ps(v: __m128) -> __m128 {
    // SAFETY: every processor of this family has the instruction.
    unsafe { _mm_movehl_ps(v, v) }
}

/// Lane 1 where lane 0 was.
#[inline(always)]
unsafe fn near_ps(v: __m128) -> __m128 {
    // SAFETY: as above.
    unsafe { _mm_shuffle_ps::<1>(v, v) }
}

/// Lane 1 where lane 0 was.
#[inline(always)]
unsafe fn near_pd(v: __m128d) -> __m128d {
    // SAFETY: as above.
    unsafe { _mm_unpackhi_pd(v, v) }
}

type Swap<V> = unsafe fn(V) -> V;

joined!(
    total_ps,
    top_ps,
    __m256,
    f32,
    _mm256_castps256_ps128,
    _mm256_extractf128_ps,
    _mm_add_ps,
    _mm_max_ps,
    [far_ps as Swap<__m128>, near_ps],
    _mm_cvtss_f32
);
joined!(
    total_pd,
    top_pd,
    __m256d,
    f64,
    _mm256_castpd256_pd128,
    _mm256_extractf128_pd,
    _mm_add_pd,
    _mm_max_pd,
    [near_pd as Swap<__m128d>],
    _mm_cvtsd_f64
);
