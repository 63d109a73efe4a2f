//! kernels: normalisation of columns over the rows of a batch (batch normalisation), its way back and the gradients of
//! its gain and shift. Knows no layers and no threads: a batch comes in fixed chunks of rows, whose moments and sums are
//! joined in their order.

use super::norm::{load, shift_of, store};
use crate::num::real::Real;
use crate::num::scaled::pow2;
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// A vector of doubles from each of the halves of a vector of the network's type.
macro_rules! wide {
    ($T:ty, $I:ty) => {
        <<$T as Real>::V<$I> as Vector>::Wide
    };
}

/// Calls the body for each vector of columns, `j` the first and `left` how many are left.
macro_rules! columns {
    ($T:ty, $I:ty, $width:expr, |$j:ident, $left:ident| $body:block) => {
        let mut $j = 0;
        while $j < $width {
            let $left = $width - $j;
            $body
            $j += <$T as Real>::V::<$I>::LANES;
        }
    };
}

/// Doubles for the columns of a vector.
///
/// # Safety
/// `p` is valid for reading `left` elements.
#[inline(always)]
unsafe fn doubles<W: Vector<Elem = f64>>(p: *const f64, left: usize, halves: usize) -> [W; 2] {
    let mut out = [W::zero(); 2];
    for (h, o) in out.iter_mut().enumerate().take(halves) {
        // SAFETY: the caller has `left` elements, of which so many are in this half.
        *o = unsafe { W::load_some(p.wrapping_add(8 * h), left.saturating_sub(8 * h)) };
    }
    out
}

/// The inverse of [`doubles`].
///
/// # Safety
/// `p` is valid for writing `left` elements.
#[inline(always)]
unsafe fn put<W: Vector<Elem = f64>>(v: [W; 2], p: *mut f64, left: usize, halves: usize) {
    for (h, v) in v.into_iter().enumerate().take(halves) {
        // SAFETY: as in `doubles`.
        unsafe { v.store_some(p.wrapping_add(8 * h), left.saturating_sub(8 * h)) };
    }
}

/// Halves of a vector of the network's type that hold numbers.
#[inline(always)]
fn halves<T: Real>() -> usize {
    if T::MANTISSA_BITS == 23 { 2 } else { 1 }
}

struct Moments<'a, T> {
    x: &'a [T],
    mean: &'a mut [f64],
    m2: &'a mut [f64],
}

impl<T: Real> Kernel for Moments<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { x, mean, m2 } = self;
        let width = mean.len();
        let (rows, halves) = (x.len() / width, halves::<T>());
        let over = <wide!(T, I)>::splat(1.0 / rows as f64);
        columns!(T, I, width, |j, left| {
            // SAFETY: `moments` checked that x holds whole rows of `width` and both outputs `width`.
            unsafe {
                let x = x.as_ptr().add(j);
                let mut s = [<wide!(T, I)>::zero(); 2];
                for r in 0..rows {
                    let v = load::<T, I>(x.add(r * width), left);
                    for h in 0..halves {
                        s[h] = s[h].add(v[h]);
                    }
                }
                let m = [s[0].mul(over), s[1].mul(over)];
                let mut q = [<wide!(T, I)>::zero(); 2];
                for r in 0..rows {
                    let v = load::<T, I>(x.add(r * width), left);
                    for h in 0..halves {
                        let d = v[h].sub(m[h]);
                        q[h] = d.fma(d, q[h]);
                    }
                }
                put(m, mean.as_mut_ptr().add(j), left, halves);
                put(q, m2.as_mut_ptr().add(j), left, halves);
            }
        });
    }
}

/// Mean and sum of squared deviations of each column of a chunk of rows: first the mean, then the deviations from it.
/// Shapes: `x`: (rows, width); `mean`, `m2`: (width,).
pub fn moments<T: Real>(x: &[T], mean: &mut [f64], m2: &mut [f64]) {
    assert!(!mean.is_empty() && x.len().is_multiple_of(mean.len()) && m2.len() == mean.len(), "moments: sizes differ");
    dispatch(Moments { x, mean, m2 });
}

/// Moments of chunks, as `(mean, m2)` behind each other, and how many rows each chunk has.
struct Join<'a> {
    chunks: &'a [&'a [f64]],
    rows: &'a [usize],
    mean: &'a mut [f64],
    m2: &'a mut [f64],
}

