//! num: the AVX2 path, two registers a vector, so that it has the lanes of AVX-512. Knows no algorithm.

use super::{Isa, Vector, x86};
use std::arch::x86_64::*;

/// AVX2 with FMA.
#[derive(Clone, Copy)]
pub struct Avx2;

impl Isa for Avx2 {
    type F32 = Yps;
    type F64 = Ypd;
    const ACCUMULATORS: usize = 6;
}

/// 16 lanes of `f32` in two registers.
#[derive(Clone, Copy)]
pub struct Yps(__m256, __m256);
/// 8 lanes of `f64` in two registers.
#[derive(Clone, Copy)]
pub struct Ypd(__m256d, __m256d);

macro_rules! ymm {
    ($v:ident, $t:ty, $n:literal, $half:literal, $reg:ty, $int:ty, $widen:expr, $narrow:expr, $total:ident, $top:ident,
     $set1:ident, $set1i:ident, $fromi:ident, $toi:ident, $loadu:ident, $storeu:ident,
     $add:ident, $sub:ident, $mul:ident, $div:ident, $fmadd:ident, $sqrt:ident, $rnd:ident, $max:ident, $min:ident,
     $cmp:ident, $blend:ident, $movemask:ident, $and:ident, $or:ident, $xor:ident, $sll:ident, $srl:ident, $addi:ident) => {
        // SAFETY: every block in this impl runs only below `dispatch`, which checked for AVX2 and FMA; pointer
        // operations carry their callers' contracts.
        impl Vector for $v {
            type Elem = $t;
            type Mask = ($reg, $reg);
            type Wide = Ypd;
            const LANES: usize = $n;
            #[inline(always)]
            fn splat(x: $t) -> Self {
                // SAFETY: see the head of this impl.
                let r = unsafe { $set1(x) };
                Self(r, r)
            }
            #[inline(always)]
            fn splat_bits(bits: u64) -> Self {
                // SAFETY: see the head of this impl.
                let r = unsafe { $fromi($set1i(bits as $int)) };
                Self(r, r)
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: the caller vouches for LANES readable elements.
                unsafe { Self($loadu(p), $loadu(p.add($half))) }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: the caller vouches for LANES writable elements.
                unsafe {
                    $storeu(p, self.0);
                    $storeu(p.add($half), self.1);
                }
            }
            #[inline(always)]
            unsafe fn load_partial(p: *const $t, n: usize) -> Self {
                let mut a = [0.0; $n];
                // SAFETY: the caller vouches for n readable elements, and n <= LANES.
                unsafe {
                    std::ptr::copy_nonoverlapping(p, a.as_mut_ptr(), n);
                    Self::load(a.as_ptr())
                }
            }
            #[inline(always)]
            unsafe fn store_partial(self, p: *mut $t, n: usize) {
                let mut a = [0.0; $n];
                // SAFETY: the caller vouches for n writable elements, and n <= LANES.
                unsafe {
                    self.store(a.as_mut_ptr());
                    std::ptr::copy_nonoverlapping(a.as_ptr(), p, n);
                }
            }
            #[inline(always)]
            fn prefetch(p: *const $t) {
                // SAFETY: see the head of this impl; a prefetch of any address has no effect but on time.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
            }
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($add(self.0, b.0), $add(self.1, b.1)) }
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($sub(self.0, b.0), $sub(self.1, b.1)) }
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($mul(self.0, b.0), $mul(self.1, b.1)) }
            }
            #[inline(always)]
            fn div(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($div(self.0, b.0), $div(self.1, b.1)) }
            }
            #[inline(always)]
            fn fma(self, b: Self, c: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($fmadd(self.0, b.0, c.0), $fmadd(self.1, b.1, c.1)) }
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($sqrt(self.0), $sqrt(self.1)) }
            }
            #[inline(always)]
            fn round(self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe {
                    Self(
                        $rnd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0),
                        $rnd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.1),
                    )
                }
            }
            #[inline(always)]
            fn max(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($max(self.0, b.0), $max(self.1, b.1)) }
            }
            #[inline(always)]
            fn min(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($min(self.0, b.0), $min(self.1, b.1)) }
            }
            #[inline(always)]
            fn lt(self, b: Self) -> Self::Mask {
                // SAFETY: see the head of this impl.
                unsafe { ($cmp::<_CMP_LT_OQ>(self.0, b.0), $cmp::<_CMP_LT_OQ>(self.1, b.1)) }
            }
            #[inline(always)]
            fn le(self, b: Self) -> Self::Mask {
                // SAFETY: see the head of this impl.
                unsafe { ($cmp::<_CMP_LE_OQ>(self.0, b.0), $cmp::<_CMP_LE_OQ>(self.1, b.1)) }
            }
            #[inline(always)]
            fn eq(self, b: Self) -> Self::Mask {
                // SAFETY: see the head of this impl.
                unsafe { ($cmp::<_CMP_EQ_OQ>(self.0, b.0), $cmp::<_CMP_EQ_OQ>(self.1, b.1)) }
            }
            #[inline(always)]
            fn is_nan(self) -> Self::Mask {
                // SAFETY: see the head of this impl.
                unsafe { ($cmp::<_CMP_UNORD_Q>(self.0, self.0), $cmp::<_CMP_UNORD_Q>(self.1, self.1)) }
            }
            #[inline(always)]
            fn select(m: Self::Mask, a: Self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($blend(b.0, a.0, m.0), $blend(b.1, a.1, m.1)) }
            }
            #[inline(always)]
            fn mask_bits(m: Self::Mask) -> u32 {
                // SAFETY: see the head of this impl.
                unsafe { ($movemask(m.0) as u32) | (($movemask(m.1) as u32) << $half) }
            }
            #[inline(always)]
            fn and(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($and(self.0, b.0), $and(self.1, b.1)) }
            }
            #[inline(always)]
            fn or(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($or(self.0, b.0), $or(self.1, b.1)) }
            }
            #[inline(always)]
            fn xor(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($xor(self.0, b.0), $xor(self.1, b.1)) }
            }
            #[inline(always)]
            fn shl<const N: u32>(self) -> Self {
                // SAFETY: see the head of this impl; the count is loaded into a register because the immediate form
                // takes a signed constant.
                unsafe {
                    let n = _mm_cvtsi32_si128(N as i32);
                    Self($fromi($sll($toi(self.0), n)), $fromi($sll($toi(self.1), n)))
                }
            }
            #[inline(always)]
            fn shr<const N: u32>(self) -> Self {
                // SAFETY: as for `shl`.
                unsafe {
                    let n = _mm_cvtsi32_si128(N as i32);
                    Self($fromi($srl($toi(self.0), n)), $fromi($srl($toi(self.1), n)))
                }
            }
            #[inline(always)]
            fn add_bits(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { Self($fromi($addi($toi(self.0), $toi(b.0))), $fromi($addi($toi(self.1), $toi(b.1)))) }
            }
            #[inline(always)]
            fn widen(self) -> [Ypd; 2] {
                // SAFETY: see the head of this impl.
                unsafe { $widen(self) }
            }
            #[inline(always)]
            fn narrow(w: [Ypd; 2]) -> Self {
                // SAFETY: see the head of this impl.
                unsafe { $narrow(w) }
            }
            #[inline(always)]
            fn total(self) -> $t {
                // SAFETY: see the head of this impl.
                unsafe { x86::$total($add(self.0, self.1)) }
            }
            #[inline(always)]
            fn top(self) -> $t {
                // SAFETY: see the head of this impl.
                unsafe { x86::$top($max(self.1, self.0)) }
            }
        }
    };
}

