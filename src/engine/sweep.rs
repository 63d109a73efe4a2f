//! engine: the sweep: one thread takes its rows of the batch through all layers forward, then the delta backward.
//! Knows rows and slots; not weights' gradients, which another phase takes.
//!
//! Backward is linear in the delta, so each row carries an exponent of its own and is rescaled by powers of two,
//! exactly: no gradient leaves the range of the type.

use super::chunk_sums::RowSums;
use super::faint::{faint_product, lift_rows};
use super::groups::enter;
use super::look_ahead::Way;
use super::origin::Made;
use super::pass::Training;
use super::plan::Segment;
use super::program::{ActUse, Kind, Op, Program, Source};
use super::sweep_branches::{Spot, Stack};
use super::sweep_norm::Wide;
use super::tape::{ChunkForward, Place, Share, read_write, write_two};
use crate::kernels::delta::{RowDelta, delta_rows, normalise, on_grid, rescale};
use crate::kernels::matmul::{Matrix, Scratch, Start, product, product_claiming};
use crate::kernels::pointwise::RowForward;
use crate::num::aligned::Buffer;
use crate::num::real::Real;
use crate::num::scaled::{exponent, pow2};
use crate::parts::activation::Act;
use std::ops::Range;

/// Which figures a pass collects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Level {
    /// None.
    None,
    /// Norms.
    Norms,
    /// Everything.
    Full,
}

/// What all threads of a sweep see.
#[derive(Clone, Copy)]
pub struct Scene<'a, T: Real> {
    /// The program.
    pub program: &'a Program,
    /// The parameters, by tensor.
    pub params: &'a [Buffer<T>],
    /// First slot and delta of each block.
    pub base: &'a [(usize, usize)],
    /// Where each segment's input lies.
    pub inputs: &'a [Place],
    /// Figures wanted.
    pub level: Level,
    /// Set in training.
    pub training: Option<Training>,
    /// Rows of the whole batch.
    pub batch: usize,
    /// The segment has run forward before.
    pub again: bool,
    /// Rows of a chunk.
    pub chunk: usize,
    /// All iterations are on the tape, not just the segment's.
    pub keep: bool,
    /// True once the caller wants to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// One thread's state between segments.
pub struct Worker<T> {
    /// Its chunks and rows.
    pub chunks: Range<usize>,
    /// See `chunks`.
    pub rows: Range<usize>,
    /// dL/d(output) of the operation in work: mantissas, (rows, width).
    pub g: Vec<T>,
    /// Exponents of the rows of `g`.
    pub e: Vec<i64>,
    pub(super) spare: Vec<T>,
    lifts: Vec<i64>,
    pub(super) stack: Stack<T>,
    /// What a gate adds to exponents, row by row.
    pub(super) rises: Vec<[i64; 4]>,
    pub(super) numbers: Vec<f32>,
    pub(super) products: Vec<T>,
    pub(super) scratch: Scratch<T>,
    pub(super) made: Made<T>,
    pub(super) wide: Wide,
    forward: Vec<RowForward>,
    pub(super) backward: Vec<RowDelta>,
    /// Rows whose slopes came near the lower end of the type: (block, operation, iteration, row).
    pub(super) faint: Vec<(usize, usize, usize, usize)>,
}

/// Slopes below this are taken again with an exponent of their own; the delta's own band and the type's range leave
/// room above it.
const FAINT: f64 = 7.9e-31; // 2^-100

/// The exponent of a row that is exactly zero: below any other, and far from overflow.
pub const NO_SCALE: i64 = -(1 << 60);

impl<T: Real> Worker<T> {
    /// A worker for a range of chunks.
    pub fn new(chunks: Range<usize>, rows: Range<usize>, widest: usize) -> Self {
        let n = rows.len();
        Self {
            chunks,
            rows,
            g: vec![T::ZERO; n * widest],
            e: vec![0; n],
            spare: vec![T::ZERO; n * widest],
            lifts: vec![0; n],
            stack: Stack::default(),
            rises: Vec::new(),
            numbers: Vec::new(),
            products: Vec::new(),
            scratch: Scratch::default(),
            made: Made::default(),
            wide: Wide::default(),
            forward: vec![RowForward::default(); n],
            backward: vec![RowDelta::default(); n],
            faint: Vec::new(),
        }
    }

    /// Forgets rows that were noted on a forward pass which will be made again.
    pub fn forget(&mut self) {
        self.faint.clear();
    }
}

