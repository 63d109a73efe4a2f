//! kernels: how large the entries of an array are: norms, an exact histogram of exponents, and what each float format
//! would lose, in one pass. Knows no layers.
//!
//! Entries stand for themselves times a power of two that each row brings along, so they may lie outside any format.

use super::bins::{Bins, SPREAD, Table};
use super::delta::squares_of;
use crate::num::foreign::Foreign;
use crate::num::format::FORMATS;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, exponent, log2_scaled, mul_pow2};
use crate::num::simd::{Isa, Kernel, Vector, dispatch};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Figures of the magnitudes of an array; [`Magnitudes::merge`] joins those of its parts.
#[derive(Clone, Debug, Default)]
pub struct Magnitudes {
    /// Entries by floor(log2 |x|).
    bins: Bins,
    /// Those among them that are exact powers of two, at which rounding has its ties; they are rare.
    powers: BTreeMap<i64, u64>,
    count: u64,
    zero: u64,
    nan: u64,
    inf: u64,
    positive: u64,
    squares: ScaledSum,
    abs: ScaledSum,
    sum: ScaledSum,
    /// Largest and smallest magnitude other than zero, as exponent and significand in [1, 2).
    largest: Option<(i64, f64)>,
    smallest: Option<(i64, f64)>,
    /// Entries at least as large as the largest significand in the binade where a format ends, and half an ulp.
    over: [u64; 6],
}

/// What the vector pass over one run learns.
#[derive(Clone, Copy, Default)]
struct Run {
    squares: f64,
    abs: f64,
    sum: f64,
    largest: f64,
    smallest: f64,
    zero: u64,
    /// There may be NaN or infinities.
    odd: bool,
    subnormal: bool,
    power: u64,
    positive: u64,
}

struct Pass<'a, T> {
    x: &'a [T],
}

impl<T: Real> Kernel for Pass<'_, T> {
    type Out = Run;
    #[inline(always)]
    fn run<I: Isa>(self) -> Run {
        let n = T::V::<I>::LANES;
        let halves = if n == 16 { 2 } else { 1 };
        let (zero, one) = (T::V::<I>::zero(), T::V::<I>::splat(T::ONE));
        let wide = <T::V<I> as Vector>::Wide::zero();
        let infinity = T::V::<I>::splat(T::from_f64(f64::INFINITY));
        let fraction = T::V::<I>::splat_bits((1 << T::MANTISSA_BITS) - 1);
        let (mut sq, mut ab, mut su) = ([wide; 2], [wide; 2], [wide; 2]);
        let (mut top, mut low) = (zero, infinity);
        let (mut zeros, mut power, mut positive) = (zero, zero, zero);
        let len = self.x.len();
        let mut i = 0;
        while i < len {
            let left = n.min(len - i);
            // SAFETY: `left` elements remain from i.
            let x = unsafe {
                if left == n {
                    T::V::<I>::load(self.x.as_ptr().add(i))
                } else {
                    T::V::<I>::load_partial(self.x.as_ptr().add(i), left)
                }
            };
            let a = x.abs();
            let (wx, wa) = (x.widen(), a.widen());
            for h in 0..halves {
                sq[h] = wx[h].fma(wx[h], sq[h]);
                ab[h] = ab[h].add(wa[h]);
                su[h] = su[h].add(wx[h]);
            }
            top = a.max(top);
            let is_zero = a.eq(zero);
            low = T::V::<I>::select(is_zero, infinity, a).min(low);
            zeros = zeros.add(T::V::<I>::select(is_zero, one, zero));
            power = power.add(T::V::<I>::select(a.and(fraction).eq(zero), one, zero));
            positive = positive.add(T::V::<I>::select(zero.lt(x), one, zero));
            i += n;
        }
        let lanes = |v: T::V<I>| {
            let mut a = [T::ZERO; 16];
            // SAFETY: 16 elements hold the lanes of any vector.
            unsafe { v.store(a.as_mut_ptr()) };
            a.map(Real::to_f64)
        };
        let total = |v: T::V<I>| lanes(v)[..n].iter().sum::<f64>() as u64;
        // The lanes past the end were loaded as zeros.
        let pad = (len.next_multiple_of(n) - len) as u64;
        let zero = total(zeros) - pad;
        let (abs, smallest) =
            (ab[0].add(ab[1]).total(), lanes(low)[..n].iter().fold(f64::INFINITY, |a: f64, &b| a.min(b)));
        Run {
            squares: sq[0].add(sq[1]).total(),
            abs,
            sum: su[0].add(su[1]).total(),
            largest: lanes(top)[..n].iter().fold(0.0, |a: f64, &b| a.max(b)),
            smallest,
            zero,
            // NaN and infinity show in the sum. So may an overflow, which does no harm: it costs a slower look.
            odd: !abs.is_finite(),
            subnormal: smallest < 2f64.powi(1 - T::BIAS),
            power: total(power) - pad - zero,
            positive: total(positive),
        }
    }
}

