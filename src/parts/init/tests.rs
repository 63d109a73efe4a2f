//! parts: every initializer's law, shape and errors.

use super::*;

const KEY: Key = Key { seed: 20, tensor: 3, layer: 1 };

fn number(name: &str, x: f64) -> (String, Value) {
    (name.to_owned(), Value::Number(x))
}

fn text(name: &str, x: &str) -> (String, Value) {
    (name.to_owned(), Value::Text(x.to_owned()))
}

fn make<T: Real>(name: &str, params: &[(String, Value)], rows: usize, cols: usize, layer: u32) -> Vec<T> {
    let mut w = vec![T::ZERO; rows * cols];
    let key = Key { layer, ..KEY };
    Init::parse(name, params).unwrap().fill(&mut w, rows, cols, cols, rows, key).unwrap();
    w
}

/// Second moment and largest magnitude over eight 768 x 512 tensors.
fn moments<T: Real>(name: &str, params: &[(String, Value)]) -> (f64, f64) {
    let (mut s, mut max) = (0.0, 0f64);
    for layer in 0..8 {
        for w in make::<T>(name, params, 768, 512, layer) {
            let w = w.to_f64();
            s += w * w;
            max = max.max(w.abs());
        }
    }
    (s / (8.0 * 768.0 * 512.0), max)
}

