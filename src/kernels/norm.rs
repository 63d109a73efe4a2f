//! kernels: normalisation of each row by itself (layer, group and RMS normalisation), its way back and the gradients of
//! its gain and shift. Knows no layers.
//!
//! `y = (x - mean) / sqrt(var + eps) * weight + bias`, over groups of neighbouring columns; without centring the mean is
//! taken as zero and the variance about it. Sums are doubles, in an order that depends on the width alone.

use crate::kernels::delta::{BAND, on_grid};
use crate::num::real::Real;
use crate::num::scaled::{exponent, mul_pow2};
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// Numbers kept of a group of a row: its mean and the reciprocal of its deviation, each as itself and what rounding to
/// the network's type took.
pub const KEPT: usize = 4;

/// Groups that are treated together.
const AHEAD: usize = 16;

/// Doubles beside a vector of the network's type.
pub(super) type Pair<T, I> = [<<T as Real>::V<I> as Vector>::Wide; 2];

/// How rows are normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows {
    /// Columns of a row.
    pub width: usize,
    /// Groups of neighbouring columns, each normalised by itself; they divide the width.
    pub groups: usize,
    /// Whether the mean is taken away.
    pub centre: bool,
    /// Added to the variance.
    pub eps: f64,
}

/// The first `left` numbers at `p`, at most a vector of them, as doubles.
///
/// # Safety
/// `p` is valid for reading `left` elements.
#[inline(always)]
pub(super) unsafe fn load<T: Real, I: Isa>(p: *const T, left: usize) -> Pair<T, I> {
    // SAFETY: the caller's promise.
    unsafe { T::V::<I>::load_some(p, left) }.widen()
}

/// Stores the first `left` numbers, rounded.
///
/// # Safety
/// `p` is valid for writing `left` elements.
#[inline(always)]
pub(super) unsafe fn store<T: Real, I: Isa>(v: Pair<T, I>, p: *mut T, left: usize) {
    // SAFETY: the caller's promise.
    unsafe { T::V::<I>::narrow(v).store_some(p, left) }
}

/// What a gain or shift that is not there stands for.
///
/// # Safety
/// `p` is valid for reading `left` elements from j on.
#[inline(always)]
unsafe fn or<T: Real, I: Isa>(p: Option<*const T>, j: usize, left: usize, otherwise: f64) -> Pair<T, I> {
    match p {
        // SAFETY: the caller has `left` elements from j on.
        Some(p) => unsafe { load::<T, I>(p.add(j), left) },
        None => [<T::V<I> as Vector>::Wide::splat(otherwise); 2],
    }
}

/// Lanes past a row's end count nothing: they were loaded as zeros, which a mean would move.
///
/// # Safety
/// `x` is valid for reading `left` elements.
#[inline(always)]
unsafe fn less<T: Real, I: Isa>(x: *const T, left: usize, mean: f64) -> Pair<T, I> {
    let m = <T::V<I> as Vector>::Wide::splat(mean);
    // SAFETY: the caller's promise.
    let mut x = unsafe { load::<T, I>(x, left) };
    if left >= T::V::<I>::LANES {
        return [x[0].sub(m), x[1].sub(m)];
    }
    for (h, x) in x.iter_mut().enumerate() {
        let mut a = [0.0f64; 8];
        // SAFETY: a vector of doubles has eight lanes.
        unsafe { x.sub(m).store(a.as_mut_ptr()) };
        a.iter_mut().skip(left.saturating_sub(8 * h)).for_each(|a| *a = 0.0);
        // SAFETY: as above.
        *x = unsafe { <T::V<I> as Vector>::Wide::load(a.as_ptr()) };
    }
    x
}

