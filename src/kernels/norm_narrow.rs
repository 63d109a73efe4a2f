//! kernels: normalisation of rows of a few whole vectors, which stay in registers from the first sum to the last product.
//! Knows nothing that `norm` does not, and gives its bits.

use super::{Backward, Forward, KEPT, Pair, again, keep, load, or, recall, shift_of, store};
use crate::num::real::Real;
use crate::num::scaled::mul_pow2;
use crate::num::simd::{Isa, Vector};

/// `N` vectors at `p`.
///
/// # Safety
/// `p` is valid for reading them.
#[inline(always)]
unsafe fn vectors<T: Real, I: Isa, const N: usize>(p: *const T) -> [Pair<T, I>; N] {
    let n = T::V::<I>::LANES;
    let mut out = [[<T::V<I> as Vector>::Wide::zero(); 2]; N];
    for (v, out) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *out = unsafe { load::<T, I>(p.add(v * n), n) };
    }
    out
}

/// `N` vectors of a gain or shift, or of what one that is not there stands for.
///
/// # Safety
/// `p` is valid for reading them from `j` on.
#[inline(always)]
unsafe fn factors<T: Real, I: Isa, const N: usize>(p: Option<*const T>, j: usize, otherwise: f64) -> [Pair<T, I>; N] {
    let n = T::V::<I>::LANES;
    let mut out = [[<T::V<I> as Vector>::Wide::zero(); 2]; N];
    for (v, out) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *out = unsafe { or::<T, I>(p, j + v * n, n, otherwise) };
    }
    out
}

/// Halves of a vector of the network's type that hold numbers.
#[inline(always)]
fn halves<V: Vector>() -> usize {
    if V::LANES == 16 { 2 } else { 1 }
}

impl<T: Real> Forward<'_, T> {
    /// The same where each group is `N` whole vectors.
    #[inline(always)]
    pub(super) fn narrow<I: Isa, const N: usize>(self) {
        let Self { rows, x, y, kept, weight, bias } = self;
        let (len, n) = (rows.width / rows.groups, T::V::<I>::LANES);
        let (weight, bias) = (weight.map(<[T]>::as_ptr), bias.map(<[T]>::as_ptr));
        let zero = <T::V<I> as Vector>::Wide::zero();
        let (mut w, mut b) = ([[zero; 2]; N], [[zero; 2]; N]);
        for (i, kept) in kept.chunks_exact_mut(KEPT).enumerate() {
            let column = i % rows.groups * len;
            // SAFETY: `forward` checked that x and y hold `len` numbers for each entry of `kept`, and the gain and the
            // shift `width`.
            let (from, to) = unsafe { (x.as_ptr().add(i * len), y.as_mut_ptr().add(i * len)) };
            if i == 0 || rows.groups > 1 {
                // SAFETY: as above.
                (w, b) = unsafe { (factors::<T, I, N>(weight, column, 1.0), factors::<T, I, N>(bias, column, 0.0)) };
            }
            // SAFETY: as above.
            let mut v = unsafe { vectors::<T, I, N>(from) };
            let mut mean = 0.0;
            if rows.centre {
                let mut s = [zero; 2];
                for v in &v {
                    for h in 0..halves::<T::V<I>>() {
                        s[h] = s[h].add(v[h]);
                    }
                }
                mean = s[0].add(s[1]).total() / len as f64;
            }
            let (mut s, mut m) = ([zero; 2], <T::V<I> as Vector>::Wide::splat(mean));
            for v in &mut v {
                for h in 0..halves::<T::V<I>>() {
                    v[h] = v[h].sub(m);
                    s[h] = v[h].fma(v[h], s[h]);
                }
            }
            let mut inv = 1.0 / (s[0].add(s[1]).total() / len as f64 + rows.eps).sqrt();
            if !(inv > 0.0 && inv < f64::INFINITY) {
                (mean, inv) = again(&x[i * len..][..len], rows.centre, rows.eps);
                m = <T::V<I> as Vector>::Wide::splat(mean);
                // SAFETY: as above.
                v = unsafe { vectors::<T, I, N>(from) };
                for v in &mut v {
                    *v = [v[0].sub(m), v[1].sub(m)];
                }
            }
            keep(kept, mean, inv);
            let f = <T::V<I> as Vector>::Wide::splat(inv);
            for j in 0..N {
                for h in 0..halves::<T::V<I>>() {
                    v[j][h] = v[j][h].mul(f).fma(w[j][h], b[j][h]);
                }
                // SAFETY: as above.
                unsafe { store::<T, I>(v[j], to.add(j * n), n) };
            }
        }
    }
}

impl<T: Real> Backward<'_, T> {
    /// The same where each group is `N` whole vectors.
    #[inline(always)]
    pub(super) fn narrow<I: Isa, const N: usize>(self) {
        let Self { rows, delta, x, kept, weight, out, e } = self;
        let (groups, len, n) = (rows.groups, rows.width / rows.groups, T::V::<I>::LANES);
        let weight = weight.map(<[T]>::as_ptr);
        let zero = <T::V<I> as Vector>::Wide::zero();
        let (mut w, mut shift) = ([[zero; 2]; N], 0);
        for (i, of) in kept.chunks_exact(KEPT).enumerate() {
            let (mean, inv) = recall(of);
            if i.is_multiple_of(groups) {
                // As in `norm`: the power of two of a reciprocal far from one goes where the row's exponent is.
                let row = kept[i * KEPT..][..groups * KEPT].chunks_exact(KEPT);
                shift = shift_of(row.fold(0.0f64, |m, k| m.max(recall(k).1)));
                e[i / groups] += shift;
            }
            if i == 0 || groups > 1 {
                // SAFETY: `backward` checked that the gain has `width` numbers.
                w = unsafe { factors::<T, I, N>(weight, i % groups * len, 1.0) };
            }
            // SAFETY: `backward` checked that delta, x and out hold `len` numbers for each entry of `kept`.
            let (mut d, mut c) = unsafe {
                (vectors::<T, I, N>(delta.as_ptr().add(i * len)), vectors::<T, I, N>(x.as_ptr().add(i * len)))
            };
            let m = <T::V<I> as Vector>::Wide::splat(mean);
            let (mut s, mut sx) = ([zero; 2], [zero; 2]);
            for j in 0..N {
                for h in 0..halves::<T::V<I>>() {
                    let y = d[j][h].mul(w[j][h]);
                    c[j][h] = c[j][h].sub(m);
                    s[h] = s[h].add(y);
                    sx[h] = y.fma(c[j][h], sx[h]);
                }
            }
            let a = if rows.centre { s[0].add(s[1]).total() / len as f64 } else { 0.0 };
            let b = sx[0].add(sx[1]).total() * inv * inv / len as f64;
            let (a, b) = (<T::V<I> as Vector>::Wide::splat(-a), <T::V<I> as Vector>::Wide::splat(-b));
            let f = <T::V<I> as Vector>::Wide::splat(mul_pow2(inv, -shift));
            for j in 0..N {
                for h in 0..halves::<T::V<I>>() {
                    d[j][h] = c[j][h].fma(b, d[j][h].fma(w[j][h], a)).mul(f);
                }
                // SAFETY: as above.
                unsafe { store::<T, I>(d[j], out.as_mut_ptr().add(i * len + j * n), n) };
            }
        }
    }
}
