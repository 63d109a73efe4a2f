//! engine: normalisation in the sweep, forward above backward. Where rows of a batch see each other, threads meet once in
//! each direction: every chunk of rows gives its moments or sums, and each thread joins those of all chunks in
//! order. Knows no other layers.

use super::groups::{groups, spans};
use super::norm::Norm;
use super::op::{Ref, Source};
use super::sweep::{NO_SCALE, Scene, Worker};
use super::sweep_branches::Spot;
use super::tape::{Place, Share, read_write, read_write_two};
use crate::kernels::norm::{backward, forward};
use crate::kernels::norm_columns as columns;
use crate::kernels::norm_columns::{BatchSums, Columns};
use crate::num::real::Real;
use crate::num::scaled::pow2;
use std::ops::Range;

/// Groups that the chunks of a batch are joined in: two cores, which are the most common case, then exchange one row of
/// the table each.
const GROUPS: usize = 2;

/// What stands before the numbers in a row of the table that threads meet over: an exponent, and one if the row stands for
/// a whole group.
const HEAD: usize = 2;

/// Width of that table: two sums a column.
pub(super) fn table_width(widest: usize) -> usize {
    HEAD + 2 * widest
}

/// A thread's memory for statistics of columns.
#[derive(Default)]
pub(super) struct Wide {
    /// Means and reciprocals of deviations, or sums of the batch.
    pub(super) columns: Vec<f64>,
    factors: Vec<f64>,
    exponents: Vec<i64>,
    /// Rows of the table that are joined before others see them, and groups that are joined after.
    leaves: Vec<f64>,
    joined: Vec<f64>,
}

