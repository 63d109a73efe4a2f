//! engine: the memory of a pass: kept activations, deltas, their exponents and per-chunk sums, and how threads share
//! it by rows. Knows no arithmetic.

use super::chunk_sums::ChunkGradient;
use super::norm::{MOMENTS, chunk_rows};
use super::plan::{Plan, longest};
use super::program::Program;
use crate::error::Error;
use crate::num::aligned::{Buffer, filled, reserved};
use crate::num::meeting::Member;
use crate::num::real::Real;
use crate::num::rows::{RowShare, share_rows};
use std::ops::Range;

/// A batch is summed in this many chunks of rows at most. The chunks depend on the batch alone, so neither threads nor
/// plans change a sum; more of them would cost memory, fewer would idle threads.
pub(super) const CHUNKS: usize = 32;

/// Sums over a chunk of rows of one unit's forward pass.
#[derive(Clone, Copy, Default)]
pub struct ChunkForward {
    /// Sum of pre-activations.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
}

/// A place on the tape: a slot and an index in it.
pub type Place = (usize, usize);

/// The buffers of a pass.
pub struct Tape<T: Real> {
    /// Slots of all blocks, then one for the segments' inputs of each width.
    pub slots: Vec<Buffer<T>>,
    widths: Vec<usize>,
    /// First slot and first delta of each block.
    pub base: Vec<(usize, usize)>,
    /// Where each segment's input lies.
    pub inputs: Vec<Place>,
    /// Deltas of the segment in work.
    pub deltas: Vec<Buffer<T>>,
    delta_widths: Vec<usize>,
    /// Exponents of the rows of each delta.
    pub exponents: Vec<Vec<i64>>,
    /// Per row, the gradient of a learned number (beside each delta; empty where there is none).
    pub slopes: Vec<Vec<f64>>,
    /// Statistics over the batch, a buffer for each normalisation that takes any: (iterations, threads, [`MOMENTS`],
    /// width), the same for every thread. Empty unless in training.
    pub moments: Vec<Buffer<f64>>,
    moment_widths: Vec<usize>,
    /// Threads that the statistics are there for.
    parts: usize,
    /// Forward sums of all units; empty unless asked for.
    pub forward: Vec<ChunkForward>,
    /// Backward sums of the units of the segment in work.
    pub backward: Vec<ChunkGradient>,
    /// What the buffers were made for.
    pub key: (usize, bool, usize, bool),
    /// Samples.
    pub batch: usize,
    /// Rows of a chunk.
    pub chunk: usize,
}

/// A thread's part of the tape.
pub struct Share<'a, T: Real> {
    /// See [`Tape::slots`].
    pub slots: Vec<RowShare<'a, T>>,
    /// See [`Tape::deltas`].
    pub deltas: Vec<RowShare<'a, T>>,
    /// See [`Tape::exponents`].
    pub exponents: Vec<RowShare<'a, i64>>,
    /// See [`Tape::slopes`].
    pub slopes: Vec<RowShare<'a, f64>>,
    /// See [`Tape::moments`].
    pub moments: Vec<RowShare<'a, f64>>,
    /// This thread's place where all of a sweep wait for each other; none where rows do not see each other.
    pub member: Option<Member<'a>>,
    /// See [`Tape::forward`].
    pub forward: RowShare<'a, ChunkForward>,
    /// See [`Tape::backward`].
    pub backward: RowShare<'a, ChunkGradient>,
}

