//! engine: the memory of a stack's pass and how threads share it by rows. Knows no arithmetic.

use super::figures::StepSums;
use super::plan::TimePlan;
use super::{Recurrent, Stack};
use crate::error::Error;
use crate::kernels::cell_figures::StepFigures;
use crate::num::aligned::{Buffer, filled};
use crate::num::real::Real;
use crate::num::rows::{RowShare, share_rows};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// A batch is summed in this many chunks of rows at most, whatever the threads.
pub const CHUNKS: usize = 32;

/// Buffers of one cell. A *place* is a step's index in the tape; with checkpoints it begins anew in each segment.
pub struct CellTape<T: Real> {
    /// Pre-activations: (places, batch, z).
    pub z: Buffer<T>,
    /// States; place 0 is the state before the first step: (places + 1, batch, states).
    pub s: Buffer<T>,
    /// Outputs where they are not part of the state: (places, batch, hidden); empty unless residual.
    pub y: Buffer<T>,
    /// States before each segment: (segments, batch, states); empty if all is kept.
    pub marks: Buffer<T>,
    /// dL/dz and dL/dp: (steps of a segment, batch, delta).
    pub delta: Buffer<T>,
    /// Their exponents: (steps of a segment, batch).
    pub exponents: Vec<i64>,
    /// The first cell's inputs, gathered: (steps of a segment, batch, in).
    pub x: Buffer<T>,
    /// dL/d(input) for the cell below: (steps of a segment, batch, in).
    pub dx: Buffer<T>,
    /// Their exponents.
    pub dx_exponents: Vec<i64>,
    /// Sums by step and chunk: (steps of a segment, chunks).
    pub sums: Vec<StepSums>,
    /// Figures by step and chunk; empty unless asked for.
    pub figures: Vec<StepFigures>,
}

/// Buffers of a stack.
pub struct Tape<T: Real> {
    /// From the input up.
    pub cells: Vec<CellTape<T>>,
    /// Rows of a chunk.
    pub chunk: usize,
    /// Widths of z, state, output, delta.
    widths: [usize; 4],
    inputs: Vec<usize>,
    batch: usize,
}

/// What a tape was made for: stage, level, direction, then steps kept and of a segment, segments, batch, and whether for
/// a backward pass and its figures.
pub type Key = (usize, usize, usize, usize, usize, usize, usize, bool, bool);

/// Tapes of earlier passes, for later ones of the same shape: fresh memory costs more than filling it.
pub struct Spare<T: Real>(Mutex<Vec<(Key, Tape<T>)>>);

impl<T: Real> Default for Spare<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

/// Tapes that are kept at most.
const SPARES: usize = 8;

impl<T: Real> Spare<T> {
    /// A tape made for this, if there is one.
    pub fn take(&self, key: Key) -> Option<Tape<T>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = list.iter().position(|(k, _)| *k == key)?;
        Some(list.swap_remove(at).1)
    }

    /// Gives back all tapes but those that the pass will take.
    pub fn retain(&self, wanted: impl Fn(&Key) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(k, _)| wanted(k));
    }

    /// Keeps a tape for later.
    pub fn put(&self, key: Key, tape: Tape<T>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of another batch or length are not coming back.
        list.retain(|(k, _)| (k.3, k.6) == (key.3, key.6));
        if list.len() < SPARES {
            list.push((key, tape));
        }
    }
}

/// One thread's part of a cell's tape.
#[allow(missing_docs)] // reason: the fields are those of CellTape
pub struct CellShare<'a, T: Real> {
    pub z: RowShare<'a, T>,
    pub s: RowShare<'a, T>,
    pub y: RowShare<'a, T>,
    pub marks: RowShare<'a, T>,
    pub delta: RowShare<'a, T>,
    pub exponents: RowShare<'a, i64>,
    pub x: RowShare<'a, T>,
    pub dx: RowShare<'a, T>,
    pub dx_exponents: RowShare<'a, i64>,
    pub sums: RowShare<'a, StepSums>,
    pub figures: RowShare<'a, StepFigures>,
}

