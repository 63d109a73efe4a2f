//! num: reciprocals by Newton's iteration, cheaper than the division instruction of wide registers. Knows no functions.

use super::{single, tables};
use crate::num::simd::Vector;

/// `1/d` for `1 <= d <= 2`, within 1 ulp; NaN gives NaN.
#[inline(always)]
pub fn recip_one_to_two<V: Vector>(d: V) -> V {
    let c = tables::RECIP;
    let y = V::c(c[3]).fma(d, V::c(c[2])).fma(d, V::c(c[1])).fma(d, V::c(c[0]));
    polish(d, y, !single::<V>())
}

/// `1/d` for `2^-100 <= d <= 2^100`, within 1 ulp; NaN gives NaN.
#[inline(always)]
pub fn recip_wide<V: Vector>(d: V) -> V {
    let y = start(d);
    cubic(d, y)
}

/// `1/(a + b)` for positive `a` and `b`, with a sum in the range of [`recip_wide`]: the sum's rounding is undone.
#[inline(always)]
pub fn recip_of_sum<V: Vector>(a: V, b: V) -> V {
    let y = start(a.add(b));
    let e = y.neg().fma(a, y.neg().fma(b, V::c(1.0)));
    e.fma(e, e).fma(y, y)
}

/// `1/d` within 1/500 (`f32`) or 1e-8 (`f64`).
#[inline(always)]
fn start<V: Vector>(d: V) -> V {
    // The bits of 1/d are nearly a constant minus the bits of d: 12 % error at most, then cubic steps.
    let magic = if single::<V>() { 0x7ef3_11c3_u64 } else { 0x7fde_6238_22fc_16e6 };
    let ones = V::splat_bits(u64::MAX);
    let y = cubic(d, d.xor(ones).add_bits(V::splat_bits(magic + 1)));
    if single::<V>() { y } else { cubic(d, y) }
}

/// From error 1/577: one cubic step for `f32`, one more of Newton's for `f64`.
#[inline(always)]
fn polish<V: Vector>(d: V, y: V, again: bool) -> V {
    let y = cubic(d, y);
    if again { d.neg().fma(y, V::c(1.0)).fma(y, y) } else { y }
}

/// `y (1 + e + e^2)` with `e = 1 - d y`: cubes the relative error.
#[inline(always)]
fn cubic<V: Vector>(d: V, y: V) -> V {
    let e = d.neg().fma(y, V::c(1.0));
    e.fma(e, e).fma(y, y)
}