impl Kernel for Join<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { chunks, rows, mean, m2 } = self;
        let width = mean.len();
        columns!(f64, I, width, |j, left| {
            // SAFETY: `join_moments` checked that chunks hold two rows of `width`, outputs one.
            unsafe {
                let mut m = I::F64::load_some(chunks[0].as_ptr().add(j), left);
                let mut q = I::F64::load_some(chunks[0].as_ptr().add(width + j), left);
                let mut n = rows[0] as f64;
                for (c, &rows) in chunks.iter().zip(rows).skip(1) {
                    let rows = rows as f64;
                    let d = I::F64::load_some(c.as_ptr().add(j), left).sub(m);
                    let more = I::F64::load_some(c.as_ptr().add(width + j), left);
                    m = d.fma(I::F64::splat(rows / (n + rows)), m);
                    q = d.mul(d).fma(I::F64::splat(n * rows / (n + rows)), q.add(more));
                    n += rows;
                }
                m.store_some(mean.as_mut_ptr().add(j), left);
                q.store_some(m2.as_mut_ptr().add(j), left);
            }
        });
    }
}

/// Mean and sum of squared deviations of a batch from those of its parts, joined in order by the rule of Chan, Golub and
/// LeVeque (1979). Shapes: each part and `out`: (2, width); `rows`: rows of each part.
pub fn join_moments(parts: &[&[f64]], rows: &[usize], out: &mut [f64]) {
    let whole = parts.iter().all(|c| c.len() >= out.len()) && out.len().is_multiple_of(2);
    assert!(whole && parts.len() == rows.len() && !rows.is_empty(), "join moments: sizes differ");
    let (mean, m2) = out.split_at_mut(out.len() / 2);
    dispatch(Join { chunks: parts, rows, mean, m2 });
}

struct Finish<'a> {
    m2: &'a [f64],
    over: f64,
    eps: f64,
    inv: &'a mut [f64],
    var: &'a mut [f64],
}

impl Kernel for Finish<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { m2, over, eps, inv, var } = self;
        columns!(f64, I, m2.len(), |j, left| {
            // SAFETY: `finish_moments` gave all three the same length.
            unsafe {
                let v = I::F64::load_some(m2.as_ptr().add(j), left).mul(I::F64::splat(over));
                v.store_some(var.as_mut_ptr().add(j), left);
                // A variance beyond a double is no number: zeros would look like values. v - v is zero for all others.
                let i = I::F64::splat(1.0).div(v.add(I::F64::splat(eps)).sqrt()).add(v.sub(v));
                i.store_some(inv.as_mut_ptr().add(j), left);
            }
        });
    }
}

/// Mean, `1 / sqrt(variance + eps)` and variance (of the population) of a batch of `rows` from its moments.
/// Shapes: `moments`: (2, width); `out`: (3, width).
pub fn finish_moments(moments: &[f64], rows: usize, eps: f64, out: &mut [f64]) {
    let width = out.len() / 3;
    assert!(moments.len() == 2 * width && out.len() == 3 * width && rows > 0, "finish moments: sizes differ");
    let (mean, rest) = out.split_at_mut(width);
    let (inv, var) = rest.split_at_mut(width);
    mean.copy_from_slice(&moments[..width]);
    dispatch(Finish { m2: &moments[width..], over: 1.0 / rows as f64, eps, inv, var });
}

struct JoinSums<'a> {
    chunks: &'a [&'a [f64]],
    factors: &'a [f64],
    out: &'a mut [f64],
}

impl Kernel for JoinSums<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { chunks, factors, out } = self;
        let width = out.len();
        columns!(f64, I, width, |j, left| {
            let mut s = I::F64::zero();
            for (c, &f) in chunks.iter().zip(factors) {
                // SAFETY: `join_sums` checked that each chunk is as long as the sums.
                s = unsafe { I::F64::load_some(c.as_ptr().add(j), left) }.fma(I::F64::splat(f), s);
            }
            // SAFETY: `left` sums are left from j on.
            unsafe { s.store_some(out.as_mut_ptr().add(j), left) };
        });
    }
}

/// Sums of chunks, each times its factor, in order. Shapes: chunks and `out`: (columns,).
pub fn join_sums(chunks: &[&[f64]], factors: &[f64], out: &mut [f64]) {
    let whole = chunks.len() == factors.len() && chunks.iter().all(|c| c.len() >= out.len());
    assert!(whole, "join sums: sizes differ");
    dispatch(JoinSums { chunks, factors, out });
}

