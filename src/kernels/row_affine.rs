//! kernels: rows that are scaled and shifted copies of other rows, and the sums that scale and shift come from.
//! Knows no layers. Sums are doubles: whole vectors first, lanes folded by halves, then what is left one by one.

use super::delta::squares_of;
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, mul_pow2};
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// Sums of one pass over a row `x` beside another, `y`, both seen from a middle: `x - m`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowSums {
    /// Sum of `y`.
    pub sum: f64,
    /// Sum of `(x - m)^2`.
    pub squares: f64,
    /// Sum of `y (x - m)`.
    pub dot: f64,
}

struct Sums<'a, T> {
    x: &'a [T],
    y: &'a [T],
    m: f64,
}

impl<T: Real> Kernel for Sums<'_, T> {
    type Out = RowSums;
    #[inline(always)]
    fn run<I: Isa>(self) -> RowSums {
        let Self { x, y, m } = self;
        let n = T::V::<I>::LANES;
        let halves = if n == 16 { 2 } else { 1 };
        let zero = <T::V<I> as Vector>::Wide::zero();
        let middle = <T::V<I> as Vector>::Wide::splat(m);
        let (mut sum, mut squares, mut dot) = ([zero; 2], [zero; 2], [zero; 2]);
        let whole = x.len() / n * n;
        let mut i = 0;
        while i < whole {
            // SAFETY: n elements remain in both rows, which have one length.
            let (a, b) = unsafe { (T::V::<I>::load(x.as_ptr().add(i)), T::V::<I>::load(y.as_ptr().add(i))) };
            let (a, b) = (a.widen(), b.widen());
            for h in 0..halves {
                let c = a[h].sub(middle);
                sum[h] = sum[h].add(b[h]);
                squares[h] = c.fma(c, squares[h]);
                dot[h] = b[h].fma(c, dot[h]);
            }
            i += n;
        }
        let mut out = RowSums {
            sum: sum[0].add(sum[1]).total(),
            squares: squares[0].add(squares[1]).total(),
            dot: dot[0].add(dot[1]).total(),
        };
        for (a, b) in x[whole..].iter().zip(&y[whole..]) {
            let (c, b) = (a.to_f64() - m, b.to_f64());
            out.sum += b;
            out.squares = c.mul_add(c, out.squares);
            out.dot = b.mul_add(c, out.dot);
        }
        out
    }
}

/// Sums over a row `x` and a row `y` of the same length.
pub fn row_sums<T: Real>(x: &[T], y: &[T], m: f64) -> RowSums {
    assert_eq!(x.len(), y.len(), "row sums: the rows differ in length");
    dispatch(Sums { x, y, m })
}

/// The Euclidean norm of a row, right wherever it is a double; NaN and infinity come through.
pub fn row_norm<T: Real>(x: &[T]) -> f64 {
    let ScaledSum { s, e } = squares_of(row_sums(x, x, 0.0).squares, x);
    // An odd exponent gives half of itself to the significand.
    let odd = e.rem_euclid(2);
    mul_pow2(mul_pow2(s, odd).sqrt(), (e - odd) / 2)
}

struct Affine<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    /// Factors of x and of y, and what is added.
    f: (f64, Option<f64>, f64),
}

impl<T: Real> Kernel for Affine<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { x, y, f: (a, b, c) } = self;
        let n = T::V::<I>::LANES;
        let splat = <T::V<I> as Vector>::Wide::splat;
        let (va, vb, vc) = (splat(a), splat(b.unwrap_or(0.0)), splat(c));
        let mut i = 0;
        while i < x.len() {
            let left = n.min(x.len() - i);
            // SAFETY: `left` elements remain in both rows, which have one length.
            unsafe {
                let load = |p: *const T| if left == n { T::V::<I>::load(p) } else { T::V::<I>::load_partial(p, left) };
                let wx = load(x.as_ptr().add(i)).widen();
                let mut out = wx.map(|w| w.fma(va, vc));
                if b.is_some() {
                    let wy = load(y.as_ptr().add(i)).widen();
                    for h in 0..2 {
                        out[h] = wy[h].fma(vb, out[h]);
                    }
                }
                T::V::<I>::narrow(out).store_partial(y.as_mut_ptr().add(i), left);
            }
            i += n;
        }
    }
}

/// `y = a x + c`, in doubles, rounded once.
pub fn affine<T: Real>(x: &[T], a: f64, c: f64, y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "affine: the rows differ in length");
    dispatch(Affine { x, y, f: (a, None, c) });
}

/// `y = b y + (a x + c)`, in doubles, rounded once: how the gradient of a scaled and shifted row goes back.
pub fn affine_onto<T: Real>(x: &[T], a: f64, c: f64, y: &mut [T], b: f64) {
    assert_eq!(x.len(), y.len(), "affine: the rows differ in length");
    dispatch(Affine { x, y, f: (a, Some(b), c) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_plain_loops() {
        for n in [1usize, 7, 8, 15, 16, 17, 40, 63] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
            let y: Vec<f32> = (0..n).map(|i| (i as f32 * 0.61).cos()).collect();
            let s = row_sums(&x, &y, 0.25);
            let plain = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
                x.iter().zip(&y).map(|(a, b)| f(f64::from(*a) - 0.25, f64::from(*b))).sum()
            };
            for (got, want) in
                [(s.sum, plain(&|_, b| b)), (s.squares, plain(&|a, _| a * a)), (s.dot, plain(&|a, b| a * b))]
            {
                assert!((got - want).abs() <= 1e-13 * (1.0 + want.abs()), "{n}: {got} {want}");
            }
            let mut z = y.clone();
            affine_onto(&x, 0.5, 2.0, &mut z, -3.0);
            let mut w = vec![0.0f32; n];
            affine(&x, 0.5, 2.0, &mut w);
            for i in 0..n {
                let forward = f64::from(x[i]).mul_add(0.5, 2.0);
                assert_eq!(w[i], forward as f32);
                assert_eq!(z[i], f64::from(y[i]).mul_add(-3.0, forward) as f32);
            }
        }
    }

    #[test]
    fn norms_leave_no_range() {
        for k in [-1060i32, -300, -1, 0, 7, 300, 1000] {
            let x = [3.0 * 2f64.powi(k), 0.0, -4.0 * 2f64.powi(k)];
            assert_eq!(row_norm(&x), 5.0 * 2f64.powi(k));
        }
        assert_eq!(row_norm(&[0.0f32; 5]), 0.0);
        assert!(row_norm(&[1.0f32, f32::NAN]).is_nan());
        assert_eq!(row_norm(&[f32::INFINITY, 1.0]), f64::INFINITY);
    }
}
