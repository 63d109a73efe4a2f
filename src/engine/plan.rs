//! engine: the memory plan: which activations are kept, and in which segments the backward pass goes. Knows shapes
//! and byte counts, no values; every plan gives the same bits.

use super::norm::MOMENTS;
use super::program::{Block, Program};
use crate::error::Error;
use crate::num::aligned::{push, reserved};
use crate::num::pool;

/// Iterations `from..to` of one block.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Index of the block.
    pub block: usize,
    /// First iteration.
    pub from: usize,
    /// One past the last.
    pub to: usize,
}

/// Consecutive iterations that are swept, and then weighed, together.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its parts, in order.
    pub pieces: Vec<Piece>,
    /// Width of its input.
    pub width: usize,
}

/// What is kept and what is computed again.
#[derive(Debug)]
pub struct Plan {
    /// Segments from the input to the output.
    pub segments: Vec<Segment>,
    /// All activations are kept; else only the segments' inputs, and the rest is computed twice.
    pub keep: bool,
    /// Bytes of all buffers.
    pub bytes: u64,
    /// Samples of the batch.
    pub batch: usize,
}

/// A segment's working set is aimed at the second-level caches of two cores, so that the weight phase finds what the
/// sweep has just written, and segments are still few.
const CACHE: u64 = 4 << 20;

/// Memory that is used without asking: enough for 100,000 layers of 32 x 16, little enough for a laptop.
pub const DEFAULT_BUDGET: u64 = 4 << 30;

impl Plan {
    /// The fastest plan within the budget, or an error that names the least that works.
    pub fn new(p: &Program, batch: usize, element: usize, budget: Option<u64>) -> Result<Self, Error> {
        let limit = budget.unwrap_or(DEFAULT_BUDGET);
        let sizes = Sizes { batch: batch as u64, element: element as u64 };
        let keep = sizes.plan(p, CACHE, true)?;
        if keep.bytes <= limit {
            return Ok(keep);
        }
        let best = Self::leanest(p, batch, element)?;
        if best.bytes > limit && budget.is_some() {
            return Err(Error::Memory { what: format!("a pass over {batch} samples"), need: best.bytes, limit });
        }
        Ok(best)
    }

    /// The plan that needs least memory, whatever it is.
    pub fn leanest(p: &Program, batch: usize, element: usize) -> Result<Self, Error> {
        let sizes = Sizes { batch: batch as u64, element: element as u64 };
        let mut best = sizes.plan(p, CACHE, false)?;
        let mut target = CACHE / 64;
        while target <= best.bytes.max(CACHE) {
            let plan = sizes.plan(p, target, false)?;
            if plan.bytes < best.bytes {
                best = plan;
            }
            target *= 2;
        }
        Ok(best)
    }

    /// A plan that keeps everything and stops after each iteration.
    pub fn by_step(p: &Program, batch: usize, element: usize) -> Result<Self, Error> {
        Sizes { batch: batch as u64, element: element as u64 }.plan(p, 1, true)
    }

    /// Extra forward work: 0 when all is kept, else all segments but the last run forward twice.
    pub fn recompute(&self) -> f64 {
        if self.keep || self.segments.len() < 2 { 0.0 } else { 1.0 - 1.0 / self.segments.len() as f64 }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        let what =
            if self.keep { "keep all activations" } else { "keep the input of each segment, compute the rest again" };
        format!("{what}; {} segments, {mib:.1} MiB, recompute factor {:.2}", self.segments.len(), self.recompute())
    }
}

struct Sizes {
    batch: u64,
    element: u64,
}

impl Sizes {
    fn rows(&self, width: usize) -> u64 {
        (width as u64).saturating_mul(self.batch).saturating_mul(self.element)
    }

    fn tape(&self, b: &Block) -> u64 {
        b.slots.iter().map(|&w| self.rows(w)).fold(0, u64::saturating_add)
    }

    fn delta(&self, b: &Block) -> u64 {
        b.deltas.iter().map(|&w| self.rows(w).saturating_add(24 * self.batch)).fold(0, u64::saturating_add)
    }

    /// Statistics over the batch are kept for all iterations, on each thread.
    fn moments(&self, b: &Block) -> u64 {
        let parts = (pool::num_threads() as u64).min(self.batch);
        let each = b.moments.iter().map(|&w| (w * MOMENTS * size_of::<f64>()) as u64).fold(0, u64::saturating_add);
        each.saturating_mul(parts).saturating_mul(b.times as u64)
    }

    fn plan(&self, p: &Program, target: u64, keep: bool) -> Result<Plan, Error> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut filled = u64::MAX;
        for (i, b) in p.blocks.iter().enumerate() {
            let weights: u64 = b.ops.iter().map(|o| o.weights() as u64 * self.element).sum();
            let cost = self.tape(b).saturating_add(self.delta(b)).saturating_add(weights).max(1);
            let mut from = 0;
            while from < b.times {
                if filled.saturating_add(cost) > target {
                    push(&mut segments, Segment { pieces: reserved(1)?, width: b.widths.0 })?;
                    filled = 0;
                }
                let room = ((target - filled.min(target)) / cost).max(1);
                let to = b.times.min(from.saturating_add(usize::try_from(room).unwrap_or(usize::MAX)));
                if let Some(s) = segments.last_mut() {
                    push(&mut s.pieces, Piece { block: i, from, to })?;
                }
                filled = filled.saturating_add(cost.saturating_mul((to - from) as u64));
                from = to;
            }
        }
        let mut bytes: u64 = segments.iter().map(|s| self.rows(s.width)).fold(0, u64::saturating_add);
        for (i, b) in p.blocks.iter().enumerate() {
            let longest = longest(&segments, i) as u64;
            let kept = if keep { b.times as u64 } else { longest };
            bytes = bytes.saturating_add(self.tape(b).saturating_mul(kept));
            bytes = bytes.saturating_add(self.delta(b).saturating_mul(longest)).saturating_add(self.moments(b));
        }
        Ok(Plan { segments, keep, bytes, batch: self.batch as usize })
    }
}

/// Most iterations of a block in one segment.
pub fn longest(segments: &[Segment], block: usize) -> usize {
    segments.iter().flat_map(|s| &s.pieces).filter(|p| p.block == block).map(|p| p.to - p.from).max().unwrap_or(0)
}