impl<T: Real> Tape<T> {
    /// Buffers for a plan.
    pub fn new(p: &Program, plan: &Plan, full: bool) -> Result<Self, Error> {
        let batch = plan.batch;
        let (mut slots, mut widths, mut base) = (Vec::new(), Vec::new(), Vec::new());
        let (mut deltas, mut delta_widths, mut exponents, mut slopes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let size = |n: usize, w: usize| n.checked_mul(batch).and_then(|x| x.checked_mul(w)).unwrap_or(usize::MAX);
        for (i, b) in p.blocks.iter().enumerate() {
            base.push((slots.len(), deltas.len()));
            let longest = longest(&plan.segments, i);
            for &w in &b.slots {
                slots.push(Buffer::zeroed(size(if plan.keep { b.times } else { longest }, w))?);
                widths.push(w);
            }
            for (j, &w) in b.deltas.iter().enumerate() {
                deltas.push(Buffer::zeroed(size(longest, w))?);
                delta_widths.push(w);
                exponents.push(filled(0, longest * batch)?);
                let learned = b.ops.iter().any(|o| o.scalar().is_some_and(|(_, delta)| delta == j));
                slopes.push(filled(0.0, if learned { longest * batch } else { 0 })?);
            }
        }
        let units: usize = plan
            .segments
            .iter()
            .map(|s| s.pieces.iter().map(|q| (q.to - q.from) * p.blocks[q.block].units).sum())
            .max()
            .unwrap_or(0);
        // Inputs of segments, gathered by width so that there are few slots.
        let mut classes: Vec<(usize, usize)> = Vec::new();
        let mut inputs = reserved(plan.segments.len())?;
        for s in &plan.segments {
            let c = classes.iter().position(|c| c.0 == s.width).unwrap_or_else(|| {
                classes.push((s.width, 0));
                classes.len() - 1
            });
            inputs.push((slots.len() + c, classes[c].1));
            classes[c].1 += 1;
        }
        for (w, n) in classes {
            slots.push(Buffer::zeroed(size(n, w))?);
            widths.push(w);
        }
        let chunk = chunk_rows(p, batch);
        let chunks = batch.div_ceil(chunk);
        Ok(Self {
            slots,
            widths,
            base,
            inputs,
            deltas,
            delta_widths,
            exponents,
            slopes,
            moments: Vec::new(),
            moment_widths: p.blocks.iter().flat_map(|b| &b.moments).copied().collect(),
            parts: 0,
            forward: filled(ChunkForward::default(), if full { p.units.saturating_mul(chunks) } else { 0 })?,
            backward: filled(ChunkGradient::default(), units.saturating_mul(chunks))?,
            key: (batch, plan.keep, plan.segments.len(), full),
            batch,
            chunk,
        })
    }

    /// Makes room for statistics over the batch, of that many threads.
    pub fn fit_moments(&mut self, p: &Program, parts: usize) -> Result<(), Error> {
        if self.parts == parts {
            return Ok(());
        }
        self.moments.clear();
        for (b, &width) in p.blocks.iter().flat_map(|b| b.moments.iter().map(move |w| (b, w))) {
            let len = b.times.checked_mul(parts * MOMENTS).and_then(|n| n.checked_mul(width)).unwrap_or(usize::MAX);
            self.moments.push(Buffer::zeroed(len)?);
        }
        self.parts = parts;
        Ok(())
    }

    /// The statistics of a normalisation in an iteration: (MOMENTS, width). None unless in training.
    pub fn moments_at(&self, moment: usize, i: usize, width: usize) -> Option<&[f64]> {
        let len = MOMENTS * width;
        Some(&self.moments.get(moment)?[i * self.parts * len..][..len])
    }

    /// Chunks of the batch.
    pub fn chunks(&self) -> usize {
        self.batch.div_ceil(self.chunk)
    }

    /// All rows at a place.
    pub fn at(&self, (slot, i): Place) -> &[T] {
        let n = self.batch * self.widths[slot];
        &self.slots[slot][i * n..][..n]
    }

    /// All rows of a delta, and their exponents.
    pub fn delta(&self, (delta, i): Place) -> (&[T], &[i64]) {
        let n = self.batch * self.delta_widths[delta];
        (&self.deltas[delta][i * n..][..n], &self.exponents[delta][i * self.batch..][..self.batch])
    }

    /// Ranges of chunks for up to `threads` threads.
    pub fn split(&self, threads: usize) -> Vec<Range<usize>> {
        let chunks = self.chunks();
        let n = threads.clamp(1, chunks);
        (0..n).map(|i| i * chunks / n..(i + 1) * chunks / n).collect()
    }

    /// The rows of a range of chunks.
    pub fn rows(&self, chunks: &Range<usize>) -> Range<usize> {
        (chunks.start * self.chunk).min(self.batch)..(chunks.end * self.chunk).min(self.batch)
    }

    /// The tape shared out by rows.
    pub fn share(&mut self, split: &[Range<usize>]) -> Vec<Share<'_, T>> {
        let rows: Vec<_> = split.iter().map(|c| self.rows(c)).collect();
        let (batch, chunks) = (self.batch, self.chunks());
        let n = split.len();
        let slots = transpose(
            n,
            self.slots.iter_mut().zip(&self.widths).map(|(b, &w)| share_rows(b, batch, w, &rows)).collect(),
        );
        let deltas = transpose(
            n,
            self.deltas.iter_mut().zip(&self.delta_widths).map(|(b, &w)| share_rows(b, batch, w, &rows)).collect(),
        );
        let exponents = transpose(n, self.exponents.iter_mut().map(|b| share_rows(b, batch, 1, &rows)).collect());
        let slopes = transpose(n, self.slopes.iter_mut().map(|b| share_rows(b, batch, 1, &rows)).collect());
        let each: Vec<_> = (0..n).map(|i| i..i + 1).collect();
        let widths = self.moment_widths.iter().filter(|_| self.parts == n);
        let moments = self.moments.iter_mut().zip(widths).map(|(b, &w)| share_rows(b, n, MOMENTS * w, &each));
        let moments = transpose(n, moments.collect());
        let forward = share_rows(&mut self.forward, chunks, 1, split);
        let backward = share_rows(&mut self.backward, chunks, 1, split);
        let rest = slopes.into_iter().zip(moments).zip(forward).zip(backward);
        slots
            .into_iter()
            .zip(deltas)
            .zip(exponents)
            .zip(rest)
            .map(|(((slots, deltas), exponents), (((slopes, moments), forward), backward))| Share {
                slots,
                deltas,
                exponents,
                slopes,
                moments,
                member: None,
                forward,
                backward,
            })
            .collect()
    }
}

