//! num: accuracy of the elementary functions against mpmath, their special values, and equal bits on every path.

use super::*;
use crate::num::simd::{Isa, Kernel, Path, available, dispatch_on, path};

const NAMES: [&str; 10] = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "erfcx", "mills", "atan"];

/// Largest errors allowed, in ulp: `f32`, `f64`.
const BOUNDS: [(f64, f64); 10] = [
    (1.1, 1.1),
    (1.6, 1.6),
    (1.0, 1.0),
    (1.0, 1.0),
    (1.8, 1.8),
    (1.6, 1.6),
    (1.5, 1.5),
    (6.5, 6.0),
    (4.5, 4.5),
    (1.5, 1.5),
];

struct Run<'a, T> {
    name: &'a str,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Real> Kernel for Run<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        macro_rules! each {
            ($($name:literal => $f:expr),*) => {
                match self.name {
                    $($name => map::<T, I>(self.x, self.y, $f),)*
                    other => panic!("no function {other}"),
                }
            };
        }
        each!("exp" => exp, "expm1" => expm1, "log" => log, "log1p" => log1p, "tanh" => |x| tanh(x).0,
              "sigmoid" => |x| sigmoid(x).0, "erf" => erf, "erfcx" => erfcx, "mills" => mills, "atan" => atan,
              "recip" => recip_one_to_two, "recip_wide" => recip_wide, "log1p_unit" => log1p_unit,
              "exp_neg" => |x| ExpNeg::new(x).value());
    }
}

#[inline(always)]
fn map<T: Real, I: Isa>(x: &[T], y: &mut [T], f: impl Fn(T::V<I>) -> T::V<I>) {
    let lanes = T::V::<I>::LANES;
    for i in (0..x.len()).step_by(lanes) {
        let n = lanes.min(x.len() - i);
        // SAFETY: i + n is at most the length of both slices.
        unsafe { f(T::V::<I>::load_partial(x.as_ptr().add(i), n)).store_partial(y.as_mut_ptr().add(i), n) };
    }
}

fn run_on<T: Real>(path: Path, name: &str, x: &[T]) -> Vec<T> {
    let mut y = vec![T::ZERO; x.len()];
    dispatch_on(path, Run { name, x, y: &mut y });
    y
}

fn run<T: Real>(name: &str, x: &[T]) -> Vec<T> {
    run_on(path(), name, x)
}

/// The distance of two neighbouring doubles at `v`.
fn ulp64(v: f64) -> f64 {
    let bits = v.abs().to_bits();
    f64::from_bits(bits + 1) - f64::from_bits(bits)
}

/// The distance of two neighbouring floats at `v`, in its lower binade.
fn ulp32(v: f64) -> f64 {
    let e = ((v.abs().to_bits() >> 52) as i32 - 1023).max(-126);
    2f64.powi(e - 23)
}

#[test]
fn doubles_against_mpmath() {
    let data = include_str!("testdata/reference.txt");
    for (name, bound) in NAMES.iter().zip(BOUNDS) {
        let (mut worst, mut at, mut count) = (0.0, 0.0, 0);
        for line in data.lines() {
            let f: Vec<&str> = line.split(' ').collect();
            if f[0] != *name {
                continue;
            }
            let [x, want, rest] = [1, 2, 3].map(|i| f[i].parse::<f64>().unwrap());
            let got = run(name, &[x])[0];
            let error = if got == want { rest.abs() } else { ((got - want) / ulp64(want) - rest).abs() };
            count += 1;
            if error.is_nan() || error > worst {
                (worst, at) = (error, x);
            }
        }
        println!("{name:8} f64 {worst:.2} ulp at {at:e} of {count}");
        assert!(count > 100 && worst <= bound.1, "{name}: {worst} ulp at {at:e}");
    }
}

#[test]
fn singles_against_doubles() {
    for (name, bound) in NAMES.iter().zip(BOUNDS) {
        let positive = matches!(*name, "erfcx" | "mills");
        let x: Vec<f32> = (0..u32::MAX / 2003)
            .map(|i| f32::from_bits(i * 2003))
            .filter(|x| x.is_finite() && !(positive && (*x < 0.0 || *x > 1e20)))
            .collect();
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let (got, want) = (run(name, &x), run(name, &wide));
        let (mut worst, mut at) = (0.0, 0.0);
        for ((x, got), want) in x.iter().zip(got).zip(want) {
            if want.is_nan() || (want as f32).is_infinite() {
                assert!(got.is_nan() == want.is_nan() && (want.is_nan() || got == want as f32), "{name}({x}) = {got}");
                continue;
            }
            let error = (f64::from(got) - want).abs() / ulp32(want);
            if error.is_nan() || error > worst {
                (worst, at) = (error, *x);
            }
        }
        println!("{name:8} f32 {worst:.2} ulp at {at:e}");

        assert!(worst <= bound.0, "{name}: {worst} ulp at {at:e}");
    }
}