impl<T: Real> Scene<'_, T> {
    /// `y = norm(x) * weight + bias`. False if the threads no longer meet. x, y: (rows, width).
    pub(super) fn forward_norm(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        at: Spot,
        (x, y): (Place, Place),
        norm: &Norm,
        width: usize,
    ) -> bool {
        let (i, mut wide) = (at.iteration, std::mem::take(&mut w.wide));
        let vector = |r: &Option<Ref>| r.as_ref().map(|r| self.copy(&w.made, r, i));
        let (weight, bias) = (vector(&norm.weight), vector(&norm.bias));
        let mut whole = true;
        if let Some(rows) = norm.rows::<T>(width) {
            let kept = at.place(Source::Slot(norm.kept));
            let (x, y, kept) = read_write_two(&mut share.slots, x, y, kept);
            forward(rows, x, y, kept, weight, bias);
        } else {
            // Statistics that were taken before the segment is run again are still there.
            if self.training.is_some() && !self.again {
                whole = self.take_moments((w.chunks.clone(), &mut wide), share, x, (norm, i), width);
            }
            self.columns(w, share, norm, i, width, &mut wide.columns);
            let (mean, inv) = wide.columns.split_at(width);
            let (x, y) = read_write(&mut share.slots, x, y);
            columns::apply(Columns { mean, inv, weight, bias }, x, y);
        }
        w.wide = wide;
        whole
    }

    /// One row once more, by its own statistics, which are taken again (`kept` says of how many groups), or by those of the
    /// batch. x, y: (width,).
    #[allow(clippy::too_many_arguments)] // reason: the places of one row
    pub(super) fn norm_again(
        &self,
        w: &Worker<T>,
        share: &Share<'_, T>,
        norm: &Norm,
        i: usize,
        x: &[T],
        kept: Option<&[T]>,
        y: &mut [T],
    ) {
        let width = x.len();
        let vector = |r: &Option<Ref>| r.as_ref().map(|r| self.copy(&w.made, r, i));
        let (weight, bias) = (vector(&norm.weight), vector(&norm.bias));
        if let (Some(rows), Some(kept)) = (norm.rows::<T>(width), kept) {
            forward(rows, x, y, &mut kept.to_vec(), weight, bias);
        } else {
            let mut columns = Vec::new();
            self.columns(w, share, norm, i, width, &mut columns);
            let (mean, inv) = columns.split_at(width);
            columns::apply(Columns { mean, inv, weight, bias }, x, y);
        }
    }

    /// Moments of the whole batch, from each chunk's, to the thread's own place. False if the threads no longer meet.
    fn take_moments(
        &self,
        (own, wide): (Range<usize>, &mut Wide),
        share: &mut Share<'_, T>,
        x: Place,
        (norm, i): (&Norm, usize),
        width: usize,
    ) -> bool {
        let Share { slots, moments, member, .. } = share;
        let Some(member) = member else { return false };
        let (x, chunk, stride) = (slots[x.0].get(x.1), self.chunk * width, member.width());
        let Wide { leaves, joined, .. } = wide;
        let of = |x: &[T], out: &mut [f64]| {
            let (mean, m2) = out.split_at_mut(width);
            columns::moments(x, mean, m2);
        };
        let first = own.start;
        let table = member.meet(|rows| {
            for span in spans(own, self.chunks(), GROUPS) {
                let row = &mut rows[span.chunks.start * stride..][..HEAD + 2 * width];
                row[1] = f64::from(span.whole);
                let x = &x[span.chunks.start * chunk..x.len().min(span.chunks.end * chunk)];
                if span.chunks.len() == 1 {
                    of(x, &mut row[HEAD..]);
                    continue;
                }
                leaves.resize(leaves.len().max(span.chunks.len() * 2 * width), 0.0);
                leaves.chunks_exact_mut(2 * width).zip(x.chunks(chunk)).for_each(|(leaf, x)| of(x, leaf));
                let sizes: Vec<_> = span.chunks.map(|c| self.chunk_rows(first + c)).collect();
                let parts: Vec<_> = leaves.chunks_exact(2 * width).take(sizes.len()).collect();
                columns::join_moments(&parts, &sizes, &mut row[HEAD..]);
            }
        });
        let Some(table) = table else { return false };
        joined.resize((GROUPS + 1) * 2 * width, 0.0);
        let (all, rest) = joined.split_at_mut(2 * width);
        let (mut parts, mut sizes) = (Vec::with_capacity(GROUPS), Vec::with_capacity(GROUPS));
        for (group, room) in groups(self.chunks(), GROUPS).zip(rest.chunks_exact_mut(2 * width)) {
            let counts: Vec<_> = group.clone().map(|c| self.chunk_rows(c)).collect();
            sizes.push(counts.iter().sum());
            let row = table.row(group.start);
            if row[1] != 0.0 {
                parts.push(&row[HEAD..][..2 * width]);
            } else {
                let chunks: Vec<_> = group.map(|c| &table.row(c)[HEAD..]).collect();
                columns::join_moments(&chunks, &counts, room);
                parts.push(&*room);
            }
        }
        columns::join_moments(&parts, &sizes, all);
        columns::finish_moments(all, self.batch, norm.eps::<T>(), &mut moments[norm.kept].get_mut(i)[..3 * width]);
        true
    }

    /// Chunks of the batch.
    fn chunks(&self) -> usize {
        self.batch.div_ceil(self.chunk)
    }

    /// Rows of a chunk.
    fn chunk_rows(&self, c: usize) -> usize {
        self.chunk.min(self.batch - c * self.chunk)
    }

    /// Means and reciprocals of deviations that normalise columns: the batch's, or the running ones. out: (2, width).
    pub(super) fn columns(
        &self,
        w: &Worker<T>,
        share: &Share<'_, T>,
        norm: &Norm,
        i: usize,
        width: usize,
        out: &mut Vec<f64>,
    ) {
        out.resize(2 * width, 0.0);
        if !norm.runs(self.training.is_some()) {
            out.copy_from_slice(&share.moments[norm.kept].get(i)[..2 * width]);
        } else if let Some([mean, var, _]) = &norm.running {
            let (mean, var) = (self.copy(&w.made, mean, i), self.copy(&w.made, var, i));
            running_columns(mean, var, norm.eps::<T>(), out);
        }
    }

    /// `w.g` = dL/dx from the delta. False if the threads no longer meet. delta, x: (rows, width).
    pub(super) fn backward_norm(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        at: Spot,
        (x, delta): (Place, Place),
        norm: &Norm,
        width: usize,
    ) -> bool {
        let (i, mut wide) = (at.iteration, std::mem::take(&mut w.wide));
        let n = w.rows.len() * width;
        if let Some(rows) = norm.rows::<T>(width) {
            let kept = at.place(Source::Slot(norm.kept));
            let kept = share.slots[kept.0].get(kept.1);
            let (x, d) = (share.slots[x.0].get(x.1), share.deltas[delta.0].get(delta.1));
            let weight = norm.weight.as_ref().map(|r| self.copy(&w.made, r, i));
            backward(rows, d, x, kept, weight, &mut w.g[..n], &mut w.e);
        } else {
            self.columns(w, share, norm, i, width, &mut wide.columns);
            wide.factors.clear();
            wide.factors.resize(w.rows.len(), 1.0);
            let coupled = !norm.runs(self.training.is_some());
            if coupled {
                // Without the others' sums there is nothing to go on with.
                if !self.take_sums(w, share, (x, delta), (norm, i), width, &mut wide) {
                    w.wide = wide;
                    return false;
                }
            }
            let Wide { columns: c, factors, .. } = &mut wide;
            let (mean, rest) = c.split_at(width);
            let (inv, sums) = rest.split_at(width);
            let sums = coupled.then(|| {
                let (plain, along) = sums.split_at(width);
                BatchSums { plain, along, rows: self.batch }
            });
            let (x, d) = (share.slots[x.0].get(x.1), share.deltas[delta.0].get(delta.1));
            let weight = norm.weight.as_ref().map(|r| self.copy(&w.made, r, i));
            let by = Columns { mean, inv, weight, bias: None };
            let shift = columns::backward(by, d, factors, x, sums, &mut w.g[..n]);
            w.e.iter_mut().for_each(|e| *e += shift);
        }
        w.wide = wide;
        true
    }

    /// Sums over the batch of the deltas and of the deltas times xhat, behind the columns, in the largest exponent of the
    /// batch, which all rows then have; the factors bring them there. They stay for the weight phase, which needs them as
    /// gradients. False if the threads no longer meet.
    fn take_sums(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        (x, delta): (Place, Place),
        (norm, i): (&Norm, usize),
        width: usize,
        wide: &mut Wide,
    ) -> bool {
        let Share { slots, deltas, moments, member, .. } = share;
        let Some(member) = member else { return false };
        let (x, d) = (slots[x.0].get(x.1), deltas[delta.0].get(delta.1));
        let Wide { columns: c, factors, exponents: e, leaves, joined } = wide;
        e.clear();
        // Rows of zeros have no scale, and must not set that of the others.
        e.extend(w.e.iter().zip(&w.backward).map(|(&e, row)| if row.largest == 0.0 { NO_SCALE } else { e }));
        c.resize(4 * width, 0.0);
        let (mean, rest) = c.split_at_mut(width);
        let (inv, sums) = rest.split_at_mut(width);
        let by = Columns::<T> { mean, inv, weight: None, bias: None };
        let (stride, chunk) = (member.width(), self.chunk);
        // A chunk's own exponent and, in that, its sums.
        let of = |c: usize, factors: &mut [f64], row: &mut [f64]| {
            let rows = c * chunk..e.len().min((c + 1) * chunk);
            let (e, f) = (&e[rows.clone()], &mut factors[rows.clone()]);
            let top = e.iter().copied().max().unwrap_or(NO_SCALE);
            align(e, top, f);
            let (plain, along) = row[HEAD..][..2 * width].split_at_mut(width);
            let rows = rows.start * width..rows.end * width;
            columns::sums(by, &d[rows.clone()], f, &x[rows], plain, along);
            row[0] = top as f64;
        };
        let own = w.chunks.clone();
        let table = member.meet(|rows| {
            for span in spans(own, self.chunks(), GROUPS) {
                let row = &mut rows[span.chunks.start * stride..][..HEAD + 2 * width];
                row[1] = f64::from(span.whole);
                if span.chunks.len() == 1 {
                    of(span.chunks.start, factors, row);
                    continue;
                }
                let size = HEAD + 2 * width;
                leaves.resize(leaves.len().max(span.chunks.len() * size), 0.0);
                span.chunks.clone().zip(leaves.chunks_exact_mut(size)).for_each(|(c, leaf)| of(c, factors, leaf));
                row[0] = join_sums(leaves.chunks_exact(size).take(span.chunks.len()), &mut row[HEAD..]) as f64;
            }
        });
        let Some(table) = table else { return false };
        let size = HEAD + 2 * width;
        joined.resize(GROUPS * size, 0.0);
        let mut parts = Vec::with_capacity(GROUPS);
        for (group, room) in groups(self.chunks(), GROUPS).zip(joined.chunks_exact_mut(size)) {
            let row = table.row(group.start);
            if row[1] != 0.0 {
                parts.push(row);
            } else {
                room[0] = join_sums(group.map(|c| table.row(c)), &mut room[HEAD..]) as f64;
                parts.push(&*room);
            }
        }
        let top = join_sums(parts.into_iter(), sums);
        align(e, top, factors);
        if top != NO_SCALE {
            w.e.fill(top);
        }
        moments[norm.kept].get_mut(i)[3 * width..].copy_from_slice(sums);
        true
    }
}

