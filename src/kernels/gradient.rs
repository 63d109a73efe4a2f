//! kernels: the pass over a finished block of a weight gradient while it is in cache: sums, counts and the SGD update.
//! Knows no layers.

use super::delta::squares_of;
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, exponent, mul_pow2, pow2};
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// Sums and counts of one block, in the block's own scale.
#[derive(Clone, Copy, Debug, Default)]
pub struct GradientSums {
    /// Sum of squares.
    pub squares: ScaledSum,
    /// Largest magnitude; NaN does not count.
    pub largest: f64,
    /// Sum of magnitudes.
    pub abs: f64,
    /// Entries.
    pub count: u64,
    /// Entries that are exactly zero.
    pub zero: u64,
    /// Entries that are NaN or infinite.
    pub nonfinite: u64,
    /// Non-zero entries at or below each threshold.
    pub flush: [u64; 6],
    /// Weights that the step leaves equal to the bit.
    pub unchanged: u64,
    /// Sum of squares of the weights before the step.
    pub weights: ScaledSum,
}

impl GradientSums {
    /// Adds another block's figures; blocks are added in their order, so the sums do not depend on threads.
    pub fn add(&mut self, o: &Self) {
        self.squares.add(o.squares);
        self.weights.add(o.weights);
        self.largest = self.largest.max(o.largest);
        self.abs += o.abs;
        self.count += o.count;
        self.zero += o.zero;
        self.nonfinite += o.nonfinite;
        self.unchanged += o.unchanged;
        for (a, b) in self.flush.iter_mut().zip(o.flush) {
            *a += b;
        }
    }
}

/// An SGD step `w <- w - (rate * 2^e) g` in two factors, because rate * 2^e may lie outside the type's range.
#[derive(Clone, Copy)]
pub struct Step<T> {
    /// A power of two, applied to the gradient first (exact unless the product is subnormal).
    pub(super) first: T,
    /// Minus what is left of the rate.
    pub(super) second: T,
}

/// Powers of two beyond a type's range that a step still takes into account.
const NEAR: i64 = 60;

impl<T: Real> Step<T> {
    /// The step of `rate` for a gradient that stands for itself times 2^e.
    pub fn new(rate: f64, e: i64) -> Self {
        let top = i64::from(T::BIAS) - 1;
        let own = if rate == 0.0 { 0 } else { exponent(rate) };
        // A rate that the type does not hold, or hardly, lends its exponent to the gradient: both factors stay finite, so
        // that a gradient of zero moves nothing at any rate.
        let (rate, e) = if own.abs() > top - NEAR { (mul_pow2(rate, -own), e + own) } else { (rate, e) };
        let total = if rate == 0.0 { 0 } else { exponent(rate) + e };
        if total.abs() < top {
            Self { first: T::ONE, second: T::from_f64(mul_pow2(-rate, e)) }
        } else {
            let part = e.clamp(-top, top);
            // What is still left after that factor is at an end of the range, where its exact size is past noticing.
            Self { first: T::from_f64(pow2(part)), second: T::from_f64(-rate * pow2((e - part).clamp(-NEAR, NEAR))) }
        }
    }
}

/// What the pass does besides the sum of squares.
pub struct Block<'a, T> {
    /// The gradient block.
    pub gradient: &'a [T],
    /// The weights it belongs to, if they are to be read or stepped.
    pub weights: Weights<'a, T>,
    /// The step, to apply or to try.
    pub step: Option<Step<T>>,
    /// |g| at or below `flush[i]`, and not zero, counts for format i.
    pub flush: [T; 6],
    /// Largest, mean, counts and weight norms too.
    pub full: bool,
}

/// Access to the weights.
pub enum Weights<'a, T> {
    /// Not needed.
    None,
    /// Read: norms, and what a step would leave unchanged.
    Read(&'a [T]),
    /// Step them.
    Write(&'a mut [T]),
}

impl<T> Weights<'_, T> {
    /// The weights, to read, where there are any.
    pub fn get(&self) -> Option<&[T]> {
        match self {
            Weights::None => None,
            Weights::Read(w) => Some(w),
            Weights::Write(w) => Some(w),
        }
    }

    /// The same access, for a shorter time.
    pub fn again(&mut self) -> Weights<'_, T> {
        match self {
            Weights::None => Weights::None,
            Weights::Read(w) => Weights::Read(w),
            Weights::Write(w) => Weights::Write(w),
        }
    }
}

