//! num: one buffer of blocks of rows, shared out to threads by rows. Knows no layers.

use std::marker::PhantomData;
use std::ops::Range;

/// One thread's rows of a buffer laid out (blocks, rows, width): in each block a contiguous run.
pub struct RowShare<'a, T> {
    base: *mut T,
    blocks: usize,
    block_len: usize,
    start: usize,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a share is a unique borrow of its rows (see `share_rows`), and T is Send.
unsafe impl<T: Copy + Send> Send for RowShare<'_, T> {}

/// Splits a buffer of `blocks` x `rows` x `width` by the given row ranges, which must be ascending and disjoint.
///
/// # Panics
/// If the ranges overlap, leave the rows, or the buffer is too short: a programming error of the caller.
pub fn share_rows<'a, T: Copy + Send>(
    buffer: &'a mut [T],
    rows: usize,
    width: usize,
    ranges: &[Range<usize>],
) -> Vec<RowShare<'a, T>> {
    let block_len = rows * width;
    let blocks = buffer.len().checked_div(block_len).unwrap_or(0);
    let mut end = 0;
    for r in ranges {
        assert!(r.start >= end && r.end >= r.start && r.end <= rows, "row ranges must be ascending and disjoint");
        end = r.end;
    }
    let base = buffer.as_mut_ptr();
    ranges
        .iter()
        .map(|r| RowShare { base, blocks, block_len, start: r.start * width, len: r.len() * width, life: PhantomData })
        .collect()
}

impl<T: Copy + Send> RowShare<'_, T> {
    /// This share's rows of block `i`.
    pub fn get(&self, i: usize) -> &[T] {
        assert!(i < self.blocks || self.len == 0);
        // SAFETY: the range lies in block i of the borrowed buffer, and no other share has these rows.
        unsafe { std::slice::from_raw_parts(self.base.add(i * self.block_len + self.start), self.len) }
    }

    /// This share's rows of block `i`, or nothing where there is no such block.
    pub fn peek(&self, i: usize) -> &[T] {
        if i < self.blocks { self.get(i) } else { &[] }
    }

    /// This share's rows of block `i`, to write.
    pub fn get_mut(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.blocks || self.len == 0);
        // SAFETY: as in `get`, and `self` is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(i * self.block_len + self.start), self.len) }
    }

    /// Rows of block `from` to read and of another block `to` to write.
    pub fn pair(&mut self, from: usize, to: usize) -> (&[T], &mut [T]) {
        assert!(from != to && from < self.blocks && to < self.blocks);
        // SAFETY: two different blocks do not overlap; otherwise as in `get` and `get_mut`.
        unsafe {
            (
                std::slice::from_raw_parts(self.base.add(from * self.block_len + self.start), self.len),
                std::slice::from_raw_parts_mut(self.base.add(to * self.block_len + self.start), self.len),
            )
        }
    }

    /// Rows of blocks `a` and `b` to read and of another block `to` to write.
    pub fn two(&mut self, a: usize, b: usize, to: usize) -> (&[T], &[T], &mut [T]) {
        assert!(a != to && b != to && a.max(b).max(to) < self.blocks);
        // SAFETY: `to` overlaps neither of the others, which are only read; otherwise as in `get` and `get_mut`.
        unsafe {
            let read = |i: usize| std::slice::from_raw_parts(self.base.add(i * self.block_len + self.start), self.len);
            let to = self.base.add(to * self.block_len + self.start);
            (read(a), read(b), std::slice::from_raw_parts_mut(to, self.len))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_rows_they_say() {
        let mut b: Vec<f64> = (0..24).map(f64::from).collect(); // 2 blocks, 4 rows, 3 wide
        let mut s = share_rows(&mut b, 4, 3, &[0..1, 1..4]);
        assert_eq!(s[0].get(1), &[12.0, 13.0, 14.0]);
        s[1].get_mut(0)[8] = -1.0;
        let (from, to) = s[1].pair(0, 1);
        to[0] = from[8];
        let (x, y, to) = s[0].two(0, 0, 1);
        to[2] = x[0] - y[1];
        assert_eq!(b[11], -1.0);
        assert_eq!(b[15], -1.0);
        assert_eq!(b[14], -1.0);
    }

    #[test]
    #[should_panic(expected = "disjoint")]
    fn overlapping_ranges_are_refused() {
        share_rows(&mut [0.0f32; 8], 4, 2, &[0..3, 2..4]);
    }
}