/// From one list of `n` parts per buffer to `n` lists of parts.
fn transpose<X>(n: usize, parts: Vec<Vec<X>>) -> Vec<Vec<X>> {
    let mut out: Vec<Vec<X>> = (0..n).map(|_| Vec::with_capacity(parts.len())).collect();
    for list in parts {
        for (o, x) in out.iter_mut().zip(list) {
            o.push(x);
        }
    }
    out
}

/// A place to read and another to write.
pub fn read_write<'s, T: Real>(slots: &'s mut [RowShare<'_, T>], from: Place, to: Place) -> (&'s [T], &'s mut [T]) {
    if from.0 == to.0 {
        return slots[from.0].pair(from.1, to.1);
    }
    match slots.get_disjoint_mut([from.0, to.0]) {
        Ok([a, b]) => (a.get(from.1), b.get_mut(to.1)),
        Err(_) => unreachable!("two slots of one program are different and exist"),
    }
}

/// A place to read and two to write, the second in a slot of its own.
pub fn read_write_two<'s, T: Real>(
    slots: &'s mut [RowShare<'_, T>],
    from: Place,
    to: Place,
    beside: Place,
) -> (&'s [T], &'s mut [T], &'s mut [T]) {
    if from.0 == to.0 {
        return match slots.get_disjoint_mut([to.0, beside.0]) {
            Ok([a, b]) => {
                let (x, y) = a.pair(from.1, to.1);
                (x, y, b.get_mut(beside.1))
            }
            Err(_) => unreachable!("an output and what is kept beside it are different slots"),
        };
    }
    match slots.get_disjoint_mut([from.0, to.0, beside.0]) {
        Ok([a, b, c]) => (a.get(from.1), b.get_mut(to.1), c.get_mut(beside.1)),
        Err(_) => unreachable!("an input, an output and what is kept beside it are different slots"),
    }
}

/// Two places to read and another to write.
pub fn read_two_write<'s, T: Real>(
    slots: &'s mut [RowShare<'_, T>],
    a: Place,
    b: Place,
    to: Place,
) -> (&'s [T], &'s [T], &'s mut [T]) {
    if a.0 == to.0 && b.0 == to.0 {
        return slots[to.0].two(a.1, b.1, to.1);
    }
    if b.0 == to.0 {
        let (b, a, to) = read_two_write(slots, b, a, to);
        return (a, b, to);
    }
    if a.0 == to.0 {
        return match slots.get_disjoint_mut([to.0, b.0]) {
            Ok([s, other]) => {
                let (a, to) = s.pair(a.1, to.1);
                (a, other.get(b.1), to)
            }
            Err(_) => unreachable!("two slots of one program are different and exist"),
        };
    }
    if a.0 == b.0 {
        return match slots.get_disjoint_mut([a.0, to.0]) {
            Ok([s, t]) => (s.get(a.1), s.get(b.1), t.get_mut(to.1)),
            Err(_) => unreachable!("two slots of one program are different and exist"),
        };
    }
    match slots.get_disjoint_mut([a.0, b.0, to.0]) {
        Ok([a_slot, b_slot, t]) => (a_slot.get(a.1), b_slot.get(b.1), t.get_mut(to.1)),
        Err(_) => unreachable!("three slots of one program are different and exist"),
    }
}

/// Two places to write.
pub fn write_two<'s, T: Real>(slots: &'s mut [RowShare<'_, T>], a: Place, b: Place) -> (&'s mut [T], &'s mut [T]) {
    match slots.get_disjoint_mut([a.0, b.0]) {
        Ok([x, y]) => (x.get_mut(a.1), y.get_mut(b.1)),
        Err(_) => unreachable!("an output and its slope are different slots"),
    }
}
