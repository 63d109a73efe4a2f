//! engine: Lyapunov exponents of a recurrence or of a deep chain, by streaming QR: k gradients are taken back together
//! and made orthonormal after every step. Knows no statistics.
//!
//! The rows of a batch share their weights, so k copies of one sample with k different gradients are one batch.
//! (Benettin et al. 1980, Meccanica 15:9; the transposed product has the same exponents.)

use super::plan::TimePlan;
use super::run::{Run, Setting};
use crate::engine::feed::{Feed, Wanted};
use crate::engine::network::{Network, Stage};
use crate::engine::pass::Stop;
use crate::engine::plan::{DEFAULT_BUDGET, Plan};
use crate::engine::program::Program;
use crate::engine::sweep::Level;
use crate::engine::tape::Tape;
use crate::error::Error;
use crate::kernels::gram_schmidt::orthonormalise;
use crate::num::aligned::Buffer;
use crate::num::math::scalar::log;
use crate::num::real::Real;
use crate::num::rng::{Key, Law, fill};

/// Running sums of the logarithms of R's diagonal.
pub struct Spectrum {
    sums: Vec<f64>,
}

impl Spectrum {
    /// For `k` exponents.
    pub fn new(k: usize) -> Self {
        Self { sums: vec![0.0; k] }
    }

    /// `k` orthonormal rows of length `n` to begin with; always the same.
    pub fn start(&self, n: usize) -> Vec<f64> {
        let mut q = vec![0.0; self.sums.len() * n];
        fill(&mut q, Key { seed: 0, tensor: 0x4c79_6170, layer: 0 }, 0, 0, Law::Normal, 1.0, 0.0);
        orthonormalise(&mut q, n);
        q
    }

    /// Makes the rows of `a`, (k, n), orthonormal; row j stands for itself times 2^e[j].
    pub fn turn(&mut self, a: &mut [f64], n: usize, e: &[i64]) {
        let before = a.to_vec();
        orthonormalise(a, n);
        for ((s, &e), (q, a)) in self.sums.iter_mut().zip(e).zip(a.chunks_exact(n).zip(before.chunks_exact(n))) {
            let r: f64 = q.iter().zip(a).map(|(q, a)| q * a).sum();
            *s += log(r) + e as f64 * std::f64::consts::LN_2;
        }
    }

    /// Exponents in nats per step, largest first: close ones may have come out in either order.
    pub fn exponents(self, steps: usize) -> Vec<f64> {
        let mut out: Vec<f64> = self.sums.into_iter().map(|s| s / steps as f64).collect();
        out.sort_by(|a, b| b.total_cmp(a));
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
    poll: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>, Error> {
    let stop = Stop::new(poll);
    let stop = || stop.now();
    let params = net.params.read()?;
    let too_many = |n: usize| {
        Err(Error::Argument(format!("k must be from 1 to {n}, the width that is passed on from step to step; got {k}")))
    };
    match &net.stages[..] {
        [Stage::Feed(p)] => {
            let narrowest = p.blocks.iter().map(|b| b.widths.0.min(b.widths.1)).min().unwrap_or(1);
            if k == 0 || k > narrowest {
                return too_many(narrowest);
            }
            deep(p, &params, x, k, &stop)
        }
        [Stage::Recurrent(r), ..] if r.directions == 1 => {
            let n = r.state_width() * r.num_layers;
            if k == 0 || k > n {
                return too_many(n);
            }
            let plan = TimePlan::by_step(r, k, steps, size_of::<T>());
            if plan.bytes > DEFAULT_BUDGET {
                let what = format!("{k} exponents along {steps} steps");
                return Err(Error::Memory { what, need: plan.bytes, limit: DEFAULT_BUDGET });
            }
            let set = Setting {
                r,
                params: &params[..r.tensors.len()],
                plan: &plan,
                lengths: None,
                truncate: None,
                level: Level::None,
                backward: true,
                inputs: false,
                spare: None,
                stop: &stop,
            };
            let x = x.repeat(k);
            // (layers, 1, hidden) becomes (layers, k, hidden).
            let rows = |s: &Vec<T>| s.chunks_exact(r.hidden).flat_map(|row| row.repeat(k)).collect::<Vec<T>>();
            let state: Option<Vec<Vec<T>>> = state.map(|s| s.iter().map(rows).collect());
            let mut run = Run::on(set, 1);
            run.forward(&x, state.as_deref())?;
            let mut spectrum = Spectrum::new(k);
            run.turn(&x, &mut spectrum)?;
            Ok(spectrum.exponents(steps))
        }
        _ => Err(Error::Argument(
            "Lyapunov exponents need one direction of time from the first layer on, or a network without time".into(),
        )),
    }
}

fn deep<T: Real>(
    p: &Program,
    params: &[Buffer<T>],
    x: &[T],
    k: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>, Error> {
    let plan = Plan::by_step(p, k, size_of::<T>())?;
    if plan.bytes > DEFAULT_BUDGET {
        let what = format!("{k} exponents through {} steps", p.steps);
        return Err(Error::Memory { what, need: plan.bytes, limit: DEFAULT_BUDGET });
    }
    let mut tape = Tape::new(p, &plan, false)?;
    let wanted = Wanted { level: Level::None, gradients: false, update: false, rate: None, training: None };
    let mut feed = Feed::on(1, p, &plan, &mut tape, &x.repeat(k), wanted, stop)?;
    feed.forward(params, vec![()], &|_, _, _, ()| {})?;
    let mut spectrum = Spectrum::new(k);
    let start: Vec<T> = spectrum.start(p.out_features).into_iter().map(T::from_f64).collect();
    feed.seed(&start, &vec![0; k]);
    feed.turn(params, &mut spectrum)?;
    Ok(spectrum.exponents(p.steps))
}
