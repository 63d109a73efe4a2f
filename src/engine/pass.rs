//! engine: one pass over a batch: forward, loss, backward by segments, weight phase, figures. Knows no Python.

use super::feed::{Feed, Wanted};
use super::memory::Job;
use super::network::Network;
use super::plan::Plan;
use super::program::Program;
use super::stats::Stats;
use super::sweep::{Level, Scene, Worker};
use super::tape::Tape;
use super::update::Stepper;
use super::weights::{Params, ScaledGradient};
use crate::error::Error;
use crate::num::aligned::filled;
use crate::num::real::Real;
use crate::parts::loss::{Loss, Target, TargetRow};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

impl Mode {
    /// Whether there is a backward pass.
    pub fn goes_back(self) -> bool {
        !matches!(self, Mode::Forward | Mode::Loss)
    }
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

/// A pass in training: batch statistics, dropout and stochastic depth. Without it a pass infers: running statistics are
/// used and nothing is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Training {
    /// Seed of what is drawn.
    pub seed: u64,
    /// Number of the step, which is drawn for alone.
    pub step: u64,
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
    /// Set in training.
    pub training: Option<Training>,
    /// What only networks with time need.
    pub time: Time<'a, T>,
    /// Asked now and then on the calling thread; true means stop.
    pub poll: &'a (dyn Fn() -> bool + Sync),
}

/// What only networks with time need.
#[derive(Clone, Copy)]
pub struct Time<'a, T> {
    /// Time steps; `x` is (batch, steps, in).
    pub steps: usize,
    /// Steps of each sample; all if none.
    pub lengths: Option<&'a [usize]>,
    /// Initial state of the first recurrent layer: (cells, batch, hidden) for each state.
    pub state: Option<&'a [Vec<T>]>,
    /// The gradient is cut every so many steps.
    pub truncate: Option<usize>,
    /// The gradients are to include that of the input.
    pub inputs: bool,
}

impl<T> Time<'_, T> {
    /// For a network without time.
    pub const NONE: Self = Self { steps: 1, lengths: None, state: None, truncate: None, inputs: true };
}

/// What a pass yields.
pub struct Outcome<T: Real> {
    /// Mean loss.
    pub loss: Option<f64>,
    /// With class labels: output rows whose largest entry is that of the label, and how many count.
    pub correct: Option<(usize, usize)>,
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
    /// What only networks with time have.
    pub time: Option<super::chain::TimeOutcome<T>>,
}

/// Buffers kept from pass to pass.
pub struct Spare<T: Real> {
    tape: Tape<T>,
    bytes: u64,
}

/// A training has batches of two sizes, the last of an epoch being smaller, and looks closely at some of its steps.
const SPARES: usize = 3;

/// Buffers above this are given back after a pass.
const SPARE_LIMIT: u64 = 2 << 30;

/// A number that the calling thread alone has: short steps ask for it, and the clock costs ten times as much.
fn thread() -> usize {
    thread_local! { static HERE: u8 = const { 0 } }
    HERE.with(|x| std::ptr::from_ref(x).addr())
}

