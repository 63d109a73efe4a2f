//! kernels: tests of normalisation by rows and columns, against plain sums, and on every instruction path.

use super::*;
use crate::kernels::norm_columns::{
    BatchSums, Columns, apply, backward as columns_backward, finish_moments, join_moments, moments, sums,
};
use crate::num::rng::{Key, Law, fill};
use crate::num::simd::{available, dispatch_on};

fn numbers<T: Real>(n: usize, stream: u32) -> Vec<T> {
    let mut v = vec![T::ZERO; n];
    let key = Key { seed: 3, tensor: 7, layer: 0 };
    fill(&mut v, key, stream, 0, Law::Normal, T::from_f64(1.5), T::from_f64(0.25));
    v
}

const SHAPES: [(usize, usize, bool); 6] =
    [(1, 1, true), (5, 1, true), (16, 4, true), (37, 1, false), (66, 3, true), (64, 1, true)];

fn run<T: Real>(path: crate::num::simd::Path, rows: Rows, n: usize) -> Vec<u64> {
    let w = rows.width;
    let (x, d) = (numbers::<T>(n * w, 0), numbers::<T>(n * w, 1));
    let (weight, bias) = (numbers::<T>(w, 2), numbers::<T>(w, 3));
    let (mut y, mut kept, mut out) = (x.clone(), vec![T::ZERO; n * rows.groups * KEPT], x.clone());
    let (weight_ref, bias_ref) = (Some(&weight[..]), Some(&bias[..]));
    dispatch_on(path, Forward { rows, x: &x, y: &mut y, kept: &mut kept, weight: weight_ref, bias: bias_ref });
    let mut e = vec![0; n];
    dispatch_on(path, Backward { rows, delta: &d, x: &x, kept: &kept, weight: weight_ref, out: &mut out, e: &mut e });
    let (mut gw, mut gb) = (vec![T::ZERO; w], vec![T::ZERO; w]);
    let factors = vec![0.5; n];
    dispatch_on(
        path,
        Gradients { rows, delta: &d, factors: &factors, x: &x, kept: &kept, weight: &mut gw, bias: &mut gb },
    );
    [y, kept, out, gw, gb].iter().flatten().map(|x| x.bits()).chain(e.iter().map(|e| *e as u64)).collect()
}

#[test]
fn every_path_gives_the_same_bits() {
    for (width, groups, centre) in SHAPES {
        let rows = Rows { width, groups, centre, eps: 1e-5 };
        let paths = available();
        for p in &paths {
            assert_eq!(run::<f32>(*p, rows, 5), run::<f32>(paths[0], rows, 5), "{width}");
            assert_eq!(run::<f64>(*p, rows, 5), run::<f64>(paths[0], rows, 5), "{width}");
        }
    }
}

#[test]
fn rows_against_plain_sums() {
    for (width, groups, centre) in SHAPES {
        let rows = Rows { width, groups, centre, eps: 1e-3 };
        let (n, len) = (3, width / groups);
        let (x, d) = (numbers::<f64>(n * width, 0), numbers::<f64>(n * width, 1));
        let weight = numbers::<f64>(width, 2);
        let (mut y, mut kept, mut out) = (x.clone(), vec![0.0; n * groups * KEPT], x.clone());
        forward(rows, &x, &mut y, &mut kept, Some(&weight), None);
        let mut e = vec![0; n];
        backward(rows, &d, &x, &kept, Some(&weight), &mut out, &mut e);
        for g in 0..n * groups {
            let (x, y) = (&x[g * len..][..len], &y[g * len..][..len]);
            let mean = if centre { x.iter().sum::<f64>() / len as f64 } else { 0.0 };
            let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / len as f64;
            let hat: Vec<_> = x.iter().map(|x| (x - mean) / (var + 1e-3).sqrt()).collect();
            let w = &weight[g % groups * len..][..len];
            assert!(y.iter().zip(&hat).zip(w).all(|((y, h), w)| (y - h * w).abs() < 1e-12), "{width}");
            let dy: Vec<_> = d[g * len..][..len].iter().zip(w).map(|(d, w)| d * w).collect();
            let a = if centre { dy.iter().sum::<f64>() / len as f64 } else { 0.0 };
            let b = dy.iter().zip(&hat).map(|(d, h)| d * h).sum::<f64>() / len as f64;
            for (j, got) in out[g * len..][..len].iter().enumerate() {
                assert!((got - (dy[j] - a - hat[j] * b) / (var + 1e-3).sqrt()).abs() < 1e-11, "{width}");
            }
        }
    }
}

#[test]
fn a_reciprocal_far_from_one_goes_to_the_exponent() {
    let rows = Rows { width: 4, groups: 1, centre: true, eps: 0.0 };
    let x: Vec<f32> = [1.0, -1.0, 2.0, -2.0].iter().map(|x| x * 2f32.powi(-120)).collect();
    let (mut y, mut kept, mut out, mut e) = (x.clone(), vec![0.0; KEPT], x.clone(), [7i64]);
    forward(rows, &x, &mut y, &mut kept, None, None);
    backward(rows, &[1.0, 0.0, 0.0, 0.5], &x, &kept, None, &mut out, &mut e);
    assert!(e[0] > 100 && out.iter().all(|x| x.is_finite() && x.abs() < 1e10));
}

