//! num: the logistic function, tanh and what shares their exponential. Knows no activations.

use super::{ExpNeg, pick, poly, recip_one_to_two, tables};
use crate::num::simd::Vector;

/// The pieces of the logistic function at `z`, all from `e = exp(-|z|)` and `r = 1/(1 + e)`.
#[derive(Clone, Copy)]
pub struct Logistic<V> {
    /// `e 2^OFFSET` (see [`ExpNeg`]).
    pub e_scaled: V,
    /// `exp(-|z|)`
    pub e: V,
    /// `1/(1 + e)`, the logistic function of `|z|`.
    pub r: V,
}

impl<V: Vector> Logistic<V> {
    /// At `z`.
    #[inline(always)]
    pub fn new(z: V) -> Self {
        Self::from_exp(ExpNeg::new(z.abs().neg()))
    }

    /// At `hi + lo`, `lo` small beside `hi`; `lo` must be finite wherever `hi` is not NaN.
    #[inline(always)]
    pub fn of_sum(hi: V, lo: V) -> Self {
        let sign = hi.xor(hi.abs());
        Self::from_exp(ExpNeg::of_sum(hi.abs().neg(), lo.xor(sign).neg()))
    }

    #[inline(always)]
    fn from_exp(x: ExpNeg<V>) -> Self {
        let e_scaled = x.scaled();
        let e = ExpNeg::down(e_scaled);
        Self { e_scaled, e, r: recip_one_to_two(e.add(V::c(1.0))) }
    }

    /// The logistic function of `-|z|`, the small one.
    #[inline(always)]
    pub fn small(self) -> V {
        ExpNeg::down(self.e_scaled.mul(self.r))
    }
}

/// `1/(1 + exp(-x))` and its derivative `e/(1 + e)^2`, `e = exp(-|x|)`.
#[inline(always)]
pub fn sigmoid<V: Vector>(x: V) -> (V, V) {
    let l = Logistic::new(x);
    let q = l.e_scaled.mul(l.r);
    // e/(1 + e) corrected by its remainder e - q (1 + e), where e - q is exact (e/2 <= q <= e).
    let exact = q.neg().fma(l.e, l.e_scaled.sub(q)).fma(l.r, q);
    let small = ExpNeg::down(exact);
    let value = V::select(x.lt(V::zero()), small, V::c(1.0).sub(small));
    (value, ExpNeg::down(exact.mul(l.r)))
}

/// With `s` the logistic function: `s(f)/(s(f) + s(i))`, `s(i)/(s(f) + s(i))`, `s(-f)` and `s(-i)`. Where both `s(f)` and
/// `s(i)` are below the type's range their ratio is not, so neither is formed.
#[inline(always)]
pub fn shares<V: Vector>(f: V, i: V) -> [V; 4] {
    let (zero, one) = (V::zero(), V::c(1.0));
    let (ef, ei) = (ExpNeg::new(f.abs().neg()).value(), ExpNeg::new(i.abs().neg()).value());
    let (df, di) = (ef.add(one), ei.add(one));
    // s(x) = exp(min(x, 0))/(1 + exp(-|x|)); the bound keeps the difference of two infinities a number.
    let bound = V::c(-1e30);
    let (mf, mi) = (bound.max(zero.min(f)), bound.max(zero.min(i)));
    // The difference with what its rounding drops: exp makes an absolute error a relative one.
    let hi = mf.sub(mi);
    let part = hi.sub(mf);
    let lo = mf.sub(hi.sub(part)).sub(mi.add(part));
    let sign = hi.xor(hi.abs());
    let ratio = ExpNeg::of_sum(hi.abs().neg(), lo.xor(sign).neg()).value();
    let f_smaller = hi.lt(zero);
    let (wf, wi) = (di.mul(V::select(f_smaller, ratio, one)), df.mul(V::select(f_smaller, one, ratio)));
    let total = wf.add(wi);
    let rest_f = V::select(f.lt(zero), one, ef).mul(recip_one_to_two(df));
    let rest_i = V::select(i.lt(zero), one, ei).mul(recip_one_to_two(di));
    [wf.div(total), wi.div(total), rest_f, rest_i]
}

/// The pieces of tanh at `|x|`.
#[derive(Clone, Copy)]
pub struct Tanh<V> {
    /// `tanh|x|`
    pub value: V,
    /// `4 E/(1 + E)^2`, `E = exp(-2|x|)`
    pub slope: V,
}

impl<V: Vector> Tanh<V> {
    /// From `exp(-2|x|)`.
    #[inline(always)]
    pub fn from_exp(x: ExpNeg<V>) -> Self {
        let m = x.expm1();
        let r = recip_one_to_two(m.add(V::c(2.0)));
        let slope = x.scaled().mul(r.mul(r)).mul(pick(2f64.powi(-46), 2f64.powi(-94)));
        // a/(2 - a) corrected by its remainder a - q (2 - a), where a - 2 q is exact (a/2 <= q <= a).
        let a = m.abs();
        let q = a.mul(r);
        let value = q.fma(a, V::c(-2.0).fma(q, a)).fma(r, q);
        Self { value, slope }
    }
}

/// `tanh(x)` and its derivative.
#[inline(always)]
pub fn tanh<V: Vector>(x: V) -> (V, V) {
    let t = Tanh::from_exp(ExpNeg::new(x.abs().mul(V::c(-2.0))));
    (t.value.with_sign_of(x), t.slope)
}

/// `x - tanh(x)` and its derivative `tanh(x)^2`.
#[inline(always)]
pub fn tanhshrink<V: Vector>(x: V) -> (V, V) {
    let (y, _) = tanh(x);
    let z = x.mul(x);
    let near = x.mul(z).mul(poly(z, &tables::TANHSHRINK_32, &tables::TANHSHRINK_64));
    (V::select(x.abs().lt(V::c(0.75)), near, x.sub(y)), y.mul(y))
}

/// `x s(z)` and its derivative `s(z) (1 + x z' s(-z))`, `s` the logistic function, `z = z.0 + z.1` of the sign of `x`,
/// `xdz = x z'`; `z` and `xdz` must be finite wherever `x` is not NaN.
#[inline(always)]
pub fn gated<V: Vector>(x: V, z: (V, V), xdz: V) -> (V, V) {
    let l = Logistic::of_sum(z.0, z.1);
    let negative = x.lt(V::zero());
    let small_scaled = l.e_scaled.mul(l.r);
    let small = ExpNeg::down(small_scaled);
    // An infinite x meets s = 0 exactly: keep the product zero.
    let bounded = V::c(-1e30).max(x);
    let value = V::select(negative, ExpNeg::down(small_scaled.mul(bounded)), x.mul(l.r));
    let below = ExpNeg::down(small_scaled.mul(xdz.fma(l.r, V::c(1.0))));
    let above = l.r.mul(xdz.fma(small, V::c(1.0)));
    (value, V::select(negative, below, above))
}
