//! engine: Lyapunov exponents of a recurrence or of a deep chain, by streaming QR: k gradients are taken back together
//! and made orthonormal after every step. Knows no statistics.
//!
//! The rows of a batch share their weights, so k copies of one sample with k different gradients are one batch.
//! (Benettin et al. 1980, Meccanica 15:9; the transposed product has the same exponents.) A sequence that is too long to be
//! kept is gone through in windows, from states that a first run forward left; that changes no bit.

use super::Recurrent;
use super::plan::TimePlan;
use super::run::{Run, Setting};
use crate::engine::feed::{Feed, Wanted};
use crate::engine::network::{Network, Stage};
use crate::engine::pass::Stop;
use crate::engine::plan::{DEFAULT_BUDGET, Piece, Plan, Segment};
use crate::engine::program::Program;
use crate::engine::sweep::Level;
use crate::engine::tape::Tape;
use crate::error::{Error, grouped};
use crate::kernels::gram_schmidt::{orthonormalise, orthonormalise_new};
use crate::num::aligned::Buffer;
use crate::num::math::scalar::log;
use crate::num::real::Real;
use crate::num::rng::{Key, Law, fill};
use crate::num::scaled::pow2;

/// Running sums of the logarithms of R's diagonal.
pub struct Spectrum {
    sums: Vec<f64>,
    /// The float type's relative rounding error.
    eps: f64,
}

impl Spectrum {
    /// For `k` exponents of a network of type `T`.
    pub fn new<T: Real>(k: usize) -> Self {
        Self { sums: vec![0.0; k], eps: pow2(-i64::from(T::MANTISSA_BITS)) }
    }

    /// `k` orthonormal rows of length `n` to begin with; always the same.
    pub fn start(&self, n: usize) -> Vec<f64> {
        let mut q = vec![0.0; self.sums.len() * n];
        fill(&mut q, Key { seed: 0, tensor: 0x4c79_6170, layer: 0 }, 0, 0, Law::Normal, 1.0, 0.0);
        orthonormalise(&mut q, n);
        q
    }

    /// Makes the rows of `a`, (k, n), orthonormal; row j stands for itself times 2^e[j].
    ///
    /// A row that the step has made depend on those before it has the exponent minus infinity from there on, because the
    /// rank of a product of Jacobians never grows again; it stays zero and takes no part in the rest.
    pub fn turn(&mut self, a: &mut [f64], n: usize, e: &[i64]) {
        let before = a.to_vec();
        orthonormalise_new(a, n, n as f64 * self.eps);
        for ((s, &e), (q, a)) in self.sums.iter_mut().zip(e).zip(a.chunks_exact(n).zip(before.chunks_exact(n))) {
            if q.iter().all(|&q| q == 0.0) {
                *s = f64::NEG_INFINITY;
                continue;
            }
            let r: f64 = q.iter().zip(a).map(|(q, a)| q * a).sum();
            *s += log(r) + e as f64 * std::f64::consts::LN_2;
        }
    }

    /// Exponents in nats per step, largest first, as close ones may have come out in either order; what is not a number
    /// comes last.
    pub fn exponents(self, steps: usize) -> Vec<f64> {
        let mut out: Vec<f64> = self.sums.into_iter().map(|s| s / steps as f64).collect();
        out.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(a)));
        out
    }
}

