//! num: the AVX-512 path, one register a vector. Knows no algorithm.

use super::{Isa, Vector, x86};
use std::arch::x86_64::*;

/// AVX-512 F, BW, DQ, VL.
#[derive(Clone, Copy)]
pub struct Avx512;

impl Isa for Avx512 {
    type F32 = Zps;
    type F64 = Zpd;
    const ACCUMULATORS: usize = 28;
}

/// 16 lanes of `f32` in one register.
#[derive(Clone, Copy)]
pub struct Zps(__m512);
/// 8 lanes of `f64` in one register.
#[derive(Clone, Copy)]
pub struct Zpd(__m512d);

macro_rules! zmm {
    ($v:ident, $t:ty, $n:literal, $m:ty, $int:ty, $ones:expr, $widen:expr, $narrow:expr, $total:expr, $top:expr,
     $set1:ident, $set1i:ident, $fromi:ident, $toi:ident, $loadu:ident, $storeu:ident, $mloadu:ident, $mstoreu:ident,
     $add:ident, $sub:ident, $mul:ident, $div:ident, $fmadd:ident, $sqrt:ident, $rnd:ident, $max:ident, $min:ident,
     $cmp:ident, $blend:ident, $and:ident, $or:ident, $xor:ident, $sll:ident, $srl:ident, $addi:ident) => {
        // SAFETY: every block in this impl runs only below `dispatch`, which checked for the AVX-512 features the
        // intrinsics need; pointer operations carry their callers' contracts.
        impl Vector for $v {
            type Elem = $t;
            type Mask = $m;
            type Wide = Zpd;
            const LANES: usize = $n;
            #[inline(always)]
            fn splat(x: $t) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $set1(x) })
            }
            #[inline(always)]
            fn splat_bits(bits: u64) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $fromi($set1i(bits as $int)) })
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: the caller vouches for LANES readable elements.
                Self(unsafe { $loadu(p) })
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: the caller vouches for LANES writable elements.
                unsafe { $storeu(p, self.0) }
            }
            #[inline(always)]
            unsafe fn load_partial(p: *const $t, n: usize) -> Self {
                // SAFETY: the mask stops the access after the n elements the caller vouches for.
                Self(unsafe { $mloadu($ones(n), p) })
            }
            #[inline(always)]
            unsafe fn store_partial(self, p: *mut $t, n: usize) {
                // SAFETY: the mask stops the access after the n elements the caller vouches for.
                unsafe { $mstoreu(p, $ones(n), self.0) }
            }
            #[inline(always)]
            fn prefetch(p: *const $t) {
                // SAFETY: see the head of this impl; a prefetch of any address has no effect but on time.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
            }
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $add(self.0, b.0) })
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $sub(self.0, b.0) })
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $mul(self.0, b.0) })
            }
            #[inline(always)]
            fn div(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $div(self.0, b.0) })
            }
            #[inline(always)]
            fn fma(self, b: Self, c: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $fmadd(self.0, b.0, c.0) })
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $sqrt(self.0) })
            }
            #[inline(always)]
            fn round(self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $rnd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
            }
            #[inline(always)]
            fn max(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $max(self.0, b.0) })
            }
            #[inline(always)]
            fn min(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $min(self.0, b.0) })
            }
            #[inline(always)]
            fn lt(self, b: Self) -> $m {
                // SAFETY: see the head of this impl.
                unsafe { $cmp::<_CMP_LT_OQ>(self.0, b.0) }
            }
            #[inline(always)]
            fn le(self, b: Self) -> $m {
                // SAFETY: see the head of this impl.
                unsafe { $cmp::<_CMP_LE_OQ>(self.0, b.0) }
            }
            #[inline(always)]
            fn eq(self, b: Self) -> $m {
                // SAFETY: see the head of this impl.
                unsafe { $cmp::<_CMP_EQ_OQ>(self.0, b.0) }
            }
            #[inline(always)]
            fn is_nan(self) -> $m {
                // SAFETY: see the head of this impl.
                unsafe { $cmp::<_CMP_UNORD_Q>(self.0, self.0) }
            }
            #[inline(always)]
            fn select(m: $m, a: Self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $blend(m, b.0, a.0) })
            }
            #[inline(always)]
            fn mask_bits(m: $m) -> u32 {
                u32::from(m)
            }
            #[inline(always)]
            fn and(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $and(self.0, b.0) })
            }
            #[inline(always)]
            fn or(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $or(self.0, b.0) })
            }
            #[inline(always)]
            fn xor(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $xor(self.0, b.0) })
            }
            #[inline(always)]
            fn shl<const N: u32>(self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $fromi($sll::<N>($toi(self.0))) })
            }
            #[inline(always)]
            fn shr<const N: u32>(self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $fromi($srl::<N>($toi(self.0))) })
            }
            #[inline(always)]
            fn add_bits(self, b: Self) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $fromi($addi($toi(self.0), $toi(b.0))) })
            }
            #[inline(always)]
            fn widen(self) -> [Zpd; 2] {
                // SAFETY: see the head of this impl.
                unsafe { $widen(self.0) }
            }
            #[inline(always)]
            fn narrow(w: [Zpd; 2]) -> Self {
                // SAFETY: see the head of this impl.
                Self(unsafe { $narrow(w) })
            }
            #[inline(always)]
            fn total(self) -> $t {
                // SAFETY: see the head of this impl.
                unsafe { $total(self.0) }
            }
            #[inline(always)]
            fn top(self) -> $t {
                // SAFETY: see the head of this impl.
                unsafe { $top(self.0) }
            }
        }
    };
}

