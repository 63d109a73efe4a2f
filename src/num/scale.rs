//! num: one number far outside the range of any float, with the arithmetic that decisions about gradients need: norms,
//! thresholds, factors. Knows no tensors.

use super::scaled::{ScaledSum, exponent, log2_scaled, mul_pow2, pow2};
use std::cmp::Ordering;

/// `m * 2^e` with |m| in [1, 2), or zero, infinite or NaN, which stand for themselves with e = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The significand.
    pub m: f64,
    /// The exponent of two.
    pub e: i64,
}

impl Scale {
    /// One: what changes nothing.
    pub const ONE: Self = Self { m: 1.0, e: 0 };
    /// Zero.
    pub const ZERO: Self = Self { m: 0.0, e: 0 };

    /// `m * 2^e`
    pub fn new(m: f64, e: i64) -> Self {
        if m == 0.0 || !m.is_finite() {
            return Self { m, e: 0 };
        }
        let k = exponent(m);
        Self { m: mul_pow2(m, -k), e: e + k }
    }

    /// The square root of a sum of squares.
    pub fn root(sum: ScaledSum) -> Self {
        if sum.s == 0.0 || !sum.s.is_finite() {
            return Self::new(sum.s.sqrt(), 0);
        }
        // An even exponent halves exactly.
        let odd = sum.e.rem_euclid(2);
        let k = exponent(sum.s) / 2 * 2;
        Self::new(mul_pow2(sum.s, odd - k).sqrt(), (sum.e - odd + k) / 2)
    }

    /// The nearest double: zero below and infinite above its range.
    pub fn value(self) -> f64 {
        mul_pow2(self.m, self.e)
    }

    /// log2 of the magnitude.
    pub fn log2(self) -> f64 {
        log2_scaled(self.m.abs(), self.e)
    }

    /// The product.
    pub fn times(self, o: Self) -> Self {
        Self::new(self.m * o.m, self.e + o.e)
    }

    /// The quotient.
    pub fn over(self, o: Self) -> Self {
        Self::new(self.m / o.m, self.e - o.e)
    }

    /// The sum.
    pub fn plus(self, o: Self) -> Self {
        if !self.m.is_finite() && !o.m.is_finite() {
            return Self::new(self.m + o.m, 0);
        }
        if self.m == 0.0 || !o.m.is_finite() {
            return o;
        }
        if o.m == 0.0 || !self.m.is_finite() {
            return self;
        }
        let (hi, lo) = if self.e >= o.e { (self, o) } else { (o, self) };
        Self::new(hi.m + lo.m * pow2((lo.e - hi.e).max(-1100)), hi.e)
    }

    /// The same times 2^k.
    pub fn shifted(self, k: i64) -> Self {
        if self.m == 0.0 || !self.m.is_finite() { self } else { Self { m: self.m, e: self.e + k } }
    }

    /// Whether it is above another; both non-negative. False for NaN.
    pub fn above(self, o: Self) -> bool {
        self.order(o) == Some(Ordering::Greater)
    }

    /// The smaller of two non-negative numbers; NaN if this is NaN.
    pub fn at_most(self, o: Self) -> Self {
        if self.above(o) { o } else { self }
    }

    /// The larger of two non-negative numbers; NaN if this is NaN.
    pub fn at_least(self, o: Self) -> Self {
        if o.above(self) { o } else { self }
    }

    fn order(self, o: Self) -> Option<Ordering> {
        let plain = |x: Self| x.m == 0.0 || !x.m.is_finite();
        if plain(self) || plain(o) || self.e == o.e { self.m.partial_cmp(&o.m) } else { Some(self.e.cmp(&o.e)) }
    }
}

impl From<f64> for Scale {
    fn from(x: f64) -> Self {
        Self::new(x, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_far_outside_the_range() {
        let tiny = Scale::new(1.5, -40_000);
        assert_eq!(tiny.times(Scale::new(1.0, 40_000)).value(), 1.5);
        assert_eq!(Scale::from(3.0).over(tiny), Scale::new(1.0, 40_001));
        assert_eq!(tiny.plus(Scale::from(2.0)).value(), 2.0);
        assert_eq!(tiny.plus(tiny), Scale::new(1.5, -39_999));
        assert_eq!((tiny.value(), Scale::new(1.0, 9_000).value()), (0.0, f64::INFINITY));
        assert_eq!(tiny.log2(), 1.5f64.log2() - 40_000.0);
    }

    #[test]
    fn roots() {
        for (s, e) in [(2.0, 0), (3.0, -7), (5e-300, 12_345), (1e300, -1), (1.0, 1)] {
            let root = Scale::root(ScaledSum::new(s, e));
            let square = root.times(root);
            let want = Scale::new(s, e);
            assert!((square.over(want).value() - 1.0).abs() < 1e-15, "{s} {e}");
        }
        assert_eq!(Scale::root(ScaledSum::default()), Scale::ZERO);
    }

    #[test]
    fn order_and_what_is_no_number() {
        let (a, b) = (Scale::new(1.9, -5000), Scale::new(1.0, -4999));
        assert!(b.above(a) && !a.above(b) && a.above(Scale::ZERO) && Scale::from(f64::INFINITY).above(b));
        assert_eq!((a.at_most(b), a.at_least(b)), (a, b));
        let nan = Scale::from(f64::NAN);
        assert!(nan.at_most(a).m.is_nan() && nan.times(a).m.is_nan() && a.plus(nan).m.is_nan());
        let infinite = Scale::from(f64::INFINITY);
        assert!(nan.plus(infinite).m.is_nan() && infinite.plus(nan).m.is_nan());
        assert!(infinite.plus(Scale::from(f64::NEG_INFINITY)).m.is_nan() && infinite.plus(a) == infinite);
        assert!(!nan.above(a) && !a.above(nan));
    }
}