impl<T: Real> Kernel for Block<'_, T> {
    type Out = GradientSums;
    #[inline(always)]
    fn run<I: Isa>(mut self) -> GradientSums {
        let n = T::V::<I>::LANES;
        let zero = T::V::<I>::zero();
        let one = T::V::<I>::splat(T::ONE);
        let wide = <T::V<I> as Vector>::Wide::zero();
        let halves = if n == 16 { 2 } else { 1 };
        let (mut g2, mut w2, mut abs) = ([wide; 2], [wide; 2], [wide; 2]);
        let (mut largest, mut zeros, mut odd, mut same) = (zero, zero, zero, zero);
        let infinity = T::V::<I>::c(f64::INFINITY);
        let mut least = infinity;
        let top = T::V::<I>::c(T::LARGEST);
        let (first, second) =
            self.step.map_or((one, zero), |s| (T::V::<I>::splat(s.first), T::V::<I>::splat(s.second)));
        let (stepped, full) = (self.step.is_some(), self.full);
        let len = self.gradient.len();
        let (wr, ww): (*const T, Option<*mut T>) = match &mut self.weights {
            Weights::None => (std::ptr::null(), None),
            Weights::Read(w) => (w.as_ptr(), None),
            Weights::Write(w) => (w.as_ptr(), Some(w.as_mut_ptr())),
        };
        let g = self.gradient.as_ptr();
        let mut i = 0;
        while i < len {
            let left = n.min(len - i);
            // SAFETY: `left` elements remain in the gradient and, `block` checked, in the weights.
            unsafe {
                let x = T::V::<I>::load_some(g.add(i), left);
                let wx = x.widen();
                for h in 0..halves {
                    g2[h] = wx[h].fma(wx[h], g2[h]);
                }
                let w = if wr.is_null() { zero } else { T::V::<I>::load_some(wr.add(i), left) };
                if stepped && !wr.is_null() {
                    let next = x.mul(first).fma(second, w);
                    if full {
                        same = same.add(T::V::<I>::select(next.eq(w), one, zero));
                    }
                    if let Some(p) = ww {
                        next.store_some(p.add(i), left);
                    }
                }
                if full {
                    let a = x.abs();
                    largest = a.max(largest);
                    let is_zero = x.eq(zero);
                    least = T::V::<I>::select(is_zero, infinity, a).min(least);
                    zeros = zeros.add(T::V::<I>::select(is_zero, one, zero));
                    odd = odd.add(T::V::<I>::select(a.le(top), zero, one));
                    let (wa, ww) = (a.widen(), w.widen());
                    for h in 0..halves {
                        abs[h] = abs[h].add(wa[h]);
                        w2[h] = ww[h].fma(ww[h], w2[h]);
                    }
                }
            }
            i += n;
        }
        let sum = |v: T::V<I>| lanes(v).iter().sum::<f64>();
        let fold = |v: [<T::V<I> as Vector>::Wide; 2]| lanes(v[0].add(v[1])).iter().sum::<f64>();
        let mut out = GradientSums { count: len as u64, ..GradientSums::default() };
        out.squares = squares_of(fold(g2), self.gradient);
        if full {
            // The lanes past the end were loaded as zeros: equal, zero and below every limit.
            let pad = (len.next_multiple_of(n) - len) as u64;
            out.largest = lanes(largest).iter().fold(0.0, |a: f64, &b| a.max(b));
            out.abs = fold(abs);
            out.zero = sum(zeros) as u64 - pad;
            out.nonfinite = sum(odd) as u64;
            let smallest = lanes(least)[..n].iter().fold(f64::INFINITY, |a: f64, &b| a.min(b));
            for (o, limit) in out.flush.iter_mut().zip(self.flush) {
                // Mostly a format keeps all or nothing, and only the block's ends need be looked at.
                *o = if limit.to_f64() < smallest {
                    0
                } else if limit.to_f64() >= out.largest && out.nonfinite == 0 {
                    out.count - out.zero
                } else {
                    at_most::<T, I>(self.gradient, limit) - out.zero
                };
            }
            if stepped && !wr.is_null() {
                // A step that is no number leaves nothing as it was, not even there.
                out.unchanged = (sum(same) as u64).saturating_sub(pad);
            }
            let w: &[T] = match &self.weights {
                Weights::None => &[],
                Weights::Read(w) => w,
                Weights::Write(w) => w,
            };
            // A second look is only taken where a double's range was left, and then at the stepped weights.
            out.weights = squares_of(fold(w2), w);
        }
        out
    }
}

