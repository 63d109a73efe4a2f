//! engine: the update: what clips, an optimizer and constraints make of a step's gradients. Knows parameters and kept
//! gradients, no sweep.
//!
//! There are two ways to one result. While a block of a weight gradient is in cache, the weight phase has it updated at
//! once ([`Stepper::fuses`]). Where a decision needs more than the block (a norm of all gradients, of a layer, tensors
//! with several uses, networks along time), gradients are kept with their exponents and [`Stepper::settle`] goes
//! through clips, optimizer and constraints when the pass is over. Every update of a weight is one call of [`rows`].

use super::program::Tensor;
use super::weights::{ScaledGradient, block_rows};
use crate::error::Error;
use crate::kernels::gradient::{Block, Weights, block, squares};
use crate::kernels::update::{Change, STATES, multiply};
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::num::scaled::ScaledSum;
use crate::parts::clip::{Clip, Norm, Scope};
use crate::parts::constraint::{Constraint, Work};
use crate::parts::optimizer::{Layer, Numbers, Optimizer, Piece, Rounds};
use std::sync::Mutex;

/// What a step is taken by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Clips, in order.
    pub clips: Vec<Clip>,
    /// Constraints, in order, each with a flag for every tensor that it holds.
    pub constraints: Vec<(Constraint, Vec<bool>)>,
}

/// What is remembered from step to step.
pub struct Memory<T: Real> {
    /// The optimizer's arrays: by name, then by tensor.
    pub states: Vec<Vec<Buffer<T>>>,
    /// The constraints': by constraint, then by tensor; empty where nothing is remembered.
    pub held: Vec<Vec<Buffer<T>>>,
    /// Room for gradients, kept for the next step.
    pub(super) kept: Vec<Option<ScaledGradient<T>>>,
}

impl<T: Real> Memory<T> {
    /// Zeros for the tensors of a network.
    pub fn new<'a>(rules: &Rules, tensors: impl Iterator<Item = &'a Tensor> + Clone) -> Result<Self, Error> {
        let zeros = |len: usize, what: &str, t: &Tensor| {
            Buffer::zeroed(len).map_err(|e| Error::Memory {
                what: format!("the optimizer's {what} of parameter {}", t.name),
                need: e.0 as u64,
                limit: 0,
            })
        };
        let mut states = Vec::new();
        for name in rules.optimizer.memory() {
            states.push(
                tensors
                    .clone()
                    .map(|t| zeros(if t.trainable { t.copies * t.len() } else { 0 }, name, t))
                    .collect::<Result<_, _>>()?,
            );
        }
        let mut held = Vec::new();
        for (c, on) in &rules.constraints {
            let own = |(t, &on): (&Tensor, &bool)| {
                zeros(if on && c.remembers() { t.copies * t.cols } else { 0 }, "constraint", t)
            };
            held.push(tensors.clone().zip(on).map(own).collect::<Result<_, _>>()?);
        }
        Ok(Self { states, held, kept: Vec::new() })
    }
}

/// One step in work.
pub struct Stepper<'a, T: Real> {
    /// What it is taken by.
    pub rules: &'a Rules,
    /// What is remembered.
    pub memory: &'a mut Memory<T>,
    /// Learning rate.
    pub rate: f64,
    /// Its number, from 1.
    pub t: u64,
    /// Updates may be made before the pass is over.
    pub fuses: bool,
    /// What the update did is wanted.
    pub count: bool,
    /// What it did: by tensor, then by copy.
    pub changes: Vec<Vec<Change>>,
    /// Squares of each tensor's whole gradient before clipping, where it was kept.
    pub norms: Vec<ScaledSum>,
}

impl Rules {
    /// Whether blocks can be updated one by one, each without a look at any other.
    pub fn fuse(&self) -> bool {
        self.clips.is_empty() && self.optimizer.rounds() == Rounds::Plain
    }
}

/// Updates a block of rows: the one place where weights change in training.
pub fn rows<T: Real>(optimizer: &Optimizer, piece: Piece<'_, T>, rate: f64) -> Change {
    optimizer.update(piece, rate)
}

/// One copy of a parameter.
struct Copy {
    tensor: usize,
    copy: usize,
    /// Exponent of the gradient, and the factor that clips have given it.
    exponent: i64,
    factor: Scale,
    /// Squares of the mantissas, while nothing has changed them.
    squares: Option<ScaledSum>,
    /// Belongs to the network's last layer.
    last: bool,
    /// Numbers of the step.
    numbers: Numbers,
    /// Entries.
    count: usize,
}

