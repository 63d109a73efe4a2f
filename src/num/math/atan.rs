//! num: the inverse tangent. Knows no other function.

use super::{parts, poly, recip_one_to_two, tables};
use crate::num::simd::Vector;

/// `atan(x)`, within 1.5 ulp.
#[inline(always)]
pub fn atan<V: Vector>(x: V) -> V {
    atan_with_slope(x).0
}

/// `atan(x)` and `1/(1 + x^2)`.
#[inline(always)]
pub fn atan_with_slope<V: Vector>(x: V) -> (V, V) {
    let (a, one) = (x.abs(), V::c(1.0));
    let outside = one.lt(a);
    let s = V::select(outside, one.div(a), a);
    let z = s.mul(s);
    let p = s.mul(z).fma(poly(z, &tables::ATAN_32, &tables::ATAN_64), s);
    let (hi, lo) = parts::<V>(tables::HALF_PI);
    let y = V::select(outside, hi.sub(p.sub(lo)), p);
    // 1/(1 + x^2) = z/(1 + z) with z = 1/x^2, so that x^2 does not overflow.
    let r = recip_one_to_two(z.add(one));
    (y.with_sign_of(x), V::select(outside, z.mul(r), r))
}