/// Entries whose magnitude is at most `limit`, zeros among them.
#[inline(always)]
fn at_most<T: Real, I: Isa>(x: &[T], limit: T) -> u64 {
    let n = T::V::<I>::LANES;
    let (zero, one, limit) = (T::V::<I>::zero(), T::V::<I>::splat(T::ONE), T::V::<I>::splat(limit));
    let mut found = zero;
    for part in x.chunks(n) {
        // SAFETY: the part has at most LANES elements.
        let a = unsafe { T::V::<I>::load_some(part.as_ptr(), part.len()) }.abs();
        found = found.add(T::V::<I>::select(a.le(limit), one, zero));
    }
    // The lanes past the end were loaded as zeros.
    lanes(found).iter().sum::<f64>() as u64 - (x.len().next_multiple_of(n) - x.len()) as u64
}

#[inline(always)]
fn lanes<V: Vector>(v: V) -> [f64; 16] {
    let mut a = [V::Elem::ZERO; 16];
    // SAFETY: 16 elements hold the lanes of any vector.
    unsafe { v.store(a.as_mut_ptr()) };
    a.map(Real::to_f64)
}

/// Runs the pass.
pub fn block<T: Real>(b: Block<'_, T>) -> GradientSums {
    let enough = match &b.weights {
        Weights::None => true,
        Weights::Read(w) => w.len() == b.gradient.len(),
        Weights::Write(w) => w.len() == b.gradient.len(),
    };
    assert!(enough, "gradient block: weights and gradient differ in size");
    dispatch(b)
}

/// The sum of squares of a gradient.
pub fn squares<T: Real>(gradient: &[T]) -> ScaledSum {
    block(Block { gradient, weights: Weights::None, step: None, flush: [T::ZERO; 6], full: false }).squares
}

