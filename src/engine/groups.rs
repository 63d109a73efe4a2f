//! engine: sums over the chunks of a batch, joined in a few groups of neighbours, whatever the threads. Knows no figures.
//!
//! A thread that has all chunks of a group joins them itself: another core then fetches one cache line for it, not one a
//! chunk, and this one does not wait for as many when it writes there again. Of a group that threads share, each leaves
//! its chunks, and who reads them joins them in the same order. So sums depend on neither.

use std::ops::Range;

/// Groups that the chunks of a batch are joined in.
const GROUPS: usize = 4;

/// Sums over some rows.
pub trait Sums: Copy + Default {
    /// Adds the sums of the rows that follow.
    fn add(&mut self, o: &Self);
    /// Whether they stand for the whole group that begins where they are.
    fn whole(&mut self) -> &mut bool;
}

/// log2 of the norms of some samples: number, mean and sum of squared deviations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Spread {
    /// Counts another sample. Welford's update: logarithms near -20,000 that differ by 0.1 keep their difference.
    pub fn push(&mut self, x: f64) {
        self.n += 1.0;
        let d = x - self.mean;
        self.mean += d / self.n;
        self.m2 += d * (x - self.mean);
    }

    /// Adds other samples, by the rule of Chan, Golub and LeVeque (1979).
    pub fn add(&mut self, o: Self) {
        if o.n > 0.0 {
            let (n, d) = (self.n + o.n, o.mean - self.mean);
            self.m2 += o.m2 + d * d * self.n * o.n / n;
            self.mean += d * o.n / n;
            self.n = n;
        }
    }

    /// Standard deviation of log10 of the norms, where there are two.
    pub fn deviation(self) -> Option<f64> {
        (self.n > 1.0).then(|| (self.m2 / (self.n - 1.0)).sqrt() * std::f64::consts::LOG10_2)
    }
}

/// Some chunks of a thread that leaves one entry for them.
pub struct Span {
    /// The thread's own chunks.
    pub chunks: Range<usize>,
    /// They are a whole group.
    pub whole: bool,
}

/// The groups of so many chunks.
pub fn groups(chunks: usize, groups: usize) -> impl Iterator<Item = Range<usize>> {
    let size = chunks.div_ceil(groups).max(1);
    (0..chunks).step_by(size).map(move |at| at..chunks.min(at + size))
}

/// What a thread leaves for its chunks, of so many in all: an entry for each group that it has all of, else one a chunk.
pub fn spans(own: Range<usize>, chunks: usize, groups: usize) -> impl Iterator<Item = Span> {
    let (size, mut at) = (chunks.div_ceil(groups).max(1), own.start);
    std::iter::from_fn(move || {
        let group = size.min(chunks - at);
        let whole = at.is_multiple_of(size) && at + group <= own.end;
        let from = at - own.start;
        at += if whole { group } else { 1 };
        Some(Span { chunks: from..at - own.start, whole })
    })
    .take_while(move |s| s.chunks.start < own.len())
}

/// The sums of some chunks, one after another.
pub fn in_order<S: Sums>(chunks: Range<usize>, sum: impl Fn(usize) -> S) -> S {
    let mut all = sum(chunks.start);
    (chunks.start + 1..chunks.end).for_each(|i| all.add(&sum(i)));
    all
}

/// Puts the sums of one thread's chunks, from `first` on of so many in all, where they are read: `sum(i..j)` are those of
/// its i-th and later, [`in_order`].
pub fn enter<S: Sums>(out: &mut [S], first: usize, chunks: usize, sum: impl Fn(Range<usize>) -> S) {
    let own = first..first + out.len();
    for span in spans(own, chunks, GROUPS) {
        // In registers: the last to read the place was another core, for which every store to it would wait.
        let at = span.chunks.start;
        let mut all = sum(span.chunks);
        *all.whole() = span.whole;
        out[at] = all;
    }
}

/// The sums of a batch from what [`enter`] put for all its chunks.
pub fn joined<S: Sums>(chunks: &[S]) -> S {
    let mut all = S::default();
    for group in groups(chunks.len(), GROUPS).map(|g| &chunks[g]) {
        let mut sum = group[0];
        if !*sum.whole() {
            group[1..].iter().for_each(|c| sum.add(c));
        }
        all.add(&sum);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sum that depends on its order and bracketing.
    #[derive(Clone, Copy, Default, PartialEq, Debug)]
    struct Number(f64, bool);

    impl Sums for Number {
        fn add(&mut self, o: &Self) {
            self.0 += o.0;
        }
        fn whole(&mut self) -> &mut bool {
            &mut self.1
        }
    }

    #[test]
    fn threads_change_no_bit() {
        for chunks in [1, 2, 3, 7, 8, 13, 31, 32] {
            let value = |i: usize| Number(1.0 / (3 * i + 1) as f64, false);
            let of = |threads: usize| {
                // What an earlier pass on other threads has left behind.
                let mut all = vec![Number(f64::NAN, true); chunks];
                for t in 0..threads {
                    let own = t * chunks / threads..(t + 1) * chunks / threads;
                    enter(&mut all[own.clone()], own.start, chunks, |some| in_order(some, |i| value(own.start + i)));
                }
                joined(&all).0
            };
            let one = of(1);
            assert!((one - (0..chunks).map(|i| value(i).0).sum::<f64>()).abs() < 1e-14);
            assert!((2..=chunks).all(|threads| of(threads).to_bits() == one.to_bits()), "{chunks}");
        }
    }

    #[test]
    fn spreads_join() {
        let x = [-20000.1, -20000.0, -19999.7, -20003.0, -19998.5];
        let mean = x.iter().sum::<f64>() / 5.0;
        let want = (x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 4.0).sqrt() * std::f64::consts::LOG10_2;
        for cut in 0..=5 {
            let (mut a, mut b) = (Spread::default(), Spread::default());
            x[..cut].iter().for_each(|&x| a.push(x));
            x[cut..].iter().for_each(|&x| b.push(x));
            a.add(b);
            assert!(a.deviation().is_some_and(|d| (d - want).abs() < 1e-12), "{cut}");
        }
        let mut one = Spread::default();
        one.push(1.0);
        assert_eq!(one.deviation(), None);
    }

    #[test]
    fn a_thread_leaves_one_entry_for_each_group_of_its_own() {
        let mut out = [Number(0.0, false); 16];
        enter(&mut out, 16, 32, |some| in_order(some, |_| Number(1.0, false)));
        let written: Vec<_> = (0..16).filter(|&i| out[i].0 != 0.0).map(|i| (i, out[i])).collect();
        assert_eq!(written, [(0, Number(8.0, true)), (8, Number(8.0, true))]);
    }
}
