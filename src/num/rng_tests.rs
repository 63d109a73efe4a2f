//! num: the generator against published vectors, its laws against exact distribution functions.

use super::*;
use crate::num::math::scalar::{exp, log};
use crate::num::simd::{available, dispatch_on};

const KEY: Key = Key { seed: 0x0123_4567_89ab_cdef, tensor: 1, layer: 7 };

fn take<T: Real>(n: usize, key: Key, stream: u32, offset: u64, law: Law) -> Vec<T> {
    let mut v = vec![T::ZERO; n];
    fill(&mut v, key, stream, offset, law, T::ONE, T::ZERO);
    v
}

/// P(Z <= z), by the series around zero and the continued fraction of the tail.
fn cdf(z: f64) -> f64 {
    if z.abs() < 3.0 {
        let (mut term, mut sum, mut k) = (z, z, 1.0);
        while term.abs() > 1e-17 {
            term *= z * z / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        return 0.5 + sum * exp(-0.5 * z * z) / (2.0 * std::f64::consts::PI).sqrt();
    }
    let t = z.abs();
    let fraction = (1..=200).rev().fold(t, |f, k| t + f64::from(k) / f);
    let tail = exp(-0.5 * t * t) / (2.0 * std::f64::consts::PI).sqrt() / fraction;
    if z < 0.0 { tail } else { 1.0 - tail }
}

#[test]
fn philox_known_answers() {
    // Random123's kat_vectors for philox4x32-10.
    let f = u32::MAX;
    for (counter, key, expected) in [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([f; 4], [f; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ] {
        assert_eq!(philox(counter, key), expected);
    }
}

#[test]
fn words_place_every_part_of_the_key() {
    let w = words(KEY, 5, (3 << 32) / 16 + 2);
    for i in 0..BLOCKS {
        let b = philox([32 + i as u32, 7, 1, 3 | 5 << 12], [0x89ab_cdef, 0x0123_4567]);
        assert_eq!(w.map(|word| word[i]), b);
    }
}

#[test]
fn paths_agree_and_parts_make_the_whole() {
    fn check<T: Real>() {
        for law in [Law::Unit, Law::Signed, Law::Normal] {
            let whole: Vec<T> = take(1000, KEY, 3, 0, law);
            for path in available() {
                let mut out = vec![T::ZERO; 1000];
                let (scale, shift) = (T::ONE, T::ZERO);
                dispatch_on(path, Fill { out: &mut out, key: KEY, stream: 3, offset: 0, law, scale, shift });
                assert!(whole.iter().zip(&out).all(|(a, b)| a.bits() == b.bits()), "{law:?} {}", path.name());
            }
            let mut at = 0;
            for n in [1usize, 2, 61, 64, 63, 5, 128, 200, 476] {
                let part: Vec<T> = take(n, KEY, 3, at as u64, law);
                assert_eq!(part, whole[at..at + n]);
                at += n;
            }
            assert_eq!(at, 1000);
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn every_part_of_the_key_matters() {
    let base: Vec<f32> = take(64, KEY, 0, 0, Law::Normal);
    for (key, stream, offset) in [
        (Key { seed: KEY.seed + 1, ..KEY }, 0, 0),
        (Key { seed: KEY.seed + (1 << 32), ..KEY }, 0, 0),
        (Key { tensor: 2, ..KEY }, 0, 0),
        (Key { layer: 8, ..KEY }, 0, 0),
        (KEY, 1, 0),
        (KEY, 0, 1 << 35),
    ] {
        let other: Vec<f32> = take(64, key, stream, offset, Law::Normal);
        assert!(base.iter().zip(&other).filter(|(a, b)| a == b).count() < 3);
    }
}

/// Largest distance between the empirical and the exact distribution function, times sqrt(n).
fn kolmogorov(mut v: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    v.sort_by(f64::total_cmp);
    let n = v.len() as f64;
    let d = |(i, &x): (usize, &f64)| {
        let f = cdf(x);
        (f - i as f64 / n).abs().max(((i + 1) as f64 / n - f).abs())
    };
    v.iter().enumerate().map(d).fold(0.0, f64::max) * n.sqrt()
}

#[test]
fn laws_follow_their_distribution_functions() {
    fn check<T: Real>(seed: u64) {
        let key = Key { seed, ..KEY };
        let get = |law| take::<T>(400_000, key, 0, 0, law).iter().map(|x| x.to_f64()).collect::<Vec<_>>();
        // Kolmogorov's 99.9 % point is 1.95.
        assert!(kolmogorov(get(Law::Unit), |x| x) < 1.95);
        assert!(kolmogorov(get(Law::Signed), |x| 0.5 + 0.5 * x) < 1.95);
        let z = get(Law::Normal);
        assert!(kolmogorov(z.clone(), cdf) < 1.95);
        let n = z.len() as f64;
        let moment = |k: i32| z.iter().map(|x| x.powi(k)).sum::<f64>() / n;
        // Four standard errors: Var z^k = (2k-1)!! - ((k-1)!!)^2.
        for (k, mean, var) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10_395.0 - 225.0f64)]
        {
            assert!((moment(k) - mean).abs() < 4.0 * (var / n).sqrt(), "moment {k}: {}", moment(k));
        }
        // Neighbours, and the two of a pair (16 apart), are uncorrelated, as are their squares.
        for lag in [1, 16, 32, 64] {
            let c: f64 = z.windows(lag + 1).map(|w| w[0] * w[lag]).sum::<f64>() / n;
            let c2: f64 = z.windows(lag + 1).map(|w| (w[0] * w[0] - 1.0) * (w[lag] * w[lag] - 1.0)).sum::<f64>() / n;
            assert!(c.abs() < 4.0 / n.sqrt() && c2.abs() < 8.0 / n.sqrt(), "lag {lag}: {c} {c2}");
        }
        let u = get(Law::Unit);
        assert!(u.iter().all(|&x| x > 0.0 && x < 1.0));
    }
    check::<f32>(11);
    check::<f64>(12);
}

#[test]
fn tails_have_their_probability() {
    fn check<T: Real>() {
        let n = 1 << 24;
        let mut counts = [0u32; 4];
        let mut buf = vec![T::ZERO; 1 << 16];
        for part in 0..n >> 16 {
            let at = (part << 16) as u64;
            fill(&mut buf, KEY, 9, at, Law::Normal, T::ONE, T::ZERO);
            for x in &buf {
                let a = x.to_f64().abs();
                for (c, t) in counts.iter_mut().zip([2.0, 3.0, 4.0, 5.0]) {
                    *c += u32::from(a > t);
                }
            }
        }
        for (c, t) in counts.into_iter().zip([2.0, 3.0, 4.0, 5.0]) {
            let expected = 2.0 * cdf(-t) * n as f64;
            assert!((f64::from(c) - expected).abs() < 4.0 * expected.sqrt(), "{t}: {c} of {expected}");
        }
    }
    check::<f32>();
    check::<f64>();
}

struct Pairs<'a, T>(&'a normal::Inputs<T, 16>);
impl<T: Real> Kernel for Pairs<'_, T> {
    type Out = Vec<(f64, f64)>;
    #[inline(always)]
    fn run<I: Isa>(self) -> Self::Out {
        let (mut a, mut b) = ([T::ZERO; 16], [T::ZERO; 16]);
        normal::transform::<T, I, 16>(self.0, &mut a, &mut b);
        a.iter().zip(&b).map(|(x, y)| (x.to_f64(), y.to_f64())).collect()
    }
}

#[test]
fn transform_is_accurate_at_both_ends() {
    fn check<T: Real>(eps: f64) {
        let mut p = normal::Inputs::<T, 16>::default();
        for i in 0..16 {
            // u from 2^-33 (2^-65) up to 1 minus that.
            let tiny = if eps > 1e-10 { 2f64.powi(-33) } else { 2f64.powi(-65) };
            let small = tiny.powf(1.0 - f64::from(i as u32 / 2) / 7.2);
            let (u, rest) = if i % 2 == 0 { (small, 1.0 - small) } else { (1.0 - small, small) };
            p.radius[i] = T::from_f64(u);
            p.rest[i] = T::from_f64(rest);
            p.angle[i] = T::from_f64(i as f64 / 15.0 - 0.5);
            p.flip[i] = T::from_f64(if i % 3 == 0 { -1.0 } else { 1.0 });
            p.swap[i] = T::from_f64(if i % 5 == 0 { -1.0 } else { 1.0 });
        }
        for (i, (a, b)) in dispatch(Pairs(&p)).into_iter().enumerate() {
            let (u, rest) = (p.radius[i].to_f64(), p.rest[i].to_f64());
            let ln = if u < 0.6 { log(u) } else { crate::num::math::scalar::log1p(-rest) };
            let r = (-2.0 * ln).sqrt();
            assert!((a.hypot(b) / r - 1.0).abs() < 4.0 * eps, "radius {i}: {} {r}", a.hypot(b));
            let t = p.angle[i].to_f64() * std::f64::consts::FRAC_PI_2;
            let c = t.cos() * if i % 3 == 0 { -1.0 } else { 1.0 };
            let (x, y) = if i % 5 == 0 { (t.sin(), c) } else { (c, t.sin()) };
            assert!((a - r * x).abs() < 4.0 * eps * r && (b - r * y).abs() < 4.0 * eps * r, "pair {i}");
        }
        let reach = dispatch(Pairs(&p))[0];
        assert!(reach.0.hypot(reach.1) > if eps > 1e-10 { 6.7 } else { 9.4 });
    }
    check::<f32>(6e-8);
    check::<f64>(1.2e-16);
}

#[test]
fn scale_and_shift_round_once() {
    let z: Vec<f32> = take(200, KEY, 0, 0, Law::Normal);
    let mut v = vec![0f32; 200];
    fill(&mut v, KEY, 0, 0, Law::Normal, 0.3, 0.7);
    assert!(z.iter().zip(&v).all(|(z, v)| z.mul_add(0.3, 0.7) == *v));
}
