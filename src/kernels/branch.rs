//! kernels: where branches meet: gated mixes and their reverse, scaled branches, dropped units, inner products. Know rows
//! of mantissas with exponents; no layers.

use super::delta::{BAND, normalise, on_grid, rescale};
use crate::num::real::Real;
use crate::num::scaled::{exponent, mul_pow2, pow2};
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// What a gate mixes, (rows, width) each: `y = t h + c x`.
#[derive(Clone, Copy)]
pub struct Mix<'a, T> {
    /// x
    pub x: &'a [T],
    /// t
    pub t: &'a [T],
    /// h
    pub h: &'a [T],
    /// c; none where it is `1 - t`.
    pub carry: Option<&'a [T]>,
    /// The slope of t, a sigmoid: `t (1 - t)`.
    pub slope: &'a [T],
}

/// `1 - t` with its relative accuracy, also where t is near one: there it is the slope over t.
#[inline(always)]
fn rest<V: Vector>(t: V, slope: V) -> V {
    V::select(t.lt(V::c(0.5)), V::c(1.0).sub(t), slope.div(t))
}

/// Loads `len` elements at `i`.
///
/// # Safety
/// `i + len <= s.len()` and `len <= LANES`.
#[inline(always)]
unsafe fn at<V: Vector>(s: &[V::Elem], i: usize, len: usize) -> V {
    // SAFETY: the caller vouches for the range.
    unsafe { V::load_some(s.as_ptr().add(i), len) }
}

struct Forward<'a, T> {
    mix: Mix<'a, T>,
    y: &'a mut [T],
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { mix, y } = self;
        let n = T::V::<I>::LANES;
        let mut i = 0;
        while i < y.len() {
            let len = n.min(y.len() - i);
            // SAFETY: `gate_forward` checked that all slices have y's length.
            unsafe {
                let (x, t, h): (T::V<I>, T::V<I>, T::V<I>) = (at(mix.x, i, len), at(mix.t, i, len), at(mix.h, i, len));
                let c = match mix.carry {
                    Some(c) => at(c, i, len),
                    None => rest(t, at(mix.slope, i, len)),
                };
                t.fma(h, c.mul(x)).store_some(y.as_mut_ptr().add(i), len);
            }
            i += n;
        }
    }
}

impl<T> Mix<'_, T> {
    fn check(&self, n: usize) {
        let fits = [self.x, self.t, self.h, self.slope].iter().all(|s| s.len() >= n);
        assert!(fits && self.carry.is_none_or(|c| c.len() >= n), "gate: a slice is too short");
    }
}

/// `y = t h + c x`. Shapes: all (rows, width).
pub fn gate_forward<T: Real>(mix: Mix<'_, T>, y: &mut [T]) {
    mix.check(y.len());
    dispatch(Forward { mix, y });
}

/// dL/d(x by the carry path), dL/dt and dL/dh, and dL/dc where c is a branch of its own; (rows, width) each.
pub struct Parts<'a, T> {
    /// dL/dx
    pub x: &'a mut [T],
    /// dL/dt
    pub t: &'a mut [T],
    /// dL/dh
    pub h: &'a mut [T],
    /// dL/dc; empty without one.
    pub c: &'a mut [T],
}

struct Backward<'a, 'b, T> {
    g: &'a [T],
    mix: Mix<'a, T>,
    parts: &'a mut Parts<'b, T>,
    width: usize,
    /// First row.
    first: usize,
    /// Largest magnitudes of x, t, h and c row by row.
    tops: &'a mut [[f64; 4]],
}

