//! engine: gradients of a stack's weights: sums over time steps and samples, from the last chunk of steps to the first,
//! with running exponents. Knows no sweep. Chunks depend on shapes alone, so no plan or thread changes a bit.

use super::forward::Scene;
use super::tape::Tape;
use super::{CellWeights, Recurrent};
use crate::engine::sweep::{Level, NO_SCALE};
use crate::engine::weights::lock;
use crate::kernels::delta::scale_rows;
use crate::kernels::gradient::{column_sums, squares};
use crate::kernels::matmul::{Matrix, Scratch, Start, product};
use crate::kernels::pointwise::accumulate;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, exponent, pow2, pow2_in};
use std::sync::{Mutex, PoisonError};

/// A running sum in doubles with an exponent.
struct Sum {
    values: Vec<f64>,
    e: i64,
}

impl Sum {
    fn new(n: usize) -> Self {
        Self { values: vec![0.0; n], e: NO_SCALE }
    }

    /// `self += x * 2^e`
    fn add<T: Real>(&mut self, x: &[T], e: i64) {
        let top = self.e.max(e);
        accumulate(&mut self.values, pow2(self.e - top), x, pow2(e - top));
        self.e = top;
    }
}

/// Rows of one gate of one matrix, and of its bias, that one task owns for the whole pass.
struct Piece {
    cell: usize,
    /// From the state, not from the input.
    recurrent: bool,
    /// First row of the matrix, rows, first column of the deltas.
    row: usize,
    rows: usize,
    column: usize,
    /// Width of the rows.
    width: usize,
    weight: Sum,
    bias: Option<Sum>,
}

/// Rows that one task takes of a gate.
fn piece_rows(r: &Recurrent) -> usize {
    (r.units * r.shape.gates.len() / 8).clamp(28, PIECE)
}

/// Bytes that the norms of a step's parts of a cell's gradients take while a segment is in work, at most.
pub fn part_bytes(r: &Recurrent) -> u64 {
    let pieces = (r.shape.ih.len() + r.shape.hh.len()) * r.units.div_ceil(piece_rows(r));
    // A vector that grows may be half empty; the joined sums lie in a tree.
    (2 * pieces * size_of::<Part>() + 2 * 2 * size_of::<Part>()) as u64
}

/// Rows that one task takes, at most: few enough that their gradient stays in cache; fewer where there are few rows.
const PIECE: usize = 64;

/// The sums of a stack.
pub struct Gradients {
    pieces: Vec<Mutex<Piece>>,
    vectors: Vec<Mutex<(usize, Sum)>>,
}

/// A tensor's gradient: mantissas in doubles, and the exponent.
pub type Whole = (usize, Vec<f64>, i64);

/// A step's part of a gradient: cell, from the state, position, sum of squares.
type Part = (usize, bool, usize, ScaledSum);

impl Gradients {
    /// Sums at zero.
    pub fn new(r: &Recurrent, cells: &[CellWeights]) -> Self {
        let (mut pieces, mut vectors) = (Vec::new(), Vec::new());
        let piece = piece_rows(r);
        for (cell, c) in cells.iter().enumerate() {
            let mut add = |recurrent: bool, columns: &[usize], width: usize, bias: bool| {
                // The norm of a part of W - W^T needs the whole of it.
                let size = if recurrent && r.shape.antisymmetric.is_some() { r.units } else { piece };
                for (gate, &column) in columns.iter().enumerate() {
                    for from in (0..r.units).step_by(size) {
                        let rows = size.min(r.units - from);
                        pieces.push(Mutex::new(Piece {
                            cell,
                            recurrent,
                            row: gate * r.units + from,
                            rows,
                            column: column * r.units + from,
                            width,
                            weight: Sum::new(rows * width),
                            bias: bias.then(|| Sum::new(rows)),
                        }));
                    }
                }
            };
            // The larger first, so that threads end together.
            if c.hh.is_some() {
                add(true, r.shape.hh, r.hidden, c.bias_hh.is_some());
            }
            add(false, r.shape.ih, c.in_width, c.bias_ih.is_some());
            if c.vectors.is_some() {
                vectors.push(Mutex::new((cell, Sum::new(r.shape.vectors.0 * r.units))));
            }
        }
        Self { pieces, vectors }
    }