/// What normalises each column, in doubles, and the gain and shift behind.
#[derive(Clone, Copy)]
pub struct Columns<'a, T> {
    /// Means.
    pub mean: &'a [f64],
    /// Reciprocals of the deviations.
    pub inv: &'a [f64],
    /// Gain.
    pub weight: Option<&'a [T]>,
    /// Shift.
    pub bias: Option<&'a [T]>,
}

impl<T: Real> Columns<'_, T> {
    fn check(&self, x: &[T]) {
        let width = self.mean.len();
        let vectors = [self.weight, self.bias];
        let same = self.inv.len() == width && vectors.iter().flatten().all(|v| v.len() == width);
        assert!(same && width > 0 && x.len().is_multiple_of(width), "norm of columns: sizes differ");
    }
}

struct Apply<'a, T> {
    by: Columns<'a, T>,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Real> Kernel for Apply<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { by, x, y } = self;
        let width = by.mean.len();
        let (rows, halves) = (x.len() / width, halves::<T>());
        columns!(T, I, width, |j, left| {
            // SAFETY: `apply` checked all lengths; columns from j on, `left` of them, exist in each row.
            unsafe {
                let mean = doubles::<wide!(T, I)>(by.mean.as_ptr().add(j), left, halves);
                let inv = doubles::<wide!(T, I)>(by.inv.as_ptr().add(j), left, halves);
                let w = by.weight.map_or([<wide!(T, I)>::splat(1.0); 2], |w| load::<T, I>(w.as_ptr().add(j), left));
                let b = by.bias.map_or([<wide!(T, I)>::zero(); 2], |b| load::<T, I>(b.as_ptr().add(j), left));
                for r in 0..rows {
                    let mut v = load::<T, I>(x.as_ptr().add(r * width + j), left);
                    for h in 0..halves {
                        v[h] = v[h].sub(mean[h]).mul(inv[h]).fma(w[h], b[h]);
                    }
                    store::<T, I>(v, y.as_mut_ptr().add(r * width + j), left);
                }
            }
        });
    }
}

/// `y = (x - mean) * inv * weight + bias`, column by column. Shapes: `x`, `y`: (rows, width).
pub fn apply<T: Real>(by: Columns<'_, T>, x: &[T], y: &mut [T]) {
    by.check(x);
    assert!(x.len() == y.len(), "norm of columns: input and output differ in size");
    dispatch(Apply { by, x, y });
}

struct Sums<'a, T> {
    by: Columns<'a, T>,
    delta: &'a [T],
    factors: &'a [f64],
    x: &'a [T],
    plain: &'a mut [f64],
    along: &'a mut [f64],
}

impl<T: Real> Kernel for Sums<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { by, delta, factors, x, plain, along } = self;
        let (width, halves) = (by.mean.len(), halves::<T>());
        columns!(T, I, width, |j, left| {
            // SAFETY: `sums` checked all lengths; columns from j on, `left` of them, exist in each row.
            unsafe {
                let mean = doubles::<wide!(T, I)>(by.mean.as_ptr().add(j), left, halves);
                let inv = doubles::<wide!(T, I)>(by.inv.as_ptr().add(j), left, halves);
                let mut s = [<wide!(T, I)>::zero(); 2];
                let mut sx = s;
                for (r, &f) in factors.iter().enumerate() {
                    let f = <wide!(T, I)>::splat(f);
                    let d = load::<T, I>(delta.as_ptr().add(r * width + j), left);
                    let v = load::<T, I>(x.as_ptr().add(r * width + j), left);
                    for h in 0..halves {
                        let d = d[h].mul(f);
                        s[h] = s[h].add(d);
                        sx[h] = d.fma(v[h].sub(mean[h]), sx[h]);
                    }
                }
                put(s, plain.as_mut_ptr().add(j), left, halves);
                put([sx[0].mul(inv[0]), sx[1].mul(inv[1])], along.as_mut_ptr().add(j), left, halves);
            }
        });
    }
}

