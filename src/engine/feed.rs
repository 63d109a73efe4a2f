//! engine: a feed-forward program over rows: forward by segments, then backward by segments with the weight phase after
//! each. Knows no losses and does not ask whether a row is a sample or a sample's time step.

use super::pass::Training;
use super::plan::Plan;
use super::program::{Kind, Program};
use super::recurrent::lyapunov::Spectrum;
use super::running;
use super::shared::{self, room};
use super::stats::{Stats, UnitGradient};
use super::sweep::{Level, Scene, Worker};
use super::sweep_norm::table_width;
use super::tape::{Share, Tape};
use super::update::Stepper;
use super::uses::uses;
use super::weights::{Job, Params, ScaledGradient, run as weigh};
use crate::error::Error;
use crate::num::aligned::Buffer;
use crate::num::meeting::{self, Meeting};
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::ScaledSum;
use std::ops::Range;
use std::sync::OnceLock;

/// What the backward pass is to yield.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// Figures.
    pub level: Level,
    /// The gradients themselves.
    pub gradients: bool,
    /// One SGD step.
    pub update: bool,
    /// Rate of the step taken or tried.
    pub rate: Option<f64>,
    /// Set in training.
    pub training: Option<Training>,
}

/// One pass through a program.
pub struct Feed<'a, T: Real> {
    /// The program.
    pub program: &'a Program,
    /// What is kept and computed again.
    pub plan: &'a Plan,
    /// The buffers.
    pub tape: &'a mut Tape<T>,
    /// Threads' states; after `backward` they hold dL/d(input).
    pub workers: Vec<Worker<T>>,
    split: Vec<Range<usize>>,
    threads: usize,
    /// Where threads wait for each other in a sweep, and the pool, so that they can; if rows see each other.
    meeting: Option<(Meeting, Option<pool::Hold>)>,
    wanted: Wanted,
    stop: &'a (dyn Fn() -> bool + Sync),
}

/// What a thread does with its rows of the output.
pub type Finish<'f, T, X> = dyn Fn(&Scene<'_, T>, &mut Worker<T>, &[T], X) + Sync + 'f;

/// Multiplications of a layer from which it may be worth having several threads sweep a batch whose rows see each other.
const WORTH_MEETING: usize = 1 << 16;

/// And for each nanosecond that their meeting takes: one thread alone then is as fast. Measured on two cores, which took
/// 60 ns with a cache in common and 150 ns without one.
const PER_NANOSECOND: u128 = 1500;

/// With so many they always do.
const WELL_WORTH: usize = 1 << 20;

/// The pool, if so many threads should sweep a batch with so many multiplications a layer together. They then do the
/// same as one alone, to the bit.
fn together(threads: usize, work: usize) -> Option<pool::Hold> {
    if threads < 2 || work < WORTH_MEETING {
        return None;
    }
    let hold = pool::hold(threads)?;
    let worth = work >= WELL_WORTH || work as u128 >= PER_NANOSECOND * meeting::takes(threads).as_nanos();
    worth.then_some(hold)
}

/// Figures and gradients of a backward pass.
pub struct Flow<T: Real> {
    /// Figures.
    pub stats: Stats,
    /// Gradients by tensor.
    pub kept: Vec<Option<ScaledGradient<T>>>,
}

