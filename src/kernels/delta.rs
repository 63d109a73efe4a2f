//! kernels: the row passes of the backward sweep: slope product, rescaling, joining of paths. Know no layers.

use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, exponent, mul_pow2, pow2, pow2_in};
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// A row's largest magnitude is kept within 2^-BAND ..= 2^BAND. Products with weights and activations then stay far
/// from the ends of float32, and a row is rescaled once in tens of layers.
pub const BAND: i64 = 32;

/// What one pass over a row of a delta yields, in the row's own scale.
#[derive(Clone, Copy, Debug)]
pub struct RowDelta {
    /// Sum of squares of the incoming gradient dL/d(output).
    pub gradient: ScaledSum,
    /// Sum of squares of the delta dL/d(pre-activation).
    pub delta: ScaledSum,
    /// Largest |delta|; NaN entries do not count.
    pub largest: f64,
}

impl Default for RowDelta {
    fn default() -> Self {
        Self { gradient: ScaledSum::default(), delta: ScaledSum::default(), largest: 0.0 }
    }
}

struct Pass<'a, T> {
    g: &'a [T],
    slope: Option<&'a [T]>,
    out: Option<&'a mut [T]>,
    width: usize,
    rows: &'a mut [RowDelta],
    sums: bool,
}

impl<T: Real> Kernel for Pass<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { g, slope, mut out, width, rows, sums } = self;
        for (r, row) in rows.iter_mut().enumerate() {
            let at = r * width;
            let g = &g[at..at + width];
            let slope = slope.map(|s| &s[at..at + width]);
            let out = out.as_mut().map(|o| &mut o[at..at + width]);
            *row = match (slope, sums) {
                (Some(s), true) => one_row::<T, I, true, true>(g, s, out),
                (Some(s), false) => one_row::<T, I, true, false>(g, s, out),
                (None, true) => one_row::<T, I, false, true>(g, g, out),
                (None, false) => one_row::<T, I, false, false>(g, g, out),
            };
        }
    }
}

#[inline(always)]
fn one_row<T: Real, I: Isa, const SLOPE: bool, const SUMS: bool>(
    g: &[T],
    slope: &[T],
    mut out: Option<&mut [T]>,
) -> RowDelta {
    let n = T::V::<I>::LANES;
    let zero = <T::V<I> as Vector>::Wide::zero();
    let (mut g2, mut d2) = ([zero; 2], [zero; 2]);
    let mut top = T::V::<I>::zero();
    let mut i = 0;
    while i < g.len() {
        let len = n.min(g.len() - i);
        // SAFETY: len elements are left in all three slices, which have one length.
        let (x, s) =
            unsafe { (T::V::<I>::load_some(g.as_ptr().add(i), len), T::V::<I>::load_some(slope.as_ptr().add(i), len)) };
        let d = if SLOPE { x.mul(s) } else { x };
        if let Some(out) = &mut out {
            // SAFETY: as above.
            unsafe { d.store_some(out.as_mut_ptr().add(i), len) };
        }
        top = d.abs().max(top);
        if SUMS {
            let (wx, wd) = (x.widen(), d.widen());
            for h in 0..if n == 16 { 2 } else { 1 } {
                g2[h] = wx[h].fma(wx[h], g2[h]);
                if SLOPE {
                    d2[h] = wd[h].fma(wd[h], d2[h]);
                }
            }
        }
        i += n;
    }
    let mut row = RowDelta { largest: top.top().to_f64(), ..RowDelta::default() };
    if SUMS {
        row.gradient = squares_of(g2[0].add(g2[1]).total(), g);
        row.delta = match out {
            Some(out) if SLOPE => squares_of(d2[0].add(d2[1]).total(), out),
            _ => row.gradient,
        };
    }
    row
}

/// The sum of squares as it was added up, or, where a double's range may have spoilt it, once more with scaling.
#[inline(always)]
pub(super) fn squares_of<T: Real>(sum: f64, values: &[T]) -> ScaledSum {
    // Below 1e-280 squares may have been flushed; float32 cannot get there unless all entries are zero.
    if (1e-280..1e300).contains(&sum) || sum.is_nan() { ScaledSum::new(sum, 0) } else { scaled_squares(sum, values) }
}

