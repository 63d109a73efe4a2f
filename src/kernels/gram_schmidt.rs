//! kernels: makes vectors orthonormal, by blocked Gram-Schmidt done twice. Knows no initializer.
//!
//! The vectors are the rows of a row-major matrix. Each keeps the sign of its own part that is new, so the result is the
//! Q of the QR decomposition whose R has a positive diagonal. Two rounds bring orthogonality down to rounding errors
//! (Giraud, Langou, Rozloznik, van den Eshof 2005, "Rounding error analysis of the classical Gram-Schmidt
//! orthogonalization process"). All sums have one order, whatever the instruction path.

#![allow(clippy::needless_range_loop)] // reason: register tiles are indexed by row and column

use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// Vectors that are treated together: they stay in a near cache while all earlier ones pass by.
const PANEL: usize = 16;
/// Vectors whose products with others are formed together.
const TILE: usize = 4;

struct Orthonormalise<'a> {
    v: &'a mut [f64],
    len: usize,
    /// A row whose new part is no larger than this share of it becomes zeros.
    share: Option<f64>,
}

/// Makes the rows of length `len` in `v` orthonormal, first to last; there are at most `len` of them and they are
/// linearly independent. A row that depends on earlier ones becomes NaN or noise.
pub fn orthonormalise(v: &mut [f64], len: usize) {
    any(v, len, None);
}

/// The same for rows that may depend on each other: one whose part that is new is at most `share` of it, and so cannot be
/// told from a rounding error, becomes zeros and changes nothing for the rows behind it. A row that is not finite becomes
/// NaN.
pub fn orthonormalise_new(v: &mut [f64], len: usize, share: f64) {
    any(v, len, Some(share));
}

fn any(v: &mut [f64], len: usize, share: Option<f64>) {
    assert!(
        len > 0 && v.len().is_multiple_of(len) && v.len() / len <= len,
        "gram_schmidt: more rows than their length"
    );
    // Zeros at the end of each row change nothing and spare every loop its remainder.
    let padded = len.next_multiple_of(8);
    if padded == len {
        return dispatch(Orthonormalise { v, len, share });
    }
    let mut wide = vec![0.0; v.len() / len * padded];
    for (w, row) in wide.chunks_exact_mut(padded).zip(v.chunks_exact(len)) {
        w[..len].copy_from_slice(row);
    }
    dispatch(Orthonormalise { v: &mut wide, len: padded, share });
    for (w, row) in wide.chunks_exact(padded).zip(v.chunks_exact_mut(len)) {
        row.copy_from_slice(&w[..len]);
    }
}

impl Kernel for Orthonormalise<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { v, len, share } = self;
        let count = v.len() / len;
        let mut given = [0.0; PANEL];
        let mut s = vec![0.0; PANEL * count];
        for first in (0..count).step_by(PANEL) {
            let (done, rest) = v.split_at_mut(first * len);
            let rows = PANEL.min(count - first);
            let panel = &mut rest[..rows * len];
            for (j, row) in panel.chunks_exact(len).enumerate().filter(|_| share.is_some()) {
                products::<I, 1, 1>(row, row, len, &mut given[j..], 1);
            }
            for round in 0..2 {
                project::<I>(done, panel, len, &mut s);
                for j in 0..rows {
                    let (before, from) = panel.split_at_mut(j * len);
                    let row = &mut from[..len];
                    project::<I>(before, row, len, &mut s);
                    let mut norm = [0.0];
                    products::<I, 1, 1>(row, row, len, &mut norm, 1);
                    if let Some(share) = share {
                        let lost = given[j].is_finite() && norm[0] <= share * share * given[j];
                        if lost && round == 0 {
                            row.fill(0.0);
                        }
                        if lost && round == 0 || norm[0] == 0.0 {
                            continue;
                        }
                    }
                    let f = 1.0 / norm[0].sqrt();
                    row.iter_mut().for_each(|x| *x *= f);
                }
            }
        }
    }
}