#[test]
fn moments_join_to_those_of_the_whole() {
    let (width, chunk) = (19, 4);
    let x = numbers::<f32>(11 * width, 0);
    let parts: Vec<Vec<f64>> = x
        .chunks(chunk * width)
        .map(|x| {
            let mut out = vec![0.0; 2 * width];
            let (mean, m2) = out.split_at_mut(width);
            moments(x, mean, m2);
            out
        })
        .collect();
    let rows: Vec<_> = x.chunks(chunk * width).map(|x| x.len() / width).collect();
    let mut out = vec![0.0; 3 * width];
    let mut joined = vec![0.0; 2 * width];
    join_moments(&parts.iter().map(|p| &p[..]).collect::<Vec<_>>(), &rows, &mut joined);
    finish_moments(&joined, 11, 1e-5, &mut out);
    for j in 0..width {
        let column: Vec<f64> = x.iter().skip(j).step_by(width).map(|x| f64::from(*x)).collect();
        let mean = column.iter().sum::<f64>() / 11.0;
        let var = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 11.0;
        assert!((out[j] - mean).abs() < 1e-14 && (out[2 * width + j] - var).abs() < 1e-13 * var);
        assert!((out[width + j] * (var + 1e-5).sqrt() - 1.0).abs() < 1e-14);
    }
}

#[test]
fn columns_back_and_forth_by_hand() {
    let (mean, inv) = ([1.0, 0.0], [0.5, 2.0]);
    let by = Columns { mean: &mean, inv: &inv, weight: Some(&[2.0f32, 1.0][..]), bias: Some(&[0.0, 1.0]) };
    let (x, d) = ([3.0f32, 1.0, -1.0, -1.0], [1.0f32, 2.0, 3.0, 4.0]);
    let (mut y, mut out) = ([0.0f32; 4], [0.0f32; 4]);
    apply(by, &x, &mut y);
    assert_eq!(y, [2.0, 3.0, -2.0, -1.0]);
    let (mut plain, mut along) = ([0.0; 2], [0.0; 2]);
    sums(by, &d, &[1.0, 0.5], &x, &mut plain, &mut along);
    assert_eq!((plain, along), ([2.5, 4.0], [-0.5, 0.0]));
    let shift = columns_backward(
        by,
        &d,
        &[1.0, 0.5],
        &x,
        Some(BatchSums { plain: &[1.0, 2.0], along: &[0.5, 0.0], rows: 2 }),
        &mut out,
    );
    assert_eq!((out, shift), ([0.25, 2.0, 1.25, 2.0], 0));
    columns_backward(by, &d, &[1.0, 1.0], &x, None, &mut out);
    assert_eq!(out, [1.0, 4.0, 3.0, 8.0]);
}

/// What is normalised does not depend on its scale, also where squares leave the range of doubles.
#[test]
fn rows_of_any_scale() {
    for (width, groups, centre) in [(66, 3, true), (37, 1, false), (64, 1, true)] {
        let rows = Rows { width, groups, centre, eps: 0.0 };
        let of = |x: &[f64]| {
            let (mut y, mut kept, mut out) = (x.to_vec(), vec![0.0; 3 * groups * KEPT], x.to_vec());
            forward(rows, x, &mut y, &mut kept, None, None);
            let mut e = vec![0; 3];
            backward(rows, &numbers::<f64>(3 * width, 1), x, &kept, None, &mut out, &mut e);
            (y, out, e)
        };
        let x = numbers::<f64>(3 * width, 0);
        let (y, d, e) = of(&x);
        for k in [-1000, -600, 520, 800, 1010] {
            let large: Vec<f64> = x.iter().map(|x| mul_pow2(*x, k)).collect();
            let (y2, d2, e2) = of(&large);
            assert!(y.iter().zip(&y2).all(|(a, b)| (a - b).abs() < 1e-13), "{width} {k}");
            for (r, (&e, &e2)) in e.iter().zip(&e2).enumerate() {
                let at = r * width..(r + 1) * width;
                let pairs = d[at.clone()].iter().zip(&d2[at]);
                assert!(pairs.into_iter().all(|(a, b)| (a - mul_pow2(*b, e2 - e + k)).abs() < 1e-12), "{width} {k}");
            }
        }
    }
    // Without eps a constant row has no deviation to divide by.
    let (mut y, mut kept) = ([9.0f32; 4], [0.0; 2 * KEPT]);
    forward(Rows { width: 2, groups: 1, centre: true, eps: 0.0 }, &[3.0, 3.0, 0.0, 0.0], &mut y, &mut kept, None, None);
    assert_eq!(y, [0.0; 4]);
}

#[test]
fn a_variance_beyond_doubles_is_no_number() {
    let x = [1e200f64, 1.0, -1e200, 2.0];
    let (mut mean, mut m2, mut out) = ([0.0; 2], [0.0; 2], [0.0; 6]);
    moments(&x, &mut mean, &mut m2);
    finish_moments(&[mean, m2].concat(), 2, 1e-5, &mut out);
    assert!(out[2].is_nan() && out[3] > 0.0);
}