/// Sums of rows of the table in the largest of their exponents, which it returns.
fn join_sums<'t>(rows: impl Iterator<Item = &'t [f64]> + Clone, out: &mut [f64]) -> i64 {
    // An exponent is far below 2^53, or the power of two that marks none: both are exact in a double.
    let top = rows.clone().map(|r| r[0] as i64).max().unwrap_or(NO_SCALE);
    let (parts, factors): (Vec<_>, Vec<_>) = rows.map(|r| (&r[HEAD..], factor(r[0] as i64, top))).unzip();
    columns::join_sums(&parts, &factors, out);
    top
}

/// What brings rows to an exponent; a row of zeros stays out.
fn align(e: &[i64], top: i64, factors: &mut [f64]) {
    for (f, &e) in factors.iter_mut().zip(e) {
        *f = factor(e, top);
    }
}

/// 2^(e - top); nothing for what has no scale.
fn factor(e: i64, top: i64) -> f64 {
    if e == NO_SCALE { 0.0 } else { pow2((e - top).max(-2000)) }
}

/// Running statistics as columns. out: (2, width).
pub(super) fn running_columns<T: Real>(mean: &[T], var: &[T], eps: f64, out: &mut [f64]) {
    let (m, inv) = out.split_at_mut(mean.len());
    for ((m, inv), (mean, var)) in m.iter_mut().zip(inv).zip(mean.iter().zip(var)) {
        *m = mean.to_f64();
        *inv = 1.0 / (var.to_f64() + eps).sqrt();
    }
}