impl Copy {
    /// The factor and the exponent together.
    fn scale(&self) -> Scale {
        self.factor.shifted(self.exponent)
    }
}

/// A run of rows of one copy.
struct Part<'a, T> {
    copy: usize,
    cols: usize,
    gradient: &'a mut [T],
    weights: &'a mut [T],
    states: [&'a mut [T]; STATES],
    sums: [f64; 2],
    squares: [ScaledSum; 2],
    rows: Vec<Scale>,
    change: Change,
}

/// Elements that are worth a task.
const TASK: usize = 16_384;

/// Calls `f` on all parts, small ones together.
fn each<T: Real>(threads: usize, parts: &mut [Part<'_, T>], f: &(dyn Fn(&mut Part<'_, T>) + Sync)) {
    let mut tasks = Vec::new();
    let mut rest = parts;
    while !rest.is_empty() {
        let mut total = 0;
        let n = rest.iter().take_while(|p| (total < TASK, total += p.weights.len()).0).count();
        let (a, b) = rest.split_at_mut(n);
        tasks.push(a);
        rest = b;
    }
    pool::each_owned(threads, tasks, &|_, task| task.iter_mut().for_each(f));
}

/// Takes the first `n` elements off a slice; none where there are none.
fn take<'a, T>(rest: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (a, b) = std::mem::take(rest).split_at_mut_checked(n).unwrap_or_default();
    *rest = b;
    a
}