#[cold]
fn scaled_squares<T: Real>(sum: f64, values: &[T]) -> ScaledSum {
    let largest = values.iter().fold(0.0f64, |m, x| m.max(x.to_f64().abs()));
    if largest == 0.0 || !values.iter().all(|x| x.finite()) {
        return ScaledSum::new(sum, 0);
    }
    let k = exponent(largest);
    let s = values.iter().fold(0.0, |s, x| {
        let y = mul_pow2(x.to_f64(), -k);
        y.mul_add(y, s)
    });
    ScaledSum::new(s, 2 * k)
}

/// `out = g * slope` (or `g`) row by row, with each row's sums of squares (if `sums`) and largest magnitude. Without
/// slopes no place is needed: the sums alone may be wanted.
/// Shapes: `g`, `slope`, `out`: (rows, width).
pub fn delta_rows<T: Real>(
    g: &[T],
    slope: Option<&[T]>,
    out: Option<&mut [T]>,
    width: usize,
    rows: &mut [RowDelta],
    sums: bool,
) {
    let n = rows.len() * width;
    let whole = slope.into_iter().chain(out.as_deref()).all(|s| s.len() >= n);
    assert!(g.len() >= n && whole, "delta rows: a slice is too short");
    assert!(slope.is_none() || out.is_some(), "delta rows: deltas with slopes need a place");
    dispatch(Pass { g, slope, out, width, rows, sums });
}

/// Exponents are changed by multiples of this, so that the rows of a batch, which shrink alike, mostly share one and
/// their products need no alignment.
pub const GRID: i64 = 32;

/// The multiple of [`GRID`] nearest to an exponent.
pub fn on_grid(k: i64) -> i64 {
    (k + GRID / 2).div_euclid(GRID) * GRID
}

/// Rescales a row whose largest magnitude left the band, bringing it to about one: exact, as the factor is a power of
/// two. Returns what to add to the row's exponent, a multiple of [`GRID`].
pub fn rescale<T: Real>(row: &mut [T], largest: f64) -> i64 {
    if largest == 0.0 || !largest.is_finite() {
        return 0;
    }
    let k = exponent(largest);
    if k.abs() < BAND {
        return 0;
    }
    let k = on_grid(k);
    normalise(row, k);
    k
}

/// How far values lie below the range in which processors compute at full speed: the exponent of the largest if all are
/// below 2^-64, else 0. Products with subnormal numbers take a hundred times as long, and lose digits.
pub fn depth_below<T: Real>(x: &[T]) -> i64 {
    // Patterns of magnitudes are ordered as the magnitudes are, and comparing them costs the same for subnormal ones.
    let sign = T::from_f64(-0.0).bits();
    let floor = T::from_f64(5.421_010_862_427_522e-20).bits(); // 2^-64
    if x.iter().any(|v| v.bits() & !sign >= floor) {
        return 0;
    }
    match x.iter().max_by_key(|v| v.bits() & !sign) {
        Some(v) if v.bits() & !sign != 0 => exponent(v.to_f64()),
        _ => 0,
    }
}

/// A whole vector at a time, because a product with subnormal numbers costs a hundred cycles however many it holds.
struct Scale<'a, T> {
    row: &'a mut [T],
    factor: T,
}

impl<T: Real> Kernel for Scale<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let n = T::V::<I>::LANES;
        let f = T::V::<I>::splat(self.factor);
        for part in self.row.chunks_mut(n) {
            // SAFETY: the part has at most LANES elements, all its own.
            unsafe { T::V::<I>::load_some(part.as_ptr(), part.len()).mul(f).store_some(part.as_mut_ptr(), part.len()) };
        }
    }
}

/// Columns of rows, each row times a factor of its own.
struct ScaleRows<'a, T> {
    from: &'a [T],
    row: usize,
    factors: &'a [T],
    to: &'a mut [T],
    width: usize,
}

