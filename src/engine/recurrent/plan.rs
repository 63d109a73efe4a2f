//! engine: the memory plan along time: whether all steps are kept or only states at checkpoints. Knows shapes and byte
//! counts, no values; every plan gives the same bits.

use super::Recurrent;
use super::figures::StepSums;
use super::gradient::part_bytes;
use super::tape::CHUNKS;
use crate::error::size;
use crate::kernels::cell_figures::StepFigures;

/// What is kept and what is computed again.
#[derive(Clone, Copy, Debug)]
pub struct TimePlan {
    /// Time steps.
    pub steps: usize,
    /// Samples.
    pub batch: usize,
    /// Steps of a segment, a multiple of `chunk`.
    pub segment: usize,
    /// Steps whose rows a product over time takes together. It depends on the batch alone, so that no plan changes the
    /// order of a sum.
    pub chunk: usize,
    /// Pre-activations and states of all steps are kept.
    pub keep: bool,
    /// Bytes of all buffers.
    pub bytes: u64,
}

/// Rows of a product over time: enough to spend its time in the tile, few enough that a chunk stays in cache.
const ROWS: usize = 512;

/// A segment's working set is aimed at a second-level cache.
const CACHE: u64 = 2 << 20;

impl TimePlan {
    /// The fastest plan within a limit, or else the one that needs least. `full`: for a pass with all figures.
    pub fn new(r: &Recurrent, batch: usize, steps: usize, element: usize, full: bool, limit: u64) -> Self {
        let chunk = (ROWS / batch.max(1)).clamp(1, ROWS).min(steps.max(1));
        let size = Size { r, batch: batch as u64, steps: steps as u64, element: element as u64, full };
        let make = |segment: usize, keep: bool| Self {
            steps,
            batch,
            segment,
            chunk,
            keep,
            bytes: size.bytes(segment as u64, keep),
        };
        let per_step = size.step().max(1);
        let cached = ((CACHE / per_step) as usize / chunk * chunk).clamp(chunk, steps.next_multiple_of(chunk));
        let keep = make(cached, true);
        if keep.bytes <= limit {
            return keep;
        }
        let mut best = make(cached, false);
        let mut segment = chunk;
        while segment < steps.saturating_mul(2) {
            let plan = make(segment, false);
            if plan.bytes < best.bytes && best.bytes > limit {
                best = plan;
            }
            segment *= 2;
        }
        best
    }

    /// A plan that keeps all steps and stops after each.
    pub fn by_step(r: &Recurrent, batch: usize, steps: usize, element: usize) -> Self {
        let size = Size { r, batch: batch as u64, steps: steps as u64, element: element as u64, full: false };
        Self { steps, batch, segment: 1, chunk: 1, keep: true, bytes: size.bytes(1, true) }
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.steps.div_ceil(self.segment)
    }

    /// Steps of a segment, in the order of processing.
    pub fn range(&self, segment: usize) -> std::ops::Range<usize> {
        segment * self.segment..((segment + 1) * self.segment).min(self.steps)
    }

    /// Steps that the tape holds.
    pub fn kept(&self) -> usize {
        if self.keep { self.steps } else { self.segment.min(self.steps) }
    }

    /// Extra forward work: 0 when all is kept, else all segments but the last run forward twice.
    pub fn recompute(&self) -> f64 {
        if self.keep || self.segments() < 2 { 0.0 } else { 1.0 - 1.0 / self.segments() as f64 }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let what =
            if self.keep { "keep all time steps" } else { "keep the state at each checkpoint, compute the rest again" };
        let (n, steps, again) = (self.segments(), self.segment.min(self.steps), self.recompute());
        format!("{what}; {n} segments of {steps} steps, {}, recompute factor {again:.2}", size(self.bytes))
    }
}

struct Size<'a> {
    r: &'a Recurrent,
    batch: u64,
    steps: u64,
    element: u64,
    full: bool,
}

impl Size<'_> {
    /// Bytes of a step's tape and deltas, all cells of the widest stack.
    fn step(&self) -> u64 {
        self.tape() + self.deltas()
    }

    fn cells(&self) -> u64 {
        (if self.r.directions == 1 { self.r.num_layers } else { 1 }) as u64
    }

    fn tape(&self) -> u64 {
        let residual = if self.r.residual { self.r.hidden } else { 0 };
        (self.r.z_width() + self.r.state_width() + residual) as u64 * self.batch * self.element * self.cells()
    }

    fn deltas(&self) -> u64 {
        let inputs = self.r.in_features + self.r.out_features;
        let row = (self.r.delta_width() + inputs) as u64 * self.element + 24;
        let figures = if self.full { size_of::<StepFigures>() } else { 0 };
        let sums = (size_of::<StepSums>() + figures) as u64 * self.batch.min(CHUNKS as u64);
        let parts = if self.full { part_bytes(self.r) } else { 0 };
        (row * self.batch + sums + parts) * self.cells()
    }

    fn bytes(&self, segment: u64, keep: bool) -> u64 {
        let segment = segment.min(self.steps);
        let stacks = self.r.directions as u64 * (if self.r.directions == 1 { 1 } else { self.r.num_layers as u64 });
        let kept = if keep { self.steps } else { segment };
        let state = self.r.state_width() as u64 * self.batch * self.element * self.cells();
        let marks = if keep { 0 } else { self.steps.div_ceil(segment.max(1)) * state };
        // Between the levels of a bidirectional layer whole sequences are kept.
        let between = if self.r.levels.len() > 1 {
            let row = self.r.out_features as u64 * self.element + 8;
            2 * row * self.batch * self.steps * self.r.levels.len() as u64
        } else {
            0
        };
        let tapes = self.tape().saturating_mul(kept).saturating_mul(stacks);
        tapes
            .saturating_add(self.deltas().saturating_mul(segment).saturating_mul(stacks))
            .saturating_add(marks.saturating_mul(stacks))
            .saturating_add(between)
    }
}
