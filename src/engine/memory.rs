//! engine: what a pass needs in bytes, and the plans of its stages under one budget. Knows shapes and byte counts, no
//! values.

use super::network::{Network, Stage};
use super::pass::{Mode, Request};
use super::plan::{DEFAULT_BUDGET, Plan};
use super::program::{Program, Tensor};
use super::recurrent::plan::TimePlan;
use super::recurrent::{Recurrent, TapeKey, TimeStats};
use super::stats::Stats;
use super::sweep::Level;
use super::tape::{CHUNKS, ChunkForward};
use crate::error::{Error, grouped, size};
use crate::num::pool;
use crate::num::real::Real;

/// A pass, as far as its memory goes.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Samples.
    pub batch: usize,
    /// Time steps; 1 without time.
    pub steps: usize,
    /// What it is for.
    pub mode: Mode,
    /// Figures wanted.
    pub level: Level,
    /// Whether the gradients are to include that of the input.
    pub inputs: bool,
}

impl Job {
    /// That of a request.
    pub fn of<T: Real>(r: &Request<'_, T>) -> Self {
        Self { batch: r.batch, steps: r.time.steps, mode: r.mode, level: r.level, inputs: r.time.inputs }
    }

    /// Whether a recurrent layer gives dL/d(input) for the whole sequence.
    pub fn carries_back(&self, stage: usize) -> bool {
        stage > 0 || (self.inputs && (self.level == Level::Full || self.mode == Mode::Gradients))
    }

    fn back(&self) -> bool {
        self.mode.goes_back()
    }

    fn full(&self) -> bool {
        self.back() && self.level == Level::Full
    }
}

/// One stage's memory plan.
#[derive(Debug)]
pub enum Planned {
    /// Of layers without time.
    Feed(Plan),
    /// Of a recurrent layer.
    Recurrent(TimePlan),
}

impl Planned {
    fn bytes(&self) -> u64 {
        match self {
            Planned::Feed(p) => p.bytes,
            Planned::Recurrent(p) => p.bytes,
        }
    }
}

/// The plans of a pass.
#[derive(Debug)]
pub struct Plans {
    /// By stage.
    pub each: Vec<Planned>,
    /// Bytes of the whole pass: the plans, and what no plan changes.
    pub bytes: u64,
}

impl Plans {
    /// The plan of a network that is one program.
    pub fn only(mut self) -> Plan {
        match self.each.pop() {
            Some(Planned::Feed(p)) => p,
            _ => unreachable!("a network without time is one program"),
        }
    }

    /// Whether the pass will take a tape of an earlier one.
    pub fn takes(&self, key: &TapeKey, batch: usize) -> bool {
        match self.each.get(key.0) {
            Some(Planned::Recurrent(p)) => {
                let marks = if p.keep { 0 } else { p.segments() };
                (key.3, key.4, key.5, key.6) == (p.kept(), p.segment, marks, batch)
            }
            _ => false,
        }
    }

    /// In words, with the number of segments and the extra forward work.
    pub fn describe<T: Real>(&self, net: &Network<T>) -> (String, usize, f64) {
        let mut words = Vec::new();
        let (mut segments, mut recompute) = (0, 0.0f64);
        for (stage, p) in net.stages.iter().zip(&self.each) {
            let (text, n, again) = match p {
                Planned::Feed(p) => (p.describe(), p.segments.len(), p.recompute()),
                Planned::Recurrent(p) => (p.describe(), p.segments(), p.recompute()),
            };
            let name = match stage {
                Stage::Recurrent(r) => &r.name,
                Stage::Feed(_) => "other layers",
            };
            words.push(if self.each.len() > 1 { format!("{name}: {text}") } else { text });
            segments += n;
            recompute = recompute.max(again);
        }
        (format!("{}; in all {}", words.join(" | "), size(self.bytes)), segments, recompute)
    }
}

