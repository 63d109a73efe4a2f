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
