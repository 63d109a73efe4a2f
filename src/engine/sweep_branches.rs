//! engine: the sweep where branches begin and end, and where units are dropped: forward directly above backward. Knows one
//! operation at a time, and the stack of gradients that wait for their branch.

use super::noise::{left_out, units};
use super::op::{Chance, Gate, Join, Noise, Op, Source};
use super::sweep::{Scene, Worker};
use super::tape::{Place, Share, read_two_write, read_write};
use crate::kernels::branch::{
    Mix, Parts, drop_factors, gate_backward, gate_forward, inner_product, join, largest_of, scale_row, times,
};
use crate::kernels::delta::{delta_rows, join_rows, rescale};
use crate::num::real::Real;
use crate::num::scaled::mul_pow2;

/// Gradients of branches that the way back has not come to: mantissas and exponents by rows, the next one last.
pub struct Stack<T> {
    waiting: Vec<(Vec<T>, Vec<i64>)>,
    idle: Vec<(Vec<T>, Vec<i64>)>,
}

impl<T> Default for Stack<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), idle: Vec::new() }
    }
}

impl<T: Real> Stack<T> {
    /// An entry with room for `len` mantissas and these exponents.
    fn take(&mut self, len: usize, e: &[i64]) -> (Vec<T>, Vec<i64>) {
        let (mut g, mut exponents) = self.idle.pop().unwrap_or_default();
        g.resize(len, T::ZERO);
        exponents.clear();
        exponents.extend_from_slice(e);
        (g, exponents)
    }
}

/// Where an operation works: iteration, the block's first slot, index on the tape, place of the iteration's input.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub iteration: usize,
    pub base: usize,
    pub t: usize,
    pub input: Place,
}

impl Spot {
    /// Where a source lies.
    pub fn place(&self, s: Source) -> Place {
        match s {
            Source::Input => self.input,
            Source::Slot(s) => (self.base + s, self.t),
        }
    }
}

