//! kernels: memory that is asked for while a product runs. Knows addresses alone, no values.

use crate::num::real::Real;
use std::ops::Range;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Memory that the work after a product will touch. The product's tiles ask for it line by line, spread out evenly, so
/// that it arrives from a far cache while they compute. An address that no longer means anything does no harm.
#[derive(Default)]
pub struct Ahead {
    runs: Vec<Range<usize>>,
    /// Lines that each tile asks for.
    share: usize,
}

impl Ahead {
    /// Adds a slice.
    pub fn add<T: Real>(&mut self, data: &[T]) {
        let run = data.as_ptr_range();
        if !data.is_empty() {
            self.runs.push(run.start.addr()..run.end.addr());
        }
    }

    /// Spreads what is wanted over a number of tiles.
    pub(super) fn spread(&mut self, tiles: usize) {
        let lines: usize = self.runs.iter().map(|r| r.len().div_ceil(LINE)).sum();
        self.share = lines.div_ceil(tiles.max(1));
    }

    /// Where a tile of `k` steps begins to ask, and how many elements further with each step.
    pub(super) fn take<T: Real>(&mut self, k: usize) -> Option<(*const T, usize)> {
        let run = self.runs.first_mut()?;
        let at = run.start;
        let lines = self.share.min(k).min(run.len().div_ceil(LINE));
        run.start += lines * LINE;
        if run.start >= run.end {
            self.runs.remove(0);
        }
        let step = (lines * LINE / size_of::<T>()).div_ceil(k.max(1));
        Some((std::ptr::without_provenance(at), step))
    }

    /// Forgets what was not asked for.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }
}

/// Memory that will be written after a product. Where another core has read it last, a store waits until that core has
/// let it go: the product's tiles claim it line by line, so that this happens while they compute. Values stay.
pub struct Claim<'a, T> {
    rest: &'a mut [T],
    /// Lines that each tile claims.
    share: usize,
}

impl<'a, T: Real> Claim<'a, T> {
    /// Spreads the lines of a slice over a number of tiles.
    pub(super) fn new(rest: &'a mut [T], tiles: usize) -> Self {
        let share = size_of_val(rest).div_ceil(LINE).div_ceil(tiles.max(1));
        Self { rest, share }
    }

    /// Claims the lines of one tile.
    pub(super) fn take(&mut self) {
        let line = LINE / size_of::<T>();
        let n = (self.share * line).min(self.rest.len());
        let (mine, rest) = std::mem::take(&mut self.rest).split_at_mut(n);
        self.rest = rest;
        for line in mine.chunks_mut(line) {
            let p: *mut T = &mut line[0];
            // SAFETY: `p` comes from a unique reference. Volatile, because the compiler sees that nothing changes.
            unsafe { p.write_volatile(p.read_volatile()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_share_the_lines() {
        let (x, y) = (vec![0f32; 16 * 10], vec![0f32; 16 * 3]);
        let mut a = Ahead::default();
        a.add(&x);
        a.add(&y);
        a.spread(4);
        let taken: Vec<_> = std::iter::from_fn(|| a.take::<f32>(64)).collect();
        let offsets: Vec<_> = taken.iter().map(|(p, _)| p.addr().wrapping_sub(x.as_ptr().addr())).collect();
        assert_eq!(offsets[..3], [0, 4 * LINE, 8 * LINE]);
        assert_eq!((taken[3].0, taken.len()), (y.as_ptr(), 4));
        // Four lines in 64 steps: an element a step.
        assert_eq!(taken[0].1, 1);
        assert!(a.take::<f32>(64).is_none());
    }
}