impl<'a, T: Real> Feed<'a, T> {
    /// A pass over the rows of `x`, (rows, in), which are copied to the tape.
    pub fn new(
        program: &'a Program,
        plan: &'a Plan,
        tape: &'a mut Tape<T>,
        x: &[T],
        wanted: Wanted,
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> Result<Self, Error> {
        Self::on(pool::num_threads(), program, plan, tape, x, wanted, stop)
    }

    /// The same on so many threads.
    pub fn on(
        threads: usize,
        program: &'a Program,
        plan: &'a Plan,
        tape: &'a mut Tape<T>,
        x: &[T],
        wanted: Wanted,
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> Result<Self, Error> {
        let (slot, at) = tape.inputs[0];
        let len = x.len();
        tape.slots[slot][at * len..][..len].copy_from_slice(x);
        program.check_batch(tape.batch, wanted.training.is_some())?;
        let coupled = program.couples() && wanted.training.is_some();
        let ops = program.blocks.iter().flat_map(|b| b.ops.iter());
        let widest = ops.map(|o| o.widths.0.max(o.widths.1)).max().unwrap_or(1).max(program.in_features);
        // Threads that wait for each other must all run, and have more to do than to wait.
        let work = tape.batch.saturating_mul(widest).saturating_mul(widest);
        let hold = if coupled { together(threads, work) } else { None };
        let sweepers = if coupled && hold.is_none() { 1 } else { threads };
        let split = tape.split(sweepers);
        let workers = split.iter().map(|c| Worker::new(c.clone(), tape.rows(c), widest)).collect();
        let mut meeting = None;
        if coupled {
            tape.fit_moments(program, split.len())?;
            meeting = Some((Meeting::new(split.len(), tape.chunks(), table_width(widest)), hold));
        }
        Ok(Self { program, plan, tape, workers, split, threads, meeting, wanted, stop })
    }

    /// Rows of each worker.
    pub fn rows(&self) -> Vec<usize> {
        self.workers.iter().map(|w| w.rows.len()).collect()
    }

    /// Runs all segments forward; each thread then calls `finish` with its state, its rows of the output and its item.
    pub fn forward<X: Send>(
        &mut self,
        params: &[Buffer<T>],
        items: Vec<X>,
        finish: &Finish<'_, T, X>,
    ) -> Result<(), Error> {
        let (base, inputs, chunk) = (self.tape.base.clone(), self.tape.inputs.clone(), self.tape.chunk);
        let scene = self.scene(params, &base, &inputs, chunk);
        let (plan, last) = (self.plan, self.plan.segments.len() - 1);
        let shares = shares(self.tape, &mut self.meeting, &self.split);
        let items: Vec<_> = self.workers.iter_mut().zip(shares).zip(items).collect();
        pool::each_owned(self.threads, items, &|_, ((w, mut share), item)| {
            for (i, s) in plan.segments.iter().enumerate() {
                let Some(out) = scene.forward(w, &mut share, i, s) else { return };
                if i < last {
                    let (y, next) = super::tape::read_write(&mut share.slots, out, inputs[i + 1]);
                    next.copy_from_slice(y);
                    if !plan.keep {
                        w.forget();
                    }
                } else {
                    finish(&scene, w, share.slots[out.0].get(out.1), item);
                    return;
                }
            }
        });
        if (self.stop)() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Gives the workers dL/d(output) row by row: mantissas (rows, out) and exponents (rows,).
    pub fn seed(&mut self, g: &[T], e: &[i64]) {
        let (base, inputs, chunk) = (self.tape.base.clone(), self.tape.inputs.clone(), self.tape.chunk);
        let width = self.program.out_features;
        let mut workers = std::mem::take(&mut self.workers);
        let scene = self.scene(&[], &base, &inputs, chunk);
        for w in &mut workers {
            let rows = w.rows.clone();
            w.g[..rows.len() * width].copy_from_slice(&g[rows.start * width..rows.end * width]);
            for (i, row) in rows.enumerate() {
                scene.seed_row(w, i, e[row]);
            }
        }
        self.workers = workers;
        self.level_seeds();
    }

    /// Brings the workers' seeds, dL/d(output) row by row, to exponents on one grid.
    pub fn level_seeds(&mut self) {
        let (base, inputs, chunk) = (self.tape.base.clone(), self.tape.inputs.clone(), self.tape.chunk);
        let seeds = self.workers.iter().flat_map(|w| &w.e).copied().filter(|&e| e != i64::MIN);
        let top = seeds.max().unwrap_or(0);
        let mut workers = std::mem::take(&mut self.workers);
        let scene = self.scene(&[], &base, &inputs, chunk);
        for w in &mut workers {
            scene.level_rows(w, top);
        }
        self.workers = workers;
    }

    /// Takes the workers' seeds back through all segments.
    pub fn backward(
        &mut self,
        mut params: Params<'_, T>,
        mut stepper: Option<&mut Stepper<'_, T>>,
    ) -> Result<Flow<T>, Error> {
        let (p, plan, threads, wanted) = (self.program, self.plan, self.threads, self.wanted);
        let (base, inputs, chunk) = (self.tape.base.clone(), self.tape.inputs.clone(), self.tape.chunk);
        let last = plan.segments.len() - 1;
        let stepped = wanted.update || stepper.is_some();
        let mut kept = match &mut stepper {
            Some(s) => s.room(p)?,
            None => Vec::new(),
        };
        if stepper.is_none() {
            for (i, t) in p.tensors.iter().enumerate() {
                let keep = t.learned() && (wanted.gradients || t.shared || (t.slope && wanted.update));
                kept.push(keep.then(|| room(p, i)).transpose()?);
            }
        }
        let mut stats = Stats::new(p.units, wanted.level)?;
        let chunks = self.tape.chunks();
        for (i, s) in plan.segments.iter().enumerate().rev() {
            {
                let scene = Scene { again: true, ..self.scene(params.get(), &base, &inputs, chunk) };
                let shares = shares(self.tape, &mut self.meeting, &self.split);
                let items: Vec<_> = self.workers.iter_mut().zip(shares).collect();
                pool::each_owned(threads, items, &|_, (w, mut share)| {
                    if !plan.keep && i < last && scene.forward(w, &mut share, i, s).is_none() {
                        return;
                    }
                    scene.backward(w, &mut share, i, s);
                });
            }
            if (self.stop)() {
                return Err(Error::Interrupted);
            }
            let (list, absent) = uses(p, self.tape, plan.keep, (i, s), wanted.training);
            let params = match &mut params {
                Params::Read(x) => Params::Read(x),
                Params::Write(x) => Params::Write(x),
            };
            let Wanted { level, rate, update, gradients, .. } = wanted;
            let needed = update || level > Level::None || gradients || stepper.is_some();
            let stepper = stepper.as_deref_mut();
            let training = wanted.training.is_some();
            let mut job = Job { program: p, threads, training, level, rate, update, params, kept: &mut kept, stepper };
            let gradients: Vec<_> = list.iter().map(|_| OnceLock::new()).collect();
            let beside = |i: usize| {
                if level > Level::None {
                    let at = list[i].unit.0 * chunks;
                    gradients[i].get_or_init(|| UnitGradient::new(&self.tape.backward[at..at + chunks]));
                }
            };
            let sums = if needed { weigh(&mut job, self.tape, &list, &beside) } else { Vec::new() };
            if level > Level::None {
                for ((u, sums), gradient) in list.iter().zip(&sums).zip(&gradients) {
                    if let Some(gradient) = gradient.get() {
                        stats.enter_gradient(u.unit.1, gradient, u.delta.is_some());
                    }
                    if level == Level::Full {
                        let at = u.unit.1 * chunks;
                        let forward = &self.tape.forward[at..at + chunks];
                        stats.enter_forward(u.unit.1, forward, self.tape.batch * u.op.widths.1);
                    }
                    stats.enter_weights(u.unit.1, sums);
                }
                for (unit, op) in absent {
                    stats.enter_absence(unit, op, self.tape.batch);
                }
            }
        }
        shared::settle(p, &mut kept);
        if let (true, Params::Write(params), Some(rate)) = (wanted.update, &mut params, wanted.rate) {
            shared::step(p, &kept, params, rate);
        }
        if let (Some(s), Params::Write(params)) = (stepper, &mut params) {
            let tensors: Vec<_> = p.tensors.iter().collect();
            s.settle(threads, &tensors, &mut kept, params, &last_layer(p));
            s.keep(std::mem::take(&mut kept));
        }
        if let (true, Params::Write(params)) = (stepped, &mut params) {
            running::apply(self.running(params), params);
        }
        if wanted.level > Level::None {
            name_units(p, &mut stats);
            stats.input_grad_log2_norm = self.input_norm();
        }
        Ok(Flow { stats, kept })
    }

    /// Takes the seeds of a pass on one thread back, and has them made orthonormal after every segment.
    pub fn turn(&mut self, params: &[Buffer<T>], spectrum: &mut Spectrum) -> Result<(), Error> {
        let (base, inputs, chunk) = (self.tape.base.clone(), self.tape.inputs.clone(), self.tape.chunk);
        let mut workers = std::mem::take(&mut self.workers);
        let last = self.plan.segments.len() - 1;
        for (i, s) in self.plan.segments.iter().enumerate().rev() {
            let scene = Scene { again: true, ..self.scene(params, &base, &inputs, chunk) };
            let mut shares = self.tape.share(&self.split);
            for (w, share) in workers.iter_mut().zip(&mut shares) {
                if !self.plan.keep && i < last && scene.forward(w, share, i, s).is_none() {
                    return Err(Error::Interrupted);
                }
                if !scene.backward(w, share, i, s) {
                    return Err(Error::Interrupted);
                }
                let used = w.rows.len() * s.width;
                let mut a: Vec<f64> = w.g[..used].iter().map(|x| x.to_f64()).collect();
                spectrum.turn(&mut a, s.width, &w.e);
                w.g.iter_mut().zip(a).for_each(|(g, a)| *g = T::from_f64(a));
                w.e.fill(0);
            }
        }
        self.workers = workers;
        Ok(())
    }

    /// Running statistics as this pass leaves them, if it trains.
    pub fn running(&self, params: &[Buffer<T>]) -> running::Updates<T> {
        if self.meeting.is_some() {
            running::updates(self.program, self.tape, params, self.wanted.training)
        } else {
            Vec::new()
        }
    }

    /// dL/d(input): mantissas (rows, in) and exponents (rows,).
    pub fn input_gradient(&self) -> (Vec<T>, Vec<i64>) {
        let (mut g, mut e) = (Vec::new(), Vec::new());
        for w in &self.workers {
            g.extend_from_slice(&w.g[..w.rows.len() * self.program.in_features]);
            e.extend_from_slice(&w.e);
        }
        (g, e)
    }

    /// log2 of the norm of dL/d(input), row by row in order.
    fn input_norm(&self) -> f64 {
        let mut sum = ScaledSum::default();
        let width = self.program.in_features;
        for w in &self.workers {
            for (row, &e) in w.g.chunks_exact(width).zip(&w.e) {
                let mut r = [crate::kernels::delta::RowDelta::default()];
                crate::kernels::delta::delta_rows(row, None, None, width, &mut r, true);
                sum.add(ScaledSum { s: r[0].gradient.s, e: r[0].gradient.e + 2 * e });
            }
        }
        sum.log2_sqrt()
    }

    fn scene<'s>(
        &self,
        params: &'s [Buffer<T>],
        base: &'s [(usize, usize)],
        inputs: &'s [super::tape::Place],
        chunk: usize,
    ) -> Scene<'s, T>
    where
        'a: 's,
    {
        let (program, keep, stop) = (self.program, self.plan.keep, self.stop);
        let Wanted { level, training, .. } = self.wanted;
        let batch = self.tape.batch;
        Scene { program, params, base, inputs, level, training, batch, again: false, chunk, keep, stop }
    }
}

/// The tape shared out to the threads, each with its place where they meet.
fn shares<'s, T: Real>(
    tape: &'s mut Tape<T>,
    meeting: &'s mut Option<(Meeting, Option<pool::Hold>)>,
    split: &[Range<usize>],
) -> Vec<Share<'s, T>> {
    let mut out = tape.share(split);
    if let Some((meeting, _)) = meeting {
        for (share, member) in out.iter_mut().zip(meeting.members(split)) {
            share.member = Some(member);
        }
    }
    out
}

