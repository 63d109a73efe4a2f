//! engine: the forward sweep along time: one thread takes its rows of the batch through the steps of a segment, cell by
//! cell. Knows one segment at a time, and nothing of gradients.

use super::apart::Apart;
use super::plan::TimePlan;
use super::tape::CellShare;
use super::{CellWeights, Recurrent, Stack};
use crate::engine::sweep::Level;
use crate::kernels::cell::{CellMath, CellVisitor, RowBack, Step, step};
use crate::kernels::matmul::{Matrix, Packed, Start};
use crate::num::aligned::Buffer;
use crate::num::real::Real;
use std::ops::Range;

/// What all threads of a stack's sweep see.
#[derive(Clone, Copy)]
pub struct Scene<'a, T: Real> {
    /// The layer.
    pub r: &'a Recurrent,
    /// The stack.
    pub stack: &'a Stack,
    /// Weights as the arithmetic uses them, by cell.
    pub ready: &'a [Ready<T>],
    /// The layer's parameters.
    pub params: &'a [Buffer<T>],
    /// The plan.
    pub plan: &'a TimePlan,
    /// Inputs: (batch, steps, in).
    pub x: &'a [T],
    /// Steps of each sample; all if none.
    pub lengths: Option<&'a [usize]>,
    /// The gradient is cut every so many steps.
    pub truncate: Option<usize>,
    /// Every step is read, not the last alone.
    pub every: bool,
    /// Figures wanted.
    pub level: Level,
    /// Rows of a chunk.
    pub chunk: usize,
    /// True once the caller wants to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// A cell's weights as the arithmetic uses them.
pub struct Ready<T> {
    /// Sum of the biases by column of z: (columns * units,).
    pub bias: Vec<T>,
    /// The recurrent matrix in use, where it is not the parameter itself.
    pub hh: Option<Vec<T>>,
    /// Per-unit numbers: (vectors * units,).
    pub vectors: Vec<T>,
}

impl<T: Real> Ready<T> {
    /// From a cell's parameters.
    pub fn new(r: &Recurrent, c: &CellWeights, params: &[Buffer<T>]) -> Self {
        let u = r.units;
        let mut bias = vec![T::ZERO; r.z_width()];
        for (tensor, columns) in [(c.bias_ih, r.shape.ih), (c.bias_hh, r.shape.hh)] {
            let Some(t) = tensor else { continue };
            for (gate, &column) in columns.iter().enumerate() {
                for (b, &p) in bias[column * u..][..u].iter_mut().zip(&params[t][gate * u..]) {
                    *b = T::from_f64(b.to_f64() + p.to_f64());
                }
            }
        }
        let hh = c.hh.zip(r.shape.antisymmetric).map(|(t, gamma)| {
            let (w, n) = (&params[t], r.hidden);
            let entry = |i: usize, j: usize| {
                let skew = w[i * n + j].to_f64() - w[j * n + i].to_f64();
                T::from_f64(if i == j { -gamma } else { skew })
            };
            (0..n * n).map(|k| entry(k / n, k % n)).collect()
        });
        let count = r.shape.vectors.0;
        let mut vectors = vec![T::ZERO; count * u];
        if let Some(t) = c.vectors {
            for j in 0..u {
                let learned = std::array::from_fn(|i| if i < count { params[t][i * u + j].to_f64() } else { 0.0 });
                for (i, x) in r.cell.effective(learned).into_iter().enumerate().take(count) {
                    vectors[i * u + j] = T::from_f64(x);
                }
            }
        }
        Self { bias, hh, vectors }
    }
}

/// One cell's state in one thread.
pub struct CellWorker<T> {
    ih: Packed<T>,
    /// Product, first column, whether the input's product comes before.
    hh: Vec<(Packed<T>, usize, bool)>,
    /// The same weights for the way back; empty on a forward pass.
    pub back_hh: Vec<(Packed<T>, usize)>,
    /// See `back_hh`.
    pub back_ih: Option<Packed<T>>,
    /// dL/d(state): mantissas (rows, states).
    pub g: Vec<T>,
    /// Exponents of the rows of `g`.
    pub e: Vec<i64>,
    /// Parts of those rows that have exponents of their own.
    pub apart: Vec<Option<Apart<T>>>,
    /// The direct path of a step's reverse.
    pub direct: Vec<T>,
    /// Room for a product.
    pub spare: Vec<T>,
    /// What a step's reverse learned of each row.
    pub rows: Vec<RowBack>,
}

/// Where the forward pass first left the numbers: in the order of processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirstBad {
    /// Position in the order of processing.
    pub at: usize,
    /// Cell of the stack.
    pub cell: usize,
    /// States that are NaN or infinite there.
    pub units: usize,
}

