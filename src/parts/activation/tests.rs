//! parts: every activation against mpmath and PyTorch, at special values, and its rows on every path.

use super::*;
use crate::kernels::pointwise::forward_in_place_on;
use crate::num::simd::{Path, available};

fn act(name: &str, params: &str) -> Act {
    let params: Vec<(String, f64)> =
        params.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_string(), v.parse().unwrap())).collect();
    Act::parse(name, &params).unwrap()
}

/// A line of the reference file.
struct Point {
    act: Act,
    x: f64,
    value: f64,
    slope: (f64, i64),
}

fn points() -> Vec<Point> {
    let parse = |line: &str| {
        let f: Vec<&str> = line.split(' ').collect();
        let n = |i: usize| f[i].parse::<f64>().unwrap();
        Point { act: act(f[0], f[1]), x: n(2), value: n(3), slope: (n(4), f[5].parse().unwrap()) }
    };
    include_str!("testdata/reference.txt").lines().map(parse).collect()
}

/// `m 2^k` where a double holds it.
fn join((m, k): (f64, i64)) -> f64 {
    let k = k.clamp(-2000, 2000) as i32;
    m * 2f64.powi(k / 2) * 2f64.powi(k - k / 2)
}

/// Error against `want`, in units of the relative precision `eps`; results below `least` count as if they were there.
fn error(got: f64, want: f64, eps: f64, least: f64) -> f64 {
    if got == want { 0.0 } else { (got - want).abs() / (want.abs().max(least) * eps) }
}

#[test]
fn the_reference_covers_the_catalogue() {
    for info in Act::infos() {
        assert!(points().iter().any(|p| p.act.info() == *info), "no reference values for {}", info.name);
    }
}

#[test]
fn doubles_against_mpmath() {
    let mut worst: Vec<(&str, f64, f64, f64)> = Vec::new();
    for p in points() {
        let name = p.act.info().name;
        let (value, slope) = p.act.value_f64(p.x);
        let e = error(value, p.value, f64::EPSILON, f64::MIN_POSITIVE);
        let d = error(slope, join(p.slope), f64::EPSILON, f64::MIN_POSITIVE);
        let (d, sure) =
            if near_root(name, p.x) { ((slope - join(p.slope)).abs() / f64::EPSILON, 1e-3) } else { (d, 1.0) };
        let (m, k) = p.act.scaled_derivative(p.x);
        let s = sure
            * if p.slope.0 == 0.0 {
                assert_eq!((m, k), (0.0, 0), "{name}'({}) is exactly zero", p.x);
                0.0
            } else {
                assert!((1.0..2.0).contains(&m.abs()), "{name}'({}) = {m} 2^{k}", p.x);
                (join((m, k - p.slope.1)) / p.slope.0 - 1.0).abs()
            };
        if worst.last().is_none_or(|w| w.0 != name) {
            worst.push((name, 0.0, 0.0, 0.0));
        }
        let w = worst.last_mut().unwrap();
        *w = (name, w.1.max(e), w.2.max(d), w.3.max(s));
        // Units of 2.2e-16.
        assert!(e <= 8.0 && d <= 32.0, "{name}({}): value {value} off {e}, slope {slope} off {d}", p.x);
        assert!(s <= 1e-13, "{name}'({}) = {m} 2^{k}, expected {:?}", p.x, p.slope);
    }
    for w in worst {
        println!("{:12} f64: value {:5.2} eps, slope {:5.2} eps, scaled slope {:.1e}", w.0, w.1, w.2, w.3);
    }
}

/// Where the derivative has a root, which makes relative accuracy meaningless.
fn near_root(name: &str, x: f64) -> bool {
    match name {
        "silu" => (-1.6..-0.6).contains(&x),
        "gelu" | "gelu_tanh" => (-1.1..-0.5).contains(&x),
        "mish" => (-1.6..-0.9).contains(&x),
        _ => false,
    }
}

#[test]
fn singles_against_doubles() {
    let mut acts: Vec<Act> = Vec::new();
    for p in points() {
        if !acts.contains(&p.act) {
            acts.push(p.act);
        }
    }
    let x: Vec<f32> = (0..u32::MAX / 7001).map(|i| f32::from_bits(i * 7001)).filter(|x| x.is_finite()).collect();
    let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    for act in acts {
        let (mut y, mut d, mut y64, mut d64) = (x.clone(), x.clone(), wide.clone(), wide.clone());
        act.apply(&x, &mut y, Some(&mut d));
        act.apply(&wide, &mut y64, Some(&mut d64));
        let name = act.info().name;
        let (mut worst, mut at) = ([0.0f64; 2], [0.0f32; 2]);
        for i in 0..x.len() {
            let least = f64::from(f32::MIN_POSITIVE);
            let clip = |v: f64| if v.abs() > f64::from(f32::MAX) { f64::INFINITY.copysign(v) } else { v };
            let e = error(f64::from(y[i]), clip(y64[i]), f64::from(f32::EPSILON), least);
            let mut s = error(f64::from(d[i]), d64[i], f64::from(f32::EPSILON), least);
            if near_root(name, wide[i]) {
                s = (f64::from(d[i]) - d64[i]).abs() / f64::from(f32::EPSILON);
            }
            for (k, v) in [e, s].into_iter().enumerate() {
                if v.is_nan() || v > worst[k] {
                    (worst[k], at[k]) = (v, x[i]);
                }
            }
        }
        println!("{name:12} f32: value {:.2} eps at {:e}, slope {:.2} eps at {:e}", worst[0], at[0], worst[1], at[1]);
        assert!(worst[0] <= 6.0 && worst[1] <= 8.0, "{name}: {worst:?} at {at:?}");
    }
}

