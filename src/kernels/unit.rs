//! kernels: forward statistics of one unit's outputs and slopes over the whole batch. Know no layers.

use crate::num::real::Real;
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// What a unit's outputs and slopes look like.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnitForward {
    /// Mean of the outputs.
    pub mean: f64,
    /// Variance of the outputs (of the population).
    pub variance: f64,
    /// Share of slopes with |phi'| below the limit.
    pub saturated: f64,
    /// Share of slopes that are exactly zero.
    pub zero_slope: f64,
    /// Columns whose slopes are zero in every row.
    pub dead: i64,
}

struct Pass<'a, T> {
    y: &'a [T],
    d: Option<&'a [T]>,
    width: usize,
    limit: T,
}

impl<T: Real> Kernel for Pass<'_, T> {
    type Out = UnitForward;
    #[inline(always)]
    fn run<I: Isa>(self) -> UnitForward {
        let n = T::V::<I>::LANES;
        let halves = if n == 16 { 2 } else { 1 };
        let zero = T::V::<I>::zero();
        let wide = <T::V<I> as Vector>::Wide::zero();
        let count = self.y.len();
        let load = |s: &[T], i: usize| {
            let left = n.min(s.len() - i);
            // SAFETY: `left` elements remain from i.
            unsafe { T::V::<I>::load_some(s.as_ptr().add(i), left) }
        };
        let (mut s, mut i) = ([wide; 2], 0);
        while i < count {
            let w = load(self.y, i).widen();
            for h in 0..halves {
                s[h] = s[h].add(w[h]);
            }
            i += n;
        }
        let mean = s[0].add(s[1]).total() / count as f64;
        // Deviations from the mean, not squares minus mean squared, which would cancel. The padded lanes of the last
        // vector are loaded as zeros; what they add is taken off again.
        let m = <T::V<I> as Vector>::Wide::splat(mean);
        let (mut q, mut i) = ([wide; 2], 0);
        while i < count {
            let w = load(self.y, i).widen();
            for h in 0..halves {
                let x = w[h].sub(m);
                q[h] = x.fma(x, q[h]);
            }
            i += n;
        }
        let pad = count.next_multiple_of(n) - count;
        let squares = q[0].add(q[1]).total() - pad as f64 * mean * mean;
        let mut out = UnitForward { mean, variance: squares.max(0.0) / count as f64, ..UnitForward::default() };
        if !squares.is_finite() {
            out.variance = squares;
        }
        if let Some(d) = self.d {
            let one = T::V::<I>::splat(T::ONE);
            let limit = T::V::<I>::splat(self.limit);
            let (mut low, mut none) = (0u64, 0u64);
            let rows = d.len() / self.width;
            let mut j = 0;
            while j < self.width {
                let left = n.min(self.width - j);
                let (mut l, mut z) = (zero, zero);
                for r in 0..rows {
                    let at = r * self.width + j;
                    // SAFETY: row r has `left` elements from column j.
                    let a = unsafe { T::V::<I>::load_some(d.as_ptr().add(at), left) }.abs();
                    l = l.add(T::V::<I>::select(a.lt(limit), one, zero));
                    z = z.add(T::V::<I>::select(a.eq(zero), one, zero));
                }
                let (mut ls, mut zs) = ([T::ZERO; 16], [T::ZERO; 16]);
                // SAFETY: 16 elements hold the lanes of any vector.
                unsafe {
                    l.store(ls.as_mut_ptr());
                    z.store(zs.as_mut_ptr());
                }
                for c in 0..left {
                    low += ls[c].to_f64() as u64;
                    none += zs[c].to_f64() as u64;
                    out.dead += i64::from(zs[c].to_f64() as usize == rows);
                }
                j += n;
            }
            out.saturated = low as f64 / count as f64;
            out.zero_slope = none as f64 / count as f64;
        }
        out
    }
}

/// Statistics of outputs `y` and slopes `d`, both (rows, width); `limit` is the slope below which a unit counts as
/// saturated. A unit without an activation has slope one everywhere.
pub fn forward<T: Real>(y: &[T], d: Option<&[T]>, width: usize, limit: f64) -> UnitForward {
    assert!(width > 0 && !y.is_empty() && d.is_none_or(|d| d.len() == y.len() && d.len().is_multiple_of(width)));
    dispatch(Pass { y, d, width, limit: T::from_f64(limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let y = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0];
        let d = [0.0, 0.01, 1.0, 0.0, 1.0, 1.0];
        let s = forward(&y, Some(&d), 3, 0.05);
        assert_eq!((s.mean, s.dead, s.saturated, s.zero_slope), (3.5, 1, 0.5, 2.0 / 6.0));
        assert!((s.variance - 35.0 / 12.0).abs() < 1e-14);
    }

    #[test]
    fn nan_is_neither_dead_nor_zero() {
        let n = f32::NAN;
        let s = forward(&[n, 2.0, n, n, 5.0, 6.0], Some(&[n, 0.0, n, 0.0, 0.0, 1.0]), 3, 0.05);
        assert!(s.mean.is_nan() && s.variance.is_nan());
        assert_eq!((s.dead, s.saturated, s.zero_slope), (1, 0.5, 0.5));
        let s = forward(&[n; 40], Some(&[n; 40]), 20, 0.05);
        assert_eq!((s.dead, s.saturated, s.zero_slope), (0, 0.0, 0.0));
    }
}