/// One thread's state.
pub struct Worker<T> {
    /// Its chunks and rows.
    pub chunks: Range<usize>,
    /// See `chunks`.
    pub rows: Range<usize>,
    /// By cell.
    pub cells: Vec<CellWorker<T>>,
    /// See [`FirstBad`].
    pub bad: Option<FirstBad>,
}

impl<T: Real> Worker<T> {
    /// Packs the weights for a thread's number of rows.
    pub fn new(scene: &Scene<'_, T>, chunks: Range<usize>, rows: Range<usize>, backward: bool, first_dx: bool) -> Self {
        let (r, m) = (scene.r, rows.len());
        let (u, gates) = (r.units, r.shape.gates.len());
        let cell = |(k, (c, ready)): (usize, (&CellWeights, &Ready<T>))| {
            let ih = &scene.params[c.ih];
            let runs = if c.hh.is_some() { r.runs() } else { Vec::new() };
            let hh: &[T] = match (&ready.hh, c.hh) {
                (Some(w), _) => w,
                (None, Some(t)) => &scene.params[t],
                (None, None) => &[],
            };
            let piece = |&(gate, n, column): &(usize, usize, usize)| {
                let w = Matrix::columns(&hh[gate * u * r.hidden..], r.hidden);
                (Packed::new(w, (m, n * u, r.hidden)), column, r.shape.ih.contains(&column))
            };
            let back = |&(gate, n, column): &(usize, usize, usize)| {
                let w = Matrix::rows(&hh[gate * u * r.hidden..], r.hidden);
                (Packed::new(w, (m, r.hidden, n * u)), column)
            };
            let dx = backward && (k > 0 || first_dx);
            let states = if backward { m * r.state_width() } else { 0 };
            CellWorker {
                ih: Packed::new(Matrix::columns(ih, c.in_width), (m, gates * u, c.in_width)),
                hh: runs.iter().map(piece).collect(),
                back_hh: if backward { runs.iter().map(back).collect() } else { Vec::new() },
                back_ih: dx.then(|| Packed::new(Matrix::rows(ih, c.in_width), (m, c.in_width, gates * u))),
                g: vec![T::ZERO; states],
                e: vec![super::backward::NOTHING; m],
                apart: (0..m).map(|_| None).collect(),
                direct: vec![T::ZERO; states],
                spare: vec![T::ZERO; states],
                rows: vec![RowBack::default(); m],
            }
        };
        let cells = scene.stack.cells.iter().zip(scene.ready).enumerate().map(cell).collect();
        Self { chunks, rows, cells, bad: None }
    }
}

struct OneStep<'a, T> {
    units: usize,
    z: &'a [T],
    s: &'a [T],
    p: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> CellVisitor for OneStep<'_, T> {
    type Out = ();
    fn visit<M: CellMath>(self, cell: M) {
        let Self { units, z, s, p, out } = self;
        step(Step { cell, units, z, s, p, out });
    }
}

