//! engine: the weight phase of normalisations: gradients of gains and shifts, their figures and, where training, the
//! update; one task a use. Knows no sweep.

use super::norm::Norm;
use super::origin::{is_made, make};
use super::program::{Kind, Program, Ref};
use super::shared::{ROWS, add_scaled};
use super::stats::UnitSums;
use super::sweep::{Level, NO_SCALE};
use super::sweep_norm::running_columns;
use super::tape::Tape;
use super::uses::Use;
use super::weights::{Job, Params, carve, lock, thresholds};
use crate::kernels::gradient::{Block, GradientSums, Step, Weights, block};
use crate::kernels::norm::gradients;
use crate::kernels::norm_columns::{Columns, sums};
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::pow2;
use std::sync::{Mutex, OnceLock};

/// What one use yields: the gradients of gain and shift behind each other where they are shared, and figures of both.
type Found<T> = (Vec<T>, [Option<GradientSums>; 2]);

/// Memory of a thread.
#[derive(Default)]
struct Local<T> {
    factors: Vec<f64>,
    wide: Vec<f64>,
    found: Vec<T>,
    made: Vec<T>,
}

/// A gain or shift with what may be done to it.
struct Vector<'a, T: Real> {
    weights: Weights<'a, T>,
    /// The values are not stored: (tensor, copy) to make.
    make: Option<(usize, usize)>,
    keep: Option<&'a mut [T]>,
    /// It has more uses, which are summed.
    shared: bool,
}

/// What is known of columns that were normalised.
enum OverBatch<'a> {
    /// Sums of the deltas, and of the deltas times what was normalised, which the sweep took.
    Sums(&'a [f64]),
    /// Means and reciprocals of deviations.
    Columns(Vec<f64>),
}

/// One use.
struct Task<'a, T: Real> {
    /// Its place in the list.
    index: usize,
    norm: &'a Norm,
    /// Where columns are normalised.
    columns: Option<OverBatch<'a>>,
    /// Gain and shift.
    vectors: [Option<Vector<'a, T>>; 2],
}

/// Gradients of the segment's gains and shifts.
pub fn norms<T: Real>(job: &mut Job<'_, '_, T>, tape: &Tape<T>, list: &[Use<'_>], out: &mut [UnitSums]) {
    let p = job.program;
    let found: Vec<_> = list
        .iter()
        .enumerate()
        .filter_map(|(index, u)| match &u.op.kind {
            Kind::Norm(n) if n.weight.is_some() => Some((index, n)),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return;
    }
    let columns: Vec<_> = found.iter().map(|(i, n)| columns(p, job, tape, &list[*i], n)).collect();
    // Gain and shift of each.
    let refs: Vec<_> =
        found.iter().flat_map(|(i, n)| [n.weight, n.bias].map(|r| r.map(|r| (r, list[*i].iteration)))).collect();
    let place = |(r, i): (Ref, usize)| {
        let len = p.tensors[r.tensor].len();
        (!p.tensors[r.tensor].shared).then_some((r.tensor, r.copy(i) * len, len))
    };
    let spans: Vec<_> = refs.iter().map(|r| r.and_then(place)).collect();
    let reads = job.level == Level::Full || job.update;
    let made: Vec<_> = refs
        .iter()
        .map(|r| r.filter(|(r, _)| reads && is_made(p, job.params.get(), r.tensor)).map(|(r, i)| (r.tensor, r.copy(i))))
        .collect();
    let weights: Vec<_> = match &mut job.params {
        Params::Write(params) => carve(params.iter_mut().map(|b| Some(&mut b[..])).collect(), &spans)
            .into_iter()
            .map(|w| match w {
                Some(w) if job.update => Weights::Write(w),
                Some(w) => Weights::Read(w),
                None => Weights::None,
            })
            .collect(),
        Params::Read(params) => spans
            .iter()
            .map(|s| match s {
                Some((t, at, len)) if reads && !is_made(p, params, *t) => Weights::Read(&params[*t][*at..*at + *len]),
                _ => Weights::None,
            })
            .collect(),
    };
    let keeps = carve(job.kept.iter_mut().map(|k| k.as_mut().map(|k| &mut k.mantissa[..])).collect(), &spans);
    let vectors = weights.into_iter().zip(made).zip(keeps).zip(refs.iter().zip(&spans));
    let mut vectors = vectors
        .map(|(((weights, make), keep), (r, span))| r.map(|_| Vector { weights, make, keep, shared: span.is_none() }));
    let tasks: Vec<_> = found
        .iter()
        .zip(columns)
        .enumerate()
        .map(|(of, ((index, norm), columns))| {
            let vectors = std::array::from_fn(|_| vectors.next().flatten());
            (of, Task { index: *index, norm, columns, vectors })
        })
        .collect();
    let exponents: Vec<i64> = out.iter().map(|o| o.exponent).collect();
    let results: Vec<_> = tasks.iter().map(|_| OnceLock::new()).collect();
    let locals: Vec<_> = (0..job.threads).map(|_| Mutex::new(Local::default())).collect();
    let (rate, update, level) = (job.rate, job.update, job.level);
    pool::each_owned(job.threads, tasks, &|worker, (of, task)| {
        let (e, mut local) = (exponents[task.index], lock(&locals[worker]));
        results[of].get_or_init(|| run(p, tape, &list[task.index], task, e, (rate, update, level), &mut local));
    });
    // Shared gains are summed from the output to the input, as shared weights are.
    for (((index, _), refs), result) in found.iter().zip(refs.chunks_exact(2)).zip(results).rev() {
        let Some((gradients, [gain, shift])) = result.into_inner() else { continue };
        let (e, i) = (exponents[*index], list[*index].iteration);
        let width = list[*index].op.widths.1;
        for (place, (r, _)) in refs.iter().flatten().enumerate() {
            let Some(kept) = &mut job.kept[r.tensor] else { continue };
            if !p.tensors[r.tensor].shared {
                kept.exponent[r.copy(i)] = e;
                continue;
            }
            let g = &gradients[place * width..][..width];
            let blocks = g.len().div_ceil(ROWS);
            let sum = kept.mantissa[r.copy(i) * g.len()..][..g.len()].chunks_mut(ROWS);
            for ((sum, se), g) in sum.zip(&mut kept.exponent[r.copy(i) * blocks..]).zip(g.chunks(ROWS)) {
                add_scaled(sum, se, g, e);
            }
        }
        (out[*index].weight, out[*index].bias) = (gain, shift);
    }
}

/// What is known of the columns of a use; none where rows were normalised.
fn columns<'a, T: Real>(
    p: &Program,
    job: &Job<'_, '_, T>,
    tape: &'a Tape<T>,
    u: &Use<'_>,
    n: &Norm,
) -> Option<OverBatch<'a>> {
    let [mean, var, _] = n.running?;
    let width = u.op.widths.1;
    if let Some(moments) = tape.moments_at(n.kept, u.iteration, width).filter(|_| !n.runs(job.training)) {
        return Some(OverBatch::Sums(&moments[3 * width..]));
    }
    let params: &[Buffer<T>] = job.params.get();
    let [mean, var] = [mean, var].map(|r| {
        if is_made(p, params, r.tensor) {
            let mut out = Vec::new();
            make(p, r.tensor, r.copy(u.iteration), &mut out);
            return out;
        }
        params[r.tensor][r.copy(u.iteration) * width..][..width].to_vec()
    });
    let mut out = vec![0.0; 2 * width];
    running_columns(&mean, &var, n.eps::<T>(), &mut out);
    Some(OverBatch::Columns(out))
}

