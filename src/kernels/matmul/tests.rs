//! kernels: the product against a plain triple loop, bit for bit, over odd shapes and all paths.

use super::{Matrix, Scratch, Start, product_on};
use crate::num::real::Real;
use crate::num::simd::available;
use proptest::prelude::*;

fn noise<T: Real>(n: usize, seed: u64) -> Vec<T> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            T::from_f64((s >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        })
        .collect()
}

/// The slow readable oracle.
fn oracle<T: Real>((m, n, k): (usize, usize, usize), a: Matrix<'_, T>, b: Matrix<'_, T>, c0: &[T]) -> Vec<T> {
    let mut c = c0.to_vec();
    for r in 0..m {
        for j in 0..n {
            for i in 0..k {
                c[r * n + j] = a.data[r * a.row + i * a.col].fma(b.data[i * b.row + j * b.col], c[r * n + j]);
            }
        }
    }
    c
}

fn check<T: Real>(m: usize, n: usize, k: usize, seed: u64) {
    let (a, b, bias) = (noise::<T>(m * k, seed), noise::<T>(k * n, seed + 1), noise::<T>(n, seed + 2));
    let old = noise::<T>(m * n, seed + 3);
    let mut scratch = Scratch::default();
    for (av, bv) in [
        (Matrix::rows(&a, k), Matrix::columns(&b, k)),
        (Matrix::rows(&a, k), Matrix::rows(&b, n)),
        (Matrix::columns(&a, m), Matrix::rows(&b, n)),
    ] {
        let rows: Vec<T> = (0..m).flat_map(|_| bias.iter().copied()).collect();
        for (start, c0) in
            [(Start::Zero, vec![T::ZERO; m * n]), (Start::Row(&bias[..]), rows.clone()), (Start::Output, old.clone())]
        {
            let want = oracle((m, n, k), av, bv, &c0);
            for path in available() {
                let mut c = old.clone();
                let mut claimed = noise::<T>(seed as usize % 97, seed);
                let before: Vec<_> = claimed.iter().map(|x| x.bits()).collect();
                product_on(path, (m, n, k), av, bv, start, (&mut c, &mut claimed), &mut scratch);
                assert!(claimed.iter().map(|x| x.bits()).eq(before), "what is claimed keeps its values");
                for (i, (x, y)) in c.iter().zip(&want).enumerate() {
                    assert_eq!(x.bits(), y.bits(), "{path:?} {m}x{n}x{k} {} at {i}: {x} is not {y}", T::NAME);
                }
            }
        }
    }
}

#[test]
fn edges() {
    for (m, n, k) in [(1, 1, 1), (1, 1, 515), (3, 5, 2), (16, 64, 64), (17, 33, 515), (1, 130, 7), (29, 17, 16)] {
        check::<f32>(m, n, k, 7);
        check::<f64>(m, n, k, 8);
    }
}

/// Shapes whose B is read as it lies, where it is contiguous down its columns; the last are just too large for that.
#[test]
fn few_rows() {
    for (m, n, k) in
        [(16, 64, 64), (8, 16, 7), (8, 24, 33), (32, 64, 70), (16, 48, 1), (16, 32, 256), (16, 32, 257), (48, 96, 5)]
    {
        check::<f32>(m, n, k, 11);
        check::<f64>(m, n, k, 12);
    }
}

/// Shapes at which A is packed and chains are continued in a second round; A's rows a power of two apart.
#[test]
fn large() {
    for (m, n, k) in [(270, 140, 300), (30, 144, 512), (257, 16, 256)] {
        check::<f32>(m, n, k, 9);
        check::<f64>(m, n, k, 10);
    }
}

#[test]
fn nothing_to_sum_leaves_the_start() {
    check::<f32>(4, 20, 0, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape(m in 1usize..40, n in 1usize..150, k in 1usize..70, seed in 1u64..1000) {
        check::<f32>(m, n, k, seed);
        check::<f64>(m, n, k, seed);
    }
}

/// The `gemm` crate is an independent implementation: same values up to its own order of summation.
#[test]
fn agrees_with_an_independent_crate() {
    let (m, n, k) = (37, 53, 129);
    let (a, b) = (noise::<f64>(m * k, 3), noise::<f64>(k * n, 4));
    let (mut ours, mut theirs) = (vec![0.0; m * n], vec![0.0; m * n]);
    super::product(
        (m, n, k),
        Matrix::rows(&a, k),
        Matrix::rows(&b, n),
        Start::Zero,
        &mut ours,
        &mut Scratch::default(),
    );
    // SAFETY: strides and sizes describe the three slices above exactly.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            theirs.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            1,
            n as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
    let scale = ours.iter().fold(0.0f64, |s, x| s.max(x.abs()));
    assert!(ours.iter().zip(&theirs).all(|(x, y)| (x - y).abs() <= 1e-14 * scale));
}