impl<T: Real> Scene<'_, T> {
    /// The time step processed at a position.
    pub fn time(&self, at: usize) -> usize {
        if self.stack.reverse { self.plan.steps - 1 - at } else { at }
    }

    /// Whether a sample has that time step.
    pub fn lives(&self, row: usize, t: usize) -> bool {
        t < self.lengths.map_or(self.plan.steps, |n| n[row])
    }

    /// The time step at which a sample's result is read where only the last is.
    pub fn last(&self, row: usize) -> usize {
        if self.stack.reverse { 0 } else { self.lengths.map_or(self.plan.steps, |n| n[row]) - 1 }
    }

    /// Whether a sample's gradient is cut between time step `t` and the step processed before it: at every multiple of
    /// the truncation, counted in time, in both directions.
    pub fn cuts(&self, row: usize, t: usize) -> bool {
        let boundary = if self.stack.reverse { t + 1 } else { t };
        self.truncate.is_some_and(|n| boundary > 0 && boundary.is_multiple_of(n)) && self.lives(row, boundary)
    }

    /// Whether inputs lie as products over time want them: one sample, first step first.
    pub fn straight(&self) -> bool {
        self.plan.batch == 1 && !self.stack.reverse
    }

    /// Whether some sample's result is read at that time step.
    pub fn reads(&self, t: usize) -> bool {
        self.every || self.lengths.is_some() || t == self.last(0)
    }

    /// Index on the tape of a segment's first step.
    pub fn place(&self, segment: usize) -> usize {
        if self.plan.keep { self.plan.range(segment).start } else { 0 }
    }

    /// Makes the tape hold the last segment as its forward pass left it, where checkpoints moved the state on.
    pub fn resume(&self, share: &mut [CellShare<'_, T>], segment: usize) {
        if !self.plan.keep {
            for cell in share {
                cell.s.get_mut(0).copy_from_slice(cell.marks.get(segment));
            }
        }
    }

    /// Runs a segment forward for the worker's rows. `out`, where given, is (rows, steps, out) or (rows, out) and takes
    /// columns `col..col + hidden`. False if stopped.
    pub fn forward(
        &self,
        w: &mut Worker<T>,
        share: &mut [CellShare<'_, T>],
        segment: usize,
        mut out: Option<(&mut [T], usize)>,
    ) -> bool {
        let (r, steps) = (self.r, self.plan.range(segment));
        let first = self.place(segment);
        let (m, top) = (w.rows.len(), share.len() - 1);
        for k in 0..share.len() {
            let (below, rest) = share.split_at_mut(k);
            let (below, cell) = (below.last(), &mut rest[0]);
            if !self.plan.keep {
                // A checkpoint is the state before the segment: made on the way forward, read on the way back.
                if out.is_some() {
                    cell.marks.get_mut(segment).copy_from_slice(cell.s.get(0));
                } else {
                    cell.s.get_mut(0).copy_from_slice(cell.marks.get(segment));
                }
            }
            for at in steps.clone() {
                if (self.stop)() {
                    return false;
                }
                let (t, i) = (self.time(at), first + at - steps.start);
                self.one(&w.cells[k], &w.rows, below, cell, (k, t, i));
                let Some((out, col)) = out.as_mut().filter(|_| k == top && self.reads(t)) else { continue };
                let (wide, col, h) = (r.out_features, *col, r.hidden);
                for row in 0..m {
                    let index = w.rows.start + row;
                    let to = if self.every {
                        (row * self.plan.steps + t) * wide + col
                    } else if t == self.last(index) {
                        row * wide + col
                    } else {
                        continue;
                    };
                    if self.lives(index, t) {
                        let y = if r.residual && k > 0 {
                            &cell.y.get(i)[row * h..]
                        } else {
                            &cell.s.get(i + 1)[row * r.state_width()..]
                        };
                        out[to..to + h].copy_from_slice(&y[..h]);
                    } else {
                        out[to..to + h].fill(T::ZERO);
                    }
                }
            }
            let end = first + steps.len();
            if out.is_some() && w.bad.is_none() && !cell.s.get(end).iter().all(|x| x.finite()) {
                w.bad = (first..end).find_map(|i| {
                    let units = cell.s.get(i + 1).iter().filter(|x| !x.finite()).count();
                    (units > 0).then_some(FirstBad { at: steps.start + i - first, cell: k, units })
                });
            }
            if !self.plan.keep && out.is_some() {
                let (from, to) = cell.s.pair(end, 0);
                to.copy_from_slice(from);
            }
        }
        true
    }

    fn one(
        &self,
        w: &CellWorker<T>,
        rows: &Range<usize>,
        below: Option<&CellShare<'_, T>>,
        cell: &mut CellShare<'_, T>,
        (k, t, i): (usize, usize, usize),
    ) {
        let (r, ready, c) = (self.r, &self.ready[k], &self.stack.cells[k]);
        let (m, u, zw, sw, h) = (rows.len(), r.units, r.z_width(), r.state_width(), r.hidden);
        let (s, new) = cell.s.pair(i, i + 1);
        let z = cell.z.get_mut(i);
        let x = match below {
            None => {
                let row = self.plan.steps * c.in_width;
                Matrix { data: &self.x[rows.start * row + t * c.in_width..], row, col: 1 }
            }
            Some(b) if r.residual && k > 1 => Matrix::rows(b.y.get(i), h),
            Some(b) => Matrix { data: b.s.get(i + 1), row: sw, col: 1 },
        };
        w.ih.product(x, Start::Row(&ready.bias), z, zw);
        for (packed, column, covered) in &w.hh {
            let at = column * u;
            let start = if *covered { Start::Output } else { Start::Row(&ready.bias[at..]) };
            packed.product(Matrix { data: s, row: sw, col: 1 }, start, &mut z[at..], zw);
        }
        r.cell.visit(OneStep { units: u, z, s, p: &ready.vectors, out: new });
        if self.lengths.is_some() {
            for row in (0..m).filter(|row| !self.lives(rows.start + row, t)) {
                new[row * sw..][..sw].copy_from_slice(&s[row * sw..][..sw]);
            }
        }
        if r.residual && k > 0 {
            let y = cell.y.get_mut(i);
            for row in 0..m {
                let input = &x.data[row * x.row..];
                for j in 0..h {
                    y[row * h + j] = T::from_f64(new[row * sw + j].to_f64() + input[j].to_f64());
                }
            }
        }
    }
}
