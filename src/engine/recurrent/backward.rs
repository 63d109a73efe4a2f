//! engine: the backward sweep along time. A row of dL/d(state) has an exponent of its own and is rescaled by powers of
//! two, exactly, so that no gradient leaves the range of the type however long the sequence. Knows no weight gradients.

use super::apart::{Apart, add_output, far};
use super::figures::{StepSums, Tables};
use super::forward::{Scene, Worker};
use super::tape::CellShare;
use crate::engine::groups::{enter, in_order};
use crate::engine::sweep::{Level, NO_SCALE};
use crate::kernels::cell::{CellMath, CellVisitor, Reverse, RowBack, reverse};
use crate::kernels::cell_faint::{Lost, Row, faint_row};
use crate::kernels::cell_figures::StepFigures;
use crate::kernels::delta::{add_scaled, normalise, rescale};
use crate::kernels::matmul::{Matrix, Start, gather_rows};
use crate::num::real::Real;
use crate::num::scaled::pow2;

/// The exponent of a gradient row that is exactly zero: any other takes its place.
pub const NOTHING: i64 = NO_SCALE;

/// dL/d(output) that reaches a stack from above: mantissas with an exponent a row. Row index: (sample, step) where every
/// step is read, else the sample.
#[derive(Clone, Copy)]
pub struct Above<'a, T> {
    /// (rows, out)
    pub g: &'a [T],
    /// (rows,)
    pub e: &'a [i64],
    /// Width of a row, and the first column that is this stack's.
    pub width: usize,
    /// See `width`.
    pub col: usize,
}

struct OneBack<'a, T> {
    units: usize,
    outputs: usize,
    z: &'a [T],
    s: &'a [T],
    p: &'a [T],
    g: &'a [T],
    delta: &'a mut [T],
    direct: &'a mut [T],
    rows: &'a mut [RowBack],
}

impl<T: Real> CellVisitor for OneBack<'_, T> {
    type Out = bool;
    fn visit<M: CellMath>(self, cell: M) -> bool {
        let Self { units, outputs, z, s, p, g, delta, direct, rows } = self;
        reverse(Reverse { cell, units, outputs, z, s, p, g, delta, direct, rows });
        M::DIRECT
    }
}

/// One row of [`OneBack`] once more, where a part of `from.g` has an exponent of its own.
struct OneApart<'a, T> {
    from: Row<'a, T>,
    delta: &'a mut [T],
    direct: &'a mut [T],
    row: &'a mut RowBack,
}

impl<T: Real> CellVisitor for OneApart<'_, T> {
    type Out = ();
    fn visit<M: CellMath>(self, cell: M) {
        faint_row(cell, self.from, Lost::ALL, self.delta, self.direct, self.row);
    }
}

fn zeros<T: Real>(row: &[T]) -> bool {
    row.iter().all(|x| *x == T::ZERO)
}

/// `a 2^ea += b 2^eb` for one row, in the larger scale; either may be [`NOTHING`].
pub fn join<T: Real>(a: &mut [T], ea: &mut i64, b: &[T], eb: i64) {
    if eb == NOTHING || zeros(b) {
        return;
    }
    if *ea == NOTHING {
        a.copy_from_slice(b);
        *ea = eb;
        return;
    }
    let e = (*ea).max(eb);
    add_scaled(a, pow2(*ea - e), b, pow2(eb - e));
    *ea = e;
}

/// [`join`] for the first `h` entries of a row; the rest, which has the same exponent, follows the scale.
fn join_part<T: Real>(g: &mut [T], h: usize, e: &mut i64, b: &[T], eb: i64) {
    // A row of zeros has no scale, and must not pull the other's down.
    let before = if zeros(g) { NOTHING } else { *e };
    *e = before;
    join(&mut g[..h], e, b, eb);
    if before != NOTHING && *e != before {
        normalise(&mut g[h..], *e - before);
    }
}

