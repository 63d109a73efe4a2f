//! engine: one pass over a batch: forward, loss, backward by segments, weight phase, figures. Knows no Python.

use super::network::Network;
use super::plan::Plan;
use super::program::{Kind, Program};
use super::shared::{self, room};
use super::stats::Stats;
use super::sweep::{Level, Scene, Worker};
use super::tape::Tape;
use super::weights::{Job, Params, ScaledGradient, run as weigh, uses};
use crate::error::Error;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::ScaledSum;
use crate::parts::loss::{Loss, Target};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Instant;

/// What a pass is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The output only.
    Forward,
    /// The loss only.
    Loss,
    /// Figures of the gradient flow.
    Probe,
    /// Figures, and the gradients themselves.
    Gradients,
    /// Figures, and one SGD step.
    Step,
}

/// Where the backward pass begins.
pub enum Top<'a, T> {
    /// Nowhere: there is none.
    None,
    /// At a loss of the output.
    Loss(Loss, Target<'a, T>),
    /// At a given dL/d(output), (batch, out).
    Cotangent(&'a [T]),
}

/// A request for a pass. `x`: (batch, in).
pub struct Request<'a, T: Real> {
    /// Inputs.
    pub x: &'a [T],
    /// Samples.
    pub batch: usize,
    /// Where backward begins.
    pub top: Top<'a, T>,
    /// What it is for.
    pub mode: Mode,
    /// Rate of the step taken or tried.
    pub rate: Option<f64>,
    /// Figures wanted.
    pub level: Level,
    /// Bytes that may be used.
    pub budget: Option<u64>,
    /// Asked now and then on the calling thread; true means stop.
    pub poll: &'a (dyn Fn() -> bool + Sync),
}

/// What a pass yields.
pub struct Outcome<T: Real> {
    /// Mean loss.
    pub loss: Option<f64>,
    /// The output (batch, out), for [`Mode::Forward`].
    pub output: Vec<T>,
    /// Figures.
    pub stats: Stats,
    /// Gradients by tensor, for [`Mode::Gradients`].
    pub gradients: Vec<Option<ScaledGradient<T>>>,
    /// dL/d(input): mantissas (batch, in) and exponents (batch,), for [`Mode::Gradients`].
    pub input_gradient: (Vec<T>, Vec<i64>),
    /// The memory plan in words, its segments and its extra forward work.
    pub plan: (String, usize, f64),
}

/// Buffers kept from pass to pass.
pub struct Spare<T: Real> {
    tape: Tape<T>,
}

/// Buffers above this are given back after a pass.
const SPARE_LIMIT: u64 = 2 << 30;

/// Looks for an interrupt about twenty times a second, on the calling thread alone.
struct Stop<'a> {
    flag: AtomicBool,
    next: AtomicU64,
    begun: Instant,
    owner: ThreadId,
    poll: &'a (dyn Fn() -> bool + Sync),
}

impl Stop<'_> {
    fn now(&self) -> bool {
        if self.flag.load(Ordering::Relaxed) {
            return true;
        }
        let ms = self.begun.elapsed().as_millis() as u64;
        if ms >= self.next.load(Ordering::Relaxed) && std::thread::current().id() == self.owner {
            self.next.store(ms + 50, Ordering::Relaxed);
            if (self.poll)() {
                self.flag.store(true, Ordering::Relaxed);
                return true;
            }
        }
        false
    }
}

impl<T: Real> Network<T> {
    /// Bytes that a pass over `batch` samples needs beside the parameters, by the plan it would take.
    pub fn memory(&self, batch: usize, mode: Mode, budget: Option<u64>) -> Result<u64, Error> {
        let plan = Plan::new(&self.program, batch.max(1), size_of::<T>(), budget)?;
        let kept = if mode == Mode::Gradients { (self.num_parameters() * size_of::<T>()) as u64 } else { 0 };
        Ok(plan.bytes.saturating_add(kept))
    }

