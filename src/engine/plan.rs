//! engine: the memory plan: which activations are kept, and in which segments the backward pass goes. Knows shapes
//! and byte counts, no values; every plan gives the same bits.

use super::chunk_sums::ChunkGradient;
use super::norm::{MOMENTS, chunk_rows};
use super::program::{Block, Program};
use crate::error::{Error, size};
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
    /// The fastest plan within a limit, or else the one that needs least.
    pub fn new(p: &Program, batch: usize, element: usize, limit: u64) -> Result<Self, Error> {
        let sizes = Sizes { batch: batch as u64, element: element as u64 };
        if sizes.bytes(p, CACHE, true) <= limit {
            return sizes.plan(p, CACHE, true);
        }
        Self::leanest(p, batch, element)
    }

    /// The plan that needs least memory, whatever it is.
    pub fn leanest(p: &Program, batch: usize, element: usize) -> Result<Self, Error> {
        let sizes = Sizes { batch: batch as u64, element: element as u64 };
        sizes.plan(p, sizes.leanest(p).0, false)
    }

    /// Bytes of the plan that needs least memory.
    pub fn least(p: &Program, batch: usize, element: usize) -> u64 {
        Sizes { batch: batch as u64, element: element as u64 }.leanest(p).1
    }

    /// Bytes of the plan that keeps all.
    pub fn most(p: &Program, batch: usize, element: usize) -> u64 {
        Sizes { batch: batch as u64, element: element as u64 }.bytes(p, CACHE, true)
    }

    /// A plan that stops after each iteration; it keeps everything where the limit allows.
    pub fn by_step(p: &Program, batch: usize, element: usize, limit: u64) -> Result<Self, Error> {
        let sizes = Sizes { batch: batch as u64, element: element as u64 };
        sizes.plan(p, 1, sizes.bytes(p, 1, true) <= limit)
    }

    /// Extra forward work: 0 when all is kept, else all segments but the last run forward twice.
    pub fn recompute(&self) -> f64 {
        if self.keep || self.segments.len() < 2 { 0.0 } else { 1.0 - 1.0 / self.segments.len() as f64 }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let what =
            if self.keep { "keep all activations" } else { "keep the input of each segment, compute the rest again" };
        let (n, size, again) = (self.segments.len(), size(self.bytes), self.recompute());
        format!("{what}; {n} segments, {size}, recompute factor {again:.2}")
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

    /// What an iteration adds to a segment's working set.
    fn cost(&self, b: &Block) -> u64 {
        let weights: u64 = b.ops.iter().map(|o| o.weights() as u64 * self.element).sum();
        self.tape(b).saturating_add(self.delta(b)).saturating_add(weights).max(1)
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
            let cost = self.cost(b);
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
        Ok(Plan { segments, keep, bytes: self.bytes(p, target, keep), batch: self.batch as usize })
    }

    /// The target at which a plan with checkpoints needs least, and what it needs.
    fn leanest(&self, p: &Program) -> (u64, u64) {
        let mut best = (CACHE, self.bytes(p, CACHE, false));
        let mut target = CACHE / 64;
        while target <= best.1.max(CACHE) {
            let bytes = self.bytes(p, target, false);
            if bytes < best.1 {
                best = (target, bytes);
            }
            target *= 2;
        }
        best
    }

    /// Bytes of all buffers of `plan`. Without its list of segments, which may be longer than memory: within a block
    /// all segments but the first and the last are alike.
    fn bytes(&self, p: &Program, target: u64, keep: bool) -> u64 {
        let (mut filled, mut bytes) = (u64::MAX, 0u64);
        // Units of the segment in work, and most of any.
        let (mut units, mut most) = (0u64, 0u64);
        for b in &p.blocks {
            let (times, cost, each) = (b.times as u64, self.cost(b), b.units as u64);
            let opens = filled.saturating_add(cost) > target;
            if opens {
                (filled, units) = (0, 0);
            }
            let first = ((target - filled.min(target)) / cost).max(1).min(times);
            let full = (target / cost).max(1);
            let more = (times - first).div_ceil(full);
            filled = filled.saturating_add(cost.saturating_mul(first));
            units = units.saturating_add(first.saturating_mul(each));
            most = most.max(units);
            if more > 0 {
                most = most.max(full.min(times - first).saturating_mul(each));
                let last = times - first - (more - 1) * full;
                (filled, units) = (cost.saturating_mul(last), last.saturating_mul(each));
            }
            let opened = more + u64::from(opens);
            bytes = bytes.saturating_add(self.rows(b.widths.0).saturating_mul(opened));
            let longest = if more > 0 { first.max(full.min(times - first)) } else { first };
            bytes = bytes.saturating_add(self.tape(b).saturating_mul(if keep { times } else { longest }));
            bytes = bytes.saturating_add(self.delta(b).saturating_mul(longest)).saturating_add(self.moments(b));
        }
        let chunks = self.batch.div_ceil(chunk_rows(p, self.batch as usize).max(1) as u64);
        bytes.saturating_add(most.saturating_mul(chunks * size_of::<ChunkGradient>() as u64))
    }
}

