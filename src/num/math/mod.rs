//! num: elementary functions over any [`Vector`]. Knows no slices, no activations.
//!
//! Only correctly rounded primitives are used (no table look-ups, no estimate instructions), so every function returns
//! the same bits on every instruction path. Everything is `#[inline(always)]`: the caller's path decides the code.

mod atan;
mod erf;
mod exp;
mod log;
mod recip;
pub mod scalar;
mod sigmoid;
pub mod tables;

pub use atan::{atan, atan_with_slope};
pub use erf::{Normal, erf, erf_with_slope, erfcx, mills};
pub use exp::{ExpNeg, exp, expm1};
pub use log::{log, log1p, log1p_unit};
pub use recip::{recip_of_sum, recip_one_to_two, recip_wide};
pub use sigmoid::{Logistic, Tanh, gated, shares, sigmoid, tanh, tanhshrink};

use super::real::Real;
use super::simd::Vector;

/// True for vectors of `f32`, which take the shorter polynomials.
#[inline(always)]
pub(crate) const fn single<V: Vector>() -> bool {
    V::Elem::MANTISSA_BITS == 23
}

/// The constant `a` for vectors of `f32`, `b` for vectors of `f64`.
#[inline(always)]
pub fn pick<V: Vector>(a: f64, b: f64) -> V {
    V::c(if single::<V>() { a } else { b })
}

/// Polynomial with coefficients `c`, lowest power first, by Horner's rule.
#[inline(always)]
fn horner<V: Vector, const N: usize>(x: V, c: &[f64; N]) -> V {
    let mut s = V::c(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        s = s.fma(x, V::c(c[i]));
    }
    s
}

/// The polynomial of the lane type.
#[inline(always)]
fn poly<V: Vector, const A: usize, const B: usize>(x: V, single_table: &[f64; A], double_table: &[f64; B]) -> V {
    if single::<V>() { horner(x, single_table) } else { horner(x, double_table) }
}

/// A constant given as four floats (see [`tables`]) in two lanes: rounded value and rest.
#[inline(always)]
pub fn parts<V: Vector>(c: [f64; 4]) -> (V, V) {
    (pick(c[0], c[2]), pick(c[1], c[3]))
}

/// A parameter in two lanes: its rounded value and the rest that `f32` drops.
#[inline(always)]
pub fn split<V: Vector>(c: f64) -> (V, V) {
    let hi = V::Elem::from_f64(c);
    (V::splat(hi), V::c(c - hi.to_f64()))
}

/// `(c_hi + c_lo) x` as a rounded product and its rest.
#[inline(always)]
pub fn product<V: Vector>(c: (V, V), x: V) -> (V, V) {
    let hi = c.0.mul(x);
    (hi, c.1.fma(x, c.0.fma(x, hi.neg())))
}

#[cfg(test)]
mod tests;