    /// Carries out a request.
    pub fn pass(&self, r: &Request<'_, T>) -> Result<Outcome<T>, Error> {
        let p = &self.program;
        let expected = r.batch.checked_mul(p.in_features);
        if r.batch == 0 || expected != Some(r.x.len()) {
            return Err(Error::Shape(format!(
                "x must be (batch, {}), got {} values for a batch of {}",
                p.in_features,
                r.x.len(),
                r.batch
            )));
        }
        let backward = !matches!(r.mode, Mode::Forward | Mode::Loss);
        // Without a backward pass there is nothing to keep, so the leanest plan is also the fastest.
        let plan = if backward {
            Plan::new(p, r.batch, size_of::<T>(), r.budget)?
        } else {
            Plan::leanest(p, r.batch, size_of::<T>())
        };
        let stop = Stop {
            flag: AtomicBool::new(false),
            next: AtomicU64::new(50),
            begun: Instant::now(),
            owner: std::thread::current().id(),
            poll: r.poll,
        };
        let full = r.level == Level::Full && backward;
        let mut spare = match self.spare.try_lock() {
            Ok(mut s) => s.take(),
            Err(_) => None,
        };
        let key = (r.batch, plan.keep, plan.segments.len(), full);
        if spare.as_ref().is_some_and(|s| s.tape.key != key) {
            spare = None;
        }
        let mut tape = match spare {
            Some(s) => s.tape,
            None => Tape::new(p, &plan, full)?,
        };
        let (slot, at) = tape.inputs[0];
        let len = r.x.len();
        tape.slots[slot][at * len..][..len].copy_from_slice(r.x);
        let outcome = if r.mode == Mode::Step {
            let mut params = self.params.write().unwrap_or_else(PoisonError::into_inner);
            self.carry_out(r, &plan, &mut tape, Params::Write(&mut params), &|| stop.now())
        } else {
            let params = self.params.read().unwrap_or_else(PoisonError::into_inner);
            self.carry_out(r, &plan, &mut tape, Params::Read(&params), &|| stop.now())
        };
        if plan.bytes <= SPARE_LIMIT
            && let Ok(mut s) = self.spare.try_lock()
        {
            *s = Some(Spare { tape });
        }
        outcome
    }

    fn carry_out(
        &self,
        r: &Request<'_, T>,
        plan: &Plan,
        tape: &mut Tape<T>,
        mut params: Params<'_, T>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Outcome<T>, Error> {
        let p = &self.program;
        let backward = !matches!(r.mode, Mode::Forward | Mode::Loss);
        let threads = pool::num_threads();
        let split = tape.split(threads);
        let widest = p.blocks.iter().flat_map(|b| b.ops.iter()).map(|o| o.widths.0.max(o.widths.1)).max().unwrap_or(1);
        let mut workers: Vec<Worker<T>> =
            split.iter().map(|c| Worker::new(c.clone(), tape.rows(c), widest.max(p.in_features))).collect();
        let (base, inputs, chunk) = (tape.base.clone(), tape.inputs.clone(), tape.chunk);
        let common = Scene {
            program: p,
            params: &[],
            base: &base,
            inputs: &inputs,
            level: r.level,
            chunk,
            keep: plan.keep,
            stop,
        };
        let mut losses = vec![0.0f64; r.batch];
        let mut output = vec![T::ZERO; if r.mode == Mode::Forward { r.batch * p.out_features } else { 0 }];
        let last = plan.segments.len() - 1;

        // Forward, all segments, and the top of the backward pass, in one go.
        {
            let scene = Scene { params: params.get(), ..common };
            let shares = tape.share(&split);
            let rows: Vec<_> = workers.iter().map(|w| w.rows.len()).collect();
            let losses = cut(&mut losses, &rows, 1);
            let outputs = cut(&mut output, &rows, if r.mode == Mode::Forward { p.out_features } else { 0 });
            let items: Vec<_> = workers.iter_mut().zip(shares).zip(losses.into_iter().zip(outputs)).collect();
            pool::each_owned(threads, items, &|_, ((w, mut share), (losses, output))| {
                for (i, s) in plan.segments.iter().enumerate() {
                    let Some(out) = scene.forward(w, &mut share, i, s) else { return };
                    if i < last {
                        let (y, next) = super::tape::read_write(&mut share.slots, out, inputs[i + 1]);
                        next.copy_from_slice(y);
                        if !plan.keep {
                            w.forget();
                        }
                    } else {
                        let z = share.slots[out.0].get(out.1);
                        output.copy_from_slice(&z[..output.len()]);
                        top(&scene, w, z, r, losses, p.out_features);
                    }
                }
            });
        }
        if stop() {
            return Err(Error::Interrupted);
        }
        let loss = match &r.top {
            Top::Loss(..) => Some(losses.iter().sum::<f64>()),
            _ => None,
        };
        let mut outcome = Outcome {
            loss,
            output,
            stats: Stats::default(),
            gradients: Vec::new(),
            input_gradient: (Vec::new(), Vec::new()),
            plan: (plan.describe(), plan.segments.len(), plan.recompute()),
        };
        if !backward {
            return Ok(outcome);
        }

        let seeds = workers.iter().flat_map(|w| &w.e).copied().filter(|&e| e != i64::MIN);
        let top = seeds.max().unwrap_or(0);
        for w in &mut workers {
            Scene { params: params.get(), ..common }.level_rows(w, top);
        }
        let mut kept: Vec<Option<ScaledGradient<T>>> = Vec::with_capacity(p.tensors.len());
        for (i, t) in p.tensors.iter().enumerate() {
            let wanted = r.mode == Mode::Gradients || t.shared || (t.slope && r.mode == Mode::Step);
            kept.push(wanted.then(|| room(p, i)).transpose()?);
        }
        let mut stats = Stats::new(p.units, r.level);
        let chunks = tape.chunks();
        for (i, s) in plan.segments.iter().enumerate().rev() {
            {
                let scene = Scene { params: params.get(), ..common };
                let shares = tape.share(&split);
                let items: Vec<_> = workers.iter_mut().zip(shares).collect();
                pool::each_owned(threads, items, &|_, (w, mut share)| {
                    if !plan.keep && i < last && scene.forward(w, &mut share, i, s).is_none() {
                        return;
                    }
                    scene.backward(w, &mut share, i, s);
                });
            }
            if stop() {
                return Err(Error::Interrupted);
            }
            let list = uses(p, tape, plan.keep, i, s);
            let update = r.mode == Mode::Step;
            let params = match &mut params {
                Params::Read(x) => Params::Read(x),
                Params::Write(x) => Params::Write(x),
            };
            let rate = r.rate;
            let mut job = Job { program: p, threads, level: r.level, rate, update, params, kept: &mut kept };
            let needed = update || r.level > Level::None || r.mode == Mode::Gradients;
            let sums = if needed { weigh(&mut job, tape, &list) } else { Vec::new() };
            if r.level > Level::None {
                for (u, sums) in list.iter().zip(&sums) {
                    let at = u.unit.0 * chunks;
                    stats.enter_gradient(u.unit.1, &tape.backward[at..at + chunks], u.delta.is_some());
                    if r.level == Level::Full {
                        let at = u.unit.1 * chunks;
                        stats.enter_forward(u.unit.1, &tape.forward[at..at + chunks], r.batch * u.op.widths.1);
                    }
                    stats.enter_weights(u.unit.1, sums);
                }
            }
        }
        shared::settle(p, &mut kept);
        if let (Mode::Step, Params::Write(params), Some(rate)) = (r.mode, &mut params, r.rate) {
            shared::step(p, &kept, params, rate);
        }
        if r.level > Level::None {
            name_units(p, &mut stats);
            stats.input_grad_log2_norm = input_norm(&workers, p.in_features);
        }
        if r.mode == Mode::Gradients {
            for w in &workers {
                outcome.input_gradient.0.extend_from_slice(&w.g[..w.rows.len() * p.in_features]);
                outcome.input_gradient.1.extend_from_slice(&w.e);
            }
            outcome.gradients = kept;
        }
        outcome.stats = stats;
        Ok(outcome)
    }
}