/// Entries looked at together: they stay in the first-level cache between the two passes. Counts in float32 lanes stay
/// exact.
const RUN: usize = 4096;

impl Magnitudes {
    /// Figures of an array, read once, on up to `threads` threads; the result does not depend on their number.
    pub fn of<T: Real>(x: Foreign<'_, T>, threads: usize) -> Self {
        const PART: usize = 1 << 19;
        let parts = x.len().div_ceil(PART);
        let results: Vec<_> = (0..parts).map(|_| Mutex::new(Self::default())).collect();
        pool::each(threads, parts, &|_, p| {
            let mut m = Self::default();
            let mut table = Table::<T>::new(0);
            let mut buffer = [T::ZERO; RUN];
            let end = x.len().min((p + 1) * PART);
            let mut at = p * PART;
            while at < end {
                let run = &mut buffer[..RUN.min(end - at)];
                x.copy(at, run);
                m.add_run(run, 0, &mut table);
                at += run.len();
            }
            table.pour(&mut m.bins);
            *results[p].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = m;
        });
        let mut all = Self::default();
        for r in results {
            all.merge(&r.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
        all
    }

    /// Adds rows of `width` entries; row r stands for its values times 2^exponents[r].
    pub fn add_rows<T: Real>(&mut self, values: &[T], width: usize, exponents: &[i64]) {
        assert!(
            width > 0 && values.len() == width * exponents.len(),
            "magnitudes: rows and exponents differ in number"
        );
        let base = exponents.iter().copied().max().unwrap_or(0);
        let mut table = Table::<T>::new(base);
        // Neighbours of one exponent are looked at together; mostly that is all rows.
        let mut at = 0;
        for group in exponents.chunk_by(|a, b| a == b) {
            let rows = &values[at * width..(at + group.len()) * width];
            for run in rows.chunks(RUN) {
                self.add_run(run, group[0], &mut table);
            }
            at += group.len();
        }
        table.pour(&mut self.bins);
    }

    fn add_run<T: Real>(&mut self, x: &[T], e: i64, table: &mut Table<T>) {
        let r = dispatch(Pass { x });
        self.count += x.len() as u64;
        self.zero += r.zero;
        self.positive += r.positive;
        let squares = squares_of(r.squares, x);
        self.squares.add(ScaledSum { s: squares.s, e: squares.e + 2 * e });
        self.abs.add(ScaledSum::new(r.abs, e));
        self.sum.add(ScaledSum::new(r.sum, e));
        if r.largest > 0.0 && r.largest.is_finite() {
            self.note(split(r.largest, e), split(r.smallest, e));
        }
        if !r.odd && !r.subnormal && e >= table.base - SPREAD {
            if r.largest > 0.0 {
                table.count(x, e, r.zero, (exponent(r.smallest), exponent(r.largest)));
            }
            if r.power > 0 {
                self.powers(x, e);
            }
        } else {
            self.one_by_one(x, e);
        }
        self.overflows(x, e, r.largest);
    }

    fn note(&mut self, large: (i64, f64), small: (i64, f64)) {
        if self.largest.is_none_or(|l| large > l) {
            self.largest = Some(large);
        }
        if self.smallest.is_none_or(|s| small < s) {
            self.smallest = Some(small);
        }
    }

    /// Exact powers of two, counted again on their own.
    fn powers<T: Real>(&mut self, x: &[T], e: i64) {
        for v in x {
            let v = v.to_f64();
            if v != 0.0 && v.is_finite() && v.abs() == mul_pow2(1.0, exponent(v)) {
                *self.powers.entry(exponent(v) + e).or_default() += 1;
            }
        }
    }

    /// The same for a run with NaN, infinities or subnormals, or far from the table's base.
    fn one_by_one<T: Real>(&mut self, x: &[T], e: i64) {
        let mut finite = false;
        for v in x {
            let v = v.to_f64();
            self.nan += u64::from(v.is_nan());
            self.inf += u64::from(v.is_infinite());
            finite |= v.is_finite() && v != 0.0;
        }
        if !finite {
            return;
        }
        for v in x {
            let v = v.to_f64();
            if v != 0.0 && v.is_finite() {
                let (k, m) = split(v.abs(), e);
                self.note((k, m), (k, m));
                self.bins.add(k, 1);
                if m == 1.0 {
                    *self.powers.entry(k).or_default() += 1;
                }
            }
        }
    }

    /// Entries in a format's last binade that round past its largest number; later binades are told by the histogram.
    fn overflows<T: Real>(&mut self, x: &[T], e: i64, largest: f64) {
        if largest == 0.0 || exponent(largest.min(f64::MAX)) + e < FORMATS[5].max_exponent {
            return;
        }
        for (f, over) in FORMATS.iter().zip(&mut self.over) {
            // Halfway to the next number, had there been one, rounds to even, and that is past the end.
            let ulp = 2f64.powi((f.min_subnormal_log2 - f.min_normal_log2) as i32);
            let limit = if f.name == "float8_e4m3" { 1.75 + ulp / 2.0 } else { 2.0 - ulp / 2.0 };
            let inclusive = f.name != "float8_e4m3";
            for v in x {
                let v = v.to_f64().abs();
                if v.is_finite() && v != 0.0 && exponent(v) + e == f.max_exponent {
                    let m = mul_pow2(v, -exponent(v));
                    *over += u64::from(m > limit || (inclusive && m == limit));
                }
            }
        }
    }

    /// Adds the figures of another part.
    pub fn merge(&mut self, o: &Self) {
        for (k, n) in o.bins.iter() {
            self.bins.add(k, n);
        }
        for (k, n) in &o.powers {
            *self.powers.entry(*k).or_default() += n;
        }
        self.count += o.count;
        self.zero += o.zero;
        self.nan += o.nan;
        self.inf += o.inf;
        self.positive += o.positive;
        self.squares.add(o.squares);
        self.abs.add(o.abs);
        self.sum.add(o.sum);
        if let (Some(l), Some(s)) = (o.largest, o.smallest) {
            self.note(l, s);
        }
        for (a, b) in self.over.iter_mut().zip(o.over) {
            *a += b;
        }
    }

    /// Entries.
    pub fn count(&self) -> u64 {
        self.count
    }
    /// Entries that are exactly zero.
    pub fn zero(&self) -> u64 {
        self.zero
    }
    /// Entries that are NaN.
    pub fn nan(&self) -> u64 {
        self.nan
    }
    /// Infinite entries.
    pub fn inf(&self) -> u64 {
        self.inf
    }
    /// Entries above zero.
    pub fn positive(&self) -> u64 {
        self.positive
    }
    /// log2 of the Euclidean norm.
    pub fn log2_norm(&self) -> f64 {
        self.squares.log2_sqrt()
    }
    /// log2 of the largest magnitude: -inf if all are zero, +inf or NaN if there are such entries.
    pub fn log2_max(&self) -> f64 {
        match self.largest {
            _ if self.nan > 0 => f64::NAN,
            _ if self.inf > 0 => f64::INFINITY,
            Some((e, m)) => log2_scaled(m, e),
            None => f64::NEG_INFINITY,
        }
    }
    /// log2 of the smallest magnitude other than zero; +inf if there is none.
    pub fn log2_min(&self) -> f64 {
        self.smallest.map_or(f64::INFINITY, |(e, m)| log2_scaled(m, e))
    }
    /// log2 of the mean magnitude.
    pub fn log2_mean_abs(&self) -> f64 {
        log2_scaled(self.abs.s / self.count.max(1) as f64, self.abs.e)
    }
    /// The mean, as far as a double can hold it.
    pub fn mean(&self) -> f64 {
        mul_pow2(self.sum.s / self.count.max(1) as f64, self.sum.e)
    }

    /// Non-zero entries that each format rounds to zero: |x| up to half its smallest number, ties going to even.
    pub fn flush(&self) -> [u64; 6] {
        FORMATS.map(|f| {
            let half = f.min_subnormal_log2 - 1;
            self.bins.below(half) + self.powers.get(&half).copied().unwrap_or(0)
        })
    }

    /// Entries that each format holds as subnormal numbers, with fewer digits: not flushed, and below the smallest
    /// normal number.
    pub fn subnormal(&self) -> [u64; 6] {
        let flushed = self.flush();
        let mut i = 0;
        FORMATS.map(|f| {
            i += 1;
            self.bins.below(f.min_normal_log2) - flushed[i - 1]
        })
    }

    /// Finite entries that each format rounds past its largest number.
    pub fn overflow(&self) -> [u64; 6] {
        let mut i = 0;
        FORMATS.map(|f| {
            i += 1;
            self.bins.total() - self.bins.below(f.max_exponent + 1) + self.over[i - 1]
        })
    }

    /// Entries by exponent, two binades a bin, from the largest (`top`) down; the last bin takes all that is smaller.
    pub fn hist32(&self) -> ([u64; 32], i64) {
        let top = self.bins.ends().map_or(0, |(_, last)| last);
        let mut h = [0; 32];
        for (k, n) in self.bins.iter() {
            h[usize::try_from((top - k) / 2).unwrap_or(31).min(31)] += n;
        }
        (h, top)
    }

    /// Entries by exponent, one binade a bin, and the exponent of the first bin. For arrays of plain floats.
    pub fn full_hist(&self) -> (i64, Vec<u64>) {
        let Some((first, last)) = self.bins.ends() else { return (0, Vec::new()) };
        let mut h = vec![0; (last - first + 1) as usize];
        for (k, n) in self.bins.iter() {
            h[(k - first) as usize] = n;
        }
        (first, h)
    }
}

/// Significand in [1, 2) and exponent of `m 2^e`, exponent first, so that pairs are ordered as the numbers are.
fn split(m: f64, e: i64) -> (i64, f64) {
    let k = exponent(m);
    (k + e, mul_pow2(m, -k))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<T: Real>(x: &[T], e: i64) -> Magnitudes {
        let mut m = Magnitudes::default();
        m.add_rows(x, x.len(), &[e]);
        m
    }

    #[test]
    fn ties_are_flushed_and_what_is_above_them_is_not() {
        let x = [1.0f64, 1.0 + f64::EPSILON, 1.5, 2.0];
        let m = of(&x, -150);
        assert_eq!(m.flush()[1], 1);
        assert_eq!(m.subnormal()[1], 3);
        assert_eq!(of(&[1.0f64], -126).subnormal()[1], 0);
        assert_eq!(of(&[1.0f64], -127).subnormal()[1], 1);
        assert_eq!(of(&[1.0f32, 1.25], -20_000).flush(), [2; 6]);
    }

    #[test]
    fn overflow_begins_halfway_past_the_largest() {
        let m = of(&[65504.0f64, 65519.9, 65520.0, 1e5, 448.0, 464.0, 465.0], 0);
        assert_eq!(m.overflow(), [0, 0, 0, 2, 4, 5]);
    }

    #[test]
    fn a_mixed_array() {
        let mut x: Vec<f32> = (1..1000).map(|i| if i % 7 == 0 { 0.0 } else { (i as f32 - 500.0) * 1e-3 }).collect();
        let plain = x.clone();
        x.extend([f32::NAN, f32::INFINITY, -1e-42, 1e-40]);
        let m = of(&x, 0);
        assert_eq!((m.count(), m.nan(), m.inf()), (1003, 1, 1));
        assert_eq!(m.zero(), x.iter().filter(|v| **v == 0.0).count() as u64);
        assert_eq!(m.positive(), x.iter().filter(|v| **v > 0.0).count() as u64);
        let (first, h) = m.full_hist();
        for v in x.iter().filter(|v| **v != 0.0 && v.is_finite()) {
            assert!(h[(exponent(f64::from(*v)) - first) as usize] > 0);
        }
        assert_eq!(h.iter().sum::<u64>(), 1003 - m.zero() - 2);
        let p = of(&plain, 0);
        let want = plain.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        assert!((p.log2_norm().exp2() / want - 1.0).abs() < 1e-14);
        assert_eq!(p.hist32().0.iter().sum::<u64>(), 999 - p.zero());
        assert!((p.mean() - plain.iter().map(|v| f64::from(*v)).sum::<f64>() / 999.0).abs() < 1e-15);
    }

    #[test]
    fn parts_in_any_number_of_threads_are_the_whole() {
        let x: Vec<f32> = (0..1_300_001).map(|i| ((i64::from(i) * 7919) % 10007) as f32 * 1e-6 - 3e-3).collect();
        let one = Magnitudes::of(Foreign::<f32>::from_cells(&x).unwrap(), 1);
        for n in [2, 3, 7] {
            let m = Magnitudes::of(Foreign::<f32>::from_cells(&x).unwrap(), n);
            assert_eq!(m.log2_norm().to_bits(), one.log2_norm().to_bits());
            assert_eq!(m.full_hist(), one.full_hist());
        }
        let mut rows = Magnitudes::default();
        let wide: Vec<f32> = x[..1_300_000].to_vec();
        rows.add_rows(&wide, 1000, &vec![-400; 1300]);
        let mut shifted = of(&wide, 0);
        assert!((rows.log2_norm() + 400.0 - shifted.log2_norm()).abs() < 1e-12);
        shifted.merge(&rows);
        assert_eq!(shifted.count(), 2_600_000);
        // Rows far apart leave the shared table and are counted one by one.
        let mut far = Magnitudes::default();
        far.add_rows(&[1.5f32, 3.0, 1.5, 3.0], 2, &[0, -5000]);
        assert_eq!(far.flush()[0], 2);
        assert_eq!(far.full_hist().0, -5000);
    }
}
