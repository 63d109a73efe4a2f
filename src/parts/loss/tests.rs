//! parts: losses against numbers worked out by hand or by PyTorch 2.13, and gradients that no float holds.

use super::*;

fn run(
    name: &str,
    params: &[(&str, f64)],
    z: &[f64],
    target: TargetRow<'_, f64>,
    batch: usize,
) -> (f64, Vec<f64>, i64) {
    let params: Vec<_> = params.iter().map(|(n, v)| (n.to_string(), Value::Number(*v))).collect();
    let loss = Loss::parse(name, &params).unwrap();
    let mut g = vec![0.0; z.len()];
    let (l, e) = loss.row(z, target, batch, &mut g, &mut Vec::new());
    (l, g, e)
}

#[test]
fn a_sure_and_right_network_keeps_its_gradient() {
    let (l, g, e) = run("cross_entropy", &[], &[20_000.0, 0.0, 0.0], TargetRow::Class(0), 1);
    assert_eq!(l, 0.0);
    // 2 e^-20000 = 2^(1 - 20000 / ln 2)
    let want = 1.0 - 20_000.0 * std::f64::consts::LOG2_E;
    assert!(((-g[0]).log2() + e as f64 - want).abs() < 1e-9);
    assert!((g[1] / g[0] + 0.5).abs() < 1e-12);
}

#[test]
fn bce_keeps_its_tails() {
    let (_, g, e) = run("bce_with_logits", &[], &[-3000.0], TargetRow::Values(&[0.0]), 1);
    assert!((g[0].log2() + e as f64 + 3000.0 * std::f64::consts::LOG2_E).abs() < 1e-9);
    let (l, g, e) = run("bce_with_logits", &[], &[0.5, -1.0], TargetRow::Values(&[0.25, 1.0]), 2);
    let s = |z: f64| 1.0 / (1.0 + (-z).exp());
    let f = 2f64.powi(e as i32);
    assert!((g[0] * f - (s(0.5) - 0.25) / 4.0).abs() < 1e-15 && (g[1] * f - (s(-1.0) - 1.0) / 4.0).abs() < 1e-15);
    let want = -(0.25 * s(0.5).ln() + 0.75 * (1.0 - s(0.5)).ln() + s(-1.0).ln()) / 4.0;
    assert!((l - want).abs() < 1e-15);
}

#[test]
fn squares_and_their_rounded_cousin() {
    let (l, g, e) = run("mse", &[], &[1.0, 3.0], TargetRow::Values(&[0.0, 0.0]), 1);
    assert_eq!((l, g[0] * 2f64.powi(e as i32), g[1] * 2f64.powi(e as i32)), (5.0, 1.0, 3.0));
    let (l, g, e) = run("huber", &[("beta", 2.0)], &[1.0, -3.0], TargetRow::Values(&[0.0, 0.0]), 1);
    assert_eq!((l, g[0] * 2f64.powi(e as i32), g[1] * 2f64.powi(e as i32)), ((0.25 + 2.0) / 2.0, 0.25, -0.5));
}

#[test]
fn probabilities_and_labels_agree() {
    let z = [0.3, -1.2, 2.0];
    let a = run("cross_entropy", &[], &z, TargetRow::Class(1), 4);
    let b = run("cross_entropy", &[], &z, TargetRow::Values(&[0.0, 1.0, 0.0]), 4);
    assert!((a.0 - b.0).abs() < 1e-15 && a.2 == b.2);
    assert!(a.1.iter().zip(&b.1).all(|(x, y)| (x - y).abs() < 1e-15));
    let s = run("cross_entropy", &[("label_smoothing", 0.1)], &z, TargetRow::Class(1), 4);
    assert!(s.1.iter().sum::<f64>().abs() < 1e-15);
}

#[test]
fn what_is_wrong_is_said() {
    let e = Loss::parse("crossentropi", &[]).unwrap_err();
    assert!(matches!(e, CatalogueError::UnknownName { .. }) && e.to_string().contains("cross_entropy"));
    let e = Loss::parse("smooth_l1", &[("beta".into(), Value::Number(-1.0))]).unwrap_err();
    assert!(e.to_string().contains("beta") && e.to_string().contains("-1"));
    assert!(Loss::parse("mse", &[("beta".into(), Value::Number(1.0))]).is_err());
    assert!(run("cross_entropy", &[], &[f64::NAN, 0.0], TargetRow::Class(0), 1).0.is_nan());
}