#[test]
fn reciprocals() {
    for (name, least, greatest) in [("recip", 1.0, 2.0), ("recip_wide", 2f64.powi(-100), 2f64.powi(100))] {
        let ratio: f64 = greatest / least;
        let wide: Vec<f64> = (0..=200_000).map(|i| least * ratio.powf(f64::from(i) / 200_000.0)).collect();
        let x: Vec<f32> = wide.iter().map(|x| *x as f32).collect();
        for (x, y) in x.iter().zip(run(name, &x)) {
            let want = 1.0 / f64::from(*x);
            assert!((f64::from(y) - want).abs() <= 1.0 * ulp32(want), "{name}({x}) = {y}");
        }
        for (x, y) in wide.iter().zip(run(name, &wide)) {
            assert!((y - 1.0 / x).abs() <= ulp64(y), "{name}({x}) = {y}");
        }
    }
}

#[test]
fn exponentials_of_the_negative_reach_zero() {
    let x: Vec<f32> = (0..2000).map(|i| -0.1 * i as f32).chain([-1e30, f32::NEG_INFINITY]).collect();
    assert_eq!(run("exp_neg", &x), run("exp", &x));
    let x: Vec<f64> = (0..20_000).map(|i| -0.1 * f64::from(i)).chain([-1e300, f64::NEG_INFINITY]).collect();
    assert_eq!(run("exp_neg", &x), run("exp", &x));
    let e: Vec<f64> = (0..=1000).map(|i| f64::from(i) / 1000.0).collect();
    for (x, y) in e.iter().zip(run("log1p_unit", &e)) {
        assert!((y - x.ln_1p()).abs() <= 3.0 * ulp64(y), "log1p_unit({x}) = {y}");
    }
}

#[test]
fn special_values() {
    fn check<T: Real>() {
        let x = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1e300, -1e300].map(T::from_f64);
        let half_pi = T::from_f64(std::f64::consts::FRAC_PI_2).to_f64();
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let log_big = run("log", &[T::from_f64(1e300)])[0].to_f64();
        for (name, want) in [
            ("exp", [nan, inf, 0.0, 1.0, inf, 0.0]),
            ("expm1", [nan, inf, -1.0, 0.0, inf, -1.0]),
            ("log", [nan, inf, nan, -inf, log_big, nan]),
            ("log1p", [nan, inf, nan, 0.0, log_big, nan]),
            ("tanh", [nan, 1.0, -1.0, 0.0, 1.0, -1.0]),
            ("sigmoid", [nan, 1.0, 0.0, 0.5, 1.0, 0.0]),
            ("erf", [nan, 1.0, -1.0, 0.0, 1.0, -1.0]),
            ("atan", [nan, half_pi, -half_pi, 0.0, half_pi, -half_pi]),
        ] {
            for ((x, got), want) in x.iter().zip(run(name, &x)).zip(want) {
                let got = got.to_f64();
                assert!(got == want || (got.is_nan() && want.is_nan()), "{} {name}({x}) = {got}", T::NAME);
            }
        }
        assert!(run("mills", &x)[0].to_f64().is_nan() && run("erfcx", &x)[0].to_f64().is_nan());
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn paths_agree() {
    fn check<T: Real>() {
        let x: Vec<T> = (0..6000u64)
            .map(|i| {
                let h = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
                let u = h as f64 / 2f64.powi(52) - 1.0;
                T::from_f64(if i % 3 == 0 { u * 2.0 } else { u * 120.0 / (1.0 + 40.0 * (u * 37.0).sin().abs()) })
            })
            .collect();
        for name in NAMES {
            let first: Vec<u64> = run_on(Path::Scalar, name, &x).iter().map(|y| y.bits()).collect();
            for path in available() {
                let other = run_on(path, name, &x);
                // A NaN's payload is free in IEEE 754, so all NaN count as one.
                let same = first.iter().zip(&other).all(|(a, b)| *a == b.bits() || !b.finite());
                assert!(same, "{name} {} on {path:?}", T::NAME);
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn exponentials_of_unlimited_range() {
    use super::scalar::{exp_parts, normalize};
    // exp(-100000) and exp(-1e9) by mpmath.
    for (x, m, k) in
        [(-1e5, 1.4102110630722473, -144270), (-1e9, 1.0800039527978624, -1442695041), (-1.0, 1.4715177646857693, -2)]
    {
        let (gm, gk) = exp_parts(x, 0.0);
        assert!(gk == k && (gm / m - 1.0).abs() < 1e-15, "exp({x}) = {gm} 2^{gk}");
    }
    assert_eq!(normalize(5e-324, 3), (1.0, -1071));
    assert_eq!(normalize(-3.0, 0), (-1.5, 1));
    assert_eq!(normalize(0.0, 5), (0.0, 0));
}
