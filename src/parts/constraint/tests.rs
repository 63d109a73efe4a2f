//! parts: constraints against their definitions.

use super::*;

fn matrix(rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|i| ((i * i + 3 * i) as f64 * 0.37).sin()).collect()
}

fn hold(name: &str, params: &[(&str, f64)], w: &mut [f64], cols: usize, memory: &mut [f64]) {
    let params: Vec<_> = params.iter().map(|(n, v)| (n.to_string(), Value::Number(*v))).collect();
    Constraint::parse(name, &params).unwrap().hold(w, cols, memory, &mut Work::default());
}

#[test]
fn rows_are_at_most_as_long_as_the_limit() {
    let (mut w, old) = (matrix(5, 7), matrix(5, 7));
    hold("max_norm", &[("limit", 1.8)], &mut w, 7, &mut []);
    let norm = |r: &[f64]| r.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut cut = 0;
    for (new, old) in w.chunks(7).zip(old.chunks(7)) {
        assert!((norm(new) - norm(old).min(1.8)).abs() < 1e-14);
        cut += usize::from(norm(old) > 1.8);
    }
    assert!(0 < cut && cut < 5, "the limit must cut some rows and leave others");
}

#[test]
fn the_largest_singular_value_is_at_most_the_limit() {
    let (mut w, mut v) = (matrix(6, 4), [0.0; 4]);
    (0..3).for_each(|_| hold("spectral", &[("limit", 0.5), ("iterations", 200.0)], &mut w, 4, &mut v));
    // |W x| <= 0.5 |x| for many x, and nearly so for the direction found.
    for k in 0..200 {
        let x: Vec<f64> = (0..4).map(|j| ((k * 4 + j) as f64 * 1.3).cos()).collect();
        let y: f64 = w.chunks(4).map(|r| r.iter().zip(&x).map(|(a, b)| a * b).sum::<f64>().powi(2)).sum();
        assert!(y.sqrt() <= 0.5 * x.iter().map(|a| a * a).sum::<f64>().sqrt() * (1.0 + 1e-9));
    }
    let y: f64 = w.chunks(4).map(|r| r.iter().zip(&v).map(|(a, b)| a * b).sum::<f64>().powi(2)).sum();
    assert!((y.sqrt() - 0.5).abs() < 1e-9);
}

#[test]
fn the_shorter_side_becomes_orthogonal() {
    for (rows, cols) in [(4, 4), (3, 8), (8, 3)] {
        let mut w = matrix(rows, cols);
        hold("orthogonal", &[("gain", 1.5)], &mut w, cols, &mut []);
        let few = rows.min(cols);
        for i in 0..few {
            for j in 0..few {
                let dot: f64 = if rows <= cols {
                    (0..cols).map(|k| w[i * cols + k] * w[j * cols + k]).sum()
                } else {
                    (0..rows).map(|k| w[k * cols + i] * w[k * cols + j]).sum()
                };
                assert!((dot - if i == j { 2.25 } else { 0.0 }).abs() < 1e-12, "{rows} {cols} {i} {j} {dot}");
            }
        }
    }
}

#[test]
fn zeros_stay_and_no_size_is_too_small_or_too_large() {
    let hold = |name: &str, w: &mut [f32], cols, memory: &mut [f32]| {
        Constraint::parse(name, &[]).unwrap().hold(w, cols, memory, &mut Work::default());
    };
    let mut w = [0.0f32; 12];
    hold("orthogonal", &mut w, 4, &mut []);
    assert_eq!(w, [0.0; 12]);
    for size in [1e-42, 1e-30, 1e-21, 1e-10, 1e10, 1e19, 1e20, 1e37] {
        let mut w: Vec<f32> = matrix(3, 4).iter().map(|x| (x * size) as f32).collect();
        let (before, mut v) = (w.clone(), [0.0f32; 4]);
        hold("spectral", &mut w, 4, &mut v);
        assert!(v.iter().all(|x| x.is_finite()) && w.iter().all(|x| x.is_finite()), "{size:e} {v:?}");
        // Not longer than the limit of one, and left alone below it.
        let norm = squares_of(&w).sqrt();
        assert!(if size > 1.0 { (1.0..=3f64.sqrt()).contains(&norm) } else { w == before }, "{size:e} {norm}");
        hold("orthogonal", &mut w, 4, &mut []);
        assert!((squares_of(&w) - 3.0).abs() < 1e-5, "{size:e} {w:?}");
        let mut w = before;
        hold("orthogonal", &mut w, 4, &mut []);
        assert!((squares_of(&w) - 3.0).abs() < 1e-5, "{size:e} {w:?}");
    }
    // A memory that is no vector begins again.
    let mut v = [f32::NAN, 0.0, f32::INFINITY, 1.0];
    let mut w: Vec<f32> = matrix(3, 4).iter().map(|x| *x as f32 * 100.0).collect();
    hold("spectral", &mut w, 4, &mut v);
    assert!(v.iter().all(|x| x.is_finite()) && squares_of(&w) <= 3.0 + 1e-6);
}

fn squares_of(w: &[f32]) -> f64 {
    w.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}