impl<T: Real> Network<T> {
    /// A plan for each stage, fastest first for those in front, so that the whole pass keeps to a budget; or an error
    /// that names the least budget that works.
    pub fn plans(&self, job: &Job, budget: Option<u64>) -> Result<Plans, Error> {
        let (rows, fixed, element) = (self.rows(job), self.fixed(job), size_of::<T>());
        let each = || self.stages.iter().zip(&rows).map(|(s, &n)| (s, n));
        let limit = budget.unwrap_or(DEFAULT_BUDGET);
        let all = each().map(|(s, n)| most(s, n, job, element)).fold(fixed, u64::saturating_add);
        // What is least is looked for only where not all can be kept.
        let least: Vec<u64> = match all <= limit {
            true => each().map(|_| 0).collect(),
            false => each().map(|(s, n)| least(s, n, job, element)).collect(),
        };
        let need = least.iter().fold(fixed, |sum, n| sum.saturating_add(*n));
        if budget.is_some() && need > limit {
            return Err(Error::Memory { what: self.what(job), need, limit });
        }
        // Each stage has what it needs; what is left over is for the first that can use it.
        let mut left = limit.saturating_sub(need);
        let (mut plans, mut bytes) = (Vec::with_capacity(self.stages.len()), fixed);
        for ((s, n), least) in each().zip(least) {
            let plan = planned(s, n, job, element, least.saturating_add(left))?;
            left = left.saturating_sub(plan.bytes().saturating_sub(least));
            bytes = bytes.saturating_add(plan.bytes());
            plans.push(plan);
        }
        Ok(Plans { each: plans, bytes })
    }

    /// Bytes of the pass that would be taken without a budget.
    pub fn memory(&self, job: &Job) -> u64 {
        let all = self.rows(job).into_iter().zip(&self.stages).map(|(n, s)| most(s, n, job, size_of::<T>()));
        let all = all.fold(self.fixed(job), u64::saturating_add);
        if all <= DEFAULT_BUDGET { all } else { self.least(job).max(DEFAULT_BUDGET) }
    }

    /// The least that a budget may be.
    pub fn least(&self, job: &Job) -> u64 {
        let each = self.rows(job).into_iter().zip(&self.stages).map(|(n, s)| least(s, n, job, size_of::<T>()));
        each.fold(self.fixed(job), u64::saturating_add)
    }

    fn what(&self, job: &Job) -> String {
        let along = match self.program() {
            Some(p) => format!("{} units", grouped(p.units)),
            None => format!("{} steps", grouped(job.steps)),
        };
        format!("a pass over a batch of {} through {along}", grouped(job.batch))
    }

    fn rows(&self, job: &Job) -> Vec<usize> {
        super::chain::rows(self, job.batch, job.steps)
    }

    /// Bytes that no plan changes: copies of what goes in, figures (whose arrays for users are made one by one, so that
    /// only the largest is there twice), gradients, rows between stages, and what threads work with.
    fn fixed(&self, job: &Job) -> u64 {
        let element = size_of::<T>() as u64;
        let rows: Vec<u64> = self.rows(job).into_iter().map(|n| n as u64).collect();
        let (back, out) = (job.back(), self.out_features() as u64);
        let last = rows[rows.len() - 1];
        let input = rows[0].saturating_mul(self.in_features as u64 * element);
        let target = if job.mode == Mode::Forward { 0 } else { last.saturating_mul((out * element).max(8)) };
        let mut sum = input.saturating_add(target);
        let mut add = |n: u64| sum = sum.saturating_add(n);
        let single = self.program().is_some();
        for (i, (s, &n)) in self.stages.iter().zip(&rows).enumerate() {
            if !single || job.mode == Mode::Forward {
                // Outputs lie between stages, and on the way back their gradients.
                let sides = if back { 2 } else { 1 };
                add(rows[i + 1].saturating_mul((sides * element * s.out_features() as u64) + 8));
            }
            match s {
                Stage::Feed(p) => {
                    add(feed(p, n, job, element));
                    if back && i == 0 && !single {
                        add(n.saturating_mul(p.in_features as u64 * element + 8));
                    }
                }
                Stage::Recurrent(r) => {
                    add(recurrent(r, job, element));
                    if back && i == 0 && job.carries_back(i) {
                        add(n.saturating_mul(r.in_features as u64 * element + 8));
                    }
                }
            }
        }
        let all = job.mode == Mode::Gradients || (job.mode == Mode::Step && !single);
        let kept = |t: &&Tensor| t.learned() && (all || (back && single && (t.shared || t.slope)));
        let bytes = |t: &Tensor| (t.copies as u64).saturating_mul(t.len() as u64 * element + 8);
        self.tensors().filter(kept).for_each(|t| add(bytes(t)));
        if job.mode == Mode::Gradients {
            // The arrays for users, as with figures.
            add(self.tensors().filter(kept).map(bytes).max().unwrap_or(0));
            if job.inputs || single {
                let copies = if single { 2 } else { 1 };
                add(rows[0].saturating_mul(copies * (self.in_features as u64 * element + 8)));
            }
        }
        sum
    }
}