/// Sums over rows of `delta` and of `delta * xhat`, each row times its factor: the gradients of shift and gain.
/// Shapes: `delta`, `x`: (rows, width); `factors`: (rows,); `plain`, `along`: (width,).
pub fn sums<T: Real>(by: Columns<'_, T>, delta: &[T], factors: &[f64], x: &[T], plain: &mut [f64], along: &mut [f64]) {
    by.check(x);
    let width = by.mean.len();
    let same = delta.len() == x.len() && factors.len() * width == x.len();
    assert!(same && plain.len() == width && along.len() == width, "sums of columns: sizes differ");
    dispatch(Sums { by, delta, factors, x, plain, along });
}

struct Backward<'a, T> {
    by: Columns<'a, T>,
    delta: &'a [T],
    factors: &'a [f64],
    x: &'a [T],
    sums: Option<BatchSums<'a>>,
    out: &'a mut [T],
    scale: f64,
}

impl<T: Real> Kernel for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { by, delta, factors, x, sums, out, scale } = self;
        let (width, halves) = (by.mean.len(), halves::<T>());
        let scale = <wide!(T, I)>::splat(scale);
        columns!(T, I, width, |j, left| {
            // SAFETY: `backward` checked all lengths; columns from j on, `left` of them, exist in each row.
            unsafe {
                let mean = doubles::<wide!(T, I)>(by.mean.as_ptr().add(j), left, halves);
                let inv = doubles::<wide!(T, I)>(by.inv.as_ptr().add(j), left, halves);
                let w = by.weight.map_or([<wide!(T, I)>::splat(1.0); 2], |w| load::<T, I>(w.as_ptr().add(j), left));
                let (mut a, mut b, mut gain) = ([<wide!(T, I)>::zero(); 2], [<wide!(T, I)>::zero(); 2], w);
                for h in 0..halves {
                    gain[h] = inv[h].mul(scale).mul(w[h]);
                }
                if let Some(s) = sums {
                    let over = <wide!(T, I)>::splat(1.0 / s.rows as f64);
                    a = doubles::<wide!(T, I)>(s.plain.as_ptr().add(j), left, halves);
                    b = doubles::<wide!(T, I)>(s.along.as_ptr().add(j), left, halves);
                    for h in 0..halves {
                        a[h] = a[h].mul(over);
                        b[h] = b[h].mul(over).mul(inv[h]).neg();
                    }
                }
                for (r, &f) in factors.iter().enumerate() {
                    let f = <wide!(T, I)>::splat(f);
                    let at = r * width + j;
                    let mut d = load::<T, I>(delta.as_ptr().add(at), left);
                    if sums.is_some() {
                        let v = load::<T, I>(x.as_ptr().add(at), left);
                        for h in 0..halves {
                            d[h] = v[h].sub(mean[h]).fma(b[h], d[h].fma(f, a[h].neg())).mul(gain[h]);
                        }
                    } else {
                        for h in 0..halves {
                            d[h] = d[h].mul(gain[h]);
                        }
                    }
                    store::<T, I>(d, out.as_mut_ptr().add(at), left);
                }
            }
        });
    }
}

/// Sums over the rows of a batch of `delta` and of `delta * xhat`, (width,) each.
#[derive(Clone, Copy)]
pub struct BatchSums<'a> {
    /// Of `delta`.
    pub plain: &'a [f64],
    /// Of `delta * xhat`.
    pub along: &'a [f64],
    /// Rows of the batch.
    pub rows: usize,
}

/// dL/dx of normalised columns. With the batch's own statistics,
/// `dx = (delta * factor - mean(delta) - xhat * mean(delta * xhat)) * weight * inv`, the means being those over the batch
/// in the scale that the factors bring the rows to; else, without `sums`, `dx = delta * weight * inv`. Returns what the
/// exponents of all rows change by. Shapes: `delta`, `x`, `out`: (rows, width); `factors`: (rows,).
pub fn backward<T: Real>(
    by: Columns<'_, T>,
    delta: &[T],
    factors: &[f64],
    x: &[T],
    sums: Option<BatchSums<'_>>,
    out: &mut [T],
) -> i64 {
    by.check(x);
    let width = by.mean.len();
    let same = delta.len() == x.len() && out.len() == x.len() && factors.len() * width == x.len();
    assert!(
        same && sums.is_none_or(|s| s.plain.len() == width && s.along.len() == width),
        "norm of columns: sizes differ"
    );
    let shift = shift_of(by.inv.iter().fold(0.0f64, |m, &x| if x > m { x } else { m }));
    dispatch(Backward { by, delta, factors, x, sums, out, scale: pow2(-shift) });
    shift
}