#[test]
fn second_moments_and_bounds_are_pytorchs() {
    // Values for weights of shape (768, 512), from the formulas of PyTorch 2.13's torch/nn/init.py.
    let gain = |g| vec![number("gain", g)];
    let slope = |a| vec![number("negative_slope", a)];
    type Case = (&'static str, Vec<(String, Value)>, f64, f64);
    let cases: Vec<Case> = vec![
        ("kaiming_uniform", slope(5f64.sqrt()), 0.0006510416666666666, 0.044194173824159216),
        ("pytorch_default", vec![], 0.0006510416666666666, 0.044194173824159216),
        ("kaiming_uniform", vec![], 0.00390625, 0.10825317547305482),
        ("kaiming_normal", vec![], 0.00390625, f64::NAN),
        ("he_normal", vec![text("mode", "fan_out")], 2.0 / 768.0, f64::NAN),
        ("xavier_normal", gain(5.0 / 3.0), 0.004340277777777778, f64::NAN),
        ("xavier_uniform", vec![], 2.0 / 1280.0, (6.0f64 / 1280.0).sqrt()),
        ("trunc_normal_", vec![], 0.7737413035499232, 2.0),
        ("lecun_normal", vec![], 1.0 / 512.0, f64::NAN),
        ("lecun_uniform", vec![], 1.0 / 512.0, (3.0f64 / 512.0).sqrt()),
        ("mean_field", vec![number("sigma_w2", 1.05)], 1.05 / 512.0, f64::NAN),
        ("edge_of_chaos", vec![number("sigma_w2", 1.76)], 1.76 / 512.0, f64::NAN),
        ("edge_of_chaos", vec![], 1.0 / 512.0, f64::NAN),
        (
            "variance_scaling",
            vec![number("scale", 2.0)],
            2.0 / 512.0,
            2.0 * (2.0f64 / 512.0).sqrt() / 0.879_625_661_034_239_8,
        ),
        ("normal", vec![number("std", 0.3), number("mean", 0.4)], 0.25, f64::NAN),
        ("uniform", vec![], 1.0 / 3.0, 1.0),
        ("uniform", vec![number("low", -2.0), number("high", 1.0)], 1.0, 2.0),
        ("sparse", vec![], 1e-4 * 76.0 / 768.0, f64::NAN),
        ("orthogonal", vec![number("gain", 2.0)], 4.0 / 768.0, 2.0),
    ];
    for (name, params, moment, bound) in cases {
        let check = |(m, max): (f64, f64), dtype: &str| {
            assert!((m / moment - 1.0).abs() < 0.01, "{name} {dtype}: second moment {m}, expected {moment}");
            if !bound.is_nan() && name != "orthogonal" {
                assert!(max <= bound * (1.0 + 1e-7) && max > bound * 0.999, "{name} {dtype}: {max}, bound {bound}");
            }
        };
        check(moments::<f32>(name, &params), "float32");
        if name != "orthogonal" {
            check(moments::<f64>(name, &params), "float64");
        }
    }
}

#[test]
fn plain_values() {
    assert!(make::<f32>("zeros", &[], 3, 4, 0).iter().all(|w| *w == 0.0));
    assert!(make::<f64>("ones", &[], 3, 4, 0).iter().all(|w| *w == 1.0));
    assert!(make::<f64>("constant", &[number("value", -0.3)], 3, 4, 0).iter().all(|w| *w == -0.3));
    assert_eq!(Init::constant(2.0), Init::parse("constant", &[number("value", 2.0)]).unwrap());
    for (rows, cols) in [(3, 5), (5, 3), (4, 1)] {
        let w = make::<f32>("identity", &[number("gain", 0.5)], rows, cols, 0);
        for (k, w) in w.iter().enumerate() {
            assert_eq!(*w, if k / cols == k % cols { 0.5 } else { 0.0 });
        }
    }
}

#[test]
fn mirrored_blocks() {
    for (mirror, rows, cols) in [("both", 6, 10), ("both", 10, 6), ("out", 6, 4), ("in", 3, 8), ("none", 5, 5)] {
        let w = make::<f64>("looks_linear", &[text("mirror", mirror), number("gain", 2.0)], rows, cols, 0);
        let (up, left) = (["both", "out"].contains(&mirror), ["both", "in"].contains(&mirror));
        let (r0, c0) = (if up { rows / 2 } else { rows }, if left { cols / 2 } else { cols });
        for r in 0..rows {
            for c in 0..cols {
                let sign = if (r >= r0) == (c >= c0) { 1.0 } else { -1.0 };
                assert_eq!(w[r * cols + c], sign * w[(r % r0) * cols + c % c0]);
            }
        }
        let at = |i: usize, k: usize| if r0 < c0 { w[i * cols + k] } else { w[k * cols + i] };
        for a in 0..r0.min(c0) {
            for b in 0..=a {
                let d: f64 = (0..r0.max(c0)).map(|k| at(a, k) * at(b, k)).sum();
                assert!((d / 4.0 - f64::from(u8::from(a == b))).abs() < 1e-14, "{mirror} {a} {b} {d}");
            }
        }
    }
    // What is left over of an odd side is zero.
    let w = make::<f64>("looks_linear", &[], 5, 7, 0);
    assert!((0..5).all(|r| w[r * 7 + 6] == 0.0) && w[4 * 7..].iter().all(|x| *x == 0.0));
    assert!(make::<f32>("looks_linear", &[], 1, 1, 0)[0] == 0.0);
}

#[test]
fn delta_is_the_identity_with_noise() {
    let (n, noise) = (400, 0.5);
    let w = make::<f64>("delta", &[number("gain", -2.0), number("noise", noise)], n, n, 0);
    let rest: Vec<f64> = w.iter().enumerate().map(|(k, w)| w + if k / n == k % n { 2.0 } else { 0.0 }).collect();
    let square = rest.iter().map(|x| x * x).sum::<f64>() / rest.len() as f64;
    assert!((square * n as f64 / (noise * noise) - 1.0).abs() < 0.02, "{square}");
    let exact = make::<f32>("delta", &[number("noise", 0.0)], 3, 5, 0);
    assert_eq!(exact, make::<f32>("identity", &[], 3, 5, 0));
}

#[test]
fn orthogonal_matrices_are() {
    for (rows, cols) in [(7, 7), (40, 24), (24, 40), (130, 130), (5, 1), (1, 5), (1, 1)] {
        let w = make::<f64>("orthogonal", &[number("gain", 1.5)], rows, cols, 0);
        let at = |i: usize, j: usize| if rows < cols { w[i * cols + j] } else { w[j * cols + i] };
        let (count, len) = (rows.min(cols), rows.max(cols));
        for a in 0..count {
            for b in 0..=a {
                let d: f64 = (0..len).map(|k| at(a, k) * at(b, k)).sum();
                assert!((d / 2.25 - f64::from(u8::from(a == b))).abs() < 1e-14, "{rows} x {cols}: {a} {b} {d}");
            }
        }
        let single = make::<f32>("orthogonal", &[number("gain", 1.5)], rows, cols, 0);
        assert!(single.iter().zip(&w).all(|(s, d)| *s == *d as f32));
    }
    // Uniform on the group: over many 2 x 2 matrices the determinant is as often 1 as -1.
    let positive = (0..2000)
        .filter(|&l| {
            let w = make::<f64>("orthogonal", &[], 2, 2, l);
            w[0] * w[3] > w[1] * w[2]
        })
        .count();
    assert!((850..1150).contains(&positive), "{positive}");
}

#[test]
fn sparse_columns_have_their_zeros() {
    for (rows, sparsity, zeros) in [(10, 0.9, 9), (33, 0.5, 17), (20, 0.0, 0), (20, 1.0, 20), (1, 0.3, 1)] {
        let cols = 50;
        let w = make::<f32>("sparse", &[number("sparsity", sparsity)], rows, cols, 0);
        for c in 0..cols {
            assert_eq!((0..rows).filter(|r| w[r * cols + c] == 0.0).count(), zeros, "{rows} {sparsity}");
        }
        // The places differ between columns, evenly over the rows.
        if rows == 33 {
            for r in 0..rows {
                let n = (0..cols).filter(|c| w[r * cols + c] == 0.0).count();
                assert!((10..42).contains(&n), "row {r}: {n}");
            }
        }
    }
}

#[test]
fn truncated_normal_holds_for_any_bounds() {
    // Mean and variance of N(0, 1) on [a, b], by Simpson's rule on the density relative to its largest value.
    let law = |a: f64, b: f64| {
        let b = b.min(if a > 0.0 { a + 40.0 / a.max(1.0) } else { 12.0 });
        let a = a.max(if b < 0.0 { b - 40.0 / (-b).max(1.0) } else { -12.0 });
        let near = if a > 0.0 { a } else { b.min(0.0) };
        let n = 20_000;
        let mut s = [0.0; 3];
        for i in 0..=n {
            let z = a + (b - a) * f64::from(i) / f64::from(n);
            let weight = if i == 0 || i == n { 1.0 } else { 2.0 + 2.0 * f64::from(i % 2) };
            let p = weight * (-0.5 * (z - near) * (z + near)).exp();
            s[0] += p;
            s[1] += p * (z - near);
            s[2] += p * (z - near) * (z - near);
        }
        let mean = s[1] / s[0];
        (near + mean, s[2] / s[0] - mean * mean)
    };
    for (a, b) in [
        (-2.0, 2.0),
        (-0.1, 0.2),
        (0.0, 9.0),
        (1.0, 3.0),
        (5.0, 6.0),
        (5.0, 1e9),
        (-40.0, -8.0),
        (0.2, 50.0),
        (2.0, 2.1),
    ] {
        let params = [number("a", 3.0 + 0.5 * a), number("b", 3.0 + 0.5 * b), number("mean", 3.0), number("std", 0.5)];
        let w = make::<f64>("truncated_normal", &params, 300, 200, 0);
        let z: Vec<f64> = w.iter().map(|w| (w - 3.0) / 0.5).collect();
        assert!(z.iter().all(|z| *z >= a - 1e-9 && *z <= b + 1e-9));
        let n = z.len() as f64;
        let mean = z.iter().sum::<f64>() / n;
        let var = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
        let (m, v) = law(a, b);
        assert!((mean - m).abs() < 5.0 * (v / n).sqrt(), "[{a}, {b}]: mean {mean}, expected {m}");
        assert!((var / v - 1.0).abs() < 0.04, "[{a}, {b}]: variance {var}, expected {v}");
    }
}

#[test]
fn a_layer_is_the_same_whatever_the_others_and_its_width_of_bias() {
    for info in Init::infos() {
        let w = make::<f32>(info.name, &[], 20, 30, 4);
        assert_eq!(w, make::<f32>(info.name, &[], 20, 30, 4), "{}", info.name);
        assert!(w.iter().all(|x| x.is_finite()));
        let random = !["zeros", "ones", "constant", "identity"].contains(&info.name);
        assert_eq!(w != make::<f32>(info.name, &[], 20, 30, 5), random, "{}", info.name);
        // A bias takes its layer's fans, not those of its own shape.
        let mut b = vec![0f64; 20];
        Init::parse(info.name, &[]).unwrap().fill(&mut b, 20, 1, 400, 20, KEY).unwrap();
        if info.name == "standard" {
            assert!(b.iter().all(|x| x.abs() <= 0.05) && b.iter().any(|x| x.abs() > 0.03));
        }
    }
}

#[test]
fn names_and_aliases_are_unique() {
    let mut all: Vec<&str> = Init::infos().iter().flat_map(|i| i.aliases.iter().copied().chain([i.name])).collect();
    let n = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), n);
    for info in Init::infos() {
        for name in info.aliases.iter().chain([&info.name]) {
            assert_eq!(Init::parse(name, &[]).unwrap().info().name, info.name);
        }
        // Defaults pass their own checks, and giving them changes nothing.
        let given: Vec<_> = info.params.iter().map(|p| (p.name.to_owned(), p.default_value())).collect();
        assert_eq!(Init::parse(info.name, &given), Init::parse(info.name, &[]));
    }
}

