//! engine: one pass over a batch of sequences: the stages of a network forward, the loss, the stages backward, and the
//! step. Between stages lie plain rows: a sample's time steps one after another, or one row a sample.

use super::feed::{Feed, Wanted};
use super::memory::{Job, Planned, Plans};
use super::network::{Network, Stage};
use super::pass::{Mode, Outcome, Request, Stop, Top, cut, hits};
use super::recurrent::{NonFinite, Recurrent, Run, Seed, Setting, TimeStats, narrowed};
use super::running::{self, Updates};
use super::shared::step_tensor;
use super::stats::Stats;
use super::sweep::{Level, NO_SCALE};
use super::tape::Tape;
use super::update::Stepper;
use super::weights::{Params, ScaledGradient, lock};
use crate::error::Error;
use crate::kernels::gradient::squares;
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::ScaledSum;
use crate::parts::loss::Target;
use std::sync::Mutex;

/// What only networks with time yield.
pub struct TimeOutcome<T> {
    /// Figures of each recurrent layer, by stage.
    pub stats: Vec<(usize, TimeStats)>,
    /// Figures of the other stages, by stage.
    pub feeds: Vec<(usize, Stats)>,
    /// log2 norms of whole gradients, by tensor.
    pub norms: Vec<f64>,
    /// log2 of the norm of dL/d(input); NaN where nothing else needed that gradient.
    pub input_norm: f64,
    /// Final states of the first recurrent layer: (cells, batch, hidden) for each state.
    pub last: Vec<Vec<T>>,
    /// dL/d(initial state) of the first recurrent layer: mantissas (cells, batch, hidden) and exponents (cells, batch).
    pub states: Vec<Seed<T>>,
    /// Where the forward pass first left the numbers: stage and place.
    pub nonfinite: Option<(usize, NonFinite)>,
    /// Running statistics as a step leaves them, by tensor.
    pub running: Updates<T>,
    /// Rows of the output.
    pub rows: usize,
}