/// Gradients of one use and their figures.
fn run<T: Real>(
    p: &Program,
    tape: &Tape<T>,
    u: &Use<'_>,
    task: Task<'_, T>,
    e: i64,
    (rate, update, level): (Option<f64>, bool, Level),
    local: &mut Local<T>,
) -> Found<T> {
    let Some(delta) = u.delta else { return Default::default() };
    let (d, exponents) = tape.delta(delta);
    let x = tape.at(u.x);
    let width = u.op.widths.1;
    // Below any float a row adds nothing, as it would in floats without limits.
    let Local { factors, wide, found, made } = local;
    factors.clear();
    factors.extend(exponents.iter().map(|&x| if x == NO_SCALE { 0.0 } else { pow2((x - e).max(-2000)) }));
    found.resize(2 * width, T::ZERO);
    let (gain, shift) = found.split_at_mut(width);
    match (task.norm.rows::<T>(width).zip(u.kept), &task.columns) {
        (Some((rows, kept)), _) => gradients(rows, d, factors, x, tape.at(kept), gain, shift),
        (None, Some(found)) => {
            let of: &[f64] = match found {
                OverBatch::Sums(of) => of,
                OverBatch::Columns(c) => {
                    let (mean, inv) = c.split_at(width);
                    let by = Columns::<T> { mean, inv, weight: None, bias: None };
                    wide.resize(2 * width, 0.0);
                    let (plain, along) = wide.split_at_mut(width);
                    sums(by, d, factors, x, plain, along);
                    wide
                }
            };
            let (plain, along) = of.split_at(width);
            for (to, from) in [(gain, along), (shift, plain)] {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = T::from_f64(*from));
            }
        }
        (None, None) => {}
    }
    let full = level == Level::Full;
    let flush = if full { thresholds::<T>(e) } else { [T::ZERO; 6] };
    let needed = full || update || level == Level::Norms;
    let mut figures = [None, None];
    let mut shared = Vec::new();
    for (place, (gradient, v)) in found.chunks(width).zip(task.vectors).enumerate() {
        let Some(v) = v else { continue };
        if let Some(keep) = v.keep {
            keep.copy_from_slice(gradient);
        }
        if v.shared {
            shared.extend_from_slice(gradient);
        }
        if !needed {
            continue;
        }
        let weights = match v.make {
            Some((tensor, copy)) => {
                make(p, tensor, copy, made);
                Weights::Read(&made[..])
            }
            None => v.weights,
        };
        let step = rate.map(|r| Step::new(r, e));
        figures[place] = Some(block(Block { gradient, weights, step, flush, full: full && place == 0 }));
    }
    (shared, figures)
}
