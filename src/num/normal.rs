//! num: uniform numbers made normal, by Box and Muller's transform on vectors. Knows no generator.
//!
//! With u uniform on (0, 1) and t uniform on a turn, (r cos t, r sin t) with r = sqrt(-2 ln u) are two independent
//! standard normal numbers (Box, Muller 1958). Only an eighth of a turn to either side of an axis is computed; two
//! random bits reflect it into the four quadrants, which keeps the density uniform.

use super::real::Real;
use super::simd::{Isa, Vector};

/// What `N` pairs are made of.
pub struct Inputs<T, const N: usize> {
    /// u in (0, 1): right where it is small.
    pub radius: [T; N],
    /// 1 - u: right where that is small.
    pub rest: [T; N],
    /// Uniform on (-1/2, 1/2), in units of a quarter turn.
    pub angle: [T; N],
    /// Its sign reflects the pair in the second axis.
    pub flip: [T; N],
    /// Its sign exchanges the two numbers.
    pub swap: [T; N],
}

impl<T: Real, const N: usize> Default for Inputs<T, N> {
    #[inline(always)]
    fn default() -> Self {
        let z = [T::ZERO; N];
        Self { radius: z, rest: z, angle: z, flip: z, swap: z }
    }
}

/// (ln(1 + f) - f + f^2/2) / f^3 on [sqrt(1/2) - 1, sqrt(2) - 1], highest power first: Chebyshev interpolation in
/// 160-bit arithmetic, largest error relative to f 3.2e-8.
const LOG_SINGLE: [f64; 8] = [
    -0.0790274377239,
    0.126223198492,
    -0.129981837637,
    0.142144959239,
    -0.166412814631,
    0.200010450942,
    -0.250003064226,
    0.333333307282,
];

/// pi/2, and its powers' Taylor factors below.
const Q: f64 = std::f64::consts::FRAC_PI_2;

/// `Q^(start + 2k) / (start + 2k)!` with alternating signs, lowest power first.
const fn taylor<const N: usize>(start: usize) -> [f64; N] {
    let mut out = [0.0; N];
    let mut term = if start == 0 { 1.0 } else { Q };
    let mut k = 0;
    while k < N {
        out[k] = if k % 2 == 0 { term } else { -term };
        let p = (start + 2 * k) as f64;
        term = term * Q * Q / ((p + 1.0) * (p + 2.0));
        k += 1;
    }
    out
}

// Numbers of terms: the first one left out is below 2e-9 (single) and 2e-18 (double) for angles up to an eighth turn.
const SIN_SINGLE: [f64; 5] = taylor(1);
const COS_SINGLE: [f64; 6] = taylor(0);
const SIN_DOUBLE: [f64; 9] = taylor(1);
const COS_DOUBLE: [f64; 9] = taylor(0);

/// Polynomial in `x`, lowest power first in `c`.
#[inline(always)]
fn poly<V: Vector>(x: V, c: &[f64]) -> V {
    let (last, rest) = c.split_last().expect("a polynomial has a term");
    rest.iter().rev().fold(V::c(*last), |sum, &a| sum.fma(x, V::c(a)))
}

/// `-2 ln u`, from u and 1 - u.
#[inline(always)]
fn minus_two_log<V: Vector>(u: V, rest: V) -> V {
    let single = V::LANES == 16;
    let one = V::c(1.0);
    // Shifting the pattern by (1 - sqrt(1/2)) makes the exponent field count the binades [sqrt(1/2), sqrt(2)) 2^e.
    let root = if single { V::splat_bits(0x3f35_04f3) } else { V::splat_bits(0x3fe6_a09e_667f_3bcd) };
    let shift = if single {
        V::splat_bits(u64::from(0x3f80_0000u32 - 0x3f35_04f3))
    } else {
        V::splat_bits(0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd)
    };
    let t = u.add_bits(shift);
    // A small integer n in the low bits of 2^23 (2^52) is the number 2^23 + n.
    let (field, magic, mantissa) = if single {
        (t.shr::<23>(), V::splat_bits(0x4b00_0000), V::splat_bits(0x007f_ffff))
    } else {
        (t.shr::<52>(), V::splat_bits(0x4330_0000_0000_0000), V::splat_bits(0x000f_ffff_ffff_ffff))
    };
    let bias = if single { 8_388_608.0 + 127.0 } else { 4_503_599_627_370_496.0 + 1023.0 };
    let e = field.or(magic).sub(V::c(bias));
    let m = t.and(mantissa).add_bits(root);
    // Near one, u itself has lost what 1 - u still knows.
    let f = V::select(e.eq(V::zero()), rest.neg(), m.sub(one));
    let log1p = if single {
        let p = LOG_SINGLE[1..].iter().fold(V::c(LOG_SINGLE[0]), |p, &a| p.fma(f, V::c(a)));
        let f2 = f.mul(f);
        f2.fma(p.fma(f, V::c(-0.5)), f)
    } else {
        // ln(1 + f) = 2 artanh(f / (2 + f)); |s| < 0.172, so 12 terms leave 1e-19.
        let s = f.div(f.add(V::c(2.0)));
        let s2 = s.mul(s);
        let series = (0..12).rev().fold(V::zero(), |p, k| p.fma(s2, V::c(2.0 / f64::from(2 * k + 1))));
        s.mul(series)
    };
    e.fma(V::c(std::f64::consts::LN_2), log1p).mul(V::c(-2.0))
}

/// Turns `N` inputs (a multiple of the lanes) into `N` normal numbers in each of `first` and `second`.
#[inline(always)]
pub fn transform<T: Real, I: Isa, const N: usize>(p: &Inputs<T, N>, first: &mut [T], second: &mut [T]) {
    assert!(first.len() == N && second.len() == N && N.is_multiple_of(T::V::<I>::LANES));
    let single = T::MANTISSA_BITS == 23;
    for i in (0..N).step_by(T::V::<I>::LANES) {
        // SAFETY: i + LANES <= N, the length of every array and slice here.
        let [u, rest, x, flip, swap] =
            [&p.radius, &p.rest, &p.angle, &p.flip, &p.swap].map(|a| unsafe { T::V::<I>::load(a.as_ptr().add(i)) });
        let r = minus_two_log(u, rest).sqrt();
        let x2 = x.mul(x);
        let s = x.mul(if single { poly(x2, &SIN_SINGLE) } else { poly(x2, &SIN_DOUBLE) });
        let c = if single { poly(x2, &COS_SINGLE) } else { poly(x2, &COS_DOUBLE) };
        let c = c.with_sign_of(flip);
        let exchanged = swap.lt(T::V::<I>::zero());
        let (a, b) = (T::V::<I>::select(exchanged, s, c), T::V::<I>::select(exchanged, c, s));
        // SAFETY: as for the loads.
        unsafe {
            r.mul(a).store(first.as_mut_ptr().add(i));
            r.mul(b).store(second.as_mut_ptr().add(i));
        }
    }
}