struct Forward<'a, T> {
    rows: Rows,
    x: &'a [T],
    y: &'a mut [T],
    kept: &'a mut [T],
    weight: Option<&'a [T]>,
    bias: Option<&'a [T]>,
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { rows: Rows { width, groups, centre, eps }, x, y, kept, weight, bias } = self;
        let (len, n) = (width / groups, T::V::<I>::LANES);
        let halves = if n == 16 { 2 } else { 1 };
        let (weight, bias) = (weight.map(<[T]>::as_ptr), bias.map(<[T]>::as_ptr));
        let zero = <T::V<I> as Vector>::Wide::zero();
        // In passes over some groups at a time: what a group does next waits for sums of itself alone.
        for (first, kept) in kept.chunks_mut(AHEAD * KEPT).enumerate().map(|(i, k)| (i * AHEAD, k)) {
            let count = kept.len() / KEPT;
            let (mut mean, mut inv) = ([0.0; AHEAD], [0.0; AHEAD]);
            // SAFETY: `forward` checked that x and y hold `len` numbers for each entry of `kept`, and the gain and the
            // shift `width`; all offsets stay below `len` within a group.
            unsafe {
                let (x, y) = (x.as_ptr().add(first * len), y.as_mut_ptr().add(first * len));
                for (i, mean) in mean.iter_mut().enumerate().take(if centre { count } else { 0 }) {
                    let (mut s, mut j) = ([zero; 2], 0);
                    while j < len {
                        let v = load::<T, I>(x.add(i * len + j), len - j);
                        for h in 0..halves {
                            s[h] = s[h].add(v[h]);
                        }
                        j += n;
                    }
                    *mean = s[0].add(s[1]).total() / len as f64;
                }
                for (i, inv) in inv.iter_mut().enumerate().take(count) {
                    let (mut s, mut j) = ([zero; 2], 0);
                    while j < len {
                        let v = less::<T, I>(x.add(i * len + j), len - j, mean[i]);
                        for h in 0..halves {
                            s[h] = v[h].fma(v[h], s[h]);
                        }
                        j += n;
                    }
                    *inv = 1.0 / (s[0].add(s[1]).total() / len as f64 + eps).sqrt();
                    if !(*inv > 0.0 && *inv < f64::INFINITY) {
                        // SAFETY: group i lies within x, as above.
                        (mean[i], *inv) = again(std::slice::from_raw_parts(x.add(i * len), len), centre, eps);
                    }
                }
                for (i, kept) in kept.chunks_exact_mut(KEPT).enumerate() {
                    keep(kept, mean[i], inv[i]);
                    let column = (first + i) % groups * len;
                    let (m, f) = (<T::V<I> as Vector>::Wide::splat(mean[i]), <T::V<I> as Vector>::Wide::splat(inv[i]));
                    let mut j = 0;
                    while j < len {
                        let mut v = load::<T, I>(x.add(i * len + j), len - j);
                        let w = or::<T, I>(weight, column + j, len - j, 1.0);
                        let b = or::<T, I>(bias, column + j, len - j, 0.0);
                        for h in 0..halves {
                            v[h] = v[h].sub(m).mul(f).fma(w[h], b[h]);
                        }
                        store::<T, I>(v, y.add(i * len + j), len - j);
                        j += n;
                    }
                }
            }
        }
    }
}

/// Mean and reciprocal deviation of a group whose sums left the range of doubles, with its scale taken out. A group
/// without any deviation has none to divide by: it becomes zeros.
#[cold]
fn again<T: Real>(x: &[T], centre: bool, eps: f64) -> (f64, f64) {
    let largest = x.iter().fold(0.0f64, |m, x| if x.finite() { m.max(x.to_f64().abs()) } else { f64::NAN });
    if largest.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    let k = if largest == 0.0 { 0 } else { exponent(largest) };
    let (n, scaled) = (x.len() as f64, |x: &T| mul_pow2(x.to_f64(), -k));
    let mean = if centre { x.iter().map(scaled).sum::<f64>() / n } else { 0.0 };
    let squares = x.iter().map(|x| (scaled(x) - mean) * (scaled(x) - mean)).sum::<f64>();
    let deviation = (squares / n + mul_pow2(eps, -2 * k)).sqrt();
    (mul_pow2(mean, k), if deviation == 0.0 { 0.0 } else { mul_pow2(1.0 / deviation, -k) })
}

fn keep<T: Real>(kept: &mut [T], mean: f64, inv: f64) {
    for (two, x) in kept.chunks_exact_mut(2).zip([mean, inv]) {
        two[0] = T::from_f64(x);
        let rest = x - two[0].to_f64();
        two[1] = if rest.is_finite() { T::from_f64(rest) } else { T::ZERO };
    }
}

/// The mean and the reciprocal deviation that were kept.
#[inline(always)]
fn recall<T: Real>(kept: &[T]) -> (f64, f64) {
    (kept[0].to_f64() + kept[1].to_f64(), kept[2].to_f64() + kept[3].to_f64())
}

fn check<T>(rows: Rows, x: &[T], kept: &[T], vectors: [Option<&[T]>; 2]) {
    let Rows { width, groups, .. } = rows;
    assert!(groups > 0 && width % groups == 0, "norm: the groups must divide the width");
    assert!(x.len() / width * groups * KEPT == kept.len() && x.len().is_multiple_of(width), "norm: rows differ");
    assert!(vectors.iter().flatten().all(|v| v.len() == width), "norm: gain and shift must be as wide as a row");
}

