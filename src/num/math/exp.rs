//! num: the exponential family. Knows no other function.

use super::{parts, pick, poly, single, tables};
use crate::num::simd::Vector;

const LOG2_E: f64 = std::f64::consts::LOG2_E;

/// `exp(r) - 1` for `|r| <= ln 2 / 2`.
#[inline(always)]
pub(super) fn expm1_core<V: Vector>(r: V) -> V {
    r.mul(r).fma(poly(r, &tables::EXPM1_32, &tables::EXPM1_64), r)
}

/// `x - n ln 2`, with ln 2 in two parts.
#[inline(always)]
fn reduce<V: Vector>(x: V, n: V) -> V {
    let (hi, lo) = parts::<V>(tables::LN2);
    let n = n.neg();
    n.fma(lo, n.fma(hi, x))
}

/// Shifts the low bits of a magic sum into the exponent field.
#[inline(always)]
fn to_exponent<V: Vector>(sum: V) -> V {
    if single::<V>() { sum.shl::<23>() } else { sum.shl::<52>() }
}

/// A number whose ulp is one: adding it leaves the nearest integer in the low bits. `bias` is added to that integer.
#[inline(always)]
fn magic<V: Vector>(bias: f64) -> V {
    pick(12_582_912.0 + bias, 6_755_399_441_055_744.0 + bias)
}

/// `exp(x)` of a non-positive `x` in pieces: `(1 + p) s 2^-OFFSET`.
///
/// The power of two is kept `OFFSET` binary places too large, so that a result that is subnormal, or a product with one,
/// can be rounded once at the end ([`ExpNeg::down`]). Where the result is far below the smallest subnormal, `s` is
/// exactly zero, which spares processors the slow handling of underflow.
#[derive(Clone, Copy)]
pub struct ExpNeg<V> {
    /// `exp(r) - 1` of the reduced argument.
    pub p: V,
    /// `2^(n + OFFSET)`, or zero.
    pub s: V,
}

impl<V: Vector> ExpNeg<V> {
    /// Binary places that `s` is too large by.
    pub const OFFSET: i32 = if single::<V>() { 48 } else { 96 };
    const BIAS: i32 = if single::<V>() { 127 } else { 1023 };

    /// Of `x <= 0`.
    #[inline(always)]
    pub fn new(x: V) -> Self {
        let (r, s) = Self::split(x);
        Self { p: expm1_core(r), s }
    }

    /// Of `hi + lo <= 0`, `lo` small beside `hi`; `lo` must be finite wherever `hi` is not NaN.
    #[inline(always)]
    pub fn of_sum(hi: V, lo: V) -> Self {
        let (r, s) = Self::split(hi);
        Self { p: expm1_core(r.add(lo)), s }
    }

    /// The reduced argument and the power of two.
    #[inline(always)]
    fn split(x: V) -> (V, V) {
        // At the limit the exponent field of s is 0, so s = +0.
        let limit = -f64::from(Self::BIAS + Self::OFFSET) * std::f64::consts::LN_2;
        let x = V::c(limit).max(x);
        let m = magic::<V>(f64::from(Self::BIAS + Self::OFFSET));
        let sum = x.fma(V::c(LOG2_E), m);
        (reduce(x, sum.sub(m)), to_exponent(sum))
    }

    /// `exp(x) 2^OFFSET`
    #[inline(always)]
    pub fn scaled(self) -> V {
        self.s.fma(self.p, self.s)
    }

    /// `v 2^-OFFSET`, the only rounding that a subnormal result sees.
    #[inline(always)]
    pub fn down(v: V) -> V {
        v.mul(Self::unit_down())
    }

    /// `2^-OFFSET` in all lanes.
    #[inline(always)]
    pub fn unit_down() -> V {
        pick(2f64.powi(-48), 2f64.powi(-96))
    }

    /// `2^OFFSET` in all lanes.
    #[inline(always)]
    pub fn unit_up() -> V {
        pick(2f64.powi(48), 2f64.powi(96))
    }

    /// `exp(x)`
    #[inline(always)]
    pub fn value(self) -> V {
        Self::down(self.scaled())
    }

    /// `exp(x) - 1`
    #[inline(always)]
    pub fn expm1(self) -> V {
        let s = Self::down(self.s);
        s.fma(self.p, s.sub(V::c(1.0)))
    }
}

/// `exp(x)`, within 1.1 ulp over the whole range, subnormal results included.
#[inline(always)]
pub fn exp<V: Vector>(x: V) -> V {
    let (low, high) = if single::<V>() { (-110.0, 90.0) } else { (-760.0, 712.0) };
    let x = V::c(high).min(V::c(low).max(x));
    let (bias, offset) = if single::<V>() { (127.0, 48u64) } else { (1023.0, 96) };
    let m = magic::<V>(bias);
    let sum = x.fma(V::c(LOG2_E), m);
    let p = expm1_core(reduce(x, sum.sub(m)));
    // Powers of two outside the normal range are reached in two exact factors.
    let negative = x.lt(V::zero());
    let shift = V::select(negative, V::splat_bits(offset), V::splat_bits(offset.wrapping_neg()));
    let s = to_exponent(sum.add_bits(shift));
    let rest = V::select(negative, ExpNeg::<V>::unit_down(), ExpNeg::<V>::unit_up());
    s.fma(p, s).mul(rest)
}

/// `exp(x) - 1`, within 2 ulp, small `x` included.
#[inline(always)]
pub fn expm1<V: Vector>(x: V) -> V {
    let (low, high) = if single::<V>() { (-30.0, 88.9) } else { (-50.0, 709.9) };
    let y = V::c(high).min(V::c(low).max(x));
    let m = magic::<V>(if single::<V>() { 126.0 } else { 1022.0 });
    let sum = y.fma(V::c(LOG2_E), m);
    let p = expm1_core(reduce(y, sum.sub(m)));
    // Half of 2^n: 2^n itself overflows before the result does.
    let s = to_exponent(sum);
    let half = s.fma(p, s.sub(V::c(0.5)));
    V::select(x.abs().lt(V::c(0.34)), p.with_sign_of(x), half.add(half))
}
