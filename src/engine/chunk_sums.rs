//! engine: the sums of a unit's backward pass over chunks of rows. Knows rows' figures, no layers and no threads.

use super::groups::{Spread, Sums, in_order};
use crate::kernels::delta::RowDelta;
use crate::num::scaled::{ScaledSum, log2_scaled};
use std::ops::Range;

/// Sums over a chunk of rows of one unit's backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChunkGradient {
    /// Squares of dL/d(output).
    pub gradient: ScaledSum,
    /// Squares of dL/d(pre-activation).
    pub delta: ScaledSum,
    /// Samples with a finite norm above zero.
    pub spread: Spread,
    /// Samples whose gradient is exactly zero.
    pub zero: u32,
    whole: bool,
}

impl Sums for ChunkGradient {
    fn add(&mut self, o: &Self) {
        self.gradient.add(o.gradient);
        self.delta.add(o.delta);
        self.spread.add(o.spread);
        self.zero += o.zero;
    }
    fn whole(&mut self) -> &mut bool {
        &mut self.whole
    }
}

/// What a thread's pass over its rows found out.
#[derive(Clone, Copy)]
pub struct RowSums<'a> {
    /// Figures of each row.
    pub rows: &'a [RowDelta],
    /// Their exponents.
    pub exponents: &'a [i64],
    /// Rows of a chunk.
    pub chunk: usize,
    /// Spread and zeros too.
    pub full: bool,
    /// The unit has an activation, so that its delta is not its gradient.
    pub act: bool,
}

impl RowSums<'_> {
    /// The sums of some chunks, one after another.
    pub fn of(&self, chunks: Range<usize>) -> ChunkGradient {
        self.plain(chunks.clone()).unwrap_or_else(|| in_order(chunks, |c| self.chunk(c)))
    }

    /// The same in doubles, where all rows have one scale and no sum needs an exponent of its own.
    fn plain(&self, chunks: Range<usize>) -> Option<ChunkGradient> {
        if self.full {
            return None;
        }
        let rows = chunks.start * self.chunk..(chunks.end * self.chunk).min(self.rows.len());
        let e = self.exponents[rows.start];
        let plain = |s: &ScaledSum| s.e == 0 && s.is_plain();
        let one = self.exponents[rows.clone()].iter().all(|&x| x == e);
        let rows = &self.rows[rows];
        if !one || !rows.iter().all(|r| plain(&r.gradient) && plain(&r.delta)) {
            return None;
        }
        let (mut gradient, mut delta) = (0.0, 0.0);
        for chunk in rows.chunks(self.chunk) {
            let (g, d) = chunk.iter().fold((0.0, 0.0), |(g, d), r| (g + r.gradient.s, d + r.delta.s));
            (gradient, delta) = (gradient + g, delta + d);
        }
        let at = |s: f64| Some(ScaledSum { s, e: if s == 0.0 { 0 } else { 2 * e } }).filter(ScaledSum::is_plain);
        let gradient = at(gradient)?;
        let delta = if self.act { at(delta)? } else { gradient };
        Some(ChunkGradient { gradient, delta, ..ChunkGradient::default() })
    }

    /// The sums of chunk `c`.
    fn chunk(&self, c: usize) -> ChunkGradient {
        let mut sum = ChunkGradient::default();
        for r in c * self.chunk..((c + 1) * self.chunk).min(self.rows.len()) {
            let (row, e) = (&self.rows[r], self.exponents[r]);
            let at = |s: ScaledSum| ScaledSum { s: s.s, e: s.e + 2 * e };
            sum.gradient.add(at(row.gradient));
            if self.act {
                sum.delta.add(at(row.delta));
            }
            if self.full {
                if row.gradient.s == 0.0 {
                    sum.zero += 1;
                } else if row.gradient.s.is_finite() {
                    sum.spread.push(0.5 * log2_scaled(row.gradient.s, row.gradient.e + 2 * e));
                }
            }
        }
        if !self.act {
            sum.delta = sum.gradient;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::scaled::pow2;

    #[test]
    fn plain_sums_are_the_scaled_ones_to_the_bit() {
        let row = |i: usize, f: f64| RowDelta {
            gradient: ScaledSum { s: f * (1.0 + (i * i) as f64 / 7.0), e: 0 },
            delta: ScaledSum { s: f / (3 + i) as f64, e: 0 },
            largest: 1.0,
        };
        let mut plain = 0;
        for f in [1.0, 0.0, pow2(-255), pow2(-257), pow2(250), pow2(256), f64::NAN, f64::INFINITY] {
            for (chunk, odd) in [(1, None), (3, None), (3, Some(0.0)), (2, Some(pow2(-300))), (1, Some(f64::NAN))] {
                let mut rows: Vec<_> = (0..10).map(|i| row(i, f)).collect();
                if let Some(x) = odd {
                    rows[4] = row(4, x);
                }
                for exponents in [[-6270i64; 10], [-32, -32, -32, -32, 0, -32, -32, -64, -32, -32]] {
                    for act in [false, true] {
                        let sums = RowSums { rows: &rows, exponents: &exponents, chunk, full: false, act };
                        for chunks in [0..10usize.div_ceil(chunk), 1..3, 2..3] {
                            let want = in_order(chunks.clone(), |c| sums.chunk(c));
                            let got = sums.of(chunks.clone());
                            plain += usize::from(sums.plain(chunks).is_some());
                            for (a, b) in [(got.gradient, want.gradient), (got.delta, want.delta)] {
                                assert!(
                                    (a.s.to_bits(), a.e) == (b.s.to_bits(), b.e),
                                    "{f} {chunk} {odd:?} {a:?} {b:?}"
                                );
                            }
                        }
                    }
                }
            }
        }
        assert!(plain > 50, "the plain way was hardly taken: {plain}");
    }
}