/// dL/d(output) of a worker's rows, from the loss or as given. `z`: (rows, out).
fn top<T: Real>(
    scene: &Scene<'_, T>,
    w: &mut Worker<T>,
    z: &[T],
    r: &Request<'_, T>,
    losses: &mut [f64],
    width: usize,
) {
    let mut spare = Vec::new();
    for (i, loss) in losses.iter_mut().enumerate() {
        let row = w.rows.start + i;
        let e = match &r.top {
            Top::None => return,
            Top::Loss(l, target) => {
                let g = &mut w.g[i * width..][..width];
                let (value, e) = l.row(&z[i * width..][..width], target.row(row, width), r.batch, g, &mut spare);
                *loss = value;
                e
            }
            Top::Cotangent(v) => {
                w.g[i * width..][..width].copy_from_slice(&v[row * width..][..width]);
                0
            }
        };
        scene.seed_row(w, i, e);
    }
}

/// log2 of the norm of dL/d(input), row by row in the order of the batch.
fn input_norm<T: Real>(workers: &[Worker<T>], width: usize) -> f64 {
    let mut sum = ScaledSum::default();
    for w in workers {
        for (row, &e) in w.g.chunks_exact(width).zip(&w.e) {
            let mut r = [crate::kernels::delta::RowDelta::default()];
            let mut spare = row.to_vec();
            crate::kernels::delta::delta_rows(row, None, &mut spare, width, &mut r, true);
            sum.add(ScaledSum { s: r[0].gradient.s, e: r[0].gradient.e + 2 * e });
        }
    }
    sum.log2_sqrt()
}

fn name_units(p: &Program, stats: &mut Stats) {
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
                    Kind::Fork | Kind::Join { .. } => 2,
                };
            }
        }
    }
}

/// Cuts a buffer into runs of `rows[i] * width`.
fn cut<'a, X>(mut rest: &'a mut [X], rows: &[usize], width: usize) -> Vec<&'a mut [X]> {
    let mut out = Vec::with_capacity(rows.len());
    for &n in rows {
        let (a, b) = rest.split_at_mut(n * width);
        out.push(a);
        rest = b;
    }
    out
}
