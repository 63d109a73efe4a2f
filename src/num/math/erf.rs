//! num: the error function, its tail, and the normal distribution. Knows no activations.

use super::{ExpNeg, horner, parts, pick, poly, recip_of_sum, single, tables};
use crate::num::simd::Vector;

/// Mills' ratio `(1 - Phi(t))/phi(t)` for `0 <= t <= 2^90`, within 4.5 ulp; NaN gives NaN.
#[inline(always)]
pub fn mills<V: Vector>(t: V) -> V {
    let r = recip_of_sum(t, V::c(tables::MILLS_SHIFT));
    let q = V::c(-2.0 * tables::MILLS_SHIFT).fma(r, V::c(1.0));
    let g = if single::<V>() { horner(q, &tables::MILLS_32) } else { horner(q, &tables::MILLS_64) };
    g.mul(r)
}

/// `exp(x^2) erfc(x)` for `0 <= x <= 2^89`, within 6.5 ulp.
#[inline(always)]
pub fn erfcx<V: Vector>(x: V) -> V {
    // 2/sqrt(2 pi) = sqrt(2/pi)
    mills(x.mul(V::c(std::f64::consts::SQRT_2))).mul(V::c(2.0 * tables::INV_SQRT_2PI[2]))
}

/// `exp(-x^2)` in pieces, `x^2` to twice the precision; `x` is bounded so that nothing overflows.
#[inline(always)]
fn gauss<V: Vector>(x: V, factor: f64) -> ExpNeg<V> {
    let w = x.mul(x);
    let rest = x.fma(x, w.neg());
    ExpNeg::of_sum(w.mul(V::c(factor)), rest.mul(V::c(factor)))
}

/// The error function, within 1.5 ulp.
#[inline(always)]
pub fn erf<V: Vector>(x: V) -> V {
    erf_with_slope(x).0
}

/// The error function and its derivative `2/sqrt(pi) exp(-x^2)`.
#[inline(always)]
pub fn erf_with_slope<V: Vector>(x: V) -> (V, V) {
    // Beyond the bound exp(-x^2) is an exact zero.
    let a = pick::<V>(12.0, 28.0).min(x.abs());
    let e = gauss(a, -1.0);
    let (hi, lo) = parts::<V>(tables::TWO_OVER_SQRT_PI);
    let z = a.mul(a);
    let near = a.fma(hi, a.mul(z.fma(poly(z, &tables::ERF_32, &tables::ERF_64), lo)));
    let far = V::c(1.0).sub(erfcx(a).mul(e.value()));
    let y = V::select(a.lt(V::c(1.0)), near, far);
    (y.with_sign_of(x), ExpNeg::down(e.scaled().mul(hi)))
}

/// The standard normal distribution at `-t`, `t >= 0`.
#[derive(Clone, Copy)]
pub struct Normal<V> {
    /// `phi(t) 2^OFFSET` (see [`ExpNeg`]).
    pub density_scaled: V,
    /// Mills' ratio `Phi(-t)/phi(t)`.
    pub mills: V,
}

impl<V: Vector> Normal<V> {
    /// A bound beyond which `phi` is an exact zero.
    #[inline(always)]
    pub fn bound() -> V {
        pick(16.0, 40.0)
    }

    /// At `-t`, `0 <= t <=` [`Normal::bound`].
    #[inline(always)]
    pub fn new(t: V) -> Self {
        let (c, _) = parts::<V>(tables::INV_SQRT_2PI);
        Self { density_scaled: gauss(t, -0.5).scaled().mul(c), mills: mills(t) }
    }
}