/// Normalises rows. Shapes: `x`, `y`: (rows, width); `kept`: (rows, groups, KEPT); `weight`, `bias`: (width,).
pub fn forward<T: Real>(rows: Rows, x: &[T], y: &mut [T], kept: &mut [T], weight: Option<&[T]>, bias: Option<&[T]>) {
    check(rows, x, kept, [weight, bias]);
    assert!(x.len() == y.len(), "norm: input and output differ in size");
    dispatch(Forward { rows, x, y, kept, weight, bias });
}

struct Backward<'a, T> {
    rows: Rows,
    delta: &'a [T],
    x: &'a [T],
    kept: &'a [T],
    weight: Option<&'a [T]>,
    out: &'a mut [T],
    e: &'a mut [i64],
}

impl<T: Real> Kernel for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { rows: Rows { width, groups, centre, .. }, delta, x, kept, weight, out, e } = self;
        let (len, n) = (width / groups, T::V::<I>::LANES);
        let halves = if n == 16 { 2 } else { 1 };
        let weight = weight.map(<[T]>::as_ptr);
        let zero = <T::V<I> as Vector>::Wide::zero();
        let mut shift = 0;
        for (first, some) in kept.chunks(AHEAD * KEPT).enumerate().map(|(i, k)| (i * AHEAD, k)) {
            let (mut a, mut b) = ([0.0; AHEAD], [0.0; AHEAD]);
            // SAFETY: `backward` checked that delta, x and out hold `len` numbers for each entry of `kept` and the gain
            // `width`; all offsets stay below `len` within a group.
            unsafe {
                let (d, x) = (delta.as_ptr().add(first * len), x.as_ptr().add(first * len));
                let out = out.as_mut_ptr().add(first * len);
                for (i, kept) in some.chunks_exact(KEPT).enumerate() {
                    let ((mean, inv), column) = (recall(kept), (first + i) % groups * len);
                    let m = <T::V<I> as Vector>::Wide::splat(mean);
                    let (mut s, mut sx, mut j) = ([zero; 2], [zero; 2], 0);
                    while j < len {
                        // Lanes past the end hold a delta of zero.
                        let v = load::<T, I>(x.add(i * len + j), len - j);
                        let d = load::<T, I>(d.add(i * len + j), len - j);
                        let w = or::<T, I>(weight, column + j, len - j, 1.0);
                        for h in 0..halves {
                            let y = d[h].mul(w[h]);
                            s[h] = s[h].add(y);
                            sx[h] = y.fma(v[h].sub(m), sx[h]);
                        }
                        j += n;
                    }
                    // dx = (g - mean(g) - xhat mean(g xhat)) / deviation, with xhat = (x - mean) inv.
                    a[i] = if centre { s[0].add(s[1]).total() / len as f64 } else { 0.0 };
                    b[i] = sx[0].add(sx[1]).total() * inv * inv / len as f64;
                }
                for (i, of) in some.chunks_exact(KEPT).enumerate() {
                    let ((mean, inv), at) = (recall(of), first + i);
                    if at % groups == 0 {
                        // A reciprocal far from one would drive the row out of its type's range: its power of two
                        // goes where the row's exponent is.
                        let row = kept[at * KEPT..][..groups * KEPT].chunks_exact(KEPT);
                        shift = shift_of(row.fold(0.0f64, |m, k| m.max(recall(k).1)));
                        e[at / groups] += shift;
                    }
                    let m = <T::V<I> as Vector>::Wide::splat(mean);
                    let (a, b) = (<T::V<I> as Vector>::Wide::splat(-a[i]), <T::V<I> as Vector>::Wide::splat(-b[i]));
                    let f = <T::V<I> as Vector>::Wide::splat(mul_pow2(inv, -shift));
                    let mut j = 0;
                    while j < len {
                        let v = load::<T, I>(x.add(i * len + j), len - j);
                        let mut d = load::<T, I>(d.add(i * len + j), len - j);
                        let w = or::<T, I>(weight, at % groups * len + j, len - j, 1.0);
                        for h in 0..halves {
                            d[h] = v[h].sub(m).fma(b, d[h].fma(w[h], a)).mul(f);
                        }
                        store::<T, I>(d, out.add(i * len + j), len - j);
                        j += n;
                    }
                }
            }
        }
    }
}

/// The power of two that a factor's rows hand to their exponents: none while the factor is near one.
pub(super) fn shift_of(factor: f64) -> i64 {
    if factor == 0.0 || !factor.is_finite() {
        return 0;
    }
    let k = exponent(factor);
    if k.abs() < BAND { 0 } else { on_grid(k) }
}