    /// Adds a segment's steps; `more` further tasks are run beside. Returns, at the full level, log2 norms of each step's
    /// part: (cell, from the state, position, log2 norm).
    pub fn add<T: Real>(
        &self,
        scene: &Scene<'_, T>,
        tape: &Tape<T>,
        segment: usize,
        threads: usize,
        more: usize,
        task: &(dyn Fn(usize) + Sync),
    ) -> Vec<(usize, bool, usize, f64)> {
        let count = self.pieces.len();
        let parts: Vec<Mutex<Vec<Part>>> = (0..count).map(|_| Mutex::new(Vec::new())).collect();
        let locals: Vec<_> = (0..threads).map(|_| Mutex::new(Local::new())).collect();
        let own = count + self.vectors.len();
        pool::each_of(threads, [own, more], &|worker, kind, i| {
            if (scene.stop)() {
                return;
            }
            if kind == 1 {
                task(i);
            } else if i < count {
                let mut piece = lock(&self.pieces[i]);
                *lock(&parts[i]) = piece_steps(scene, tape, segment, &mut piece, &mut lock(&locals[worker]));
            } else {
                let (cell, sum) = &mut *lock(&self.vectors[i - count]);
                vector_steps(scene, tape, segment, *cell, sum);
            }
        });
        let mut totals: std::collections::BTreeMap<(usize, bool, usize), ScaledSum> = std::collections::BTreeMap::new();
        for p in parts {
            for (cell, recurrent, at, s) in p.into_inner().unwrap_or_else(PoisonError::into_inner) {
                totals.entry((cell, recurrent, at)).or_default().add(s);
            }
        }
        totals.into_iter().map(|((cell, recurrent, at), s)| (cell, recurrent, at, s.log2_sqrt())).collect()
    }

    /// The gradients of the parameters.
    pub fn finish<T: Real>(self, scene: &Scene<'_, T>) -> Vec<Whole> {
        let (r, cells) = (scene.r, &scene.stack.cells);
        let mut out = Vec::new();
        let pieces: Vec<Piece> =
            self.pieces.into_iter().map(|p| p.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        for (cell, c) in cells.iter().enumerate() {
            for (recurrent, weight, bias) in [(false, Some(c.ih), c.bias_ih), (true, c.hh, c.bias_hh)] {
                let mine: Vec<_> = pieces.iter().filter(|p| p.cell == cell && p.recurrent == recurrent).collect();
                if let Some(t) = weight {
                    let parts = mine.iter().map(|p| (p.row * p.width, &p.weight));
                    let (mut g, e) = gather(scene.params[t].len(), parts);
                    if recurrent && r.shape.antisymmetric.is_some() {
                        // The matrix in use is W - W^T - gamma I.
                        let n = r.hidden;
                        g = (0..n * n).map(|k| skew(&g, n, k)).collect();
                    }
                    out.push((t, g, e));
                }
                if let Some(t) = bias {
                    let parts = mine.iter().filter_map(|p| p.bias.as_ref().map(|b| (p.row, b)));
                    let (g, e) = gather(scene.params[t].len(), parts);
                    out.push((t, g, e));
                }
            }
        }
        for v in self.vectors {
            let (cell, sum) = v.into_inner().unwrap_or_else(PoisonError::into_inner);
            let Some(t) = cells[cell].vectors else { continue };
            let (u, n) = (r.units, r.shape.vectors.0);
            let mut g = sum.values;
            for j in 0..u {
                let take = |v: &dyn Fn(usize) -> f64| std::array::from_fn(|i| if i < n { v(i) } else { 0.0 });
                let learned = take(&|i| scene.params[t][i * u + j].to_f64());
                let back = r.cell.pull_back(learned, take(&|i| g[i * u + j]));
                for (i, x) in back.into_iter().enumerate().take(n) {
                    g[i * u + j] = x;
                }
            }
            out.push((t, g, if sum.e == NO_SCALE { 0 } else { sum.e }));
        }
        out
    }
}

/// Entry `k` of G - G^T, (n, n).
fn skew<T: Real>(g: &[T], n: usize, k: usize) -> f64 {
    g[k].to_f64() - g[k % n * n + k / n].to_f64()
}

/// Pieces of a tensor brought to one exponent.
fn gather<'a>(len: usize, parts: impl Iterator<Item = (usize, &'a Sum)> + Clone) -> (Vec<f64>, i64) {
    let top = parts.clone().map(|(_, s)| s.e).filter(|&e| e != NO_SCALE).max().unwrap_or(0);
    let mut out = vec![0.0; len];
    for (at, s) in parts {
        let f = if s.e == NO_SCALE { 1.0 } else { pow2(s.e - top) };
        for (o, x) in out[at..].iter_mut().zip(&s.values) {
            *o = x * f;
        }
    }
    (out, top)
}

