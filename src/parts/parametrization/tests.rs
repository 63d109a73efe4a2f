//! parts: tests of parametrizations: each against differences of its own forward map, and what it promises. Know no network.

use super::*;

fn all() -> Vec<Parametrization> {
    Parametrization::all().iter().map(|(i, _)| Parametrization::parse(i.name, &[]).unwrap()).collect()
}

fn row(n: usize, k: f64) -> Vec<f64> {
    (0..n).map(|i| (1.0 + i as f64 * k).sin() + 0.1).collect()
}

#[test]
fn backward_is_the_derivative_of_forward() {
    for rule in all() {
        for n in [2usize, 7, 8, 19] {
            let (v, g, dw) = (row(n, 0.7), 1.3f64, row(n, 1.9));
            let loss = |v: &[f64], g: f64| -> f64 {
                let mut w = vec![0.0; n];
                rule.forward(v, g, &mut w);
                w.iter().zip(&dw).map(|(a, b)| a * b).sum()
            };
            let mut dv = dw.clone();
            let dg = rule.backward(&v, g, &mut dv, 0);
            let h = 1e-6;
            let slope = (loss(&v, g + h) - loss(&v, g - h)) / (2.0 * h);
            assert!((dg - slope).abs() <= 1e-8 * (1.0 + slope.abs()), "{rule:?} dg {dg} {slope}");
            for i in 0..n {
                let (mut up, mut down) = (v.clone(), v.clone());
                up[i] += h;
                down[i] -= h;
                let slope = (loss(&up, g) - loss(&down, g)) / (2.0 * h);
                assert!((dv[i] - slope).abs() <= 1e-8 * (1.0 + slope.abs()), "{rule:?} dv[{i}] {} {slope}", dv[i]);
            }
            // A shift is a power of two, exactly.
            let mut shifted = dw.clone();
            assert_eq!(rule.backward(&v, g, &mut shifted, 40), dg);
            assert!(shifted.iter().zip(&dv).all(|(a, b)| a * 2f64.powi(40) == *b));
        }
    }
}

#[test]
fn weight_norm_starts_as_v_and_turns_at_right_angles() {
    let rule = Parametrization::parse("weight_norm", &[]).unwrap();
    for n in [1usize, 5, 64] {
        let v: Vec<f32> = row(n, 0.9).iter().map(|x| *x as f32).collect();
        let mut w = vec![0.0f32; n];
        rule.forward(&v, rule.start(&v), &mut w);
        assert_eq!(w, v);
        let mut d = row(n, 0.3);
        let v = row(n, 0.9);
        rule.backward(&v, 2.0, &mut d, 0);
        let (dot, size): (f64, f64) = (v.iter().zip(&d).map(|(a, b)| a * b).sum(), d.iter().map(|x| x.abs()).sum());
        assert!(dot.abs() <= 1e-14 * (1.0 + size), "{dot}");
    }
    let (mut w, mut d) = ([1.0f32; 3], [1.0f32; 3]);
    rule.forward(&[0.0f32; 3], 2.0, &mut w);
    assert_eq!((w, rule.backward(&[0.0f32; 3], 2.0, &mut d, 0), d), ([0.0; 3], 0.0, [0.0; 3]));
}

#[test]
fn standardized_rows_have_mean_zero_and_norm_gain() {
    let rule = Parametrization::parse("scaled_ws", &[("eps".into(), Value::Number(0.0))]).unwrap();
    let mut w = [0.0f64; 40];
    rule.forward(&row(40, 0.3), 1.7, &mut w);
    assert!(w.iter().sum::<f64>().abs() < 1e-14);
    assert!((w.iter().map(|x| x * x).sum::<f64>().sqrt() - 1.7).abs() < 1e-14);
    let mut d = [1.0f64; 4];
    let wide = Parametrization::parse("weight_standardized", &[]).unwrap();
    assert_eq!(wide.backward(&[0.5f64; 4], 1.0, &mut d, 0), 0.0);
    assert!(d.iter().all(|x| x.is_finite()));
}