/// The first `n <= 16` bits set.
#[inline(always)]
fn ones16(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// The first `n <= 8` bits set.
#[inline(always)]
fn ones8(n: usize) -> __mmask8 {
    ((1u32 << n) - 1) as __mmask8
}

#[inline(always)]
unsafe fn widen16(v: __m512) -> [Zpd; 2] {
    // SAFETY: called below `dispatch` only.
    unsafe { [Zpd(_mm512_cvtps_pd(_mm512_castps512_ps256(v))), Zpd(_mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(v)))] }
}

#[inline(always)]
unsafe fn narrow16(w: [Zpd; 2]) -> __m512 {
    // SAFETY: called below `dispatch` only.
    unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm512_cvtpd_ps(w[0].0)), _mm512_cvtpd_ps(w[1].0)) }
}

#[inline(always)]
unsafe fn widen8(v: __m512d) -> [Zpd; 2] {
    // SAFETY: called below `dispatch` only.
    [Zpd(v), Zpd(unsafe { _mm512_setzero_pd() })]
}

#[inline(always)]
unsafe fn narrow8(w: [Zpd; 2]) -> __m512d {
    w[0].0
}

#[inline(always)]
unsafe fn total16(v: __m512) -> f32 {
    // SAFETY: called below `dispatch` only.
    unsafe { x86::total_ps(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v))) }
}

#[inline(always)]
unsafe fn top16(v: __m512) -> f32 {
    // SAFETY: called below `dispatch` only.
    unsafe { x86::top_ps(_mm256_max_ps(_mm512_extractf32x8_ps::<1>(v), _mm512_castps512_ps256(v))) }
}

#[inline(always)]
unsafe fn total8(v: __m512d) -> f64 {
    // SAFETY: called below `dispatch` only.
    unsafe { x86::total_pd(_mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v))) }
}

#[inline(always)]
unsafe fn top8(v: __m512d) -> f64 {
    // SAFETY: called below `dispatch` only.
    unsafe { x86::top_pd(_mm256_max_pd(_mm512_extractf64x4_pd::<1>(v), _mm512_castpd512_pd256(v))) }
}

zmm!(
    Zps,
    f32,
    16,
    __mmask16,
    i32,
    ones16,
    widen16,
    narrow16,
    total16,
    top16,
    _mm512_set1_ps,
    _mm512_set1_epi32,
    _mm512_castsi512_ps,
    _mm512_castps_si512,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_maskz_loadu_ps,
    _mm512_mask_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_div_ps,
    _mm512_fmadd_ps,
    _mm512_sqrt_ps,
    _mm512_roundscale_ps,
    _mm512_max_ps,
    _mm512_min_ps,
    _mm512_cmp_ps_mask,
    _mm512_mask_blend_ps,
    _mm512_and_ps,
    _mm512_or_ps,
    _mm512_xor_ps,
    _mm512_slli_epi32,
    _mm512_srli_epi32,
    _mm512_add_epi32
);
zmm!(
    Zpd,
    f64,
    8,
    __mmask8,
    i64,
    ones8,
    widen8,
    narrow8,
    total8,
    top8,
    _mm512_set1_pd,
    _mm512_set1_epi64,
    _mm512_castsi512_pd,
    _mm512_castpd_si512,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_maskz_loadu_pd,
    _mm512_mask_storeu_pd,
    _mm512_add_pd,
    _mm512_sub_pd,
    _mm512_mul_pd,
    _mm512_div_pd,
    _mm512_fmadd_pd,
    _mm512_sqrt_pd,
    _mm512_roundscale_pd,
    _mm512_max_pd,
    _mm512_min_pd,
    _mm512_cmp_pd_mask,
    _mm512_mask_blend_pd,
    _mm512_and_pd,
    _mm512_or_pd,
    _mm512_xor_pd,
    _mm512_slli_epi64,
    _mm512_srli_epi64,
    _mm512_add_epi64
);
