//! num: sums and logarithms of numbers far outside the range of any float. Knows no tensors.

use super::real::Real;

/// A non-negative sum `s * 2^e`, kept so that `s` stays in the middle of the range of a double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaledSum {
    /// The significand; NaN and infinity stand for themselves.
    pub s: f64,
    /// The exponent of two.
    pub e: i64,
}

impl Default for ScaledSum {
    fn default() -> Self {
        Self { s: 0.0, e: 0 }
    }
}

impl ScaledSum {
    /// Sums in here keep the exponent they have: sums of the same data then keep the same bits wherever they are cut.
    const NEAR: std::ops::Range<f64> = pow2(-256)..pow2(257);

    /// `s * 2^e`
    pub fn new(s: f64, e: i64) -> Self {
        let mut x = Self { s, e };
        x.normalise();
        x
    }

    /// Whether other sums of non-negative numbers can be added to this one as plain doubles, if the result can too.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.s == 0.0 || Self::NEAR.contains(&self.s)
    }

    /// Adds another sum, aligning the smaller to the larger exponent.
    #[inline]
    pub fn add(&mut self, o: Self) {
        if o.s == 0.0 {
            return;
        }
        if self.s == 0.0 {
            *self = o;
        } else if self.e == o.e {
            self.s += o.s;
            self.normalise();
        } else {
            self.align_and_add(o);
        }
    }

    fn align_and_add(&mut self, o: Self) {
        let (hi, lo) = if self.e >= o.e { (*self, o) } else { (o, *self) };
        self.s = hi.s + lo.s * pow2(lo.e - hi.e);
        self.e = hi.e;
        self.normalise();
    }

    /// Brings `s` near one; exact, as the factor is a power of two.
    #[inline]
    fn normalise(&mut self) {
        if !Self::NEAR.contains(&self.s) {
            self.rescale();
        }
    }

    fn rescale(&mut self) {
        if self.s == 0.0 || !self.s.is_finite() {
            return;
        }
        let k = exponent(self.s);
        // Sums of signed numbers come here too.
        if k.abs() > 256 {
            self.s = mul_pow2(self.s, -k);
            self.e += k;
        }
    }

    /// log2 of the square root of the sum: -inf for zero, NaN and +inf for themselves.
    pub fn log2_sqrt(self) -> f64 {
        log2_scaled(self.s, self.e) * 0.5
    }
}

/// log2 of `s * 2^e` for s >= 0, right for any exponent.
pub fn log2_scaled(s: f64, e: i64) -> f64 {
    if s == 0.0 {
        f64::NEG_INFINITY
    } else if s.is_nan() || s.is_infinite() {
        s
    } else {
        let k = exponent(s);
        // log2 near one loses no digits to the exponent, which is added last.
        log2_near_one(mul_pow2(s, -k)) + (k as f64 + e as f64)
    }
}

/// log2 of m in [1, 2), without fused products, which plain code would call a library for: atanh series on both sides of sqrt 2, so that the bits do not depend on the platform.
fn log2_near_one(m: f64) -> f64 {
    let (m, k) = if m > std::f64::consts::SQRT_2 { (m * 0.5, 1.0) } else { (m, 0.0) };
    let t = (m - 1.0) / (m + 1.0);
    let t2 = t * t;
    // |t| <= 0.1716, so twelve terms leave 1e-20.
    let mut p = 0.0;
    for i in (0..12).rev() {
        p = t2 * p + 1.0 / (2 * i + 1) as f64;
    }
    2.0 * std::f64::consts::LOG2_E * t * p + k
}

/// floor(log2 |x|) of a finite number other than zero.
pub fn exponent(x: f64) -> i64 {
    let e = ((x.to_bits() >> 52) & 0x7ff) as i64;
    if e == 0 {
        // Subnormal: made normal by an exact factor first.
        (((x * pow2(64)).to_bits() >> 52) & 0x7ff) as i64 - 1023 - 64
    } else {
        e - 1023
    }
}

/// 2^k, zero below and infinite above the range of a double.
pub const fn pow2(k: i64) -> f64 {
    if k >= 1024 {
        f64::INFINITY
    } else if k >= -1022 {
        f64::from_bits(((k + 1023) as u64) << 52)
    } else if k >= -1074 {
        f64::from_bits(1 << (k + 1074))
    } else {
        0.0
    }
}

/// `x * 2^k`, exact unless the result leaves the normal range.
pub fn mul_pow2(x: f64, k: i64) -> f64 {
    let half = k.clamp(-4400, 4400);
    let (a, b) = (half.clamp(-1000, 1000), half - half.clamp(-1000, 1000));
    let (b, c) = (b.clamp(-1000, 1000), b - b.clamp(-1000, 1000));
    x * pow2(a) * pow2(b) * pow2(c.clamp(-1074, 1023))
}

/// 2^k in a network's own type; the caller keeps k where it exists.
pub fn pow2_in<T: Real>(k: i64) -> T {
    T::from_f64(pow2(k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_exponents() {
        for k in [-1074i64, -1023, -1022, -60, 0, 1, 1023] {
            assert_eq!(exponent(pow2(k)), k);
            assert_eq!(mul_pow2(pow2(k), -k), 1.0);
        }
        assert_eq!(pow2(-1075), 0.0);
        assert_eq!(mul_pow2(1.5, 1023), 1.5 * pow2(1023));
        assert_eq!(mul_pow2(1.0, 5000), f64::INFINITY);
    }

    #[test]
    fn logs_match_the_platform_where_it_can() {
        for i in 1..2000 {
            let x = f64::from(i) * 0.731;
            assert!((log2_scaled(x, 0) - x.log2()).abs() <= 4e-16 * x.log2().abs().max(1.0), "{x}");
        }
        assert_eq!(log2_scaled(1.0, -20829), -20829.0);
        assert_eq!(log2_scaled(0.0, 5), f64::NEG_INFINITY);
    }

    #[test]
    fn sums_align() {
        let mut s = ScaledSum::default();
        s.add(ScaledSum::new(3.0, -40_000));
        s.add(ScaledSum::new(1.0, -40_000));
        assert_eq!(s.log2_sqrt(), -19_999.0);
        s.add(ScaledSum::new(1.0, 0));
        assert_eq!(s.log2_sqrt(), 0.0);
        s.add(ScaledSum::new(f64::NAN, -9));
        assert!(s.log2_sqrt().is_nan());
    }
}