#[test]
fn errors_say_what_was_expected() {
    let message = |name: &str, params: &[(String, Value)]| Init::parse(name, params).unwrap_err().to_string();
    let e = Init::parse("xaver", &[]).unwrap_err();
    assert!(e.is_unknown_name());
    assert!(e.to_string().starts_with("initializer: expected one of zeros, ones, "));
    assert!(e.to_string().contains("got \"xaver\""));
    assert_eq!(
        message("zeros", &[number("std", 1.0)]),
        "zeros: expected parameters (none); got \"std\". Leave it out or use one of these"
    );
    assert_eq!(
        message("normal", &[number("std", -1.0)]),
        "normal: expected std to be a finite number of at least 0; got -1. Change std"
    );
    assert_eq!(
        message("he_normal", &[text("mode", "fan")]),
        "he_normal: expected mode to be one of \"fan_in\", \"fan_out\", \"fan_avg\"; got \"fan\". Change mode"
    );
    assert_eq!(
        message("trunc_normal", &[number("std", 0.0)]),
        "truncated_normal: expected std to be a finite number above 0; got 0. Change std"
    );
    assert_eq!(
        message("sparse", &[number("sparsity", 1.5)]),
        "sparse: expected sparsity to be a number from 0 to 1; got 1.5. Change sparsity"
    );
    for x in [f64::NAN, f64::INFINITY] {
        assert!(message("normal", &[number("mean", x)]).contains("a finite number"));
    }
    assert!(message("uniform", &[number("low", 2.0)]).contains("at least low = 2"));
    assert!(message("truncated_normal", &[number("a", 2.0)]).contains("above a = 2"));
    assert!(message("normal", &[text("mean", "x")]).contains("got \"x\""));
    let mut w = [0f32; 5];
    let e = Init::constant(1.0).fill(&mut w, 2, 3, 3, 2, KEY).unwrap_err();
    assert!(!e.is_unknown_name() && e.to_string().contains("expected 2 x 3 entries"));
    assert!(Init::constant(1.0).fill(&mut w[..0], 0, 3, 0, 0, KEY).is_ok());
}