impl<T: Real> Scene<'_, T> {
    /// Where a branch that may be left out ends, if this pass leaves it out.
    pub(super) fn leaves_out(&self, chance: Option<&Chance>, i: usize) -> Option<usize> {
        chance.filter(|c| left_out(self.training, c, i)).map(|c| c.end)
    }

    /// The branch's factor: learned or not, and in inference times the probability that it is there.
    fn factor(&self, w: &Worker<T>, j: &Join, i: usize) -> f64 {
        let scale = j.learned.map_or(j.scale, |(r, _)| self.copy(&w.made, &r, i)[0].to_f64());
        match j.chance {
            Some(c) if self.training.is_none() => scale * c.survival,
            _ => scale,
        }
    }

    /// `y = gain * skip + factor * f`; without the branch, `y = gain * skip`.
    pub(super) fn join_forward(&self, w: &Worker<T>, share: &mut Share<'_, T>, j: &Join, op: &Op, s: Spot) {
        let (x, y) = (s.place(j.skip), s.place(Source::Slot(op.y)));
        if self.leaves_out(j.chance.as_ref(), s.iteration).is_some() {
            let (x, y) = read_write(&mut share.slots, x, y);
            times(y, j.gain, x);
            return;
        }
        let (x, f, y) = read_two_write(&mut share.slots, x, s.place(op.source), y);
        join((j.gain, x), (self.factor(w, j, s.iteration), f), y);
    }

    /// From dL/dy in `w.g`: the shortcut's part waits, the branch's is in work. With a learned factor, its gradient by
    /// rows goes to `scalar`, the place beside its delta. Returns where to go on if the branch was left out.
    pub(super) fn join_backward(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        j: &Join,
        op: &Op,
        s: Spot,
        scalar: Option<Place>,
    ) -> Option<usize> {
        let (width, n) = (op.widths.1, w.rows.len() * op.widths.1);
        let absent = self.leaves_out(j.chance.as_ref(), s.iteration);
        // Where a branch holds nothing that brings rows into their band, every fork of a deep chain doubles them.
        for ((row, e), sums) in w.g[..n].chunks_exact_mut(width).zip(&mut w.e).zip(&mut w.backward) {
            let k = rescale(row, sums.largest);
            if k != 0 {
                *e += k;
                sums.largest = mul_pow2(sums.largest, -k);
            }
        }
        if let (Some(at), None) = (scalar, absent) {
            // Inference: the gradient of what the scale is multiplied by.
            let there = j.chance.filter(|_| self.training.is_none()).map_or(1.0, |c| c.survival);
            let f = share.slots[s.place(op.source).0].get(s.place(op.source).1);
            let (sums, exponents) = (share.slopes[at.0].get_mut(at.1), share.exponents[at.0].get_mut(at.1));
            let rows = w.g[..n].chunks_exact(width).zip(f.chunks_exact(width));
            for (r, (g, f)) in rows.enumerate() {
                let (sum, k) = inner_product(g, f);
                (sums[r], exponents[r]) = (sum * there, w.e[r] + k);
            }
        }
        let (mut g, mut e) = w.stack.take(n, &w.e);
        g.copy_from_slice(&w.g[..n]);
        if j.gain != 1.0 {
            for (r, row) in g.chunks_exact_mut(width).enumerate() {
                e[r] += scale_row(row, w.backward[r].largest, j.gain);
            }
        }
        w.stack.waiting.push((g, e));
        if absent.is_some() {
            w.g[..n].fill(T::ZERO);
            return absent;
        }
        let factor = self.factor(w, j, s.iteration);
        if factor != 1.0 {
            for (r, row) in w.g[..n].chunks_exact_mut(width).enumerate() {
                w.e[r] += scale_row(row, w.backward[r].largest, factor);
            }
        }
        None
    }

    /// The gradient in work, dL/d(input of a branch), waits now; the one `back` from the top is in work.
    pub(super) fn switch_backward(&self, w: &mut Worker<T>, back: usize, width: usize) {
        let n = w.rows.len() * width;
        let at = w.stack.waiting.len() - back;
        let mut mine = w.stack.take(n, &w.e);
        mine.0.copy_from_slice(&w.g[..n]);
        let entry = std::mem::replace(&mut w.stack.waiting[at], mine);
        w.g[..entry.0.len()].copy_from_slice(&entry.0);
        w.e.copy_from_slice(&entry.1);
        w.stack.idle.push(entry);
    }

    /// Adds the gradients of the other branches.
    pub(super) fn fork_backward(&self, w: &mut Worker<T>, joins: usize, width: usize) {
        let n = w.rows.len() * width;
        for _ in 0..joins {
            let Some((g, e)) = w.stack.waiting.pop() else { return };
            join_rows(&mut w.g[..n], &mut w.e, &g, &e, width);
            w.stack.idle.push((g, e));
        }
    }

    /// `y = t h + c x`.
    pub(super) fn gate_forward(&self, share: &mut Share<'_, T>, gate: &Gate, op: &Op, s: Spot, spare: &mut [T]) {
        let y = s.place(Source::Slot(op.y));
        let n = share.slots[y.0].get(y.1).len();
        gate_forward(mix(share, gate, op, s), &mut spare[..n]);
        share.slots[y.0].get_mut(y.1).copy_from_slice(&spare[..n]);
    }

    /// From dL/dy in `w.g`: those of x, of c and of t wait, that of h is in work.
    pub(super) fn gate_backward(&self, w: &mut Worker<T>, share: &mut Share<'_, T>, gate: &Gate, op: &Op, s: Spot) {
        let (rows, width) = (w.rows.len(), op.widths.1);
        let n = rows * width;
        for (r, row) in w.g[..n].chunks_exact_mut(width).enumerate() {
            w.e[r] += scale_row(row, w.backward[r].largest, 1.0);
        }
        w.rises.resize(rows, [0; 4]);
        let (mut x, mut c, mut t) = (w.stack.take(n, &w.e), w.stack.take(n, &w.e), w.stack.take(n, &w.e));
        let carried = if gate.carry.is_some() { n } else { 0 };
        let parts = Parts { x: &mut x.0, t: &mut t.0, h: &mut w.spare[..n], c: &mut c.0[..carried] };
        gate_backward(&w.g[..n], mix(share, gate, op, s), parts, width, &mut w.rises);
        for (e, of) in [(&mut x.1, 0), (&mut t.1, 1), (&mut w.e, 2), (&mut c.1, 3)] {
            e.iter_mut().zip(&w.rises).for_each(|(e, rise)| *e += rise[of]);
        }
        std::mem::swap(&mut w.g, &mut w.spare);
        w.stack.waiting.push(x);
        if gate.carry.is_some() {
            w.stack.waiting.push(c);
        } else {
            w.stack.idle.push(c);
        }
        w.stack.waiting.push(t);
    }

    /// `y = [x, f]`. Shapes: (rows, n_x), (rows, n_f), (rows, n_x + n_f).
    pub(super) fn concat_forward(&self, share: &mut Share<'_, T>, skip: Source, op: &Op, s: Spot) {
        let y = s.place(Source::Slot(op.y));
        let (n_f, n) = op.widths;
        for (from, range) in [(skip, 0..n - n_f), (op.source, n - n_f..n)] {
            let (part, y) = read_write(&mut share.slots, s.place(from), y);
            for (part, y) in part.chunks_exact(range.len()).zip(y.chunks_exact_mut(n)) {
                y[range.clone()].copy_from_slice(part);
            }
        }
    }

    /// From dL/dy in `w.g`: that of x waits, that of f is in work.
    pub(super) fn concat_backward(&self, w: &mut Worker<T>, op: &Op) {
        let (n_f, n) = op.widths;
        let (rows, n_x) = (w.rows.len(), n - n_f);
        let mut skip = w.stack.take(rows * n_x, &w.e);
        let parts = skip.0.chunks_exact_mut(n_x).zip(w.spare.chunks_exact_mut(n_f));
        for (y, (x, f)) in w.g.chunks_exact(n).take(rows).zip(parts) {
            x.copy_from_slice(&y[..n_x]);
            f.copy_from_slice(&y[n_x..]);
        }
        // The one part may be far smaller than the other.
        for (row, e) in skip.0.chunks_exact_mut(n_x).zip(&mut skip.1) {
            *e += scale_row(row, largest_of(row), 1.0);
        }
        for (row, e) in w.spare.chunks_exact_mut(n_f).zip(&mut w.e) {
            *e += scale_row(row, largest_of(row), 1.0);
        }
        w.stack.waiting.push(skip);
        std::mem::swap(&mut w.g, &mut w.spare);
    }

    /// In training, `y = x / (1 - p)` where a unit stays, else zero; in inference `y = x`.
    pub(super) fn drop_forward(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        (p, noise): (f64, &Noise),
        op: &Op,
        s: Spot,
    ) {
        let (x, y) = read_write(&mut share.slots, s.place(op.source), s.place(Source::Slot(op.y)));
        y.copy_from_slice(x);
        if self.draw_units(w, (p, noise), op, s) {
            y.iter_mut().zip(&w.spare).for_each(|(y, f)| *y = T::from_f64(y.to_f64() * f.to_f64()));
        }
    }

    /// dL/dx from dL/dy in `w.g`, with the same numbers, drawn again.
    pub(super) fn drop_backward(&self, w: &mut Worker<T>, (p, noise): (f64, &Noise), op: &Op, s: Spot) {
        let (n, width) = (w.rows.len() * op.widths.1, op.widths.1);
        if self.draw_units(w, (p, noise), op, s) {
            w.products.resize(n, T::ZERO);
            delta_rows(&w.g, Some(&w.spare), Some(&mut w.products), width, &mut w.backward, false);
            w.g[..n].copy_from_slice(&w.products);
            for ((row, e), sums) in w.g.chunks_exact_mut(width).zip(&mut w.e).zip(&w.backward) {
                *e += rescale(row, sums.largest);
            }
        }
    }

    /// Draws what the worker's rows are multiplied by, to `w.spare`; false where nothing is dropped.
    fn draw_units(&self, w: &mut Worker<T>, (p, noise): (f64, &Noise), op: &Op, s: Spot) -> bool {
        let Some(training) = self.training.filter(|_| p > 0.0) else { return false };
        let n = w.rows.len() * op.widths.1;
        w.numbers.resize(w.numbers.len().max(n), 0.0);
        units(training, noise, s.iteration, w.rows.start, op.widths.1, &mut w.numbers[..n]);
        drop_factors(&w.numbers[..n], p, &mut w.spare[..n]);
        true
    }
}

fn mix<'s, T: Real>(share: &'s Share<'_, T>, gate: &Gate, op: &Op, s: Spot) -> Mix<'s, T> {
    let get = |from: Source| {
        let (slot, i) = s.place(from);
        share.slots[slot].get(i)
    };
    let slope = get(Source::Slot(gate.slope));
    Mix { x: get(gate.skip), t: get(gate.gate), h: get(op.source), carry: gate.carry.map(get), slope }
}