impl<T: Real> Scene<'_, T> {
    /// Takes dL/d(state) back through a segment that has just run forward. `dx`, where wanted, receives dL/d(input) of
    /// the worker's rows: (rows, steps, in) and (rows, steps). False if stopped.
    pub fn backward(
        &self,
        w: &mut Worker<T>,
        share: &mut [CellShare<'_, T>],
        segment: usize,
        above: Option<Above<'_, T>>,
        mut dx: Option<(&mut [T], &mut [i64])>,
        tables: &[Tables<T>],
    ) -> bool {
        let steps = self.plan.range(segment);
        for k in (0..share.len()).rev() {
            for at in steps.clone().rev() {
                if (self.stop)() {
                    return false;
                }
                let local = at - steps.start;
                self.receive(w, share, k, at, local, above);
                self.back_one(w, share, k, at, (self.place(segment) + local, local), tables.get(k));
                self.pass_down(w, share, k, (at, local), above, dx.as_mut().map(|(a, b)| (&mut a[..], &mut b[..])));
            }
        }
        true
    }

    /// Adds what comes from the cell above, or from the layer's output, to the rows' gradients.
    fn receive(
        &self,
        w: &mut Worker<T>,
        share: &[CellShare<'_, T>],
        k: usize,
        at: usize,
        local: usize,
        above: Option<Above<'_, T>>,
    ) {
        let (sw, h, t) = (self.r.state_width(), self.r.hidden, self.time(at));
        if k + 1 == share.len() && !self.reads(t) {
            return;
        }
        let cell = &mut w.cells[k];
        for (row, e) in cell.e.iter_mut().enumerate() {
            let g = &mut cell.g[row * sw..][..sw];
            let (b, eb) = match share.get(k + 1) {
                Some(upper) => (&upper.dx.get(local)[row * h..][..h], upper.dx_exponents.get(local)[row]),
                None => match self.output_gradient(w.rows.start + row, t, above) {
                    Some(x) => x,
                    None => continue,
                },
            };
            if sw > h && (cell.apart[row].is_some() || far::<T>(*e, eb)) {
                cell.apart[row] = add_output(g, e, cell.apart[row].take(), b, eb);
            } else {
                join_part(g, h, e, b, eb);
            }
        }
    }

    /// The row of dL/d(output) that a sample's time step gets, if any.
    fn output_gradient<'g>(&self, row: usize, t: usize, above: Option<Above<'g, T>>) -> Option<(&'g [T], i64)> {
        let a = above?;
        let index = if self.every { row * self.plan.steps + t } else { row };
        let wanted = if self.every { self.lives(row, t) } else { t == self.last(row) };
        wanted.then(|| (&a.g[index * a.width + a.col..][..self.r.hidden], a.e[index]))
    }

    /// The reverse of one step: deltas to the tape, and dL/d(state) taken over to the step before.
    fn back_one(
        &self,
        w: &mut Worker<T>,
        share: &mut [CellShare<'_, T>],
        k: usize,
        at: usize,
        (place, local): (usize, usize),
        tables: Option<&Tables<T>>,
    ) {
        let (r, ready) = (self.r, &self.ready[k]);
        let (u, zw, sw, dw, h) = (r.units, r.z_width(), r.state_width(), r.delta_width(), r.hidden);
        let (cell, share, t) = (&mut w.cells[k], &mut share[k], self.time(at));
        let (z, s) = (share.z.get(place), share.s.get(place));
        let delta = share.delta.get_mut(local);
        let direct_path = r.cell.visit(OneBack {
            units: u,
            outputs: r.shape.outputs,
            z,
            s,
            p: &ready.vectors,
            g: &cell.g,
            delta,
            direct: &mut cell.direct,
            rows: &mut cell.rows,
        });
        let alive = |row: usize| self.lives(w.rows.start + row, t);
        for (row, a) in cell.apart.iter_mut().enumerate().filter(|(row, a)| a.is_some() && alive(*row)) {
            let Some(Apart { output, values, e }) = a.take() else { continue };
            let (z, s, g) = (&z[row * zw..], &s[row * sw..], &cell.g[row * sw..]);
            let apart = Some((if output { 0 } else { h }, &values[..], e - cell.e[row]));
            r.cell.visit(OneApart {
                from: Row { units: u, z, s, p: &ready.vectors, g, apart },
                delta: &mut delta[row * dw..][..dw],
                direct: &mut cell.direct[row * sw..][..sw],
                row: &mut cell.rows[row],
            });
        }
        if self.lengths.is_some() {
            for row in (0..w.rows.len()).filter(|row| !self.lives(w.rows.start + row, t)) {
                delta[row * dw..][..dw].fill(T::ZERO);
                let direct = &mut cell.direct[row * sw..][..sw];
                direct.copy_from_slice(&cell.g[row * sw..][..sw]);
                let largest_direct = direct.iter().fold(0.0f64, |m, x| m.max(x.to_f64().abs()));
                cell.rows[row] = RowBack { largest_direct, ..RowBack::default() };
            }
        }
        // Sums of the step's squares, at the scales the rows came in with.
        let chunk_sums = |c: usize| {
            let mut sums = StepSums::default();
            let rows = c * self.chunk..((c + 1) * self.chunk).min(cell.rows.len());
            for (b, &e) in cell.rows[rows.clone()].iter().zip(&cell.e[rows]).filter(|(_, e)| **e != NOTHING) {
                sums.add_row(b, e, self.level == Level::Full);
            }
            sums
        };
        let chunks = self.plan.batch.div_ceil(self.chunk);
        enter(share.sums.get_mut(local), w.chunks.start, chunks, |some| in_order(some, chunk_sums));
        if let Some(tables) = tables {
            let out = share.figures.get_mut(local);
            let (new, place_rows) = (share.s.get(place + 1), w.rows.clone());
            out.fill(StepFigures::default());
            for (row, _) in place_rows.enumerate().filter(|(_, index)| self.lives(*index, t)) {
                let f =
                    tables.row(r, &ready.vectors, &z[row * zw..][..zw], &s[row * sw..][..sw], &new[row * sw..][..sw]);
                out[row / self.chunk].add(&f);
            }
        }
        // Rows that left the band are brought back; then the products, in the deltas' own scales.
        let exponents = share.exponents.get_mut(local);
        let mut apart = false;
        for (row, e) in cell.e.iter_mut().enumerate() {
            let b = &cell.rows[row];
            let scale = *e + b.shift + rescale(&mut delta[row * dw..][..dw], b.largest_delta);
            let none = b.largest_delta == 0.0 && b.delta.s == 0.0;
            exponents[row] = if none { NO_SCALE } else { scale };
            if b.largest_direct != 0.0 && *e != NOTHING {
                *e += b.direct_shift + rescale(&mut cell.direct[row * sw..][..sw], b.largest_direct);
            } else if !none {
                // Nothing came by the direct path, which so has no scale of its own.
                *e = scale;
            }
            apart |= !none && scale != *e;
        }
        std::mem::swap(&mut cell.g, &mut cell.direct);
        let is_apart = |row: usize, e: i64| exponents[row] != NO_SCALE && exponents[row] != e;
        if apart {
            // Which way a row goes must depend on that row alone: rows apart from their deltas take the product by itself,
            // and their direct path is put aside.
            for (n, (packed, column)) in cell.back_hh.iter().enumerate() {
                let a = Matrix { data: &delta[column * u..], row: dw, col: 1 };
                packed.product(a, if n == 0 { Start::Zero } else { Start::Output }, &mut cell.spare, h);
            }
            for row in (0..cell.e.len()).filter(|&row| is_apart(row, cell.e[row])) {
                cell.direct[row * sw..][..sw].copy_from_slice(&cell.g[row * sw..][..sw]);
            }
        }
        for (n, (packed, column)) in cell.back_hh.iter().enumerate() {
            let a = Matrix { data: &delta[column * u..], row: dw, col: 1 };
            // Without a direct path the rows hold zeros, save those of samples that do not have the step.
            let zero = n == 0 && !direct_path && self.lengths.is_none();
            packed.product(a, if zero { Start::Zero } else { Start::Output }, &mut cell.g, sw);
        }
        for (row, e) in cell.e.iter_mut().enumerate().filter(|(row, e)| apart && is_apart(*row, **e)) {
            let g = &mut cell.g[row * sw..][..sw];
            g.copy_from_slice(&cell.direct[row * sw..][..sw]);
            let b = &cell.spare[row * h..][..h];
            if sw > h && far::<T>(*e, exponents[row]) {
                cell.apart[row] = add_output(g, e, None, b, exponents[row]);
            } else if !cell.back_hh.is_empty() {
                join_part(g, h, e, b, exponents[row]);
            }
        }
        for (row, e) in cell.e.iter_mut().enumerate().filter(|_| self.truncate.is_some()) {
            if self.cuts(w.rows.start + row, t) {
                cell.g[row * sw..][..sw].fill(T::ZERO);
                (*e, cell.apart[row]) = (NOTHING, None);
            }
        }
    }

    /// dL/d(input) of the step for the cell below or for what is in front of the layer.
    fn pass_down(
        &self,
        w: &mut Worker<T>,
        share: &mut [CellShare<'_, T>],
        k: usize,
        (at, local): (usize, usize),
        above: Option<Above<'_, T>>,
        dx: Option<(&mut [T], &mut [i64])>,
    ) {
        let (r, t, steps) = (self.r, self.time(at), self.plan.steps);
        let (width, dw, h) = (self.stack.cells[k].in_width, r.delta_width(), r.hidden);
        let (lower, upper) = share.split_at_mut(k + 1);
        let cell = &mut lower[k];
        let delta = cell.delta.get(local);
        if k == 0 && !self.straight() {
            // The weight phase takes the inputs of many steps together.
            let from = &self.x[(w.rows.start * steps + t) * width..];
            gather_rows(Matrix::rows(from, steps * width), width, cell.x.get_mut(local));
        }
        let Some(packed) = &w.cells[k].back_ih else { return };
        let a = Matrix { data: delta, row: dw, col: 1 };
        if k > 0 {
            let to = cell.dx.get_mut(local);
            packed.product(a, Start::Zero, to, width);
            let e = cell.dx_exponents.get_mut(local);
            e.copy_from_slice(cell.exponents.get(local));
            if r.residual {
                // y = h + x: what came to y comes to x too.
                for (row, e) in e.iter_mut().enumerate() {
                    let index = w.rows.start + row;
                    let from = match upper.first() {
                        Some(u) => Some((&u.dx.get(local)[row * h..][..h], u.dx_exponents.get(local)[row])),
                        None => self.output_gradient(index, t, above),
                    };
                    if let Some((b, eb)) = from.filter(|_| self.lives(index, t)) {
                        join(&mut to[row * width..][..width], e, b, eb);
                    }
                }
            }
        } else if let Some((out, e)) = dx {
            packed.product(a, Start::Zero, &mut out[t * width..], steps * width);
            for (row, &x) in cell.exponents.get(local).iter().enumerate() {
                e[row * steps + t] = x;
            }
        }
    }
}