/// A stage in work.
enum Work<'a, T: Real> {
    Feed(Box<Feed<'a, T>>),
    Recurrent(Box<Run<'a, T>>),
}

/// Rows that go into each stage, and out of the last.
pub(super) fn rows<T: Real>(net: &Network<T>, batch: usize, steps: usize) -> Vec<usize> {
    let mut out = vec![batch * steps];
    for s in &net.stages {
        let ended = matches!(s, Stage::Recurrent(r) if !r.every);
        let now = if ended { batch } else { out[out.len() - 1] };
        out.push(now);
    }
    out
}

/// Carries out a request on a network with time.
pub fn pass<T: Real>(
    net: &Network<T>,
    r: &Request<'_, T>,
    stepper: Option<&mut Stepper<'_, T>>,
) -> Result<Outcome<T>, Error> {
    let (batch, steps) = (r.batch, r.time.steps);
    let expected = batch.checked_mul(steps).and_then(|n| n.checked_mul(net.in_features));
    if batch == 0 || steps == 0 || expected != Some(r.x.len()) {
        let got = r.x.len();
        return Err(Error::Shape(format!(
            "x must be (batch, time, {}) with at least one sample and one step, got {got} values for {batch} x {steps}",
            net.in_features
        )));
    }
    let backward = r.mode.goes_back();
    let stop = Stop::new(r.poll);
    let stop = || stop.now();
    let plans = net.plans(&Job::of(r), r.budget)?;
    if r.budget.is_some() {
        net.time_spare.retain(|key| plans.takes(key, batch));
    }
    let counts = rows(net, batch, steps);
    let mut outcome = {
        let params = net.params.read()?;
        flow(net, r, &params, &plans, &counts, backward, &stop)?
    };
    if let Some(s) = stepper {
        // Without gradients the loss was no number.
        if !outcome.gradients.is_empty() {
            let mut params = net.params.write()?;
            let tensors: Vec<_> = net.tensors().collect();
            s.settle(pool::num_threads(), &tensors, &mut outcome.gradients, &mut params, &last_layer(net));
            net.refresh(&mut params);
            take_over(&mut outcome, &mut params);
            outcome.gradients.clear();
        }
    } else if let (Mode::Step, Some(rate)) = (r.mode, r.rate) {
        let mut params = net.params.write()?;
        for (g, w) in outcome.gradients.iter().zip(params.iter_mut()) {
            if let Some(g) = g {
                step_tensor(g, w, rate);
            }
        }
        net.refresh(&mut params);
        take_over(&mut outcome, &mut params);
        outcome.gradients.clear();
    }
    Ok(outcome)
}

/// Running statistics as a step leaves them.
fn take_over<T: Real>(outcome: &mut Outcome<T>, params: &mut [Buffer<T>]) {
    if let Some(time) = &mut outcome.time {
        running::apply(std::mem::take(&mut time.running), params);
    }
}

/// Weight and bias of the last layer that has any: tensors and copies.
fn last_layer<T: Real>(net: &Network<T>) -> Vec<(usize, usize)> {
    let mut at = net.tensors().count();
    for s in net.stages.iter().rev() {
        at -= s.tensors().len();
        let found = match s {
            Stage::Feed(p) => super::feed::last_layer(p),
            Stage::Recurrent(r) => (0..r.tensors.len()).map(|t| (t, 0)).collect(),
        };
        if !found.is_empty() {
            return found.into_iter().map(|(t, c)| (at + t, c)).collect();
        }
    }
    Vec::new()
}

fn flow<'a, T: Real>(
    net: &'a Network<T>,
    r: &'a Request<'a, T>,
    params: &'a [Buffer<T>],
    plans: &'a Plans,
    counts: &[usize],
    backward: bool,
    stop: &'a (dyn Fn() -> bool + Sync),
) -> Result<Outcome<T>, Error> {
    let first = net.stages.iter().position(|s| matches!(s, Stage::Recurrent(_))).unwrap_or(0);
    // In a chain the update waits until all stages have seen the old weights.
    let wanted = Wanted { gradients: r.mode == Mode::Gradients || r.mode == Mode::Step, update: false, ..r.wanted() };
    let mut tapes: Vec<Option<Tape<T>>> = Vec::new();
    for p in &plans.each {
        tapes.push(match p {
            Planned::Feed(plan) => {
                let Stage::Feed(program) = &net.stages[tapes.len()] else { unreachable!("plans follow stages") };
                Some(Tape::new(program, plan, backward && r.level == Level::Full)?)
            }
            Planned::Recurrent(_) => None,
        });
    }
    let mut time = TimeOutcome {
        stats: Vec::new(),
        feeds: Vec::new(),
        norms: vec![f64::NAN; params.len()],
        input_norm: f64::NAN,
        last: Vec::new(),
        states: Vec::new(),
        nonfinite: None,
        running: Vec::new(),
        rows: counts[counts.len() - 1],
    };
    let mut values: Vec<Vec<T>> = Vec::with_capacity(net.stages.len());
    let mut works: Vec<(Work<'_, T>, usize)> = Vec::with_capacity(net.stages.len());
    let mut at = 0;
    for (i, ((stage, plan), tape)) in net.stages.iter().zip(&plans.each).zip(&mut tapes).enumerate() {
        let x: &[T] = if i == 0 { r.x } else { &values[i - 1] };
        let own = &params[at..at + stage.tensors().len()];
        let out = match (stage, plan, tape) {
            (Stage::Feed(p), Planned::Feed(plan), Some(tape)) => {
                let padded = r.time.lengths.is_some_and(|n| n.iter().any(|&n| n < r.time.steps));
                p.check_rows(padded && counts[i] > r.batch, r.training.is_some())?;
                let mut feed = Feed::new(p, plan, tape, x, wanted, stop)?;
                let mut out = vec![T::ZERO; counts[i + 1] * p.out_features];
                let items = cut(&mut out, &feed.rows(), p.out_features);
                feed.forward(own, items, &|_, _, z, item: &mut [T]| item.copy_from_slice(z))?;
                works.push((Work::Feed(Box::new(feed)), at));
                out
            }
            (Stage::Recurrent(layer), Planned::Recurrent(plan), _) => {
                let inputs = Job::of(r).carries_back(i);
                let set = Setting {
                    r: layer,
                    params: own,
                    plan,
                    lengths: r.time.lengths,
                    truncate: r.time.truncate,
                    level: if backward { r.level } else { Level::None },
                    backward,
                    inputs,
                    spare: Some((&net.time_spare, i)),
                    stop,
                };
                let mut run = Run::new(set);
                let state = r.time.state.filter(|_| i == first);
                check_state(layer, state, r.batch)?;
                let (out, last, bad) = run.forward(x, state)?;
                if i == first {
                    time.last = last;
                }
                time.nonfinite = time.nonfinite.or(bad.map(|b| (i, b)));
                works.push((Work::Recurrent(Box::new(run)), at));
                out
            }
            _ => unreachable!("plans follow stages"),
        };
        at += stage.tensors().len();
        values.push(out);
    }
    let z = values.pop().unwrap_or_default();
    let (loss, correct, mut seed) = top(net, r, &z, counts[counts.len() - 1], backward);
    // A loss that is no number says nothing about the way down.
    let lost = r.mode == Mode::Step && r.rate.is_none() && loss.is_some_and(|l| !l.is_finite());
    let backward = backward && !lost;
    let mut outcome = Outcome {
        loss,
        correct,
        output: if r.mode == Mode::Forward { z } else { Vec::new() },
        stats: Stats::default(),
        gradients: Vec::new(),
        input_gradient: (Vec::new(), Vec::new()),
        plan: plans.describe(net),
        time: None,
    };
    if backward {
        let mut kept: Vec<Option<ScaledGradient<T>>> = params.iter().map(|_| None).collect();
        for (i, (work, at)) in works.into_iter().enumerate().rev() {
            let x: &[T] = if i == 0 { r.x } else { &values[i - 1] };
            seed = match work {
                Work::Feed(mut feed) => {
                    feed.seed(&seed.g, &seed.e);
                    let n = feed.program.tensors.len();
                    let flow = feed.backward(Params::Read(&params[at..at + n]), None)?;
                    let seen = feed.running(&params[at..at + n]);
                    time.running.extend(seen.into_iter().map(|(t, v)| (at + t, v)));
                    for (j, k) in flow.kept.into_iter().enumerate() {
                        kept[at + j] = k;
                    }
                    time.feeds.push((i, flow.stats));
                    let (g, e) = feed.input_gradient();
                    Seed { g, e }
                }
                Work::Recurrent(run) => {
                    let back = run.backward(x, seed, r.time.state.is_some() && i == first)?;
                    for (t, g, e) in back.gradients {
                        let norm = squares(&g);
                        time.norms[at + t] = ScaledSum { s: norm.s, e: norm.e + 2 * e }.log2_sqrt();
                        if wanted.gradients {
                            let (m, e) = narrowed::<T>(&g, e);
                            let mut mantissa = Buffer::zeroed(m.len())?;
                            mantissa.copy_from_slice(&m);
                            kept[at + t] = Some(ScaledGradient { mantissa, exponent: vec![e] });
                        }
                    }
                    time.stats.push((i, back.stats));
                    if i == first {
                        time.states = back.states;
                    }
                    back.inputs.unwrap_or(Seed { g: Vec::new(), e: Vec::new() })
                }
            };
        }
        time.stats.reverse();
        time.feeds.reverse();
        if r.level > Level::None && !seed.e.is_empty() {
            time.input_norm = rows_norm(&seed, net.in_features);
        }
        outcome.gradients = if wanted.gradients { kept } else { Vec::new() };
        if r.mode == Mode::Gradients {
            seed.e.iter_mut().filter(|e| **e == NO_SCALE).for_each(|e| *e = 0);
            outcome.input_gradient = (seed.g, seed.e);
        }
    }
    outcome.time = Some(time);
    Ok(outcome)
}

/// Rows whose squares one task sums.
const ROWS: usize = 1024;

/// log2 of the norm of rows, which are summed in chunks that depend on their number alone.
fn rows_norm<T: Real>(seed: &Seed<T>, width: usize) -> f64 {
    let chunks = seed.e.len().div_ceil(ROWS);
    let sums: Vec<_> = (0..chunks).map(|_| Mutex::new(ScaledSum::default())).collect();
    pool::each(pool::num_threads(), chunks, &|_, i| {
        let mut sum = ScaledSum::default();
        let rows = i * ROWS..(i * ROWS + ROWS).min(seed.e.len());
        for (g, &e) in seed.g[rows.start * width..].chunks_exact(width).zip(&seed.e[rows]) {
            if e != NO_SCALE {
                let row = squares(g);
                sum.add(ScaledSum { s: row.s, e: row.e + 2 * e });
            }
        }
        *lock(&sums[i]) = sum;
    });
    let mut sum = ScaledSum::default();
    sums.iter().for_each(|s| sum.add(*lock(s)));
    sum.log2_sqrt()
}

fn check_state<T>(r: &Recurrent, state: Option<&[Vec<T>]>, batch: usize) -> Result<(), Error> {
    let Some(state) = state else { return Ok(()) };
    let (kinds, cells) = (r.shape.states / r.shape.outputs, r.num_layers * r.directions);
    let len = cells * batch * r.hidden;
    if state.len() != kinds || state.iter().any(|s| s.len() != len) {
        let got: Vec<_> = state.iter().map(Vec::len).collect();
        return Err(Error::Shape(format!(
            "state must hold {kinds} arrays of shape ({cells}, {batch}, {}), got arrays of {got:?} values",
            r.hidden
        )));
    }
    Ok(())
}

/// The mean loss over the rows that exist, and dL/d(output) row by row.
fn top<T: Real>(
    net: &Network<T>,
    r: &Request<'_, T>,
    z: &[T],
    rows: usize,
    backward: bool,
) -> (Option<f64>, Option<(usize, usize)>, Seed<T>) {
    let width = net.out_features();
    let mut seed = Seed {
        g: vec![T::ZERO; if backward { rows * width } else { 0 }],
        e: vec![NO_SCALE; if backward { rows } else { 0 }],
    };
    let steps = rows / r.batch;
    let lives = |row: usize| {
        steps == 1 && net.every() != Some(true) || r.time.lengths.is_none_or(|n| row % steps < n[row / steps])
    };
    let count = (0..rows).filter(|&row| lives(row)).count();
    let (mut total, mut spare, mut g) = (0.0, Vec::new(), vec![T::ZERO; width]);
    let (mut known, mut right) = (None, 0);
    for row in (0..rows).filter(|&row| lives(row)) {
        let e = match &r.top {
            Top::None => return (None, None, seed),
            Top::Loss(l, target) => {
                let (value, e) = l.row(&z[row * width..][..width], target.row(row, width), count, &mut g, &mut spare);
                total += value;
                known = Some(total);
                right += usize::from(hits(&z[row * width..][..width], target.row(row, width)));
                e
            }
            Top::Cotangent(v) => {
                g.copy_from_slice(&v[row * width..][..width]);
                0
            }
        };
        if backward {
            seed.g[row * width..][..width].copy_from_slice(&g);
            seed.e[row] = e;
        }
    }
    let correct = matches!(&r.top, Top::Loss(_, Target::Classes(_))).then_some((right, count));
    (known, correct, seed)
}