#[test]
fn pytorch_agrees() {
    // Name, parameters, x, and PyTorch 2.13's value and derivative in float64; the derivative is left out ("-") where
    // PyTorch's own is inexact.
    for line in include_str!("testdata/pytorch.txt").lines() {
        let f: Vec<&str> = line.split(' ').collect();
        let x: f64 = f[2].parse().unwrap();
        let (y, d) = act(f[0], f[1]).value_f64(x);
        for (got, want) in [(y, f[3]), (d, f[4])] {
            if want != "-" {
                let want: f64 = want.parse().unwrap();
                assert!((got - want).abs() <= 1e-12 * want.abs(), "{} at {x}: {got}, PyTorch {want}", f[0]);
            }
        }
    }
}

#[test]
fn conventions_at_kinks() {
    for (name, x, want) in [
        ("elu", 0.0, 1.0),
        ("selu", 0.0, 1.050_700_987_355_480_5 * 1.673_263_242_354_377_2),
        ("relu", 0.0, 0.0),
        ("leaky_relu", 0.0, 0.01),
        ("prelu", 0.0, 0.25),
        ("celu", 0.0, 1.0),
        ("hardtanh", 1.0, 0.0),
        ("hardtanh", -1.0, 0.0),
        ("relu6", 0.0, 0.0),
        ("relu6", 6.0, 0.0),
        ("hardsigmoid", 3.0, 0.0),
        ("hardsigmoid", -3.0, 0.0),
        ("hardswish", 3.0, 1.0),
        ("hardswish", -3.0, 0.0),
    ] {
        assert_eq!(act(name, "").value_f64(x).1, want, "{name}'({x})");
    }
    assert_eq!(act("elu", "alpha=0.5").value_f64(0.0).1, 0.5);
}

#[test]
fn special_values() {
    for info in Act::infos() {
        let a = act(info.name, "");
        assert!(a.value_f64(f64::NAN).0.is_nan(), "{}(NaN)", info.name);
        assert!(a.scaled_derivative(f64::NAN).0.is_nan() || info.name == "identity", "{}'(NaN)", info.name);
        let mut y = [0f32; 3];
        let mut d = [0f32; 3];
        a.apply(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &mut y, Some(&mut d));
        assert!(y[0].is_nan(), "{}(NaN)", info.name);
        for (i, far) in [(1, 1e30f32), (2, -1e30)] {
            let mut near = [0f32];
            let mut slope = [0f32];
            a.apply(&[far], &mut near, Some(&mut slope));
            let ok = if near[0].abs() > 1e20 { y[i] == near[0] * f32::INFINITY } else { y[i] == near[0] };
            let finite = y[i].is_infinite() || (y[i] - near[0]).abs() <= 0.0 || ok;
            assert!(finite && !y[i].is_nan(), "{}({}) = {}", info.name, far * f32::INFINITY, y[i]);
            assert_eq!(d[i], slope[0], "{}'({})", info.name, far * f32::INFINITY);
        }
    }
}