impl<T: Real> Kernel for ScaleRows<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { from, row, factors, to, width } = self;
        let n = T::V::<I>::LANES;
        for (r, &f) in factors.iter().enumerate() {
            let f = T::V::<I>::splat(f);
            let mut j = 0;
            while j < width {
                let left = n.min(width - j);
                // SAFETY: `scale_rows` checked that row r has `width` elements on both sides, and j + left <= width.
                unsafe {
                    let (p, q) = (from.as_ptr().add(r * row + j), to.as_mut_ptr().add(r * width + j));
                    T::V::<I>::load_some(p, left).mul(f).store_some(q, left);
                }
                j += n;
            }
        }
    }
}

/// `to[r] = from[r] * factors[r]` for the first `width` columns of rows that lie `row` apart. `to`: (rows, width).
pub fn scale_rows<T: Real>(from: &[T], row: usize, factors: &[T], to: &mut [T], width: usize) {
    let rows = factors.len();
    let whole = rows == 0 || (rows - 1) * row + width <= from.len();
    assert!(whole && to.len() >= rows * width, "scale rows: a slice is too short");
    dispatch(ScaleRows { from, row, factors, to, width });
}

/// Multiplies a row by 2^-k, exactly wherever the result is normal.
pub fn normalise<T: Real>(row: &mut [T], k: i64) {
    // Subnormal rows need more than one factor: 2^-k itself may not exist in the type.
    let limit = i64::from(T::BIAS) - 1;
    let mut left = -k;
    while left != 0 {
        // The odd part first: it stays in the normal range, so that only the last factor may round.
        let part = if left % limit == 0 { limit * left.signum() } else { left % limit };
        dispatch(Scale { row: &mut *row, factor: pow2_in::<T>(part) });
        left -= part;
    }
}

/// `a += b`, or with factors `a = a fa + b fb`, in double precision.
struct Add<'a, T> {
    a: &'a mut [T],
    b: &'a [T],
    factors: Option<(f64, f64)>,
}

impl<T: Real> Kernel for Add<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (n, len) = (T::V::<I>::LANES, self.a.len());
        let factors = self.factors.map(|(fa, fb)| (splat::<T, I>(fa), splat::<T, I>(fb)));
        let mut i = 0;
        while i < len {
            // SAFETY: `len - i` elements remain of both, which are of one length.
            unsafe {
                let (a, b) = (self.a.as_mut_ptr().add(i), self.b.as_ptr().add(i));
                let (x, y) = (T::V::<I>::load_some(a, len - i), T::V::<I>::load_some(b, len - i));
                let sum = match factors {
                    None => x.add(y),
                    Some((fa, fb)) => {
                        let (mut sum, y) = (x.widen(), y.widen());
                        for h in 0..if n == 16 { 2 } else { 1 } {
                            sum[h] = sum[h].fma(fa, y[h].mul(fb));
                        }
                        T::V::<I>::narrow(sum)
                    }
                };
                sum.store_some(a, len - i);
            }
            i += n;
        }
    }
}

#[inline(always)]
fn splat<T: Real, I: Isa>(x: f64) -> <T::V<I> as Vector>::Wide {
    <T::V<I> as Vector>::Wide::splat(x)
}

/// `a = a fa + b fb`, in double precision and rounded once. Shapes: of one length.
pub fn add_scaled<T: Real>(a: &mut [T], fa: f64, b: &[T], fb: f64) {
    assert_eq!(a.len(), b.len(), "a sum of two arrays of one shape");
    // Of two floats a sum in their own type is as exact.
    let factors = if fa == 1.0 && fb == 1.0 { None } else { Some((fa, fb)) };
    dispatch(Add { a, b, factors });
}

