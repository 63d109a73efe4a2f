//! num: logarithms. Knows no other function.

use super::{parts, pick, poly, single, tables};
use crate::num::simd::Vector;

/// `log(1 + f)` from `f`, `s = f/(2 + f)` and `a = (atanh(s)/s - 1)`, with the error of `s` damped; `k ln 2` is added.
#[inline(always)]
fn assemble<V: Vector>(f: V, s: V, a: V, k: Option<V>, extra: V) -> V {
    let half = f.mul(f).mul(V::c(0.5));
    let inner = s.mul(half.add(a.add(a)));
    match k {
        None => f.sub(half.sub(inner)),
        Some(k) => {
            let (hi, lo) = parts::<V>(tables::LN2);
            let low = k.fma(lo, inner.add(extra));
            k.fma(hi, f.sub(half.sub(low)))
        }
    }
}

/// `log(1 + e)` for `0 <= e <= 1`, within 2 ulp.
#[inline(always)]
pub fn log1p_unit<V: Vector>(e: V) -> V {
    let h = e.mul(V::c(0.5));
    let s = h.mul(super::recip_one_to_two(h.add(V::c(1.0))));
    let z = s.mul(s);
    assemble(e, s, z.mul(poly(z, &tables::ATANH_WIDE_32, &tables::ATANH_WIDE_64)), None, V::zero())
}

/// Splits a normal positive `x` into `2^k (1 + f)` with `1 + f` in [sqrt(1/2), sqrt 2).
#[inline(always)]
fn split<V: Vector>(x: V) -> (V, V) {
    let (root, one, low, bias) = if single::<V>() {
        (0x3f35_04f3_u64, 0x3f80_0000_u64, 0x007f_ffff_u64, 8_388_608.0 + 127.0)
    } else {
        (0x3fe6_a09e_667f_3bcd, 0x3ff0_0000_0000_0000, 0x000f_ffff_ffff_ffff, 4_503_599_627_370_496.0 + 1023.0)
    };
    let t = x.add_bits(V::splat_bits(one - root));
    let field = if single::<V>() { t.shr::<23>() } else { t.shr::<52>() };
    let k = field.or(pick(8_388_608.0, 4_503_599_627_370_496.0)).sub(V::c(bias));
    let m = t.and(V::splat_bits(low)).add_bits(V::splat_bits(root));
    (k, m.sub(V::c(1.0)))
}

#[inline(always)]
fn log_of<V: Vector>(f: V, k: V, extra: V) -> V {
    let s = f.div(f.add(V::c(2.0)));
    let z = s.mul(s);
    assemble(f, s, z.mul(poly(z, &tables::ATANH_NARROW_32, &tables::ATANH_NARROW_64)), Some(k), extra)
}

/// Answers for 0, infinity, negative numbers and NaN; `y` elsewhere.
#[inline(always)]
fn special<V: Vector>(x: V, y: V) -> V {
    let inf = V::c(f64::INFINITY);
    let y = V::select(x.eq(inf), inf, y);
    let y = V::select(x.eq(V::zero()), inf.neg(), y);
    V::select(V::zero().le(x), y, V::c(f64::NAN))
}

/// Natural logarithm, within 1 ulp; NaN for negative numbers.
#[inline(always)]
pub fn log<V: Vector>(x: V) -> V {
    let (least, up, down) = if single::<V>() { (2f64.powi(-126), 24, -24.0) } else { (2f64.powi(-1022), 53, -53.0) };
    let subnormal = x.lt(V::c(least));
    let (k, f) = split(V::select(subnormal, x.mul(V::c(2f64.powi(up))), x));
    let k = V::select(subnormal, k.add(V::c(down)), k);
    special(x, log_of(f, k, V::zero()))
}

/// `log(1 + x)`, within 2 ulp; NaN below -1.
#[inline(always)]
pub fn log1p<V: Vector>(x: V) -> V {
    let one = V::c(1.0);
    let u = x.add(one);
    // What the sum lost: exact whichever addend is larger.
    let lost = V::select(one.lt(x), one.sub(u.sub(x)), x.sub(u.sub(one)));
    let (k, f) = split(u);
    let small = x.abs().lt(V::c(0.29));
    let extra = V::select(small, V::zero(), lost.div(u));
    let y = log_of(V::select(small, x, f), V::select(small, V::zero(), k), extra);
    V::select(small, y.with_sign_of(x), special(u, y))
}