/// Neither value nor slope of NaN is a number, wherever in a row it stands; its neighbours do not notice. The identity
/// alone has a slope that does not depend on the argument.
#[test]
fn nan_stays_nan_on_every_path() {
    fn check<T: Real>() {
        for a in Act::infos().iter().map(|i| act(i.name, "")) {
            let plain: Vec<T> = (0..83).map(|i| T::from_f64(f64::from(i) * 0.1 - 4.0)).collect();
            let mut x = plain.clone();
            x.iter_mut().step_by(3).for_each(|x| *x = T::from_f64(f64::NAN));
            let (mut y, mut d) = (plain.clone(), plain.clone());
            a.apply(&plain, &mut y, Some(&mut d));
            for path in available() {
                let (mut hy, mut slopes, mut row) = (x.clone(), x.clone(), [RowForward::default()]);
                with!(a, a => forward_in_place_on(path, &a, &mut hy, &mut slopes, 83, &mut row, true));
                assert!(row[0].pre_sum.is_nan() && row[0].least_slope <= 1.0, "{a:?} on {path:?}");
                for i in 0..83 {
                    let nan = (hy[i].to_f64().is_nan(), slopes[i].to_f64().is_nan());
                    let want = if i % 3 == 0 { (true, a.info().name != "identity") } else { (false, false) };
                    assert_eq!(nan, want, "{a:?} on {path:?}, entry {i}");
                    assert!(i % 3 == 0 || (hy[i] == y[i] && slopes[i] == d[i]), "{a:?} on {path:?}, entry {i}");
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn largest_slopes_are_the_largest() {
    let x: Vec<f64> = (-80_000..80_000).map(|i| f64::from(i) / 1e4).collect();
    for p in points().iter().filter(|p| p.x == 0.0) {
        let (mut y, mut d) = (x.clone(), x.clone());
        p.act.apply(&x, &mut y, Some(&mut d));
        let found = d.iter().fold(0.0, |m: f64, d| m.max(d.abs()));
        let claimed = p.act.max_slope();
        assert!(found <= claimed * (1.0 + 1e-12) && found >= claimed * 0.998, "{:?}: {found}, {claimed}", p.act);
    }
}

#[test]
fn rows_agree_with_flat_and_between_paths() {
    fn check<T: Real>() {
        for (a, width) in Act::infos().iter().map(|i| act(i.name, "")).zip([1, 7, 16, 37, 64, 100].into_iter().cycle())
        {
            let n = 5 * width;
            let x: Vec<T> = (0..n).map(|i| T::from_f64(((i * 7919 % 1009) as f64 / 1009.0 - 0.45) * 60.0)).collect();
            let (mut y, mut d) = (x.clone(), x.clone());
            a.apply(&x, &mut y, Some(&mut d));
            let mut only = x.clone();
            a.apply(&x, &mut only, None);
            assert_eq!(only, y, "{:?}", a);
            let mut first: Option<Vec<RowForward>> = None;
            for path in available() {
                let (mut hy, mut slopes, mut rows) = (x.clone(), x.clone(), vec![RowForward::default(); 5]);
                on(path, &a, &mut hy, &mut slopes, width, &mut rows);
                assert!(hy == y && slopes == d, "{a:?} on {path:?}");
                assert_eq!(*first.get_or_insert_with(|| rows.clone()), rows, "{a:?} on {path:?}");
                for (r, row) in rows.iter().enumerate() {
                    let h: Vec<f64> = x[r * width..][..width].iter().map(|h| h.to_f64()).collect();
                    let (sum, square) = h.iter().fold((0.0, 0.0), |s, h| (s.0 + h, s.1 + h * h));
                    assert!((row.pre_sum - sum).abs() <= 1e-10 && (row.pre_sum_sq - square).abs() <= 1e-12 * square);
                    let least = d[r * width..][..width].iter().map(|d| d.to_f64().abs()).fold(f64::INFINITY, f64::min);
                    assert_eq!(row.least_slope, if a.tails() { least } else { 1.0 }, "{a:?}");
                }
            }
            let (mut y2, mut d2, mut rows) = (x.clone(), x.clone(), vec![RowForward::default(); 5]);
            a.forward(&x, &mut y2, &mut d2, width, &mut rows, false);
            assert!(y2 == y && d2 == d && rows.iter().all(|r| r.pre_sum == 0.0));
        }
    }
    fn on<T: Real>(path: Path, a: &Act, hy: &mut [T], d: &mut [T], width: usize, rows: &mut [RowForward]) {
        with!(a, a => forward_in_place_on(path, a, hy, d, width, rows, true));
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn scaled_derivatives_of_a_slice() {
    for info in Act::infos() {
        let a = act(info.name, "");
        let x: Vec<f32> = (0..50).map(|i| (i as f32 - 25.0) * 40.0).collect();
        let (mut m, mut k) = (vec![0.0; 50], vec![0; 50]);
        a.scaled_derivatives(&x, &mut m, &mut k);
        for i in 0..50 {
            assert_eq!((m[i], k[i]), a.scaled_derivative(f64::from(x[i])));
        }
    }
}

#[test]
fn names_and_parameters_are_checked() {
    assert_eq!(Act::parse("Leaky-ReLU", &[]).unwrap().info().name, "leaky_relu");
    assert_eq!(Act::parse("swish", &[]).unwrap().info().name, "silu");
    assert_eq!(Act::parse("Linear", &[]).unwrap().info().name, "identity");
    assert_eq!(Act::parse("reluu", &[]), Err(ActError::Unknown { name: "reluu".into() }));
    for (name, param, value) in
        [("elu", "alpha", f64::NAN), ("elu", "alpha", -1.0), ("elu", "slope", 1.0), ("celu", "alpha", 0.0)]
    {
        let got = Act::parse(name, &[(param.to_string(), value)]);
        assert!(matches!(got, Err(ActError::Param { .. })), "{got:?}");
    }
    assert!(Act::parse("hardtanh", &[("min_val".into(), 2.0)]).is_err());
    assert_eq!(act("prelu", "").with_slope(0.5).value_f64(-2.0), (-1.0, 0.5));
    let mut names: Vec<String> =
        Act::infos().iter().flat_map(|i| i.aliases.iter().chain([&i.name])).map(|n| plain(n)).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "two activations share a name");
}