#[inline(always)]
unsafe fn widen16(v: Yps) -> [Ypd; 2] {
    // SAFETY: called below `dispatch` only.
    unsafe {
        let half =
            |r: __m256| Ypd(_mm256_cvtps_pd(_mm256_castps256_ps128(r)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(r)));
        [half(v.0), half(v.1)]
    }
}

#[inline(always)]
unsafe fn narrow16(w: [Ypd; 2]) -> Yps {
    // SAFETY: called below `dispatch` only.
    unsafe {
        let half =
            |d: Ypd| _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm256_cvtpd_ps(d.0)), _mm256_cvtpd_ps(d.1));
        Yps(half(w[0]), half(w[1]))
    }
}

#[inline(always)]
unsafe fn widen8(v: Ypd) -> [Ypd; 2] {
    // SAFETY: called below `dispatch` only.
    let z = unsafe { _mm256_setzero_pd() };
    [v, Ypd(z, z)]
}

#[inline(always)]
unsafe fn narrow8(w: [Ypd; 2]) -> Ypd {
    w[0]
}

ymm!(
    Yps,
    f32,
    16,
    8,
    __m256,
    i32,
    widen16,
    narrow16,
    total_ps,
    top_ps,
    _mm256_set1_ps,
    _mm256_set1_epi32,
    _mm256_castsi256_ps,
    _mm256_castps_si256,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    _mm256_fmadd_ps,
    _mm256_sqrt_ps,
    _mm256_round_ps,
    _mm256_max_ps,
    _mm256_min_ps,
    _mm256_cmp_ps,
    _mm256_blendv_ps,
    _mm256_movemask_ps,
    _mm256_and_ps,
    _mm256_or_ps,
    _mm256_xor_ps,
    _mm256_sll_epi32,
    _mm256_srl_epi32,
    _mm256_add_epi32
);
ymm!(
    Ypd,
    f64,
    8,
    4,
    __m256d,
    i64,
    widen8,
    narrow8,
    total_pd,
    top_pd,
    _mm256_set1_pd,
    _mm256_set1_epi64x,
    _mm256_castsi256_pd,
    _mm256_castpd_si256,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_add_pd,
    _mm256_sub_pd,
    _mm256_mul_pd,
    _mm256_div_pd,
    _mm256_fmadd_pd,
    _mm256_sqrt_pd,
    _mm256_round_pd,
    _mm256_max_pd,
    _mm256_min_pd,
    _mm256_cmp_pd,
    _mm256_blendv_pd,
    _mm256_movemask_pd,
    _mm256_and_pd,
    _mm256_or_pd,
    _mm256_xor_pd,
    _mm256_sll_epi64,
    _mm256_srl_epi64,
    _mm256_add_epi64
);