impl<T: Real> Kernel for Backward<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { g, mix, parts, width, first, tops } = self;
        let n = T::V::<I>::LANES;
        for (r, row) in tops.iter_mut().enumerate() {
            let mut top = [T::V::<I>::zero(); 4];
            let mut j = 0;
            while j < width {
                let (i, len) = ((first + r) * width + j, n.min(width - j));
                // SAFETY: `gate_backward` checked that all slices hold rows * width elements.
                unsafe {
                    let (g, x): (T::V<I>, T::V<I>) = (at(g, i, len), at(mix.x, i, len));
                    let (t, h): (T::V<I>, T::V<I>) = (at(mix.t, i, len), at(mix.h, i, len));
                    let (c, dt) = match mix.carry {
                        Some(c) => (at(c, i, len), g.mul(h)),
                        None => (rest(t, at(mix.slope, i, len)), g.mul(h.sub(x))),
                    };
                    let (dx, dh) = (g.mul(c), g.mul(t));
                    dx.store_some(parts.x.as_mut_ptr().add(i), len);
                    dt.store_some(parts.t.as_mut_ptr().add(i), len);
                    dh.store_some(parts.h.as_mut_ptr().add(i), len);
                    top[0] = dx.abs().max(top[0]);
                    top[1] = dt.abs().max(top[1]);
                    top[2] = dh.abs().max(top[2]);
                    if mix.carry.is_some() {
                        let dc = g.mul(x);
                        dc.store_some(parts.c.as_mut_ptr().add(i), len);
                        top[3] = dc.abs().max(top[3]);
                    }
                }
                j += n;
            }
            *row = [top[0].top().to_f64(), top[1].top().to_f64(), top[2].top().to_f64(), top[3].top().to_f64()];
        }
    }
}

/// A product of a gradient in its band whose largest entry lies outside of this has been, or nearly been, through the
/// ends of the type's range.
fn safe<T: Real>(largest: f64) -> bool {
    let room = i64::from(T::BIAS) - 32;
    (pow2(-room)..pow2(room)).contains(&largest)
}

/// `out = a * b` for one row, once more in double with exponents of its own where the type's range may have spoilt it,
/// and then in its band. Returns what to add to the row's exponent.
fn settle<T: Real>(out: &mut [T], top: f64, a: &[T], b: impl Fn(usize) -> f64) -> i64 {
    if safe::<T>(top) {
        return rescale(out, top);
    }
    let size = |x: f64, m: f64| if x.is_finite() && x.abs() > m { x.abs() } else { m };
    let a_top = a.iter().fold(0.0, |m, x| size(x.to_f64(), m));
    let b_top = (0..a.len()).fold(0.0, |m, j| size(b(j), m));
    if a_top == 0.0 || b_top == 0.0 {
        return 0;
    }
    let (ka, kb) = (exponent(a_top), exponent(b_top));
    let mut products: Vec<f64> =
        a.iter().enumerate().map(|(j, x)| mul_pow2(x.to_f64(), -ka) * mul_pow2(b(j), -kb)).collect();
    let top = products.iter().fold(0.0, |m, &x| size(x, m));
    let shift = if top == 0.0 { 0 } else { exponent(top) };
    let k = on_grid(ka + kb + shift);
    for (o, p) in out.iter_mut().zip(&mut products) {
        *o = T::from_f64(mul_pow2(*p, ka + kb - k));
    }
    k
}

/// The reverse of [`gate_forward`]: `dx = c g`, `dt = (h - x) g`, `dh = t g`; with a carry branch `dt = h g`, `dc = x g`.
/// `g`: (rows, width), each row in its band. `e`: what each row's exponents of x, t, h and c rise by, (rows,).
pub fn gate_backward<T: Real>(g: &[T], mix: Mix<'_, T>, mut parts: Parts<'_, T>, width: usize, e: &mut [[i64; 4]]) {
    let n = e.len() * width;
    mix.check(n);
    let c = if mix.carry.is_some() { n } else { 0 };
    let fits = [(&parts.x, n), (&parts.t, n), (&parts.h, n), (&parts.c, c)].iter().all(|(s, n)| s.len() >= *n);
    assert!(fits && g.len() >= n, "gate: a slice is too short");
    // Some rows at a time, so that what is known of them needs no memory of its own.
    let mut tops = [[0.0f64; 4]; ROWS];
    for (first, e) in e.chunks_mut(ROWS).enumerate().map(|(i, e)| (i * ROWS, e)) {
        let tops = &mut tops[..e.len()];
        dispatch(Backward { g, mix, parts: &mut parts, width, first, tops });
        settle_rows(g, mix, &mut parts, width, first, tops, e);
    }
}

