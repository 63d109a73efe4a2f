//! engine: normalisation in the sweep, forward above backward. Where rows of a batch see each other, threads meet once in
//! each direction: every chunk of rows gives its moments or sums, and each thread joins those of all chunks in
//! order. Knows no other layers.

use super::norm::Norm;
use super::op::{Ref, Source};
use super::sweep::{NO_SCALE, Scene, Worker};
use super::sweep_branches::Spot;
use super::tape::{Place, Share, read_write, read_write_two};
use crate::kernels::norm::{backward, forward};
use crate::kernels::norm_columns as columns;
use crate::kernels::norm_columns::Columns;
use crate::num::meeting::Table;
use crate::num::real::Real;
use crate::num::scaled::pow2;

/// Width of the table that threads meet over: an exponent and two sums a column.
pub(super) fn table_width(widest: usize) -> usize {
    2 * widest + 1
}

/// A thread's memory for statistics of columns.
#[derive(Default)]
pub(super) struct Wide {
    /// Means and reciprocals of deviations, or sums of the batch.
    pub(super) columns: Vec<f64>,
    factors: Vec<f64>,
    exponents: Vec<i64>,
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
                whole = self.take_moments(share, x, (norm, i), width);
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
    fn take_moments(&self, share: &mut Share<'_, T>, x: Place, (norm, i): (&Norm, usize), width: usize) -> bool {
        let Share { slots, moments, member, .. } = share;
        let Some(member) = member else { return false };
        let (x, chunk) = (slots[x.0].get(x.1), self.chunk * width);
        let stride = member.width();
        let table = member.meet(|own| {
            for (own, x) in own.chunks_exact_mut(stride).zip(x.chunks(chunk)) {
                let (mean, m2) = own[..2 * width].split_at_mut(width);
                columns::moments(x, mean, m2);
            }
        });
        let Some(table) = table else { return false };
        let (chunks, rows) = self.chunks(&table);
        columns::join_moments(&chunks, &rows, norm.eps::<T>(), moments[norm.kept].get_mut(i));
        true
    }

    /// The chunks of a table and how many rows of the batch each stands for.
    fn chunks<'t>(&self, table: &Table<'t>) -> (Vec<&'t [f64]>, Vec<usize>) {
        let chunks: Vec<_> = table.rows().collect();
        let rows = (0..chunks.len()).map(|c| self.chunk.min(self.batch - c * self.chunk)).collect();
        (chunks, rows)
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
                if !self.take_sums(w, share, (x, delta), width, &mut wide) {
                    w.wide = wide;
                    return false;
                }
            }
            let Wide { columns: c, factors, .. } = &mut wide;
            let (mean, rest) = c.split_at(width);
            let (inv, sums) = rest.split_at(width);
            let means = coupled.then(|| sums.split_at(width));
            let (x, d) = (share.slots[x.0].get(x.1), share.deltas[delta.0].get(delta.1));
            let weight = norm.weight.as_ref().map(|r| self.copy(&w.made, r, i));
            let by = Columns { mean, inv, weight, bias: None };
            let shift = columns::backward(by, d, factors, x, means, &mut w.g[..n]);
            w.e.iter_mut().for_each(|e| *e += shift);
        }
        w.wide = wide;
        true
    }

    /// Means over the batch of the deltas and of the deltas times xhat, behind the columns, in the largest exponent of
    /// the batch, which all rows then have; the factors bring them there. False if the threads no longer meet.
    fn take_sums(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        (x, delta): (Place, Place),
        width: usize,
        wide: &mut Wide,
    ) -> bool {
        let Share { slots, deltas, member, .. } = share;
        let Some(member) = member else { return false };
        let (x, d) = (slots[x.0].get(x.1), deltas[delta.0].get(delta.1));
        let Wide { columns: c, factors, exponents: e } = wide;
        e.clear();
        // Rows of zeros have no scale, and must not set that of the others.
        e.extend(w.e.iter().zip(&w.backward).map(|(&e, row)| if row.largest == 0.0 { NO_SCALE } else { e }));
        let n = self.batch as f64;
        c.resize(4 * width, 0.0);
        let (mean, rest) = c.split_at_mut(width);
        let (inv, sums) = rest.split_at_mut(width);
        let by = Columns::<T> { mean, inv, weight: None, bias: None };
        let (stride, chunk) = (member.width(), self.chunk);
        let table = member.meet(|own| {
            let rows = x.chunks(chunk * width).zip(d.chunks(chunk * width)).zip(e.chunks(chunk));
            for ((own, ((x, d), e)), f) in own.chunks_exact_mut(stride).zip(rows).zip(factors.chunks_mut(chunk)) {
                let top = e.iter().copied().max().unwrap_or(NO_SCALE);
                align(e, top, f);
                let (plain, along) = own[1..=2 * width].split_at_mut(width);
                columns::sums(by, d, f, x, plain, along);
                own[0] = top as f64;
            }
        });
        let Some(table) = table else { return false };
        // An exponent is far below 2^53, or the power of two that marks none: both are exact in a double.
        let top = table.rows().map(|r| r[0] as i64).max().unwrap_or(NO_SCALE);
        let (chunks, by): (Vec<_>, Vec<_>) = table.rows().map(|r| (&r[1..], factor(r[0] as i64, top) / n)).unzip();
        columns::join_sums(&chunks, &by, sums);
        align(e, top, factors);
        if top != NO_SCALE {
            w.e.fill(top);
        }
        true
    }
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