/// Takes from each row of `v` its components along the rows of `q`: the products first, then one subtraction.
#[inline(always)]
fn project<I: Isa>(q: &[f64], v: &mut [f64], len: usize, s: &mut [f64]) {
    let (m, n) = (q.len() / len, v.len() / len);
    let (whole, group) = (n - n % TILE, TILE * len);
    for i in (0..m - m % TILE).step_by(TILE) {
        let qs = &q[i * len..][..group];
        for r in (0..whole).step_by(TILE) {
            products::<I, TILE, TILE>(&v[r * len..][..group], qs, len, &mut s[r * m + i..], m);
        }
        for r in whole..n {
            products::<I, 1, TILE>(&v[r * len..][..len], qs, len, &mut s[r * m + i..], m);
        }
    }
    for i in m - m % TILE..m {
        let one = &q[i * len..][..len];
        for r in 0..n {
            products::<I, 1, 1>(&v[r * len..][..len], one, len, &mut s[r * m + i..], m);
        }
    }
    const MANY: usize = 2 * TILE;
    for i in (0..m - m % MANY).step_by(MANY) {
        let qs = &q[i * len..][..MANY * len];
        for r in (0..whole).step_by(TILE) {
            subtract::<I, TILE, MANY>(&mut v[r * len..][..group], qs, len, &s[r * m + i..], m);
        }
        for r in whole..n {
            subtract::<I, 1, MANY>(&mut v[r * len..][..len], qs, len, &s[r * m + i..], m);
        }
    }
    for i in m - m % MANY..m {
        let one = &q[i * len..][..len];
        for r in 0..n {
            subtract::<I, 1, 1>(&mut v[r * len..][..len], one, len, &s[r * m + i..], m);
        }
    }
}

/// Lane group `at` of row `row`.
#[inline(always)]
fn get<I: Isa>(rows: &[f64], len: usize, row: usize, at: usize) -> I::F64 {
    debug_assert!((row + 1) * len <= rows.len() && at + I::F64::LANES <= len);
    // SAFETY: the callers assert the number of rows and step through a length that is a multiple of the lanes.
    unsafe { I::F64::load(rows.as_ptr().add(row * len + at)) }
}

