//! kernels: the numbers that a cell's reverse is written in: vectors of floats, or single numbers with exponents of
//! their own, for which no gate is closed too far. Knows no cell.

use crate::num::math;
use crate::num::math::scalar::exp_parts;
use crate::num::scale::Scale;
use crate::num::simd::{One, Vector};

/// A function with a derivative.
pub trait Curve: Copy {
    /// The derivative; `#[inline(always)]` in implementations.
    fn slope<V: Vector>(&self, x: V) -> V;
    /// The derivative at one number as `(m, k)`, meaning `m 2^k`, however small.
    fn scaled_slope(&self, x: f64) -> (f64, i64);
}

/// Two logistic functions `s(f)` and `s(i)` and their shares in the sum of both.
#[derive(Clone, Copy)]
pub struct Shares<N> {
    /// `s(f) / (s(f) + s(i))`
    pub keep: N,
    /// `s(i) / (s(f) + s(i))`
    pub take: N,
    /// `1 - s(f)`
    pub rest_f: N,
    /// `1 - s(i)`
    pub rest_i: N,
}

/// Arithmetic of a vector of floats, or of one number without ends of range.
pub trait Number: Copy {
    /// A constant.
    fn c(x: f64) -> Self;
    /// Zero.
    fn zero() -> Self;
    /// `self + b`
    fn add(self, b: Self) -> Self;
    /// `self - b`
    fn sub(self, b: Self) -> Self;
    /// `self * b`
    fn mul(self, b: Self) -> Self;
    /// `self * b + c`
    fn fma(self, b: Self, c: Self) -> Self;
    /// `-self`
    fn neg(self) -> Self;
    /// The logistic function, `1 -` that, and its slope: each with full relative accuracy in saturation, where the
    /// difference of one and the value would be lost.
    fn two_sides(self) -> (Self, Self, Self);
    /// The logistic function and its slope.
    fn sigmoid(self) -> (Self, Self);
    /// The hyperbolic tangent and its slope.
    fn tanh(self) -> (Self, Self);
    /// See [`Shares`].
    fn shares(f: Self, i: Self) -> Shares<Self>;
    /// The derivative of a function here.
    fn slope<C: Curve>(self, of: &C) -> Self;
}

impl<V: Vector> Number for V {
    #[inline(always)]
    fn c(x: f64) -> Self {
        V::c(x)
    }
    #[inline(always)]
    fn zero() -> Self {
        V::zero()
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Vector::add(self, b)
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Vector::sub(self, b)
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Vector::mul(self, b)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Vector::fma(self, b, c)
    }
    #[inline(always)]
    fn neg(self) -> Self {
        Vector::neg(self)
    }
    #[inline(always)]
    fn two_sides(self) -> (Self, Self, Self) {
        let (s, d) = math::sigmoid(self);
        (s, V::select(self.lt(<V as Vector>::zero()), Vector::sub(<V as Vector>::c(1.0), s), d.div(s)), d)
    }
    #[inline(always)]
    fn sigmoid(self) -> (Self, Self) {
        math::sigmoid(self)
    }
    #[inline(always)]
    fn tanh(self) -> (Self, Self) {
        math::tanh(self)
    }
    #[inline(always)]
    fn shares(f: Self, i: Self) -> Shares<Self> {
        let [keep, take, rest_f, rest_i] = math::shares(f, i);
        Shares { keep, take, rest_f, rest_i }
    }
    #[inline(always)]
    fn slope<C: Curve>(self, of: &C) -> Self {
        of.slope(self)
    }
}

/// `exp(-|x|)`
fn exp_neg(x: f64) -> Scale {
    if x.is_infinite() {
        return Scale::ZERO;
    }
    let (m, k) = exp_parts(-x.abs(), 0.0);
    Scale::new(m, k)
}