/// Weight and bias of the last layer that has any: tensors and copies.
pub(super) fn last_layer(p: &Program) -> Vec<(usize, usize)> {
    for b in p.blocks.iter().rev() {
        for op in b.ops.iter().rev() {
            if let Kind::Dense { weight, bias } = &op.kind {
                // What is stepped is what the weight is made from, if it is made from others.
                let made = p.tensors[weight.tensor].derived();
                let own = made.map_or(vec![weight.tensor], |d| vec![d.matrix, d.vector]);
                let last = b.times - 1;
                let weights = own.into_iter().map(|t| (t, weight.copy(last)));
                return weights.chain(bias.iter().map(|r| (r.tensor, r.copy(last)))).collect();
            }
        }
    }
    Vec::new()
}

/// Step, kind and width of each unit.
pub(super) fn name_units(p: &Program, stats: &mut Stats) {
    for b in &p.blocks {
        for i in 0..b.times {
            for op in &b.ops {
                let Some(u) = op.unit else { continue };
                let u = b.first_unit + i * b.units + u;
                stats.step[u] = (b.first_step + i) as i64;
                stats.width[u] = op.widths.1 as i64;
                stats.kind[u] = match op.kind {
                    Kind::Dense { .. } => 0,
                    Kind::Pointwise => 1,
                    Kind::Join(_) => 2,
                    Kind::Norm(_) => 3,
                    Kind::Gate(_) => 4,
                    Kind::Concat { .. } => 5,
                    Kind::Drop { .. } => 6,
                    Kind::Fork { .. } | Kind::Switch { .. } | Kind::Maybe(_) => continue,
                };
            }
        }
    }
}