/// `s[r * stride + c] = v[r] . q[c]`
#[inline(always)]
fn products<I: Isa, const R: usize, const C: usize>(v: &[f64], q: &[f64], len: usize, s: &mut [f64], stride: usize) {
    assert!(v.len() == R * len && q.len() == C * len && len.is_multiple_of(I::F64::LANES));
    let mut sum = [[I::F64::zero(); C]; R];
    for at in (0..len).step_by(I::F64::LANES) {
        let mut b = [I::F64::zero(); C];
        for c in 0..C {
            b[c] = get::<I>(q, len, c, at);
        }
        for r in 0..R {
            let a = get::<I>(v, len, r, at);
            for c in 0..C {
                sum[r][c] = a.fma(b[c], sum[r][c]);
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            let mut a = [0.0; 8];
            // SAFETY: a vector of doubles has eight lanes.
            unsafe { sum[r][c].store(a.as_mut_ptr()) };
            s[r * stride + c] = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
        }
    }
}

/// `v[r] -= sum over c of s[r * stride + c] q[c]`, in the order of c.
#[inline(always)]
fn subtract<I: Isa, const R: usize, const C: usize>(v: &mut [f64], q: &[f64], len: usize, s: &[f64], stride: usize) {
    assert!(v.len() == R * len && q.len() == C * len && len.is_multiple_of(I::F64::LANES));
    let mut f = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            f[r][c] = -s[r * stride + c];
        }
    }
    for at in (0..len).step_by(I::F64::LANES) {
        let mut b = [I::F64::zero(); C];
        for c in 0..C {
            b[c] = get::<I>(q, len, c, at);
        }
        for r in 0..R {
            let mut x = get::<I>(v, len, r, at);
            for c in 0..C {
                x = I::F64::splat(f[r][c]).fma(b[c], x);
            }
            // SAFETY: as in `get`.
            unsafe { x.store(v.as_mut_ptr().add(r * len + at)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::rng::{Key, Law, fill};
    use crate::num::simd::{available, dispatch_on};

    fn normal(n: usize, seed: u64) -> Vec<f64> {
        let mut v = vec![0.0; n];
        fill(&mut v, Key { seed, tensor: 0, layer: 0 }, 0, 0, Law::Normal, 1.0, 0.0);
        v
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn rows_become_orthonormal_with_a_positive_diagonal() {
        for (count, len) in [(1, 1), (1, 9), (2, 2), (5, 7), (16, 16), (17, 40), (33, 33), (64, 64), (150, 150)] {
            let a = normal(count * len, (count * len) as u64);
            let mut q = a.clone();
            orthonormalise(&mut q, len);
            for i in 0..count {
                for j in 0..=i {
                    let d = dot(&q[i * len..][..len], &q[j * len..][..len]) - f64::from(u8::from(i == j));
                    assert!(d.abs() < 1e-14, "{count} x {len}: ({i}, {j}) {d:e}");
                    // a = R^T q with R upper triangular: a_j has no part along q_i for i > j.
                    let r = dot(&q[i * len..][..len], &a[j * len..][..len]);
                    assert!(if i == j { r > 0.0 } else { r.abs() < 1e-12 }, "{count} x {len}: R ({j}, {i}) {r:e}");
                }
            }
        }
    }

    #[test]
    fn nearly_dependent_rows_stay_orthonormal() {
        let len = 24;
        let mut v = normal(3 * len, 5);
        let (head, last) = v.split_at_mut(2 * len);
        for (i, x) in last.iter_mut().enumerate() {
            *x = head[i] - 2.0 * head[len + i] + 1e-9 * *x;
        }
        orthonormalise(&mut v, len);
        for j in 0..2 {
            assert!(dot(&v[2 * len..], &v[j * len..][..len]).abs() < 1e-14);
        }
    }

    #[test]
    fn a_row_that_depends_on_others_becomes_zeros_and_leaves_the_rest_alone() {
        let (count, len) = (20, 24);
        let a = normal(count * len, 7);
        let mut without = a.clone();
        orthonormalise(&mut without, len);
        for (at, of) in [(1, 0), (5, 3), (18, 2), (19, 17)] {
            let mut v = a[..at * len].to_vec();
            v.extend(a[of * len..(of + 1) * len].iter().map(|x| 3.0 * x));
            v.extend_from_slice(&a[at * len..(count - 1) * len]);
            orthonormalise_new(&mut v, len, 24.0 * f64::EPSILON);
            let (front, back) = v.split_at(at * len);
            assert!(back[..len].iter().all(|&x| x == 0.0), "row {at}");
            for (x, y) in front.iter().chain(&back[len..]).zip(&without) {
                assert!((x - y).abs() < 1e-13, "row {at}");
            }
        }
    }

    #[test]
    fn rows_of_zeros_stay_and_rows_that_are_not_finite_become_nan() {
        let mut v = normal(3 * 8, 1);
        v[..8].fill(0.0);
        v[8] = f64::INFINITY;
        orthonormalise_new(&mut v, 8, 1e-14);
        assert!(v[..8].iter().all(|&x| x == 0.0));
        assert!(v[8..].iter().any(|x| x.is_nan()));
    }

    #[test]
    fn paths_agree() {
        for (count, len, share) in [(20, 48, None), (40, 40, None), (20, 48, Some(1e-14)), (40, 40, Some(1e-14))] {
            let mut a = normal(count * len, 3);
            if share.is_some() {
                // Row 17, in the second panel, is row 2 again.
                a.copy_within(2 * len..3 * len, 17 * len);
            }
            let all: Vec<Vec<u64>> = available()
                .into_iter()
                .map(|p| {
                    let mut v = a.clone();
                    dispatch_on(p, Orthonormalise { v: &mut v, len, share });
                    v.iter().map(|x| x.to_bits()).collect()
                })
                .collect();
            assert!(all.iter().all(|x| *x == all[0]));
        }
    }
}