/// Brings the largest entry of a gradient near one, in the network's own type.
pub fn narrowed<T: Real>(g: &[f64], e: i64) -> (Vec<T>, i64) {
    let largest = g.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let k = if largest == 0.0 || !largest.is_finite() { 0 } else { exponent(largest) };
    (g.iter().map(|&x| T::from_f64(crate::num::scaled::mul_pow2(x, -k))).collect(), e + k)
}

/// Chunks of a segment, last first: local steps.
fn chunks<T: Real>(scene: &Scene<'_, T>, segment: usize) -> Vec<std::ops::Range<usize>> {
    let n = scene.plan.range(segment).len();
    let size = scene.plan.chunk;
    (0..n.div_ceil(size)).rev().map(|c| c * size..((c + 1) * size).min(n)).collect()
}

/// The rows of a cell's input, or of its previous state, for local steps from `from` on.
fn inputs<'a, T: Real>(
    scene: &Scene<'a, T>,
    tape: &'a Tape<T>,
    segment: usize,
    p: &Piece,
    from: usize,
) -> Matrix<'a, T> {
    let (r, batch) = (scene.r, scene.plan.batch);
    let place = scene.place(segment) + from;
    let states = |cell: usize, place: usize| {
        let row = r.state_width();
        Matrix { data: &tape.cells[cell].s[place * batch * row..], row, col: 1 }
    };
    if p.recurrent {
        states(p.cell, place)
    } else if p.cell == 0 && scene.straight() {
        let first = scene.plan.range(segment).start + from;
        Matrix::rows(&scene.x[first * p.width..], p.width)
    } else if p.cell == 0 {
        Matrix::rows(&tape.cells[0].x[from * batch * p.width..], p.width)
    } else if r.residual && p.cell > 1 {
        Matrix::rows(&tape.cells[p.cell - 1].y[place * batch * p.width..], p.width)
    } else {
        states(p.cell - 1, place + 1)
    }
}

/// Memory of one thread.
struct Local<T> {
    scratch: Scratch<T>,
    copy: Vec<T>,
    factors: Vec<T>,
    one: Vec<T>,
}

impl<T: Real> Local<T> {
    fn new() -> Self {
        Self { scratch: Scratch::default(), copy: Vec::new(), factors: Vec::new(), one: Vec::new() }
    }
}

/// Columns of rows of deltas in the scale 2^e, and the distance between rows: themselves where all have that exponent,
/// else a copy.
fn aligned<'a, T: Real>(
    d: &'a [T],
    exponents: &[i64],
    e: i64,
    width: usize,
    cols: std::ops::Range<usize>,
    (copy, factors): (&'a mut Vec<T>, &mut Vec<T>),
) -> (&'a [T], usize) {
    if exponents.iter().all(|&x| x == e || x == NO_SCALE) {
        return (&d[cols.start..], width);
    }
    // Far below the type's own digits nothing is added, and products of subnormal numbers cost a hundredfold.
    let limit = i64::from(T::BIAS) - 40;
    factors.clear();
    factors.extend(exponents.iter().map(|&x| match e - x {
        _ if x == NO_SCALE => T::ONE,
        far if far > limit => T::ZERO,
        near => pow2_in::<T>(-near),
    }));
    let n = cols.len();
    copy.resize(copy.len().max(exponents.len() * n), T::ZERO);
    scale_rows(&d[cols.start..], width, factors, copy, n);
    (&copy[..exponents.len() * n], n)
}