impl<T: Real> Stepper<'_, T> {
    /// Makes room for what the update does to the tensors of a network.
    pub fn prepare<'t>(&mut self, tensors: impl Iterator<Item = &'t Tensor>) {
        self.changes.clear();
        self.norms.clear();
        for t in tensors {
            self.changes.push(vec![Change::default(); if self.count { t.copies } else { 0 }]);
            self.norms.push(ScaledSum::default());
        }
    }

    /// Goes through clips and optimizer with the gradients that were kept, then through the constraints. `last`: the
    /// tensor and copy of the network's last layer.
    pub fn settle(
        &mut self,
        threads: usize,
        tensors: &[&Tensor],
        kept: &mut [Option<ScaledGradient<T>>],
        params: &mut [Buffer<T>],
        last: &[(usize, usize)],
    ) {
        let (mut copies, mut parts) = (Vec::new(), Vec::new());
        let mut states: Vec<[&mut [T]; STATES]> = tensors.iter().map(|_| Default::default()).collect();
        for (j, of) in self.memory.states.iter_mut().enumerate() {
            for (s, b) in states.iter_mut().zip(of) {
                s[j] = b;
            }
        }
        let numbers = self.rules.optimizer.numbers(self.rate, self.t);
        for (i, ((t, kept), (weights, mut states))) in
            tensors.iter().zip(kept.iter_mut()).zip(params.iter_mut().zip(states)).enumerate()
        {
            let Some(kept) = kept.as_mut().filter(|_| t.trainable && !t.is_empty()) else { continue };
            let (mut gradient, mut weights) = (&mut kept.mantissa[..], &mut weights[..]);
            let len = gradient.len() / kept.exponent.len().max(1);
            let matrix = t.shape.len() - t.lead > 1;
            let (cols, step) = if matrix { (t.cols, block_rows(t.cols) * t.cols) } else { (len, len) };
            for (c, &exponent) in kept.exponent.iter().enumerate() {
                let of_last = last.contains(&(i, c));
                let copy = copies.len();
                for from in (0..len).step_by(step.max(1)) {
                    let n = step.min(len - from);
                    parts.push(Part {
                        copy,
                        cols,
                        gradient: take(&mut gradient, n),
                        weights: take(&mut weights, n),
                        states: states.each_mut().map(|s| take(s, n)),
                        sums: [0.0; 2],
                        squares: [ScaledSum::default(); 2],
                        rows: Vec::new(),
                        change: Change::default(),
                    });
                }
                copies.push(Copy {
                    tensor: i,
                    copy: c,
                    exponent,
                    factor: Scale::ONE,
                    squares: None,
                    last: of_last,
                    numbers,
                    count: len,
                });
            }
        }
        if self.count {
            measure(threads, &mut copies, &mut parts);
            for c in &copies {
                let s = c.squares.unwrap_or_default();
                self.norms[c.tensor].add(ScaledSum { s: s.s, e: s.e + 2 * c.exponent });
            }
        }
        for clip in &self.rules.clips {
            apply_clip(threads, clip, &mut copies, &mut parts);
        }
        self.advance(threads, &mut copies, &mut parts);
        drop(parts);
        self.hold(threads, tensors, params);
    }

    /// The optimizer's step.
    fn advance(&mut self, threads: usize, copies: &mut [Copy], parts: &mut [Part<'_, T>]) {
        let optimizer = &self.rules.optimizer;
        let rate = self.rate;
        let update = |p: &mut Part<'_, T>, c: &Copy, direction: bool, count: bool| {
            let piece = Piece {
                gradient: &*p.gradient,
                exponent: c.exponent,
                factor: c.factor,
                weights: &mut *p.weights,
                states: p.states.each_mut().map(|s| &mut **s),
                numbers: c.numbers,
                count,
                direction,
            };
            p.change = rows(optimizer, piece, rate);
        };
        let rounds = optimizer.rounds();
        if rounds != Rounds::Plain {
            if rounds == Rounds::Twice {
                each(threads, parts, &|p| update(p, &copies[p.copy], true, true));
            } else {
                measure(threads, copies, parts);
            }
            each(threads, parts, &|p| p.squares[1] = squares(p.weights));
            let mut sums = vec![[ScaledSum::default(); 2]; copies.len()];
            for p in parts.iter() {
                sums[p.copy][0].add(p.squares[1]);
                sums[p.copy][1].add(p.change.moved);
            }
            for (c, [weights, direction]) in copies.iter_mut().zip(sums) {
                let gradient = Scale::root(c.squares.unwrap_or_default()).times(c.scale());
                let (weights, direction) = (Scale::root(weights), Scale::root(direction));
                let layer = Layer { gradient, weights, direction, count: c.count };
                c.factor = c.factor.times(optimizer.layer(&mut c.numbers, &layer));
            }
        }
        let (copies, count) = (&*copies, self.count);
        each(threads, parts, &|p| update(p, &copies[p.copy], false, count));
        if count {
            for p in parts.iter() {
                let c = &copies[p.copy];
                if let Some(change) = self.changes[c.tensor].get_mut(c.copy) {
                    change.add(&p.change);
                }
            }
        }
    }

    /// Brings the matrices that constraints hold back to them.
    pub fn hold(&mut self, threads: usize, tensors: &[&Tensor], params: &mut [Buffer<T>]) {
        for ((constraint, on), memory) in self.rules.constraints.iter().zip(&mut self.memory.held) {
            let works: Vec<_> = (0..threads.max(1)).map(|_| Mutex::new(Work::default())).collect();
            for (((t, &on), w), m) in tensors.iter().zip(on).zip(params.iter_mut()).zip(memory) {
                if !on || t.is_empty() {
                    continue;
                }
                let mut rest = &mut m[..];
                let step = if constraint.remembers() { t.cols } else { 0 };
                let tasks: Vec<_> = w.chunks_mut(t.len()).map(|w| (w, take(&mut rest, step))).collect();
                pool::each_owned(threads, tasks, &|worker, (w, m)| {
                    constraint.hold(w, t.cols, m, &mut super::weights::lock(&works[worker]));
                });
            }
        }
    }
}

