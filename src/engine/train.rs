//! engine: training: batches in a shuffled order, one step after another, with a memory that can be taken out and put
//! back between any two of them. Knows no Python.

use super::feed::name_units;
use super::network::{Network, Stage};
use super::op::Kind;
use super::pass::{Mode, Outcome, Request, Stop, Time, Top, Training};
use super::program::{Program, fnv1a};
use super::stats::Stats;
use super::sweep::Level;
use super::update::{Memory, Rules, Stepper, learns};
use crate::error::Error;
use crate::kernels::update::Change;
use crate::num::aligned::filled;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::rng::{Key, Law, fill};
use crate::num::scale::Scale;
use crate::parts::loss::{Loss, Target};

/// What is trained on.
pub struct Data<T> {
    /// Samples, (rows, in) or (rows, steps, in).
    pub x: Vec<T>,
    /// Targets.
    pub y: Targets<T>,
    /// Number of samples.
    pub rows: usize,
    /// Time steps; 1 without time.
    pub steps: usize,
    /// Steps of each sample; all if none.
    pub lengths: Option<Vec<usize>>,
}

/// Targets of all samples.
pub enum Targets<T> {
    /// Class labels, one an output row.
    Classes(Vec<i64>),
    /// Values, shaped as the output.
    Values(Vec<T>),
}

/// What stays the same from step to step.
pub struct Plan {
    /// How a step is taken.
    pub rules: Rules,
    /// What is made smaller.
    pub loss: Loss,
    /// Samples of a step; the last one of an epoch may have fewer.
    pub batch: usize,
    /// Seed of the order, and of what layers draw.
    pub seed: u64,
    /// Samples come in a new order each epoch.
    pub shuffle: bool,
    /// The gradient is cut every so many time steps.
    pub truncate: Option<usize>,
}

/// How an epoch is watched.
pub struct Watch<'a> {
    /// Every so many steps are looked at closely.
    pub every: u64,
    /// How closely.
    pub level: Level,
    /// Bytes that a step may use.
    pub budget: Option<u64>,
    /// Asked now and then on the calling thread; true means stop.
    pub poll: &'a (dyn Fn() -> bool + Sync),
}

/// What a step says.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Mean loss before the update.
    pub loss: f64,
    /// With labels: right answers, and how many there were.
    pub correct: Option<(usize, usize)>,
    /// Learning rate.
    pub rate: f64,
    /// Its epoch.
    pub epoch: u64,
}

/// What a closer look at a step says, unit by unit; along time, parameter by parameter.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Number of the step.
    pub step: u64,
    /// log2 of gradient norms.
    pub gradient: Vec<f64>,
    /// Norm of the update over that of the weights.
    pub ratio: Vec<f64>,
    /// Weights that stayed equal to the bit.
    pub unchanged: Vec<i64>,
    /// Weights that are exactly zero after the update.
    pub zero: Vec<i64>,
    /// Outputs that were zero for the whole batch; empty along time.
    pub dead: Vec<i64>,
}

/// What an epoch, or the part of it that there was, says.
#[derive(Default)]
pub struct Report {
    /// All steps.
    pub steps: Vec<Step>,
    /// Those looked at closely.
    pub looks: Vec<Look>,
    /// Why there were no more.
    pub stopped: Option<String>,
    /// The caller asked to stop.
    pub interrupted: bool,
}

/// A training in work.
pub struct Trainer<T: Real> {
    /// What stays the same.
    pub plan: Plan,
    /// What is remembered of the parameters.
    pub memory: Memory<T>,
    /// Steps taken.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Steps taken of the epoch in work.
    pub position: u64,
    /// Seconds that the last way back took.
    last: Option<f64>,
}

/// A way back longer than this is taken in a form that can be stopped without harm: gradients first, then the update.
const LONG: f64 = 0.15;
/// Multiplications of a way back that surely stays below that, for the first.
const SMALL: f64 = 5e8;

impl<T: Real> Trainer<T> {
    /// A training that begins.
    pub fn new(net: &Network<T>, plan: Plan) -> Result<Self, Error> {
        let all: Vec<_> = net.tensors().collect();
        let memory = Memory::new(&plan.rules, all.iter().copied())?;
        Ok(Self { plan, memory, step: 0, epoch: 0, position: 0, last: None })
    }