impl Number for Scale {
    fn c(x: f64) -> Self {
        x.into()
    }
    fn zero() -> Self {
        Self::ZERO
    }
    fn add(self, b: Self) -> Self {
        self.plus(b)
    }
    fn sub(self, b: Self) -> Self {
        self.plus(b.neg())
    }
    fn mul(self, b: Self) -> Self {
        self.times(b)
    }
    fn fma(self, b: Self, c: Self) -> Self {
        self.times(b).plus(c)
    }
    fn neg(self) -> Self {
        Self { m: -self.m, e: self.e }
    }
    fn two_sides(self) -> (Self, Self, Self) {
        let x = self.value();
        let e = exp_neg(x);
        let total = Self::ONE.plus(e);
        let (large, small) = (Self::ONE.over(total), e.over(total));
        let (value, rest) = if x < 0.0 { (small, large) } else { (large, small) };
        (value, rest, small.times(large))
    }
    fn sigmoid(self) -> (Self, Self) {
        let (value, _, slope) = self.two_sides();
        (value, slope)
    }
    fn tanh(self) -> (Self, Self) {
        let x = self.value();
        let e = exp_neg(2.0 * x);
        let total = Self::ONE.plus(e);
        let slope = e.over(total.times(total));
        (math::tanh(One::splat(x)).0.get().into(), slope.times(Self::from(4.0)))
    }
    fn shares(f: Self, i: Self) -> Shares<Self> {
        let ((f, rest_f, _), (i, rest_i, _)) = (f.two_sides(), i.two_sides());
        let total = f.plus(i);
        Shares { keep: f.over(total), take: i.over(total), rest_f, rest_i }
    }
    fn slope<C: Curve>(self, of: &C) -> Self {
        let (m, k) = of.scaled_slope(self.value());
        Self::new(m, k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: Scale, want: f64, log2: f64, what: &str) {
        assert!((got.over(want.into()).value() - 1.0).abs() < 1e-14 || want == 0.0, "{what}: {got:?}, not {want}");
        assert!((got.log2() - log2).abs() <= 1e-13 * (1.0 + log2.abs()), "{what}: 2^{}, not 2^{log2}", got.log2());
    }

    #[test]
    fn both_kinds_of_number_agree_where_both_reach() {
        for i in -60..=60 {
            let x = f64::from(i) * 0.61;
            let (one, far) = (One::splat(x), Scale::from(x));
            let other = f64::from(i * 37 % 23) - 11.0;
            let pairs = |a: [One; 3], b: [Scale; 3], what: &str| {
                for (a, b) in a.into_iter().zip(b) {
                    near(b, a.get(), a.get().abs().log2(), &format!("{what} at {x}"));
                }
            };
            let (a, b) = (one.two_sides(), far.two_sides());
            pairs([a.0, a.1, a.2], [b.0, b.1, b.2], "two sides");
            let ((a, da), (b, db)) = (Number::tanh(one), far.tanh());
            if i != 0 {
                pairs([a, da, a], [b, db, b], "tanh");
            }
            let (a, b) = (Number::shares(one, One::splat(other)), Number::shares(far, other.into()));
            pairs([a.keep, a.take, a.rest_f], [b.keep, b.take, b.rest_f], "shares");
            pairs([a.rest_i; 3], [b.rest_i; 3], "shares");
        }
    }

    #[test]
    fn nothing_ends_where_a_double_does() {
        let log2_e = std::f64::consts::LOG2_E;
        for x in [800.0, 12_345.0, 1e9] {
            let (value, rest, slope) = Scale::from(-x).two_sides();
            assert_eq!(rest, Scale::ONE);
            near(value, 0.0, -x * log2_e, "sigmoid");
            near(slope, 0.0, -x * log2_e, "its slope");
            near(Scale::from(x).tanh().1, 0.0, 2.0 - 2.0 * x * log2_e, "slope of tanh");
            let s = Number::shares(Scale::from(-x), Scale::from(-x - 3.0));
            near(s.keep, 1.0 / (1.0 + (-3.0f64).exp()), -(1.0 + (-3.0f64).exp()).log2(), "share");
        }
        assert_eq!(Scale::from(f64::NEG_INFINITY).two_sides().0, Scale::ZERO);
        assert!(Scale::from(f64::NAN).two_sides().0.m.is_nan());
    }
}