/// Sums over the rows of the first columns, row by row: the gradient of a bias.
/// Shapes: `d`: (rows, width), `out`: (columns,) with columns <= width.
pub fn column_sums<T: Real>(d: &[T], width: usize, rows: usize, out: &mut [T]) {
    struct Columns<'a, T> {
        d: &'a [T],
        width: usize,
        rows: usize,
        out: &'a mut [T],
    }
    impl<T: Real> Kernel for Columns<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<I: Isa>(self) {
            let n = T::V::<I>::LANES;
            let cols = self.out.len();
            let mut j = 0;
            while j < cols {
                let left = n.min(cols - j);
                let mut s = T::V::<I>::zero();
                for r in 0..self.rows {
                    let at = r * self.width + j;
                    // SAFETY: `column_sums` checked that row r holds `cols` elements.
                    s = s.add(unsafe { T::V::<I>::load_some(self.d.as_ptr().add(at), left) });
                }
                // SAFETY: `left` elements of `out` remain.
                unsafe { s.store_some(self.out.as_mut_ptr().add(j), left) };
                j += n;
            }
        }
    }
    let cols = out.len();
    assert!(rows == 0 || (rows - 1) * width + cols <= d.len(), "column sums: the rows are too short");
    dispatch(Columns { d, width, rows, out });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_counts_and_the_step() {
        let g: Vec<f32> = (0..19).map(|i| if i % 5 == 0 { 0.0 } else { i as f32 * 0.5 - 4.0 }).collect();
        let mut w = vec![1.0f32; 19];
        let s = block(Block {
            gradient: &g,
            weights: Weights::Write(&mut w),
            step: Some(Step::new(0.1, 0)),
            flush: [0.0, 0.6, 1.0, 2.0, 4.0, 100.0],
            full: true,
        });
        assert_eq!(s.squares.s, g.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>());
        let zeros = g.iter().filter(|&&x| x == 0.0).count() as u64;
        assert_eq!((s.zero, s.unchanged, s.nonfinite, s.flush[0], s.flush[5]), (zeros, zeros, 0, 0, 19 - zeros));
        assert_eq!(s.weights.s, 19.0);
        assert!(w.iter().zip(&g).all(|(&w, &g)| w == g.mul_add(-0.1, 1.0)));
    }

    /// A power of two alone may leave the range where its product with the rate does not.
    #[test]
    fn a_step_of_any_exponent() {
        for e in [-5000, -1100, 0, 1023, 1024, 5000] {
            let mut w = [1.0f64, -2.0, 0.5];
            let step = Some(Step::new(0.0, e));
            block(Block {
                gradient: &[3.0, -1.0, 0.0],
                weights: Weights::Write(&mut w),
                step,
                flush: [0.0; 6],
                full: true,
            });
            assert_eq!(w, [1.0, -2.0, 0.5], "{e}");
        }
        let step = Step::<f64>::new(pow2(-10), 1024);
        assert_eq!(step.first * step.second, -pow2(1014));
        let step = Step::<f64>::new(pow2(100), -1100);
        assert_eq!(step.first * step.second, -pow2(-1000));
    }

    /// Limits below, inside and above the entries, and entries that are not finite, against a plain count.
    #[test]
    fn flushed_entries_are_those_a_plain_count_finds() {
        let plain: Vec<f32> = (0..100).map(|i| if i % 9 == 0 { 0.0 } else { (i as f32 - 50.3) * 0.01 }).collect();
        let mut odd = plain.clone();
        odd.extend([f32::NAN, f32::INFINITY, -0.0, f32::NEG_INFINITY]);
        let flush = [0.0, 1e-4, 0.2, 0.6, f32::MAX, f32::INFINITY];
        for g in [&plain[..], &odd, &[0.0; 5], &[f32::NAN; 3]] {
            let s = block(Block { gradient: g, weights: Weights::None, step: None, flush, full: true });
            let want = flush.map(|f| g.iter().filter(|x| **x != 0.0 && x.abs() <= f).count() as u64);
            assert_eq!(s.flush, want);
        }
    }

    #[test]
    fn a_step_outside_the_range_is_the_step_unlimited_floats_would_take() {
        let (g, mut w) = ([1.5f32], [0.0f32]);
        let run = |g: &[f32], w: &mut [f32], rate, e| {
            block(Block {
                gradient: g,
                weights: Weights::Write(w),
                step: Some(Step::new(rate, e)),
                flush: [0.0; 6],
                full: true,
            })
        };
        run(&g, &mut w, 1.0, -140);
        assert_eq!(w[0], -1.5 * 2f32.powi(-140));
        w[0] = 1.0;
        assert_eq!(run(&g, &mut w, 0.5, -9000).unchanged, 1);
        assert_eq!(w[0], 1.0);
        run(&[2f32.powi(-20)], &mut w, 1.0, 140);
        assert_eq!(w[0], 1.0 - 2f32.powi(120));
    }

    /// Where the gradient is zero a weight stays as it is, and is counted as such; elsewhere it goes as far as it would.
    #[test]
    fn a_rate_that_the_type_does_not_hold() {
        fn check<T: Real>(rates: &[(f64, i64, f64)]) {
            for &(rate, e, want) in rates {
                let mut w = [1.0, 0.0, -2.0, 1.0].map(T::from_f64);
                let gradient = &[0.0, 0.0, -0.0, 1.0].map(T::from_f64);
                let (weights, step) = (Weights::Write(&mut w), Some(Step::new(rate, e)));
                let s = block(Block { gradient, weights, step, flush: [T::ZERO; 6], full: true });
                assert_eq!(w.map(T::to_f64), [1.0, 0.0, -2.0, want], "{rate:e} 2^{e}");
                assert_eq!(s.unchanged, if want == 1.0 { 4 } else { 3 }, "{rate:e} 2^{e}");
            }
        }
        let huge = pow2(1000);
        check::<f32>(&[(huge, 0, f64::NEG_INFINITY), (f64::MAX, 9000, f64::NEG_INFINITY), (huge, -1002, 0.75)]);
        check::<f32>(&[(1e-300, 0, 1.0), (pow2(-1000), 1001, -1.0), (5e-324, 0, 1.0), (-huge, -1000, 2.0)]);
        check::<f64>(&[(f64::MAX, 0, -f64::MAX), (f64::MAX, 9000, f64::NEG_INFINITY), (pow2(1023), -1024, 0.5)]);
        check::<f64>(&[(5e-324, 1074, 0.0), (5e-324, 0, 1.0)]);
    }

    #[test]
    fn columns() {
        let d: Vec<f64> = (0..40).map(f64::from).collect();
        let mut out = [0.0; 9];
        column_sums(&d[1..], 10, 4, &mut out);
        assert!(out.iter().enumerate().all(|(j, &s)| s == (4 * (j + 1) + 60) as f64));
    }
}