    /// Takes a step for each learning rate, at most to the end of the epoch in work.
    pub fn run(&mut self, net: &Network<T>, data: &Data<T>, rates: &[f64], w: &Watch<'_>) -> Result<Report, Error> {
        self.check(net, data)?;
        let order = self.order(data.rows);
        let mut report = Report::default();
        let mut batch = Batch::default();
        let stop = Stop::new(w.poll);
        if self.step == 0 && !self.touch(&|| stop.now()) {
            report.interrupted = true;
            return Ok(report);
        }
        for (rows, &rate) in order.chunks(self.plan.batch).skip(self.position as usize).zip(rates) {
            if stop.now() {
                report.interrupted = true;
                return Ok(report);
            }
            batch.gather(data, rows);
            let close = self.step.is_multiple_of(w.every.max(1)) && w.level > Level::None;
            match self.one(net, &batch, data, rate, close, w) {
                Err(Error::Interrupted) => {
                    report.interrupted = true;
                    return Ok(report);
                }
                Err(e) => return Err(e),
                Ok((step, look)) => {
                    if !step.loss.is_finite() {
                        report.stopped = Some(format!("step {}: the loss is {}", self.step, step.loss));
                        return Ok(report);
                    }
                    report.steps.push(step);
                    report.looks.extend(look);
                }
            }
            self.step += 1;
            self.position += 1;
        }
        if self.left(data.rows) == 0 {
            self.position = 0;
            self.epoch += 1;
        }
        Ok(report)
    }

    /// Refuses before the first step what some step of the epoch would refuse.
    fn check(&self, net: &Network<T>, data: &Data<T>) -> Result<(), Error> {
        let (batch, steps) = (self.plan.batch, data.steps);
        let alone = data.rows > 1 && data.rows % batch == 1;
        let padded = data.lengths.as_ref().is_some_and(|n| n.iter().any(|&n| n < steps));
        for (s, rows) in net.stages.iter().zip(super::chain::rows(net, 1, steps)) {
            let Stage::Feed(p) = s else { continue };
            p.check_rows(padded && rows > 1, true)?;
            if alone {
                p.check_batch(rows, true).map_err(|e| {
                    Error::Argument(format!("the last batch of {} samples by {batch} has one sample: {e}", data.rows))
                })?;
            }
        }
        Ok(())
    }

    /// Touches fresh memory, which the system hands out only then: within a step nobody could stop that. False where
    /// somebody did.
    fn touch(&mut self, stop: &dyn Fn() -> bool) -> bool {
        const PIECE: usize = 1 << 20;
        let mut pieces: Vec<&mut [T]> =
            self.memory.states.iter_mut().flatten().flat_map(|b| b.chunks_mut(PIECE)).collect();
        for group in pieces.chunks_mut(16) {
            if stop() {
                return false;
            }
            let items: Vec<_> = group.iter_mut().collect();
            pool::each_owned(pool::num_threads(), items, &|_, piece| piece.fill(T::ZERO));
        }
        true
    }

    /// Steps that are left of the epoch in work.
    pub fn left(&self, rows: usize) -> u64 {
        (rows.div_ceil(self.plan.batch) as u64).saturating_sub(self.position)
    }

    /// One step. A loss that is no number leaves everything as it was.
    fn one(
        &mut self,
        net: &Network<T>,
        batch: &Batch<T>,
        data: &Data<T>,
        rate: f64,
        close: bool,
        w: &Watch<'_>,
    ) -> Result<(Step, Option<Look>), Error> {
        let n = batch.rows;
        let work = net.num_parameters() as f64 * n as f64 * data.steps as f64;
        let quick = self.last.map_or(2.0 * work < SMALL, |s| s < LONG);
        let top = match &data.y {
            Targets::Classes(_) => Top::Loss(self.plan.loss, Target::Classes(&batch.classes)),
            Targets::Values(_) => Top::Loss(self.plan.loss, Target::Values(&batch.values)),
        };
        let time = Time {
            steps: data.steps,
            lengths: data.lengths.is_some().then_some(&batch.lengths[..]),
            truncate: self.plan.truncate,
            inputs: false,
            ..Time::NONE
        };
        let request = Request {
            x: &batch.x,
            batch: n,
            top,
            mode: Mode::Step,
            rate: None,
            level: if close { w.level } else { Level::None },
            budget: w.budget,
            training: Some(Training { seed: self.plan.seed, step: self.step }),
            time,
            poll: w.poll,
        };
        let rules = &self.plan.rules;
        let mut stepper = Stepper {
            rules,
            memory: &mut self.memory,
            rate,
            t: self.step + 1,
            fuses: rules.fuse() && (quick || w.budget.is_some()),
            count: close && (w.level == Level::Full || net.program().is_none()),
            seconds: 0.0,
            changes: Vec::new(),
            norms: Vec::new(),
        };
        stepper.prepare(net.tensors());
        let outcome = net.pass_with(&request, Some(&mut stepper))?;
        let (loss, correct) = (outcome.loss.unwrap_or(f64::NAN), outcome.correct);
        self.last = Some(stepper.seconds);
        let look = (close && loss.is_finite()).then(|| match net.program() {
            Some(p) => along_depth(p, self.step, outcome, &stepper.changes),
            None => along_time(net, self.step, &stepper),
        });
        Ok((Step { loss, correct, rate, epoch: self.epoch }, look))
    }