/// dL/dx of normalised rows: `dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps)`, `g = delta * weight`; what the
/// rows' exponents `e` change by is added to them. Shapes: `delta`, `x`, `out`: (rows, width); `kept` as in [`forward`].
#[allow(clippy::too_many_arguments)] // reason: what came in, what was kept, and two outputs
pub fn backward<T: Real>(
    rows: Rows,
    delta: &[T],
    x: &[T],
    kept: &[T],
    weight: Option<&[T]>,
    out: &mut [T],
    e: &mut [i64],
) {
    check(rows, x, kept, [weight, None]);
    let same = delta.len() == x.len() && out.len() == x.len() && e.len() * rows.width == x.len();
    assert!(same, "norm: deltas, inputs and exponents differ in size");
    dispatch(Backward { rows, delta, x, kept, weight, out, e });
}

struct Gradients<'a, T> {
    rows: Rows,
    delta: &'a [T],
    factors: &'a [f64],
    x: &'a [T],
    kept: &'a [T],
    weight: &'a mut [T],
    bias: &'a mut [T],
}

/// Vectors of columns whose sums are taken together: what is recalled of a row then serves them all.
const TOGETHER: usize = 4;

impl<T: Real> Gradients<'_, T> {
    /// The sums of `N` vectors of columns of group `g` from column `j` on.
    #[inline(always)]
    fn columns<I: Isa, const N: usize>(&mut self, g: usize, j: usize) {
        let Rows { width, groups, .. } = self.rows;
        let n = T::V::<I>::LANES;
        let left = (g + 1) * (width / groups) - j;
        let zero = <T::V<I> as Vector>::Wide::zero();
        let (mut sw, mut sb) = ([[zero; 2]; N], [[zero; 2]; N]);
        for (r, &f) in self.factors.iter().enumerate() {
            let (mean, inv) = recall(&self.kept[(r * groups + g) * KEPT..]);
            let f = <T::V<I> as Vector>::Wide::splat(f);
            let m = <T::V<I> as Vector>::Wide::splat(mean);
            let inv = <T::V<I> as Vector>::Wide::splat(inv);
            for v in 0..N {
                // SAFETY: `gradients` checked that row r has `width` columns in both, and j + left <= width.
                let (d, x) = unsafe {
                    let (at, left) = (r * width + j + v * n, left - v * n);
                    (load::<T, I>(self.delta.as_ptr().add(at), left), load::<T, I>(self.x.as_ptr().add(at), left))
                };
                for h in 0..if n == 16 { 2 } else { 1 } {
                    let d = d[h].mul(f);
                    sb[v][h] = sb[v][h].add(d);
                    sw[v][h] = d.fma(x[h].sub(m).mul(inv), sw[v][h]);
                }
            }
        }
        for v in 0..N {
            // SAFETY: both outputs have `width` elements, and j + left <= width.
            unsafe {
                store::<T, I>(sw[v], self.weight.as_mut_ptr().add(j + v * n), left - v * n);
                store::<T, I>(sb[v], self.bias.as_mut_ptr().add(j + v * n), left - v * n);
            }
        }
    }
}

impl<T: Real> Kernel for Gradients<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let Rows { width, groups, .. } = self.rows;
        let (len, n) = (width / groups, T::V::<I>::LANES);
        for g in 0..groups {
            let (mut j, end) = (g * len, (g + 1) * len);
            while j + (TOGETHER - 1) * n < end {
                self.columns::<I, TOGETHER>(g, j);
                j += TOGETHER * n;
            }
            while j < end {
                self.columns::<I, 1>(g, j);
                j += n;
            }
        }
    }
}

/// Gradients of gain and shift: sums over rows of `delta * xhat` and `delta`, each row times its factor.
/// Shapes: `delta`, `x`: (rows, width); `factors`: (rows,); `kept` as in [`forward`]; `weight`, `bias`: (width,).
pub fn gradients<T: Real>(
    rows: Rows,
    delta: &[T],
    factors: &[f64],
    x: &[T],
    kept: &[T],
    weight: &mut [T],
    bias: &mut [T],
) {
    check(rows, x, kept, [Some(&*weight), Some(&*bias)]);
    assert!(delta.len() == x.len() && factors.len() * rows.width == x.len(), "norm: rows differ");
    dispatch(Gradients { rows, delta, factors, x, kept, weight, bias });
}

#[cfg(test)]
#[path = "norm_tests.rs"]
mod tests;