fn piece_steps<T: Real>(
    scene: &Scene<'_, T>,
    tape: &Tape<T>,
    segment: usize,
    p: &mut Piece,
    local: &mut Local<T>,
) -> Vec<Part> {
    let (batch, dw) = (scene.plan.batch, scene.r.delta_width());
    let cell = &tape.cells[p.cell];
    let Local { scratch, copy, factors, one } = local;
    one.resize(one.len().max(p.rows * p.width), T::ZERO);
    let one = &mut one[..p.rows * p.width];
    let mut bias = vec![T::ZERO; p.rows];
    let cols = p.column..p.column + p.rows;
    let mut parts = Vec::new();
    for steps in chunks(scene, segment) {
        if scene.level == Level::Full {
            for local in steps.clone().rev() {
                let exponents = &cell.exponents[local * batch..][..batch];
                let Some(e) = exponents.iter().copied().filter(|&e| e != NO_SCALE).max() else {
                    parts.push((p.cell, p.recurrent, scene.plan.range(segment).start + local, ScaledSum::default()));
                    continue;
                };
                let (a, width) =
                    aligned(&cell.delta[local * batch * dw..], exponents, e, dw, cols.clone(), (copy, factors));
                let x = inputs(scene, tape, segment, p, local);
                product((p.rows, p.width, batch), Matrix::columns(a, width), x, Start::Zero, one, scratch);
                let squares = match scene.r.shape.antisymmetric.filter(|_| p.recurrent) {
                    Some(_) => squares(&(0..one.len()).map(|k| skew(one, p.width, k)).collect::<Vec<_>>()),
                    None => squares(one),
                };
                let squares = ScaledSum { s: squares.s, e: squares.e + 2 * e };
                parts.push((p.cell, p.recurrent, scene.plan.range(segment).start + local, squares));
            }
        }
        let rows = steps.len() * batch;
        let exponents = &cell.exponents[steps.start * batch..][..rows];
        let Some(e) = exponents.iter().copied().filter(|&e| e != NO_SCALE).max() else { continue };
        let (a, width) =
            aligned(&cell.delta[steps.start * batch * dw..], exponents, e, dw, cols.clone(), (copy, factors));
        let x = inputs(scene, tape, segment, p, steps.start);
        product((p.rows, p.width, rows), Matrix::columns(a, width), x, Start::Zero, one, scratch);
        p.weight.add(one, e);
        if let Some(sum) = &mut p.bias {
            column_sums(a, width, rows, &mut bias);
            sum.add(&bias, e);
        }
    }
    parts
}

fn vector_steps<T: Real>(scene: &Scene<'_, T>, tape: &Tape<T>, segment: usize, cell: usize, sum: &mut Sum) {
    let (batch, dw, zw) = (scene.plan.batch, scene.r.delta_width(), scene.r.z_width());
    let cell = &tape.cells[cell];
    let (mut copy, mut one) = (Vec::new(), vec![T::ZERO; sum.values.len()]);
    for steps in chunks(scene, segment) {
        let rows = steps.len() * batch;
        let exponents = &cell.exponents[steps.start * batch..][..rows];
        let Some(e) = exponents.iter().copied().filter(|&e| e != NO_SCALE).max() else { continue };
        let (a, width) =
            aligned(&cell.delta[steps.start * batch * dw..], exponents, e, dw, zw..dw, (&mut copy, &mut Vec::new()));
        column_sums(a, width, rows, &mut one);
        sum.add(&one, e);
    }
}