    /// The samples in the order of the epoch in work.
    fn order(&self, rows: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..rows).collect();
        if self.plan.shuffle {
            let key = Key { seed: self.plan.seed, tensor: fnv1a("order of samples"), layer: self.epoch as u32 };
            let mut draws = vec![0.0f64; rows];
            fill(&mut draws, key, 0, 0, Law::Unit, 1.0, 0.0);
            order.sort_by(|&a, &b| draws[a].total_cmp(&draws[b]).then(a.cmp(&b)));
        }
        order
    }
}

/// The samples of a step, gathered.
struct Batch<T> {
    rows: usize,
    x: Vec<T>,
    classes: Vec<i64>,
    values: Vec<T>,
    lengths: Vec<usize>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { rows: 0, x: Vec::new(), classes: Vec::new(), values: Vec::new(), lengths: Vec::new() }
    }
}

impl<T: Real> Batch<T> {
    fn gather(&mut self, data: &Data<T>, rows: &[usize]) {
        fn pick<X: Copy>(from: &[X], all: usize, rows: &[usize], to: &mut Vec<X>) {
            let width = from.len() / all.max(1);
            to.clear();
            rows.iter().for_each(|&r| to.extend_from_slice(&from[r * width..][..width]));
        }
        self.rows = rows.len();
        pick(&data.x, data.rows, rows, &mut self.x);
        match &data.y {
            Targets::Classes(y) => pick(y, data.rows, rows, &mut self.classes),
            Targets::Values(y) => pick(y, data.rows, rows, &mut self.values),
        }
        if let Some(lengths) = &data.lengths {
            pick(lengths, data.rows, rows, &mut self.lengths);
        }
    }
}

/// The norm of what was added over the norm of what it was added to.
fn ratio(c: &Change) -> f64 {
    Scale::root(c.moved).over(Scale::root(c.weights)).value()
}

fn along_depth<T: Real>(p: &Program, step: u64, o: Outcome<T>, changes: &[Vec<Change>]) -> Look {
    let mut look = Look { step, gradient: o.stats.grad_log2_norm, ..Look::default() };
    let Some(full) = o.stats.full else { return look };
    look.dead = full.dead;
    look.ratio = vec![f64::NAN; p.units];
    look.unchanged = vec![0; p.units];
    look.zero = vec![0; p.units];
    for b in &p.blocks {
        for (i, op) in (0..b.times).flat_map(|i| b.ops.iter().map(move |op| (i, op))) {
            let (Some(u), Kind::Dense { weight, .. }) = (op.unit, &op.kind) else { continue };
            // Weights that are made from others move as the matrix does that they are made from.
            let tensor = p.tensors[weight.tensor].derived().map_or(weight.tensor, |d| d.matrix);
            if let Some(c) = changes[tensor].get(weight.copy(i)) {
                let u = b.first_unit + i * b.units + u;
                (look.ratio[u], look.unchanged[u]) = (ratio(c), c.unchanged as i64);
                look.zero[u] = c.zero as i64;
            }
        }
    }
    look
}

fn along_time<T: Real>(net: &Network<T>, step: u64, s: &Stepper<'_, T>) -> Look {
    let mut look = Look { step, ..Look::default() };
    for (i, t) in net.tensors().enumerate() {
        if !learns(t) {
            continue;
        }
        let mut all = Change::default();
        s.changes[i].iter().for_each(|c| all.add(c));
        look.gradient.push(s.norms[i].log2_sqrt());
        look.ratio.push(ratio(&all));
        look.unchanged.push(all.unchanged as i64);
        look.zero.push(all.zero as i64);
    }
    look
}

/// Names, steps and kinds, as in the figures of a pass; kind 255 is a parameter.
pub type Units = (Vec<String>, Vec<i64>, Vec<u8>);

/// What the entries of a look belong to.
pub fn units<T: Real>(net: &Network<T>) -> Result<Units, Error> {
    let Some(p) = net.program() else {
        let names: Vec<_> = net.tensors().filter(|t| learns(t)).map(|t| t.name.clone()).collect();
        let n = names.len();
        return Ok((names, vec![-1; n], vec![255; n]));
    };
    let mut stats = Stats::new(p.units, Level::Norms)?;
    name_units(p, &mut stats);
    let mut names = filled(String::new(), p.units)?;
    for b in &p.blocks {
        for (i, op) in (0..b.times).flat_map(|i| b.ops.iter().map(move |op| (i, op))) {
            let Some(u) = op.unit else { continue };
            let u = b.first_unit + i * b.units + u;
            names[u] = match &op.kind {
                Kind::Dense { weight, .. } => {
                    let t = &p.tensors[weight.tensor];
                    let layer = t.name.rsplit_once(".weight").map(|(l, _)| l).unwrap_or(&t.name);
                    if t.copies > 1 { format!("{layer}[{}]", weight.copy(i)) } else { layer.to_owned() }
                }
                _ => format!("step {}", b.first_step + i),
            };
        }
    }
    Ok((names, stats.step, stats.kind))
}