/// Looks for an interrupt about twenty times a second, on the calling thread alone.
pub(super) struct Stop<'a> {
    flag: AtomicBool,
    next: AtomicU64,
    begun: Instant,
    owner: usize,
    poll: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Stop<'a> {
    /// A watch that begins now.
    pub(super) fn new(poll: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { flag: AtomicBool::new(false), next: AtomicU64::new(50), begun: Instant::now(), owner: thread(), poll }
    }

    pub(super) fn now(&self) -> bool {
        if self.flag.load(Ordering::Relaxed) {
            return true;
        }
        if thread() != self.owner {
            return false;
        }
        let ms = self.begun.elapsed().as_millis() as u64;
        if ms >= self.next.load(Ordering::Relaxed) {
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
    /// Carries out a request.
    pub fn pass(&self, r: &Request<'_, T>) -> Result<Outcome<T>, Error> {
        self.pass_with(r, None)
    }

    /// Carries out a request; a step is taken by the stepper, if there is one.
    pub fn pass_with(&self, r: &Request<'_, T>, stepper: Option<&mut Stepper<'_, T>>) -> Result<Outcome<T>, Error> {
        let Some(p) = self.program() else { return super::chain::pass(self, r, stepper) };
        let expected = r.batch.checked_mul(p.in_features);
        if r.batch == 0 || expected != Some(r.x.len()) {
            return Err(Error::Shape(format!(
                "x must be (batch, {}), got {} values for a batch of {}",
                p.in_features,
                r.x.len(),
                r.batch
            )));
        }
        let backward = r.mode.goes_back();
        let plans = self.plans(&Job::of(r), r.budget)?;
        let words = plans.describe(self);
        let plan = plans.only();
        let stop = Stop::new(r.poll);
        let full = r.level == Level::Full && backward;
        let key = (r.batch, plan.keep, plan.segments.len(), full);
        let spare = match self.spare.try_lock() {
            Ok(mut all) => {
                let found = all.iter().position(|s| s.tape.key == key).map(|i| all.remove(i));
                if r.budget.is_some() {
                    all.clear();
                }
                found
            }
            Err(_) => None,
        };
        let mut tape = match spare {
            Some(s) => s.tape,
            None => Tape::new(p, &plan, full)?,
        };
        // A step whose updates have begun is brought to its end.
        let begun = AtomicBool::new(false);
        let stop = || !begun.load(Ordering::Relaxed) && stop.now();
        let mut outcome = if r.mode == Mode::Step {
            let mut params = self.params.write()?;
            let outcome =
                self.carry_out(p, r, &plan, &mut tape, (Params::Write(&mut params), stepper), (&begun, &stop));
            // Also where the pass was stopped: some parameters may have been stepped.
            self.refresh(&mut params);
            outcome
        } else {
            let params = self.params.read()?;
            self.carry_out(p, r, &plan, &mut tape, (Params::Read(&params), None), (&begun, &stop))
        };
        if let Ok(o) = &mut outcome {
            o.plan = words;
        }
        if let Ok(mut all) = self.spare.try_lock() {
            all.push(Spare { tape, bytes: plan.bytes });
            // The oldest go first, so that what was used now is what is kept.
            while all.len() > SPARES || all.iter().map(|s| s.bytes).sum::<u64>() > SPARE_LIMIT {
                all.remove(0);
            }
        }
        outcome
    }

    fn carry_out(
        &self,
        p: &Program,
        r: &Request<'_, T>,
        plan: &Plan,
        tape: &mut Tape<T>,
        (params, mut stepper): (Params<'_, T>, Option<&mut Stepper<'_, T>>),
        (begun, stop): (&AtomicBool, &(dyn Fn() -> bool + Sync)),
    ) -> Result<Outcome<T>, Error> {
        let backward = r.mode.goes_back();
        let wanted = Wanted { update: r.mode == Mode::Step && stepper.is_none(), ..r.wanted() };
        let mut feed = Feed::new(p, plan, tape, r.x, wanted, stop)?;
        let rows = feed.rows();
        let out_width = if r.mode == Mode::Forward { p.out_features } else { 0 };
        let (mut losses, mut output) =
            (filled((0.0f64, false), r.batch)?, filled(T::ZERO, r.batch.saturating_mul(out_width))?);
        let items = cut(&mut losses, &rows, 1).into_iter().zip(cut(&mut output, &rows, out_width)).collect();
        feed.forward(params.get(), items, &|scene, w, z, (losses, output): (&mut [(f64, bool)], &mut [T])| {
            output.copy_from_slice(&z[..output.len()]);
            top(scene, w, z, r, losses, p.out_features);
        })?;
        let loss = match &r.top {
            Top::Loss(..) => Some(losses.iter().map(|l| l.0).sum::<f64>()),
            _ => None,
        };
        let correct = match &r.top {
            Top::Loss(_, Target::Classes(_)) => Some((losses.iter().filter(|l| l.1).count(), r.batch)),
            _ => None,
        };
        let mut outcome = Outcome {
            loss,
            correct,
            output,
            stats: Stats::default(),
            gradients: Vec::new(),
            input_gradient: (Vec::new(), Vec::new()),
            plan: (String::new(), 0, 0.0),
            time: None,
        };
        // A loss that is no number says nothing about the way down.
        let lost = stepper.is_some() && loss.is_some_and(|l| !l.is_finite());
        if !backward || lost {
            return Ok(outcome);
        }
        feed.level_seeds();
        begun.store(stepper.as_ref().is_some_and(|s| s.fuses), Ordering::Relaxed);
        let start = Instant::now();
        let flow = feed.backward(params, stepper.as_deref_mut())?;
        if let Some(s) = stepper {
            s.seconds = start.elapsed().as_secs_f64();
        }
        if r.mode == Mode::Gradients {
            outcome.input_gradient = feed.input_gradient();
            outcome.gradients = flow.kept;
        }
        outcome.stats = flow.stats;
        Ok(outcome)
    }
}

impl<T: Real> Request<'_, T> {
    /// What its backward pass is to yield.
    pub(super) fn wanted(&self) -> Wanted {
        let (gradients, update) = (self.mode == Mode::Gradients, self.mode == Mode::Step);
        Wanted { level: self.level, gradients, update, rate: self.rate, training: self.training }
    }
}

/// Whether the first of the largest outputs is that of the label.
pub(super) fn hits<T: Real>(z: &[T], target: TargetRow<'_, T>) -> bool {
    let TargetRow::Class(label) = target else { return false };
    let mut best = 0;
    for (i, &x) in z.iter().enumerate() {
        if x > z[best] {
            best = i;
        }
    }
    // Outputs that are no numbers are no answer.
    best == label && z[best].finite()
}

/// dL/d(output) of a worker's rows, from the loss or as given. `z`: (rows, out).
fn top<T: Real>(
    scene: &Scene<'_, T>,
    w: &mut Worker<T>,
    z: &[T],
    r: &Request<'_, T>,
    losses: &mut [(f64, bool)],
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
                *loss = (value, hits(&z[i * width..][..width], target.row(row, width)));
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

/// Cuts a buffer into runs of `rows[i] * width`.
pub(super) fn cut<'a, X>(mut rest: &'a mut [X], rows: &[usize], width: usize) -> Vec<&'a mut [X]> {
    let mut out = Vec::with_capacity(rows.len());
    for &n in rows {
        let (a, b) = rest.split_at_mut(n * width);
        out.push(a);
        rest = b;
    }
    out
}