/// Adds two gradients of the same rows that carry their own exponents: `a += b`, row by row, in the larger scale.
/// Shapes: (rows, width); exponents: (rows,).
pub fn join_rows<T: Real>(a: &mut [T], ea: &mut [i64], b: &[T], eb: &[i64], width: usize) {
    let n = width * ea.len();
    assert!(a.len() >= n && b.len() >= n && eb.len() >= ea.len(), "join rows: a slice is too short");
    if ea == eb {
        dispatch(Add { a: &mut a[..n], b: &b[..n], factors: None });
        return;
    }
    for (r, (ea, &eb)) in ea.iter_mut().zip(eb).enumerate() {
        let (a, b) = (&mut a[r * width..][..width], &b[r * width..][..width]);
        if *ea == eb {
            dispatch(Add { a, b, factors: None });
            continue;
        }
        // A zero row has no scale of its own, and must not pull the other's down.
        let is_zero = |v: &[T]| v.iter().all(|x| *x == T::ZERO);
        if is_zero(b) {
            continue;
        }
        let zero = is_zero(a);
        let e = if zero { eb } else { (*ea).max(eb) };
        let fa = if zero { 0.0 } else { pow2(*ea - e) };
        dispatch(Add { a, b, factors: Some((fa, pow2(eb - e))) });
        *ea = e;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_by_hand() {
        let g = [1.0f32, -2.0, 3.0, 0.5, 0.25, 8.0];
        let s = [0.5f32, 1.0, 0.0, 4.0, 1.0, 0.125];
        let (mut out, mut rows) = ([0.0; 6], [RowDelta::default(); 2]);
        delta_rows(&g, Some(&s), Some(&mut out), 3, &mut rows, true);
        assert_eq!(out, [0.5, -2.0, 0.0, 2.0, 0.25, 1.0]);
        assert_eq!(rows[0].gradient.s, 14.0);
        assert_eq!(rows[1].delta.s, 5.0625);
        assert_eq!(rows[1].largest, 2.0);
    }

    #[test]
    fn squares_survive_the_ends_of_a_double() {
        for (x, want) in [(1e200, 200.0), (1e-200, -200.0), (1e-310, -310.0)] {
            let (mut out, mut rows) = ([0.0; 1], [RowDelta::default(); 1]);
            delta_rows(&[x], None, Some(&mut out), 1, &mut rows, true);
            let got = rows[0].delta.log2_sqrt() * std::f64::consts::LOG10_2;
            assert!((got - want).abs() < 1e-9, "{got}");
        }
    }

    #[test]
    fn rows_by_their_factors() {
        let from: Vec<f32> = (0..3 * 40).map(|i| i as f32).collect();
        let mut to = vec![0.0; 3 * 37];
        scale_rows(&from[2..], 40, &[1.0, 0.5, 0.0], &mut to, 37);
        for (r, f) in [1.0, 0.5, 0.0].into_iter().enumerate() {
            assert!((0..37).all(|j| to[r * 37 + j] == f * (r * 40 + j + 2) as f32));
        }
    }

    #[test]
    fn depth_is_told_from_the_largest() {
        assert_eq!(depth_below(&[0.0f32, 1e-30, 1.0]), 0);
        assert_eq!(depth_below(&[0.0f32; 3]), 0);
        assert_eq!(depth_below(&[-0.0f32, 2f32.powi(-140), -2f32.powi(-141)]), -140);
        assert_eq!(depth_below(&[f32::NAN, 2f32.powi(-140)]), 0);
    }

    #[test]
    fn rescaling_and_joining_are_exact() {
        let mut row = [3.0f32 * 2f32.powi(-140), 0.0];
        let largest = f64::from(row[0]);
        let k = rescale(&mut row, largest);
        assert_eq!((row[0], k), (1.5 * 2f32.powi(-11), -128));
        let mut a = [1.5f64, 0.0, 0.0, 0.0];
        let (mut ea, b, eb) = ([-5000i64, 7], [1.0, 1.0, 1.0, 1.0], [-5001i64, -9000]);
        join_rows(&mut a, &mut ea, &b, &eb, 2);
        assert_eq!((a, ea), ([2.0, 0.5, 1.0, 1.0], [-5000, -9000]));
    }
}