impl<T: Real> Scene<'_, T> {
    /// The values of the copy of a tensor used in iteration `i`.
    pub(super) fn copy<'s>(&'s self, made: &'s Made<T>, r: &super::program::Ref, i: usize) -> &'s [T] {
        made.copy(self.program, self.params, r, i)
    }

    pub(super) fn act(&self, made: &Made<T>, a: &ActUse, i: usize) -> Act {
        match &a.slope {
            Some(r) => a.act.with_slope(self.copy(made, r, i)[0].to_f64()),
            None => a.act,
        }
    }

    /// Calls `f(block, iteration, index on the tape, index in the segment, place of the input)` for a segment's
    /// iterations in order; returns where the last one's output is.
    fn places(
        &self,
        segment: usize,
        s: &Segment,
        mut f: impl FnMut(usize, usize, usize, usize, Place) -> bool,
    ) -> Place {
        let mut input = self.inputs[segment];
        for piece in &s.pieces {
            let b = &self.program.blocks[piece.block];
            for i in piece.from..piece.to {
                let (k, on_tape) = (i - piece.from, if self.keep { i } else { i - piece.from });
                if !f(piece.block, i, on_tape, k, input) {
                    return input;
                }
                if let Source::Slot(s) = b.out {
                    input = (self.base[piece.block].0 + s, on_tape);
                }
            }
        }
        input
    }

    /// Runs a segment forward for the worker's rows. Returns where its output is, or none if stopped.
    pub fn forward(&self, w: &mut Worker<T>, share: &mut Share<'_, T>, segment: usize, s: &Segment) -> Option<Place> {
        let mut stopped = false;
        let out = self.places(segment, s, |block, i, t, _, input| {
            stopped = (self.stop)() || !self.forward_once(w, share, block, i, t, input);
            !stopped
        });
        (!stopped).then_some(out)
    }

    /// False if the threads no longer meet.
    fn forward_once(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        block: usize,
        i: usize,
        t: usize,
        input: Place,
    ) -> bool {
        let b = &self.program.blocks[block];
        let base = self.base[block].0;
        let m = w.rows.len();
        w.made.prepare(self.program, self.params, b, i);
        let spot = Spot { iteration: i, base, t, input };
        let mut next = 0;
        for (index, op) in b.ops.iter().enumerate() {
            if index < next {
                continue;
            }
            let (n_in, n_out) = op.widths;
            let y = (base.wrapping_add(op.y), t);
            match &op.kind {
                Kind::Fork { .. } | Kind::Switch { .. } => continue,
                Kind::Maybe(chance) => {
                    next = self.leaves_out(Some(chance), i).unwrap_or(0);
                    continue;
                }
                Kind::Dense { weight, bias } => {
                    self.look_ahead(&mut w.scratch.ahead, share, (block, index, i), (t, t), Way::Forward);
                    let (x, y) = read_write(&mut share.slots, spot.place(op.source), y);
                    let weights = Matrix::columns(self.copy(&w.made, weight, i), n_in);
                    let start = bias.as_ref().map_or(Start::Zero, |r| Start::Row(self.copy(&w.made, r, i)));
                    if lift_rows(x, n_in, &mut w.lifts, &mut w.spare) {
                        faint_product((n_out, n_in), (x, &w.spare), &w.lifts, weights, start, y, &mut w.scratch);
                    } else {
                        product((m, n_out, n_in), Matrix::rows(x, n_in), weights, start, y, &mut w.scratch);
                    }
                }
                Kind::Norm(n) => {
                    if !self.forward_norm(w, share, spot, (spot.place(op.source), y), n, n_out) {
                        return false;
                    }
                }
                Kind::Pointwise => {
                    let (x, y) = read_write(&mut share.slots, spot.place(op.source), y);
                    y.copy_from_slice(x);
                }
                Kind::Join(join) => self.join_forward(w, share, join, op, spot),
                Kind::Gate(gate) => self.gate_forward(share, gate, op, spot, &mut w.spare),
                Kind::Concat { skip } => self.concat_forward(share, *skip, op, spot),
                Kind::Drop { p, noise } => self.drop_forward(w, share, (*p, noise), op, spot),
            }
            if let Some(a) = &op.act {
                if let Some(h) = a.h {
                    let (y, h) = read_write(&mut share.slots, y, (base + h, t));
                    h.copy_from_slice(y);
                }
                let (y, d) = write_two(&mut share.slots, y, (base + a.d, t));
                self.act(&w.made, a, i).forward_in_place(y, d, n_out, &mut w.forward, self.level == Level::Full);
                self.note_forward(w, share, block, index, i, op);
            } else if self.level == Level::Full
                && let Some(u) = op.unit
            {
                let y = share.slots[base + op.y].get(t);
                for (row, y) in w.forward.iter_mut().zip(y.chunks_exact(n_out)) {
                    row.pre_sum = y.iter().map(|v| v.to_f64()).sum();
                    row.pre_sum_sq = y.iter().map(|v| v.to_f64() * v.to_f64()).sum();
                }
                self.chunk_forward(w, share, b.first_unit + i * b.units + u);
            }
        }
        true
    }

    fn note_forward(&self, w: &mut Worker<T>, share: &mut Share<'_, T>, block: usize, index: usize, i: usize, op: &Op) {
        if op.act.is_some_and(|a| a.act.tails()) {
            for (r, row) in w.forward.iter().enumerate() {
                if row.least_slope < FAINT {
                    w.faint.push((block, index, i, r));
                }
            }
        }
        let b = &self.program.blocks[block];
        if self.level == Level::Full
            && let Some(u) = op.unit
        {
            self.chunk_forward(w, share, b.first_unit + i * b.units + u);
        }
    }

    fn chunk_forward(&self, w: &Worker<T>, share: &mut Share<'_, T>, unit: usize) {
        for (out, rows) in share.forward.get_mut(unit).iter_mut().zip(w.forward.chunks(self.chunk)) {
            *out = rows.iter().fold(ChunkForward::default(), |s, r| ChunkForward {
                sum: s.sum + r.pre_sum,
                squares: s.squares + r.pre_sum_sq,
            });
        }
    }

    /// Takes `w.g` back through a segment. The deltas and their exponents stay on the tape for the weight phase.
    /// False if stopped.
    pub fn backward(&self, w: &mut Worker<T>, share: &mut Share<'_, T>, segment: usize, s: &Segment) -> bool {
        let mut order = Vec::new();
        let mut unit = 0;
        self.places(segment, s, |block, i, t, k, input| {
            order.push((block, i, t, k, input, unit));
            unit += self.program.blocks[block].units;
            true
        });
        for &(block, i, t, k, input, unit) in order.iter().rev() {
            if (self.stop)() || !self.backward_once(w, share, (block, i, t, k), input, unit) {
                return false;
            }
        }
        true
    }

    /// False if the threads no longer meet.
    fn backward_once(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        (block, i, t, k): (usize, usize, usize, usize),
        input: Place,
        first_unit: usize,
    ) -> bool {
        let b = &self.program.blocks[block];
        let (base, delta_base) = self.base[block];
        let m = w.rows.len();
        w.made.prepare(self.program, self.params, b, i);
        let spot = Spot { iteration: i, base, t, input };
        let mut from = usize::MAX;
        for (index, op) in b.ops.iter().enumerate().rev() {
            if index > from {
                continue;
            }
            let (n_in, n_out) = op.widths;
            match op.kind {
                Kind::Fork { joins } => {
                    self.fork_backward(w, joins, n_in);
                    continue;
                }
                Kind::Switch { back } => {
                    self.switch_backward(w, back, n_in);
                    continue;
                }
                Kind::Maybe(_) => continue,
                _ => {}
            }
            let sums = self.level >= Level::Norms;
            if let (Some(delta), kind) = (op.delta, &op.kind) {
                let place = (delta_base + delta, k);
                {
                    let d = op.act.as_ref().map(|a| share.slots[base + a.d].get(t));
                    let out = share.deltas[place.0].get_mut(place.1);
                    delta_rows(&w.g, d, Some(out), n_out, &mut w.backward, sums);
                }
                if let Some(a) = op.act.as_ref().filter(|a| a.slope.is_some()) {
                    let h = a.h.map(|h| share.slots[base + h].get(t)).unwrap_or_default();
                    let out = share.slopes[place.0].get_mut(place.1);
                    for (r, o) in out.iter_mut().enumerate() {
                        let row = r * n_out..(r + 1) * n_out;
                        // Not `min`, which would make nothing of NaN.
                        let below = |h: &T| if *h > T::ZERO { 0.0 } else { h.to_f64() };
                        *o = w.g[row.clone()].iter().zip(&h[row]).map(|(g, h)| g.to_f64() * below(h)).sum();
                    }
                }
                self.faint_rows(w, share, (block, index, i), op, input, (t, k));
                if sums {
                    self.chunk_gradient(w, share, first_unit, op);
                }
                let out = share.deltas[place.0].get_mut(place.1);
                let exponents = share.exponents[place.0].get_mut(place.1);
                let learned = op.act.is_some_and(|a| a.slope.is_some());
                for (r, row) in out.chunks_exact_mut(n_out).enumerate() {
                    let k = rescale(row, w.backward[r].largest);
                    w.e[r] += k;
                    let slope = learned.then(|| &mut share.slopes[place.0].get_mut(place.1)[r]);
                    // A row of zeros has no scale, and must not set that of the batch, unless it is part of the slope's
                    // gradient.
                    let nothing = w.backward[r].largest == 0.0 && slope.as_ref().is_none_or(|s| **s == 0.0);
                    exponents[r] = if nothing { NO_SCALE } else { w.e[r] };
                    if let Some(slope) = slope.filter(|_| k != 0) {
                        // The slope's gradient was summed in the scale the row came in with.
                        *slope *= pow2(-k);
                    }
                }
                let out = share.deltas[place.0].get(place.1);
                match kind {
                    Kind::Dense { weight, .. } => {
                        let next = self.look_ahead(&mut w.scratch.ahead, share, (block, index, i), (t, k), Way::Back);
                        let (out, claim) = match next {
                            Some(next) => read_write(&mut share.deltas, place, next),
                            None => (share.deltas[place.0].get(place.1), &mut [][..]),
                        };
                        let (d, weights) = (Matrix::rows(out, n_out), self.copy(&w.made, weight, i));
                        let weights = Matrix::rows(weights, n_in);
                        let shape = (m, n_in, n_out);
                        product_claiming(shape, d, weights, Start::Zero, &mut w.g, &mut w.scratch, claim);
                    }
                    Kind::Norm(n) => {
                        if !self.backward_norm(w, share, spot, (spot.place(op.source), place), n, n_out) {
                            return false;
                        }
                    }
                    _ => w.g[..m * n_out].copy_from_slice(out),
                }
            } else {
                delta_rows(&w.g, None, None, n_out, &mut w.backward, sums);
                if sums {
                    self.chunk_gradient(w, share, first_unit, op);
                }
                match &op.kind {
                    Kind::Join(join) => {
                        let scalar = join.learned.map(|(_, delta)| (delta_base + delta, k));
                        from = self.join_backward(w, share, join, op, spot, scalar).unwrap_or(usize::MAX);
                    }
                    Kind::Gate(gate) => self.gate_backward(w, share, gate, op, spot),
                    Kind::Concat { .. } => self.concat_backward(w, op),
                    Kind::Drop { p, noise } => self.drop_backward(w, (*p, noise), op, spot),
                    _ => {}
                }
            }
        }
        true
    }

    fn chunk_gradient(&self, w: &Worker<T>, share: &mut Share<'_, T>, first_unit: usize, op: &Op) {
        let Some(unit) = op.unit else { return };
        let out = share.backward.get_mut(first_unit + unit);
        let rows = RowSums {
            rows: &w.backward,
            exponents: &w.e,
            chunk: self.chunk,
            full: self.level == Level::Full,
            act: op.act.is_some(),
        };
        enter(out, w.chunks.start, self.batch.div_ceil(self.chunk), |chunks| rows.of(chunks));
    }

    /// Puts a row of mantissas with an exponent where the backward pass begins: at [1, 2). A row without a scale of its
    /// own (zeros, NaN) gets the lowest.
    pub fn seed_row(&self, w: &mut Worker<T>, r: usize, e: i64) {
        let width = self.program.out_features;
        let row = &mut w.g[r * width..][..width];
        let largest = row.iter().fold(0.0f64, |m, x| m.max(x.to_f64().abs()));
        w.e[r] = i64::MIN;
        if largest != 0.0 && largest.is_finite() {
            let k = exponent(largest);
            normalise(row, k);
            w.e[r] = e + k;
        }
    }

    /// Moves the worker's seeds to exponents that are whole steps of the grid below `top`, the largest of the batch.
    pub fn level_rows(&self, w: &mut Worker<T>, top: i64) {
        let width = self.program.out_features;
        for (row, e) in w.g.chunks_exact_mut(width).zip(&mut w.e) {
            if *e == i64::MIN {
                *e = top;
                continue;
            }
            let to = top - on_grid(top - *e);
            normalise(row, to - *e);
            *e = to;
        }
    }
}
