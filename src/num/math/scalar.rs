//! num: the vector functions for one double, and exponentials of unlimited range. Knows no activations.

use super::exp::expm1_core;
use super::tables::LN2;
use crate::num::simd::{One, Vector};

macro_rules! one {
    ($($(#[$doc:meta])* $name:ident = $e:expr;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        pub fn $name(x: f64) -> f64 {
            let f: fn(One) -> One = $e;
            f(One::splat(x)).get()
        })*
    };
}

one! {
    /// `exp(x)`
    exp = |x| super::exp(x);
    /// `exp(x) - 1`
    expm1 = |x| super::expm1(x);
    /// Natural logarithm.
    log = |x| super::log(x);
    /// `log(1 + x)`
    log1p = |x| super::log1p(x);
    /// Hyperbolic tangent.
    tanh = |x| super::tanh(x).0;
    /// `1/(1 + exp(-x))`
    sigmoid = |x| super::sigmoid(x).0;
    /// The error function.
    erf = |x| super::erf(x);
    /// `exp(x^2) erfc(x)` for `x >= 0`.
    erfcx = |x| super::erfcx(x);
    /// Mills' ratio for `x >= 0`.
    mills = |x| super::mills(x);
    /// Inverse tangent.
    atan = |x| super::atan(x);
}

/// The least argument of [`exp_parts`]; smaller ones count as this one.
pub const LEAST: f64 = -2_251_799_813_685_248.0;

/// `exp(hi + lo)` as `(m, k)`, meaning `m 2^k`, `m` in [1, 2), for `LEAST <= hi <= 0`: never zero, relative error 1e-15.
#[inline(always)]
pub fn exp_parts(hi: f64, lo: f64) -> (f64, i64) {
    let x = if hi < LEAST { LEAST } else { hi };
    let n = (x * std::f64::consts::LOG2_E).round_ties_even();
    // n has at most 52 bits, so both products are exact enough: the first is rounded with the result near 1.
    let r = (-n).mul_add(LN2[3], (-n).mul_add(LN2[2], x)) + lo;
    normalize(1.0 + expm1_core(One::splat(r)).get(), n as i64)
}

/// `m 2^k` with the power of two of `m` moved to `k`: `|m|` in [1, 2), or zero, infinity or NaN as they are, with `k` 0.
#[inline(always)]
pub fn normalize(m: f64, k: i64) -> (f64, i64) {
    if m == 0.0 || !m.is_finite() {
        return (m, 0);
    }
    // Subnormal numbers are first made normal.
    let (m, k) = if m.abs() < f64::MIN_POSITIVE { (m * 2f64.powi(64), k - 64) } else { (m, k) };
    let bits = m.to_bits();
    let e = ((bits >> 52) & 0x7ff) as i64 - 1023;
    (f64::from_bits((bits & !(0x7ff << 52)) | (1023 << 52)), k + e)
}