/// Rows whose largest magnitudes are kept at a time.
const ROWS: usize = 32;

/// Brings rows from `first` on into their bands.
fn settle_rows<T: Real>(
    g: &[T],
    mix: Mix<'_, T>,
    parts: &mut Parts<'_, T>,
    width: usize,
    first: usize,
    tops: &[[f64; 4]],
    e: &mut [[i64; 4]],
) {
    for (r, (tops, e)) in tops.iter().zip(e).enumerate() {
        let r = first + r;
        let at = r * width..(r + 1) * width;
        let row = |s: &[T], j: usize| s[at.start + j].to_f64();
        let g = &g[at.clone()];
        let rest = |j: usize| {
            let t = row(mix.t, j);
            if t < 0.5 { 1.0 - t } else { row(mix.slope, j) / t }
        };
        e[0] = match mix.carry {
            Some(c) => settle(&mut parts.x[at.clone()], tops[0], g, |j| row(c, j)),
            None => settle(&mut parts.x[at.clone()], tops[0], g, rest),
        };
        e[1] = match mix.carry {
            Some(_) => settle(&mut parts.t[at.clone()], tops[1], g, |j| row(mix.h, j)),
            None => settle(&mut parts.t[at.clone()], tops[1], g, |j| row(mix.h, j) - row(mix.x, j)),
        };
        e[2] = settle(&mut parts.h[at.clone()], tops[2], g, |j| row(mix.t, j));
        if mix.carry.is_some() {
            e[3] = settle(&mut parts.c[at.clone()], tops[3], g, |j| row(mix.x, j));
        }
    }
}

struct Times<'a, T> {
    row: &'a mut [T],
    factor: T,
}

impl<T: Real> Kernel for Times<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let n = T::V::<I>::LANES;
        let f = T::V::<I>::splat(self.factor);
        for part in self.row.chunks_mut(n) {
            // SAFETY: the part has as many elements as it says.
            unsafe { T::V::<I>::load_some(part.as_ptr(), part.len()).mul(f).store_some(part.as_mut_ptr(), part.len()) };
        }
    }
}

/// Multiplies a row of a gradient whose largest magnitude is known by any number, and keeps it in its band. Returns what
/// to add to the row's exponent.
pub fn scale_row<T: Real>(row: &mut [T], largest: f64, factor: f64) -> i64 {
    let mut k = 0;
    let mut f = factor;
    if f != 0.0 && f.is_finite() && exponent(f).abs() > BAND {
        // The row may hold no more than its band; the rest of the factor goes into the exponent.
        k = on_grid(exponent(f));
        f = mul_pow2(f, -k);
    }
    let mut largest = largest;
    if !(pow2(-2 * BAND)..pow2(2 * BAND)).contains(&largest) {
        let m = rescale(row, largest);
        largest = mul_pow2(largest, -m);
        k += m;
    }
    if f != 1.0 {
        dispatch(Times { row: &mut *row, factor: T::from_f64(f) });
    }
    k + rescale(row, largest * T::from_f64(f).to_f64().abs())
}

struct Join<'a, T> {
    x: &'a [T],
    gain: Option<T>,
    f: &'a [T],
    a: T,
    y: &'a mut [T],
}

impl<T: Real> Kernel for Join<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { x, gain, f, a, y } = self;
        let a = T::V::<I>::splat(a);
        let mut i = 0;
        while i < y.len() {
            let left = y.len() - i;
            // SAFETY: `join` checked that all three are of one length, of which `left` elements remain.
            unsafe {
                let mut v = T::V::<I>::load_some(x.as_ptr().add(i), left);
                if let Some(gain) = gain {
                    v = v.mul(T::V::<I>::splat(gain));
                }
                let f = T::V::<I>::load_some(f.as_ptr().add(i), left);
                a.fma(f, v).store_some(y.as_mut_ptr().add(i), left);
            }
            i += T::V::<I>::LANES;
        }
    }
}