/// Of layers without time.
fn feed(p: &Program, rows: u64, job: &Job, element: u64) -> u64 {
    let widths = p.blocks.iter().flat_map(|b| &b.ops).map(|o| o.widths.0.max(o.widths.1));
    let widest = widths.max().unwrap_or(1).max(p.in_features) as u64;
    // A worker's gradient, a spare of it and what it knows of each row.
    let workers = rows.saturating_mul(2 * widest * element + 160);
    let units = p.units as u64;
    let sums = if job.full() { rows.min(CHUNKS as u64) * size_of::<ChunkForward>() as u64 } else { 0 };
    let figures = if job.back() { Stats::bytes(p.units, job.level) } else { 0 };
    workers.saturating_add(units.saturating_mul(sums)).saturating_add(figures)
}

/// Of a recurrent layer: figures, packed weights and gradients in doubles.
fn recurrent(r: &Recurrent, job: &Job, element: u64) -> u64 {
    let weights: u64 = r.tensors.iter().map(|t| (t.copies * t.len()) as u64).sum();
    let threads = pool::num_threads().min(job.batch.min(CHUNKS)) as u64;
    let cells = (r.num_layers * r.directions) as u64;
    let packed = weights.saturating_mul(element * threads * if job.back() { 2 } else { 1 });
    let states = (cells * job.batch as u64).saturating_mul(6 * r.state_width() as u64 * element + 96);
    let mut sum = packed.saturating_add(states);
    if job.back() {
        sum = sum.saturating_add(weights.saturating_mul(2 * size_of::<f64>() as u64));
        sum = sum.saturating_add(TimeStats::bytes(r, job.steps, job.level));
    }
    sum
}

fn planned(s: &Stage, rows: usize, job: &Job, element: usize, limit: u64) -> Result<Planned, Error> {
    Ok(match s {
        // Without a way back there is nothing to keep, so the leanest plan is also the fastest.
        Stage::Feed(p) if job.back() => Planned::Feed(Plan::new(p, rows, element, limit)?),
        Stage::Feed(p) => Planned::Feed(Plan::leanest(p, rows, element)?),
        Stage::Recurrent(r) => Planned::Recurrent(through_time(r, job, element, limit)),
    })
}

fn through_time(r: &Recurrent, job: &Job, element: usize, limit: u64) -> TimePlan {
    let limit = if job.back() { limit } else { 0 };
    TimePlan::new(r, job.batch, job.steps, element, job.full(), limit)
}

/// Of a few steps the states at checkpoints may be more than what they replace.
fn least(s: &Stage, rows: usize, job: &Job, element: usize) -> u64 {
    let lean = match s {
        Stage::Feed(p) => Plan::least(p, rows, element),
        Stage::Recurrent(r) => through_time(r, job, element, 0).bytes,
    };
    lean.min(most(s, rows, job, element))
}

fn most(s: &Stage, rows: usize, job: &Job, element: usize) -> u64 {
    match s {
        Stage::Feed(p) if job.back() => Plan::most(p, rows, element),
        Stage::Feed(p) => Plan::least(p, rows, element),
        Stage::Recurrent(r) => through_time(r, job, element, u64::MAX).bytes,
    }
}