/// The leading `k` exponents along one sample: `x` is (steps, in), or (in,) for a network without time.
pub fn lyapunov<T: Real>(
    net: &Network<T>,
    x: &[T],
    steps: usize,
    state: Option<&[Vec<T>]>,
    k: usize,
    budget: Option<u64>,
    poll: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>, Error> {
    let stop = Stop::new(poll);
    let stop = || stop.now();
    let params = net.params.read()?;
    let limit = budget.unwrap_or(DEFAULT_BUDGET);
    let fits = |n: usize| {
        let what = "the width that is passed on from step to step";
        let bad = || Error::Argument(format!("k: expected 1 to {n}, {what}, got {k}; ask for fewer exponents"));
        if k == 0 || k > n { Err(bad()) } else { Ok(()) }
    };
    match &net.stages[..] {
        [Stage::Feed(p)] => {
            fits(p.blocks.iter().map(|b| b.widths.0.min(b.widths.1)).min().unwrap_or(1))?;
            deep(p, &params, x, k, limit, &stop)
        }
        [Stage::Recurrent(r), ..] if r.directions == 1 => {
            fits(r.state_width() * r.num_layers)?;
            let window = window(r, size_of::<T>(), steps, k, limit)?;
            let set = Setting {
                r,
                params: &params[..r.tensors.len()],
                plan: &TimePlan::by_step(r, 1, window, size_of::<T>()),
                lengths: None,
                truncate: None,
                level: Level::None,
                backward: true,
                inputs: false,
                spare: None,
                stop: &stop,
            };
            along_time(set, x, steps, state, k)
        }
        [Stage::Recurrent(r), ..] => Err(Error::Argument(format!(
            "lyapunov: expected one direction of time, got Recurrent {:?} with bidirectional=True, whose steps do not follow \
             from one another; ask a network with bidirectional=False",
            r.name
        ))),
        [_, rest @ ..] => {
            let name = rest.iter().find_map(|s| match s {
                Stage::Recurrent(r) => Some(r.name.as_str()),
                Stage::Feed(_) => None,
            });
            Err(Error::Argument(format!(
                "lyapunov: expected a Recurrent as the first layer, or a network without time, got other layers in front of \
                 Recurrent {:?}; put x through those first, and ask a network that begins with the Recurrent",
                name.unwrap_or_default()
            )))
        }
        [] => Err(Error::Argument("lyapunov: expected a network with layers, got none".into())),
    }
}

/// Steps of a window: all where they fit in the limit, else half as many again and again.
fn window(r: &Recurrent, element: usize, steps: usize, k: usize, limit: u64) -> Result<usize, Error> {
    let row = |width: usize| (width * element) as u64;
    let state = row(r.state_width() * r.num_layers);
    let need = |window: usize| {
        let copies = row(r.in_features).saturating_mul((steps + k * window) as u64);
        let out = row(r.out_features).saturating_mul(if r.every { window as u64 } else { 1 });
        let tapes = TimePlan::by_step(r, k, window, element).bytes + TimePlan::by_step(r, 1, window, element).bytes;
        let marks = if window < steps { state.saturating_mul(steps.div_ceil(window) as u64) } else { 0 };
        tapes.saturating_add(copies).saturating_add(out).saturating_add(marks)
    };
    let (mut window, mut least) = (steps, u64::MAX);
    loop {
        let bytes = need(window);
        least = least.min(bytes);
        if bytes <= limit {
            return Ok(window);
        }
        if window == 1 {
            let what = format!("{k} Lyapunov exponents along {} steps", grouped(steps));
            return Err(Error::Memory { what, need: least, limit });
        }
        window = window.div_ceil(2);
    }
}

fn along_time<T: Real>(
    set: Setting<'_, T>,
    x: &[T],
    steps: usize,
    state: Option<&[Vec<T>]>,
    k: usize,
) -> Result<Vec<f64>, Error> {
    let (r, window, element) = (set.r, set.plan.steps, size_of::<T>());
    let part = |w: usize| {
        let (from, to) = (w * window, ((w + 1) * window).min(steps));
        (&x[from * r.in_features..to * r.in_features], to - from)
    };
    let last = steps.div_ceil(window) - 1;
    // The state in front of each window; the first is what was given.
    let mut states: Vec<Option<Vec<Vec<T>>>> = vec![state.map(<[_]>::to_vec)];
    for w in 0..last {
        let (x, len) = part(w);
        let plan = TimePlan::new(r, 1, len, element, false, 0);
        let mut run = Run::on(Setting { plan: &plan, backward: false, ..set }, 1);
        let after = run.forward(x, states[w].as_deref())?.1;
        states.push(Some(after));
    }
    let mut spectrum = Spectrum::new::<T>(k);
    let mut a = spectrum.start(r.state_width() * r.num_layers);
    for w in (0..=last).rev() {
        let (x, len) = part(w);
        let (one, many) = (TimePlan::by_step(r, 1, len, element), TimePlan::by_step(r, k, len, element));
        let mut run = Run::on(Setting { plan: &one, ..set }, 1);
        run.forward(x, states[w].as_deref())?;
        let x = x.repeat(k);
        run.copies(&many, &x)?.turn(&x, &mut a, &mut spectrum)?;
    }
    Ok(spectrum.exponents(steps))
}

fn deep<T: Real>(
    p: &Program,
    params: &[Buffer<T>],
    x: &[T],
    k: usize,
    limit: u64,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>, Error> {
    let mut plan = Plan::by_step(p, k, size_of::<T>(), limit)?;
    // The plan of one step after another is a list as long as the network.
    plan.bytes += (plan.segments.len() * (size_of::<Segment>() + size_of::<Piece>())) as u64;
    if plan.bytes > limit {
        let what = format!("{k} Lyapunov exponents through {} steps", grouped(p.steps));
        return Err(Error::Memory { what, need: plan.bytes, limit });
    }
    let mut tape = Tape::new(p, &plan, false)?;
    let wanted = Wanted { level: Level::None, gradients: false, update: false, rate: None, training: None };
    let mut feed = Feed::on(1, p, &plan, &mut tape, &x.repeat(k), wanted, stop)?;
    feed.forward(params, vec![()], &|_, _, _, ()| {})?;
    let mut spectrum = Spectrum::new::<T>(k);
    let start: Vec<T> = spectrum.start(p.out_features).into_iter().map(T::from_f64).collect();
    feed.seed(&start, &vec![0; k]);
    feed.turn(params, &mut spectrum)?;
    Ok(spectrum.exponents(p.steps))
}
