//! kernels: counts by binary exponent, fast for arrays whose exponents lie close together. Know no formats.

use crate::num::real::Real;
use std::collections::BTreeMap;

/// Binades that rows may differ by and still share a table of counters.
pub(super) const SPREAD: i64 = 256;
/// A table's counters lie four times side by side, so that equal neighbours do not wait for each other.
const LANES: usize = 4;

/// Counts by exponent: side by side from `first` on while that is a short run, the few that lie far away in a map.
#[derive(Clone, Debug, Default)]
pub(super) struct Bins {
    first: i64,
    near: Vec<u64>,
    far: BTreeMap<i64, u64>,
}

/// Longest run of exponents kept side by side: more than the range of a double.
const NEAR: i64 = 4096;

impl Bins {
    pub(super) fn add(&mut self, k: i64, n: u64) {
        if self.near.is_empty() {
            self.first = k;
            self.near.push(0);
        }
        let end = self.first + self.near.len() as i64;
        if end.max(k + 1) - self.first.min(k) > NEAR {
            *self.far.entry(k).or_default() += n;
            return;
        }
        if k < self.first {
            let new = (self.first - k) as usize;
            self.near.splice(0..0, std::iter::repeat_n(0, new));
            self.first = k;
        } else if k >= end {
            self.near.resize((k - self.first + 1) as usize, 0);
        }
        self.near[(k - self.first) as usize] += n;
    }

    /// Exponents that occur, and how often; far ones first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        let near = self.near.iter().enumerate().map(|(i, &n)| (self.first + i as i64, n));
        self.far.iter().map(|(&k, &n)| (k, n)).chain(near).filter(|(_, n)| *n > 0)
    }

    pub(super) fn total(&self) -> u64 {
        self.near.iter().chain(self.far.values()).sum()
    }

    pub(super) fn below(&self, k: i64) -> u64 {
        let near = usize::try_from(k.saturating_sub(self.first)).unwrap_or(0).min(self.near.len());
        self.near[..near].iter().chain(self.far.range(..k).map(|(_, n)| n)).sum()
    }

    /// Smallest and largest exponent that occurs.
    pub(super) fn ends(&self) -> Option<(i64, i64)> {
        self.iter().fold(None, |ends, (k, _)| Some(ends.map_or((k, k), |(a, b): (i64, i64)| (a.min(k), b.max(k)))))
    }
}

/// Counters by biased exponent, for runs whose own exponents are at most [`SPREAD`] below a base.
pub(super) struct Table<T> {
    pub(super) base: i64,
    counts: Vec<[u32; LANES]>,
    runs: u32,
    /// Counters in use: from, to.
    used: (usize, usize),
    poured: Bins,
    kind: std::marker::PhantomData<T>,
}

impl<T: Real> Table<T> {
    pub(super) fn new(base: i64) -> Self {
        let size = 2 * T::BIAS as usize + 2 + SPREAD as usize;
        Self {
            base,
            counts: vec![[0; LANES]; size],
            runs: 0,
            used: (size, 0),
            poured: Bins::default(),
            kind: std::marker::PhantomData,
        }
    }

    /// Counts a run without NaN, infinities and subnormals whose exponents lie between two.
    pub(super) fn count(&mut self, x: &[T], e: i64, zeros: u64, (low, high): (i64, i64)) {
        let offset = (e - self.base + SPREAD) as usize;
        let at = |k: i64| offset + (k + i64::from(T::BIAS)) as usize;
        self.used = (self.used.0.min(at(low)), self.used.1.max(at(high) + 1));
        let exponents = 2 * T::BIAS as usize + 1;
        let counts = &mut self.counts[offset..offset + exponents + 1];
        let mask = exponents as u64;
        for quad in x.chunks(LANES) {
            for (lane, v) in quad.iter().enumerate() {
                // The mask keeps the index inside the slice, so no check is left.
                let k = ((v.bits() >> T::MANTISSA_BITS) & mask) as usize;
                counts[k][lane] = counts[k][lane].wrapping_add(1);
            }
        }
        // Zeros have no exponent; they were counted under the lowest.
        counts[0][0] = counts[0][0].wrapping_sub(zeros as u32);
        self.runs += 1;
        if self.runs == 1 << 16 {
            self.flush();
        }
    }

    /// Moves the counters to the map before they can overflow.
    fn flush(&mut self) {
        let (from, to) = self.used;
        for (i, c) in self.counts.iter_mut().enumerate().take(to).skip(from) {
            let n = c.iter().fold(0u32, |a, &b| a.wrapping_add(b));
            if n > 0 {
                self.poured.add(i as i64 - SPREAD + self.base - i64::from(T::BIAS), u64::from(n));
            }
            *c = [0; LANES];
        }
        (self.runs, self.used) = (0, (self.counts.len(), 0));
    }

    pub(super) fn pour(mut self, bins: &mut Bins) {
        self.flush();
        for (k, n) in self.poured.iter() {
            bins.add(k, n);
        }
    }
}