impl<T: Real> Tape<T> {
    /// Buffers for a plan; without `backward` only what a forward pass needs.
    pub fn new(r: &Recurrent, stack: &Stack, plan: &TimePlan, backward: bool, full: bool) -> Result<Self, Error> {
        let batch = plan.batch;
        let chunk = batch.div_ceil(CHUNKS);
        let chunks = batch.div_ceil(chunk);
        let (kept, segment) = (plan.kept(), plan.segment.min(plan.steps));
        let later = if backward { segment } else { 0 };
        let size = |n: usize, w: usize| n.checked_mul(batch).and_then(|x| x.checked_mul(w)).unwrap_or(usize::MAX);
        let mut cells = Vec::with_capacity(stack.cells.len());
        for (k, c) in stack.cells.iter().enumerate() {
            let dx = if k > 0 { later } else { 0 };
            cells.push(CellTape {
                z: Buffer::zeroed(size(kept, r.z_width()))?,
                s: Buffer::zeroed(size(kept + 1, r.state_width()))?,
                y: Buffer::zeroed(size(if r.residual && k > 0 { kept } else { 0 }, r.hidden))?,
                marks: Buffer::zeroed(size(if plan.keep { 0 } else { plan.segments() }, r.state_width()))?,
                delta: Buffer::zeroed(size(later, r.delta_width()))?,
                exponents: filled(0, size(later, 1))?,
                x: Buffer::zeroed(size(if k == 0 { later } else { 0 }, c.in_width))?,
                dx: Buffer::zeroed(size(dx, c.in_width))?,
                dx_exponents: filled(0, size(dx, 1))?,
                sums: filled(StepSums::default(), later.saturating_mul(chunks))?,
                figures: filled(StepFigures::default(), if full { later.saturating_mul(chunks) } else { 0 })?,
            });
        }
        let widths = [r.z_width(), r.state_width(), r.hidden, r.delta_width()];
        Ok(Self { cells, chunk, widths, inputs: stack.cells.iter().map(|c| c.in_width).collect(), batch })
    }

    /// Chunks of the batch.
    pub fn chunks(&self) -> usize {
        self.batch.div_ceil(self.chunk)
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

    /// The tape shared out by rows: for each thread its part of each cell.
    pub fn share(&mut self, split: &[Range<usize>]) -> Vec<Vec<CellShare<'_, T>>> {
        let rows: Vec<_> = split.iter().map(|c| self.rows(c)).collect();
        let (batch, chunks, [zw, sw, hw, dw]) = (self.batch, self.chunks(), self.widths);
        let mut out: Vec<Vec<CellShare<'_, T>>> = rows.iter().map(|_| Vec::with_capacity(self.cells.len())).collect();
        for (c, &width) in self.cells.iter_mut().zip(&self.inputs) {
            let mut z = share_rows(&mut c.z, batch, zw, &rows).into_iter();
            let mut s = share_rows(&mut c.s, batch, sw, &rows).into_iter();
            let mut y = share_rows(&mut c.y, batch, hw, &rows).into_iter();
            let mut marks = share_rows(&mut c.marks, batch, sw, &rows).into_iter();
            let mut delta = share_rows(&mut c.delta, batch, dw, &rows).into_iter();
            let mut exponents = share_rows(&mut c.exponents, batch, 1, &rows).into_iter();
            let mut x = share_rows(&mut c.x, batch, width, &rows).into_iter();
            let mut dx = share_rows(&mut c.dx, batch, width, &rows).into_iter();
            let mut dx_exponents = share_rows(&mut c.dx_exponents, batch, 1, &rows).into_iter();
            let mut sums = share_rows(&mut c.sums, chunks, 1, split).into_iter();
            let mut figures = share_rows(&mut c.figures, chunks, 1, split).into_iter();
            for list in &mut out {
                let part = (|| {
                    Some(CellShare {
                        z: z.next()?,
                        s: s.next()?,
                        y: y.next()?,
                        marks: marks.next()?,
                        delta: delta.next()?,
                        exponents: exponents.next()?,
                        x: x.next()?,
                        dx: dx.next()?,
                        dx_exponents: dx_exponents.next()?,
                        sums: sums.next()?,
                        figures: figures.next()?,
                    })
                })();
                list.extend(part);
            }
        }
        out
    }
}