/// `y = gain x + a f`, rounded after each of the two. Shapes: of one length.
pub fn join<T: Real>((gain, x): (f64, &[T]), (a, f): (f64, &[T]), y: &mut [T]) {
    assert!(x.len() == y.len() && f.len() == y.len(), "a sum of two arrays of one shape");
    let gain = (gain != 1.0).then(|| T::from_f64(gain));
    dispatch(Join { x, gain, f, a: T::from_f64(a), y });
}

/// `y = gain x`. Shapes: of one length.
pub fn times<T: Real>(y: &mut [T], gain: f64, x: &[T]) {
    y.copy_from_slice(x);
    if gain != 1.0 {
        dispatch(Times { row: y, factor: T::from_f64(gain) });
    }
}

struct Largest<'a, T>(&'a [T]);

impl<T: Real> Kernel for Largest<'_, T> {
    type Out = f64;
    #[inline(always)]
    fn run<I: Isa>(self) -> f64 {
        let mut top = T::V::<I>::zero();
        for part in self.0.chunks(T::V::<I>::LANES) {
            // SAFETY: the part has as many elements as it says.
            top = unsafe { T::V::<I>::load_some(part.as_ptr(), part.len()) }.abs().max(top);
        }
        top.top().to_f64()
    }
}

/// The largest magnitude; NaN entries do not count.
pub fn largest_of<T: Real>(row: &[T]) -> f64 {
    dispatch(Largest(row))
}

struct Dot<'a, T> {
    a: &'a [T],
    b: &'a [T],
}

impl<T: Real> Kernel for Dot<'_, T> {
    type Out = f64;
    #[inline(always)]
    fn run<I: Isa>(self) -> f64 {
        let n = T::V::<I>::LANES;
        let zero = <T::V<I> as Vector>::Wide::zero();
        let mut sums = [zero; 2];
        for (a, b) in self.a.chunks(n).zip(self.b.chunks(n)) {
            // SAFETY: both parts have `a.len()` elements: the rows are of one length.
            let (a, b): (T::V<I>, T::V<I>) = unsafe { (at(a, 0, a.len()), at(b, 0, b.len())) };
            let (a, b) = (a.widen(), b.widen());
            for h in 0..if n == 16 { 2 } else { 1 } {
                sums[h] = a[h].fma(b[h], sums[h]);
            }
        }
        sums[0].add(sums[1]).total()
    }
}

/// The inner product of two rows of one length as a double and an exponent of two.
pub fn inner_product<T: Real>(a: &[T], b: &[T]) -> (f64, i64) {
    assert_eq!(a.len(), b.len(), "inner product: rows of one length");
    let sum = dispatch(Dot { a, b });
    // A float32's products never leave the range of a double.
    if T::MANTISSA_BITS == 23 || (1e-280..1e280).contains(&sum.abs()) || sum.is_nan() {
        return (sum, 0);
    }
    let lifted = |x: &[T]| {
        let top = x.iter().fold(0.0f64, |m, x| if x.finite() { m.max(x.to_f64().abs()) } else { m });
        let k = if top == 0.0 { 0 } else { exponent(top) };
        let mut y = x.to_vec();
        normalise(&mut y, k);
        (y, k)
    };
    let ((a, ka), (b, kb)) = (lifted(a), lifted(b));
    (dispatch(Dot { a: &a, b: &b }), ka + kb)
}