/// Sees to it that the squares of every copy's mantissas are known.
fn measure<T: Real>(threads: usize, copies: &mut [Copy], parts: &mut [Part<'_, T>]) {
    {
        let copies = &*copies;
        each(threads, parts, &|p| {
            if copies[p.copy].squares.is_none() {
                p.squares[0] = squares(p.gradient);
            }
        });
    }
    let known: Vec<bool> = copies.iter().map(|c| c.squares.is_some()).collect();
    for p in parts.iter().filter(|p| !known[p.copy]) {
        copies[p.copy].squares.get_or_insert_default().add(p.squares[0]);
    }
}

/// The norm of each copy's gradient.
fn norms<T: Real>(threads: usize, norm: Norm, copies: &mut [Copy], parts: &mut [Part<'_, T>]) -> Vec<Scale> {
    if norm == Norm::Two {
        measure(threads, copies, parts);
        return copies.iter().map(|c| Scale::root(c.squares.unwrap_or_default()).times(c.scale())).collect();
    }
    each(threads, parts, &|p| {
        let sums =
            block(Block { gradient: p.gradient, weights: Weights::None, step: None, flush: [T::ZERO; 6], full: true });
        // The largest leaves NaN out, which the sum does not.
        p.sums = [sums.abs, if sums.abs.is_nan() { f64::NAN } else { sums.largest }];
    });
    let mut out = vec![Scale::ZERO; copies.len()];
    for p in parts.iter() {
        let o = &mut out[p.copy];
        *o = if norm == Norm::One { o.plus(p.sums[0].into()) } else { largest(*o, p.sums[1].into()) };
    }
    out.iter().zip(copies.iter()).map(|(o, c)| o.times(c.scale())).collect()
}

/// The larger of two; NaN if one is.
fn largest(a: Scale, b: Scale) -> Scale {
    if b.m.is_nan() { b } else { a.at_least(b) }
}

/// The norm of all gradients together, from those of the copies, in order.
fn together(norm: Norm, norms: &[Scale]) -> Scale {
    let mut sum = ScaledSum::default();
    let mut out = Scale::ZERO;
    for &n in norms {
        match norm {
            Norm::Two => sum.add(ScaledSum { s: n.m * n.m, e: 2 * n.e }),
            Norm::One => out = out.plus(n),
            Norm::Largest => out = largest(out, n),
        }
    }
    if norm == Norm::Two { Scale::root(sum) } else { out }
}

fn apply_clip<T: Real>(threads: usize, clip: &Clip, copies: &mut [Copy], parts: &mut [Part<'_, T>]) {
    let spared = |c: &Copy| clip.spares_the_last() && c.last;
    match clip.scope() {
        Scope::All => {
            let factor = clip.factor(together(clip.norm(), &norms(threads, clip.norm(), copies, parts)), Scale::ONE);
            if factor != Scale::ONE {
                copies.iter_mut().for_each(|c| c.factor = c.factor.times(factor));
            }
        }
        Scope::Layer => {
            let found = norms(threads, clip.norm(), copies, parts);
            for (c, norm) in copies.iter_mut().zip(found) {
                if !spared(c) {
                    c.factor = c.factor.times(clip.factor(norm, Scale::ONE));
                }
            }
        }
        Scope::Row => by_rows(threads, clip, copies, parts),
        Scope::Entry => {
            let found = norms(threads, Norm::Largest, copies, parts);
            let shown: Vec<_> =
                copies.iter().zip(found).map(|(c, n)| clip.shown(n).filter(|_| !spared(c))).collect();
            {
                let copies = &*copies;
                each(threads, parts, &|p| {
                    let (c, Some(shown)) = (&copies[p.copy], shown[p.copy]) else { return };
                    if c.factor.m != 1.0 {
                        multiply(p.gradient, c.factor.m);
                    }
                    let shift = shown.exponent.map_or(0, |e| c.exponent + c.factor.e - e);
                    clip.change(p.gradient, shift, shown.limit);
                });
            }
            for (c, shown) in copies.iter_mut().zip(shown) {
                if let Some(shown) = shown {
                    (c.exponent, c.factor, c.squares) = (shown.exponent.unwrap_or(0), Scale::ONE, None);
                }
            }
        }
    }
}

/// A clip of each row by its own norm and that of its weights.
fn by_rows<T: Real>(threads: usize, clip: &Clip, copies: &mut [Copy], parts: &mut [Part<'_, T>]) {
    {
        let copies = &*copies;
        each(threads, parts, &|p| {
            p.rows.clear();
            let c = &copies[p.copy];
            if clip.spares_the_last() && c.last {
                return;
            }
            let scale = c.scale();
            for (g, w) in p.gradient.chunks(p.cols.max(1)).zip(p.weights.chunks(p.cols.max(1))) {
                let norm = Scale::root(squares(g)).times(scale);
                p.rows.push(clip.factor(norm, Scale::root(squares(w))));
            }
        });
    }
    // Rows of a copy share an exponent: that of the row that is cut least.
    let mut least: Vec<Option<i64>> = vec![None; copies.len()];
    let mut cut = vec![false; copies.len()];
    for p in parts.iter() {
        for f in &p.rows {
            least[p.copy] = Some(least[p.copy].map_or(f.e, |e| e.max(f.e)));
            cut[p.copy] |= *f != Scale::ONE;
        }
    }
    each(threads, parts, &|p| {
        if cut[p.copy] {
            let top = least[p.copy].unwrap_or(0);
            for (g, f) in p.gradient.chunks_mut(p.cols.max(1)).zip(&p.rows) {
                multiply(g, f.shifted(-top).value());
            }
        }
    });
    for ((c, cut), least) in copies.iter_mut().zip(cut).zip(least) {
        if cut {
            c.exponent += least.unwrap_or(0);
            c.squares = None;
        }
    }
}
