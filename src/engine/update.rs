//! engine: the update: what clips, an optimizer and constraints make of a step's gradients. Knows parameters and kept
//! gradients, no sweep.
//!
//! There are two ways to one result. While a block of a weight gradient is in cache, the weight phase has it updated at
//! once ([`Stepper::fuses`]). Where a decision needs more than the block (a norm of all gradients, of a layer, tensors
//! with several uses, networks along time), gradients are kept with their exponents and [`Stepper::settle`] goes
//! through clips, optimizer and constraints when the pass is over. Every update of a weight is one call of [`rows`].

use super::clipping::{Own, Part, apply_clip, each, lay, measure, take};
use super::op::Kind;
use super::program::{Program, Tensor};
use super::shared::{clear, room};
use super::weights::ScaledGradient;
use crate::error::Error;
use crate::kernels::gradient::squares;
use crate::kernels::update::{Change, STATES};
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::num::scaled::ScaledSum;
use crate::parts::clip::Clip;
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
            Buffer::zeroed(len).map_err(|e| Error::Refused {
                what: format!("the optimizer's {what} of parameter {}", t.name),
                bytes: e.0 as u64,
            })
        };
        let mut states = Vec::new();
        for name in rules.optimizer.memory() {
            states.push(
                tensors
                    .clone()
                    .map(|t| zeros(if learns(t) { t.copies * t.len() } else { 0 }, name, t))
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
    /// Seconds that the way back took.
    pub seconds: f64,
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

/// A step as the weight phase takes it, block by block.
#[derive(Clone, Copy)]
pub struct Fused<'a> {
    optimizer: &'a Optimizer,
    numbers: Numbers,
    rate: f64,
    /// What the update did is wanted.
    pub count: bool,
}

impl Fused<'_> {
    /// Updates the rows of a block.
    pub fn rows<T: Real>(
        &self,
        gradient: &[T],
        exponent: i64,
        weights: &mut [T],
        states: [&mut [T]; STATES],
        count: bool,
    ) -> Change {
        let (numbers, factor) = (self.numbers, Scale::ONE);
        let piece = Piece { gradient, exponent, factor, weights, states, numbers, count, direction: false };
        rows(self.optimizer, piece, self.rate)
    }
}

/// Updates a block of rows: the one place where weights change in training.
fn rows<T: Real>(optimizer: &Optimizer, piece: Piece<'_, T>, rate: f64) -> Change {
    optimizer.update(piece, rate)
}

/// Whether an optimizer changes a tensor.
pub(super) fn learns(t: &Tensor) -> bool {
    t.trainable && t.derived().is_none()
}

/// Tensors whose gradients the weight phase finishes block by block: weights and biases of one use. None where a pass
/// may leave some out: a gradient of zero is one too, and momentum goes on.
fn fusible(p: &Program) -> Vec<bool> {
    let mut out = vec![false; p.tensors.len()];
    if p.blocks.iter().flat_map(|b| &b.ops).any(|op| matches!(op.kind, Kind::Maybe(_))) {
        return out;
    }
    for op in p.blocks.iter().flat_map(|b| &b.ops) {
        if let Kind::Dense { weight, bias } = &op.kind {
            for r in std::iter::once(weight).chain(bias) {
                let t = &p.tensors[r.tensor];
                out[r.tensor] = !t.shared && t.derived().is_none();
            }
        }
    }
    out
}

impl<'a, T: Real> Stepper<'a, T> {
    /// The step as the weight phase takes it.
    pub fn step(&self) -> Fused<'a> {
        let optimizer = &self.rules.optimizer;
        Fused { optimizer, numbers: optimizer.numbers(self.rate, self.t), rate: self.rate, count: self.count }
    }

    /// Makes room for what the update does to the tensors of a network.
    pub fn prepare<'t>(&mut self, tensors: impl Iterator<Item = &'t Tensor>) {
        self.changes.clear();
        self.norms.clear();
        for t in tensors {
            self.changes.push(vec![Change::default(); if self.count { t.copies } else { 0 }]);
            self.norms.push(ScaledSum::default());
        }
    }

    /// Room for the gradients that are not used up while they are in cache; that of the last step is used again.
    pub(super) fn room(&mut self, p: &Program) -> Result<Vec<Option<ScaledGradient<T>>>, Error> {
        let own = fusible(p);
        let mut spare = std::mem::take(&mut self.memory.kept).into_iter();
        let mut kept = Vec::with_capacity(p.tensors.len());
        for (i, t) in p.tensors.iter().enumerate() {
            let old = spare.next().flatten();
            let keep = learns(t) && !(own[i] && self.fuses);
            kept.push(match old {
                _ if !keep => None,
                Some(mut old) => {
                    clear(p, i, &mut old, own[i]);
                    Some(old)
                }
                None => Some(room(p, i)?),
            });
        }
        Ok(kept)
    }

    /// Gives the room back for the next step.
    pub(super) fn keep(&mut self, kept: Vec<Option<ScaledGradient<T>>>) {
        self.memory.kept = kept;
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
        for (i, ((t, kept), (weights, states))) in
            tensors.iter().zip(kept.iter_mut()).zip(params.iter_mut().zip(states)).enumerate()
        {
            let Some(kept) = kept.as_mut().filter(|_| learns(t) && !t.is_empty()) else { continue };
            let cols = (t.shape.len() - t.lead > 1).then_some(t.cols);
            let of_last = last.iter().filter(|l| l.0 == i).map(|l| l.1).collect::<Vec<_>>();
            let ScaledGradient { mantissa, exponent } = kept;
            lay((i, cols, &of_last, numbers), (mantissa, exponent), weights, states, &mut copies, &mut parts);
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
        advance(threads, (&self.rules.optimizer, self.rate, self.count), &mut copies, &mut parts);
        if self.count {
            for p in &parts {
                let c = &copies[p.copy];
                if let Some(change) = self.changes[c.tensor].get_mut(c.copy) {
                    change.add(&p.change);
                }
            }
        }
        drop(parts);
        self.hold(threads, tensors, params);
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

/// The optimizer's step.
fn advance<T: Real>(
    threads: usize,
    (optimizer, rate, count): (&Optimizer, f64, bool),
    copies: &mut [Own],
    parts: &mut [Part<'_, T>],
) {
    let update = |p: &mut Part<'_, T>, c: &Own, direction: bool, count: bool| {
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
    let copies = &*copies;
    each(threads, parts, &|p| update(p, &copies[p.copy], false, count));
}