/// Most iterations of a block in one segment.
pub fn longest(segments: &[Segment], block: usize) -> usize {
    segments.iter().flat_map(|s| &s.pieces).filter(|p| p.block == block).map(|p| p.to - p.from).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::program::compile;
    use crate::engine::tape::Tape;
    use crate::parts::activation::Act;
    use crate::parts::init::Init;
    use crate::parts::layer::Layer;
    use proptest::prelude::*;

    fn dense(name: String, features: usize) -> Layer {
        Layer::Dense { name, features, weight: Init::constant(0.0), bias: None, parametrization: None }
    }

    /// Layers one by one, then a body several times, and so on.
    fn program(parts: &[(usize, usize)]) -> Program {
        let act = Act::parse("tanh", &[]).expect("tanh is there");
        let mut layers = Vec::new();
        for (i, &(width, n)) in parts.iter().enumerate() {
            layers.push(dense(format!("{i}"), width));
            let body = vec![dense("d".into(), width), Layer::Activation { name: "a".into(), act }];
            layers.push(Layer::Repeat { name: format!("r{i}"), n, tied: false, body });
        }
        compile(&layers, 3).expect("the layers fit each other")
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_the_segments(
            parts in prop::collection::vec((1usize..9, 1usize..200), 1..6),
            batch in 1usize..50,
            shift in 0u32..22,
            keep: bool,
        ) {
            let p = program(&parts);
            let sizes = Sizes { batch: batch as u64, element: 4 };
            let plan = sizes.plan(&p, 1 << shift, keep).expect("a short list");
            let mut bytes: u64 = plan.segments.iter().map(|s| sizes.rows(s.width)).sum();
            for (i, b) in p.blocks.iter().enumerate() {
                let longest = longest(&plan.segments, i) as u64;
                bytes += sizes.tape(b) * if keep { b.times as u64 } else { longest };
                bytes += sizes.delta(b) * longest;
            }
            let units = |s: &Segment| s.pieces.iter().map(|q| (q.to - q.from) * p.blocks[q.block].units).sum::<usize>();
            let most = plan.segments.iter().map(units).max().unwrap_or(0);
            bytes += (most * batch.div_ceil(chunk_rows(&p, batch)) * size_of::<ChunkGradient>()) as u64;
            prop_assert_eq!(plan.bytes, bytes);
            let tape = Tape::<f32>::new(&p, &plan, false).expect("a small tape");
            let floats: usize = tape.slots.iter().chain(&tape.deltas).map(|b| b.len() * 4).sum();
            let exponents: usize = tape.exponents.iter().map(|e| e.len() * 8).sum();
            let sums = tape.backward.len() * size_of::<ChunkGradient>();
            prop_assert!((floats + exponents + sums) as u64 <= plan.bytes);
        }
    }
}