/// What dropout multiplies units by: `1 / (1 - p)` where their number in (0, 1) is at least `p`, else zero.
/// Shapes: of one length.
pub fn drop_factors<T: Real>(numbers: &[f32], p: f64, factors: &mut [T]) {
    let keep = T::from_f64(1.0 / (1.0 - p));
    // The least float32 that is no less than p: comparing in float32 then decides as in double precision.
    let near = p as f32;
    let limit = if f64::from(near) < p { near.next_up() } else { near };
    for (f, &u) in factors.iter_mut().zip(numbers) {
        *f = if u >= limit { keep } else { T::ZERO };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix<'a, T>(x: &'a [T], t: &'a [T], h: &'a [T], slope: &'a [T]) -> Mix<'a, T> {
        Mix { x, t, h, carry: None, slope }
    }

    #[test]
    fn a_closed_gate_is_the_identity_and_an_open_one_lets_a_trace_by() {
        let mut y = [0.0f32; 3];
        let (x, h) = ([1.5f32, -2.0, 3.0e-20], [7.0f32, 8.0, 9.0]);
        gate_forward(mix(&x, &[0.0; 3], &h, &[0.0; 3]), &mut y);
        assert_eq!(y, x);
        // A gate of 1 - 1e-20 is 1 in float32; its slope still knows.
        gate_forward(mix(&[1.0f32], &[1.0], &[0.0], &[1e-20]), &mut y[..1]);
        assert_eq!(y[0], 1e-20);
    }

    #[test]
    fn gradients_at_the_ends_of_the_range_are_kept() {
        let (g, x, t, h) = ([2f32.powi(-30); 2], [0.0f32; 2], [2f32.powi(-140); 2], [3.0e38f32, 1.0]);
        let (mut dx, mut dt, mut dh) = ([0.0f32; 2], [0.0f32; 2], [0.0f32; 2]);
        let mut e = [[0; 4]];
        let parts = Parts { x: &mut dx, t: &mut dt, h: &mut dh, c: &mut [] };
        gate_backward(&g, mix(&x, &t, &h, &t), parts, 2, &mut e);
        assert_eq!(mul_pow2(f64::from(dh[0]), e[0][2]), pow2(-170));
        assert_eq!(mul_pow2(f64::from(dt[0]), e[0][1]), f64::from(3.0e38f32) * pow2(-30));
        assert_eq!(mul_pow2(f64::from(dx[1]), e[0][0]), pow2(-30));
    }

    #[test]
    fn scaling_by_any_number_is_exact_in_powers_of_two() {
        for factor in [1.0, 0.0, -0.5, pow2(-900), pow2(700)] {
            let mut row = [3.0f32, -1.0];
            let k = scale_row(&mut row, 3.0, factor);
            assert_eq!(mul_pow2(f64::from(row[0]), k), 3.0 * factor);
        }
    }

    #[test]
    fn inner_products_beyond_a_double() {
        let (s, e) = inner_product(&[1e-200f64, 0.0], &[3e-200, 1.0]);
        let expected = mul_pow2(3e-200, 700) * mul_pow2(1e-200, 700);
        assert!((mul_pow2(s, e + 1400) / expected - 1.0).abs() < 1e-15);
        assert_eq!(inner_product(&[1.0f32, 2.0], &[3.0, 4.0]), (11.0, 0));
    }

    #[test]
    fn dropped_units_have_no_factor_and_the_others_a_larger_one() {
        let mut f = [0.0f64; 4];
        drop_factors(&[0.1, 0.3, 0.299_999_98, 0.9], 0.3, &mut f);
        assert_eq!(f, [0.0, 1.0 / 0.7, 0.0, 1.0 / 0.7]);
    }

    #[test]
    fn sums_of_any_length_round_once() {
        let (f, x): (Vec<f32>, Vec<f32>) = (0..37).map(|i| (1.0 + i as f32, 0.1 * i as f32)).unzip();
        for gain in [1.0f32, 0.7] {
            let expected: Vec<f32> = x.iter().zip(&f).map(|(x, f)| 0.3f32.mul_add(*f, gain * x)).collect();
            let mut y = vec![0.0; 37];
            join((f64::from(gain), &x), (f64::from(0.3f32), &f), &mut y);
            assert_eq!(y, expected);
        }
        assert_eq!(largest_of(&[1.0f32, -7.0, f32::NAN]), 7.0);
    }
}
