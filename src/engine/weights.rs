//! engine: the weight phase: gradients of weights and biases from the deltas of a segment, their statistics and, where
//! training, the update, each output owned by one task while it is in cache. Knows no sweep.

use super::derived;
use super::look_ahead::CLAIMED;
use super::origin::{is_made, make};
use super::program::{Derived, Kind, Program, Ref};
use super::stats::UnitSums;
use super::sweep::{Level, NO_SCALE};
use super::tape::Tape;
use super::update::{Fused, Stepper};
use super::uses::Use;
use crate::kernels::delta::{depth_below, normalise};
use crate::kernels::gradient::{Block, GradientSums, Step, Weights, block, column_sums};
use crate::kernels::magnitudes::Magnitudes;
use crate::kernels::matmul::{Matrix, Scratch, Start, product_claiming};
use crate::kernels::update::{Change, STATES};
use crate::num::aligned::Buffer;
use crate::num::format::FORMATS;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::{mul_pow2, pow2_in};
use std::sync::{Mutex, OnceLock};

/// Gradients of one tensor: a mantissa array and an exponent for each copy.
pub struct ScaledGradient<T: Real> {
    /// Mantissas, shaped as the tensor.
    pub mantissa: Buffer<T>,
    /// Exponents of two, one a copy.
    pub exponent: Vec<i64>,
}

/// What the phase does with a gradient.
pub struct Job<'a, 'b, T: Real> {
    /// The program.
    pub program: &'a Program,
    /// Threads.
    pub threads: usize,
    /// The pass trains.
    pub training: bool,
    /// Figures wanted.
    pub level: Level,
    /// Rate of the SGD step to apply or to try.
    pub rate: Option<f64>,
    /// Apply it.
    pub update: bool,
    /// The parameters; `None` entries are not touched by this phase.
    pub params: Params<'a, T>,
    /// Where gradients are kept, by tensor: always for shared tensors, for the others only if they are wanted.
    pub kept: &'a mut [Option<ScaledGradient<T>>],
    /// Updates what is not kept at once.
    pub stepper: Option<&'a mut Stepper<'b, T>>,
}

/// Access to the parameters.
pub enum Params<'a, T: Real> {
    /// To read.
    Read(&'a [Buffer<T>]),
    /// To update.
    Write(&'a mut [Buffer<T>]),
}

impl<T: Real> Params<'_, T> {
    /// The parameters, to read.
    pub fn get(&self) -> &[Buffer<T>] {
        match self {
            Params::Read(p) => p,
            Params::Write(p) => p,
        }
    }
}

/// Rows of a weight gradient that one task takes: enough to use a packed panel often, few enough to stay in cache.
pub(super) fn block_rows(n_in: usize) -> usize {
    (32_768 / n_in.max(1)).clamp(128, 1024)
}

/// One block of rows of what a use's weights learn by.
struct Cut {
    index: usize,
    weight: Ref,
    bias: Option<Ref>,
    vector: Option<Ref>,
    iteration: usize,
    rows: std::ops::Range<usize>,
    n_in: usize,
}

/// The same with the memory that its task owns.
struct Task<'a, T: Real> {
    index: usize,
    of: usize,
    rows: std::ops::Range<usize>,
    weights: Weights<'a, T>,
    /// The weights are not stored: (tensor, copy) to make.
    make: Option<(usize, usize)>,
    bias: Weights<'a, T>,
    keep: Option<&'a mut [T]>,
    keep_bias: Option<&'a mut [T]>,
    /// What the optimizer remembers of the weights and of the bias.
    states: [Memory<'a, T>; 2],
    /// Where the weights are made from others.
    made: Option<Made<'a, T>>,
}

/// What an optimizer remembers of a block.
type Memory<'a, T> = [&'a mut [T]; STATES];

/// The vector that a block of weights is made from; its matrix stands in the weights' place in the task.
struct Made<'a, T: Real> {
    from: Derived,
    /// The power of two that is taken out of dL/dv.
    shift: i64,
    vector: Weights<'a, T>,
    keep: Option<&'a mut [T]>,
}

/// Scratch of a thread.
#[derive(Default)]
struct Local<T: Real> {
    scratch: Scratch<T>,
    block: Vec<T>,
    rows: Vec<T>,
    inputs: Vec<T>,
    bias: Vec<T>,
    made: Vec<T>,
    vector_made: Vec<T>,
    vector: Vec<T>,
}

/// Runs the phase over a segment, and `beside` for each entry of `list`, by the way. The results are in the order of `list`.
pub fn run<T: Real>(
    job: &mut Job<'_, '_, T>,
    tape: &Tape<T>,
    list: &[Use<'_>],
    beside: &(dyn Fn(usize) + Sync),
) -> Vec<UnitSums> {
    let mut out: Vec<UnitSums> = list.iter().map(|_| UnitSums::default()).collect();
    for (o, u) in out.iter_mut().zip(list) {
        if let Some(delta) = u.delta {
            // Faint inputs are lifted for the product, which then stands for itself times a smaller power of two.
            o.lift = match &u.op.kind {
                Kind::Dense { weight, .. } if !job.program.tensors[weight.tensor].shared => depth_below(tape.at(u.x)),
                _ => 0,
            };
            let scaled = tape.delta(delta).1.iter().copied().filter(|&e| e != NO_SCALE);
            o.exponent = scaled.max().unwrap_or(0) + o.lift;
        }
    }
    let locals: Vec<_> = (0..job.threads).map(|_| Mutex::new(Local::default())).collect();
    let shifts = derived::shifts(job.program, job.params.get(), list, job.threads);
    own(job, tape, (list, beside), &shifts, &mut out, &locals);
    super::norm_weights::norms(job, tape, list, &mut out);
    super::shared::accumulate(job, tape, list, &shifts, &mut out);
    for (o, shift) in out.iter_mut().zip(shifts) {
        // Figures of weights that are made are those of the matrix; the bias knows nothing of it.
        o.exponent += shift;
        o.lift += shift;
    }
    if job.level == Level::Full {
        let results: Vec<_> = out.iter_mut().zip(list).collect();
        pool::each_owned(job.threads, results, &|_, (o, u)| unit_sums(tape, o, u));
    }
    out
}

/// Weights that only this use has: product, figures and update in one task.
fn own<T: Real>(
    job: &mut Job<'_, '_, T>,
    tape: &Tape<T>,
    (list, beside): (&[Use<'_>], &(dyn Fn(usize) + Sync)),
    shifts: &[i64],
    out: &mut [UnitSums],
    locals: &[Mutex<Local<T>>],
) {
    let p = job.program;
    // Pieces of parameters, of kept gradients, and the tasks, all in the order of `list`.
    let mut plan = Vec::new();
    for (index, u) in list.iter().enumerate() {
        let Kind::Dense { weight, bias } = &u.op.kind else { continue };
        if p.tensors[weight.tensor].shared {
            continue;
        }
        let (n_in, n_out) = u.op.widths;
        let step = block_rows(n_in);
        // What is learned: the weights, or the matrix and the vector they are made from.
        let made = p.tensors[weight.tensor].derived();
        let learned = made.map_or(*weight, |d| Ref { tensor: d.matrix, ..*weight });
        let vector = made.map(|d| Ref { tensor: d.vector, ..*weight });
        for from in (0..n_out).step_by(step) {
            let rows = from..n_out.min(from + step);
            plan.push(Cut { index, weight: learned, bias: *bias, vector, iteration: u.iteration, rows, n_in });
        }
    }
    let span = |r: &Ref, c: &Cut, width: usize| {
        let at = r.copy(c.iteration) * p.tensors[r.tensor].len() + c.rows.start * width;
        (r.tensor, at, c.rows.len() * width)
    };
    let weight_spans = plan.iter().map(|c| Some(span(&c.weight, c, c.n_in)));
    let bias_spans = plan.iter().map(|c| c.bias.as_ref().map(|b| span(b, c, 1)));
    let vector_spans = plan.iter().map(|c| c.vector.as_ref().map(|g| span(g, c, 1)));
    let spans: Vec<_> = weight_spans.chain(bias_spans).chain(vector_spans).collect();
    // Beside figures and updates, a gradient that goes on to what its weights are made from reads that.
    let reads = |c: &Cut| job.level == Level::Full || job.update || c.vector.is_some();
    let makes: Vec<_> = plan
        .iter()
        .map(|c| {
            let tensor = c.weight.tensor;
            (reads(c) && is_made(p, job.params.get(), tensor)).then(|| (tensor, c.weight.copy(c.iteration)))
        })
        .collect();
    let mut weights: Vec<_> = match &mut job.params {
        Params::Write(params) => carve(params.iter_mut().map(|b| Some(&mut b[..])).collect(), &spans)
            .into_iter()
            .map(|w| w.map_or(Weights::None, Weights::Write))
            .collect(),
        Params::Read(params) => spans
            .iter()
            .zip(plan.iter().cycle())
            .map(|(s, c)| match s {
                Some((t, at, len)) if reads(c) && !is_made(p, params, *t) => {
                    Weights::Read(&params[*t][*at..*at + *len])
                }
                _ => Weights::None,
            })
            .collect(),
    };
    let vectors = weights.split_off(2 * plan.len());
    let biases = weights.split_off(plan.len());
    let kept = job.kept.iter_mut().map(|k| k.as_mut().map(|k| &mut k.mantissa[..])).collect();
    let mut keeps = carve(kept, &spans);
    let keep_vectors = keeps.split_off(2 * plan.len());
    let keep_biases = keeps.split_off(plan.len());
    let mut memory: Vec<[Memory<'_, T>; 2]> = plan.iter().map(|_| Default::default()).collect();
    let step = job.stepper.as_ref().map(|s| s.step());
    let learned = &spans[..2 * plan.len()];
    for (j, state) in job.stepper.iter_mut().flat_map(|s| s.memory.states.iter_mut()).enumerate() {
        let buffers = state.iter_mut().map(|b| Some(&mut b[..]).filter(|b| !b.is_empty())).collect();
        for (at, piece) in carve(buffers, learned).into_iter().enumerate() {
            memory[at % plan.len()][at / plan.len()][j] = piece.unwrap_or_default();
        }
    }
    let tasks: Vec<_> = plan
        .iter()
        .zip(weights.into_iter().zip(biases))
        .zip(keeps.into_iter().zip(keep_biases))
        .zip(vectors.into_iter().zip(keep_vectors))
        .zip(memory)
        .enumerate()
        .map(|(of, ((((c, (weights, bias)), (keep, keep_bias)), (vector, keep_vector)), states))| Task {
            index: c.index,
            of,
            rows: c.rows.clone(),
            weights,
            make: makes[of],
            bias,
            keep,
            keep_bias,
            states,
            made: derived::of(p, &list[c.index].op.kind).map(|(_, from)| Made {
                from,
                shift: shifts[c.index],
                vector,
                keep: keep_vector,
            }),
        })
        .collect();
    let results: Vec<_> = tasks.iter().map(|_| OnceLock::new()).collect();
    let (rate, update, level, threads) = (job.rate, job.update, job.level, job.threads);
    let exponents: Vec<(i64, i64)> = out.iter().map(|o| (o.exponent, o.lift)).collect();
    let tasks: Vec<_> = tasks.into_iter().map(|t| Mutex::new(Some(t))).collect();
    pool::each_of(threads, [tasks.len(), list.len()], &|worker, kind, i| {
        if kind == 1 {
            return beside(i);
        }
        let Some(task) = lock(&tasks[i]).take() else { return };
        let mut local = lock(&locals[worker]);
        let u = &list[task.index];
        let e = exponents[task.index];
        let of = task.of;
        results[of].get_or_init(|| weight_block(p, tape, u, task, e, (rate, update, level, step), &mut local));
    });
    for (c, r) in plan.iter().zip(results) {
        let Some((weight, bias, change)) = r.into_inner() else { continue };
        if let Some(s) = &mut job.stepper
            && let Some(all) = s.changes[c.weight.tensor].get_mut(c.weight.copy(c.iteration))
        {
            all.add(&change);
        }
        join(&mut out[c.index].weight, Some(weight));
        join(&mut out[c.index].bias, bias);
        let (e, lift) = exponents[c.index];
        let learned = [(Some(c.weight), e + shifts[c.index]), (c.bias, e - lift), (c.vector, e)];
        for (r, e) in learned.into_iter().filter_map(|(r, e)| Some((r?, e))) {
            if let Some(k) = &mut job.kept[r.tensor] {
                k.exponent[r.copy(c.iteration)] = e;
            }
        }
    }
}

/// Adds the figures of a block to those of the blocks before.
fn join(all: &mut Option<GradientSums>, block: Option<GradientSums>) {
    match (all, block) {
        (Some(all), Some(block)) => all.add(&block),
        (all @ None, block) => *all = block,
        (Some(_), None) => {}
    }
}

/// What the pass over a block found out about the weights and the bias, and what the update did to the weights.
type Found = (GradientSums, Option<GradientSums>, Change);

/// The product of one block, then the pass over it.
fn weight_block<T: Real>(
    p: &Program,
    tape: &Tape<T>,
    u: &Use<'_>,
    task: Task<'_, T>,
    (e, lift): (i64, i64),
    (rate, update, level, fused): (Option<f64>, bool, Level, Option<Fused<'_>>),
    local: &mut Local<T>,
) -> Found {
    let Some(delta) = u.delta else { return Default::default() };
    let (d, exponents) = tape.delta(delta);
    let (n_in, n_out) = u.op.widths;
    let n = task.rows.len();
    let Local { scratch, block: spare, rows, inputs, bias, made, vector_made, vector } = local;
    let (a, width) = aligned(d, exponents, e - lift, n_out, task.rows.clone(), rows);
    spare.resize(spare.len().max(n * n_in), T::ZERO);
    let kept = task.keep.is_some();
    let gradient = match task.keep {
        Some(k) => k,
        None => &mut spare[..n * n_in],
    };
    let x = lifted(tape.at(u.x), lift, inputs);
    let mut own = task.weights;
    // All threads have read the weights since they were last stepped.
    let claim = match &mut own {
        Weights::Write(w) if size_of_val(*w) <= CLAIMED => &mut w[..],
        _ => &mut [],
    };
    let (rows, cols) = (Matrix::columns(a, width), Matrix::rows(x, n_in));
    product_claiming((n, n_in, exponents.len()), rows, cols, Start::Zero, gradient, scratch, claim);
    if let Some((tensor, copy)) = task.make {
        make(p, tensor, copy, made);
    }
    let mut scale = e;
    let full = level == Level::Full;
    if let Some(m) = task.made {
        // From dL/dw to dL/dv and dL/dg, before anything is counted or stepped.
        if let Some((_, copy)) = task.make {
            make(p, m.from.vector, copy, vector_made);
        }
        let v = own.get().unwrap_or_else(|| &made[task.rows.start * n_in..task.rows.end * n_in]);
        let g = m.vector.get().unwrap_or_else(|| &vector_made[task.rows.clone()]);
        vector.resize(vector.len().max(n), T::ZERO);
        let out = match m.keep {
            Some(k) => k,
            None => &mut vector[..n],
        };
        derived::backward(&m.from, v, g, gradient, m.shift, out);
        if update {
            let step = rate.map(|r| Step::new(r, e));
            block(Block { gradient: out, weights: m.vector, step, flush: [T::ZERO; 6], full: false });
        }
        scale += m.shift;
    }
    let step = rate.map(|r| Step::new(r, scale));
    let flush = if full { thresholds::<T>(scale) } else { [T::ZERO; 6] };
    let (needed, reads) = (full || update || level == Level::Norms, full || update);
    let mut sums = GradientSums::default();
    if needed {
        let weights = match task.make {
            Some(_) if reads => Weights::Read(&made[task.rows.start * n_in..task.rows.end * n_in]),
            None if reads => own.again(),
            _ => Weights::None,
        };
        sums = block(Block { gradient, weights, step, flush, full });
    }
    let [states, bias_states] = task.states;
    let mut change = Change::default();
    if let (Some(f), Weights::Write(weights), false) = (fused, own, kept) {
        change = f.rows(gradient, scale, weights, states, f.count);
    }
    let mut bias_sums = None;
    if let super::program::Kind::Dense { bias: Some(_), .. } = u.op.kind {
        bias.resize(bias.len().max(n), T::ZERO);
        let kept = task.keep_bias.is_some();
        let gradient = match task.keep_bias {
            Some(k) => k,
            None => &mut bias[..n],
        };
        column_sums(a, width, exponents.len(), gradient);
        let mut own = task.bias;
        if needed {
            // The bias sees no input, so nothing of it was lifted.
            let step = rate.map(|r| Step::new(r, e - lift));
            let sums = block(Block { gradient, weights: own.again(), step, flush, full: false });
            bias_sums = Some(sums);
        }
        if let (Some(f), Weights::Write(weights), false) = (fused, own, kept) {
            f.rows(gradient, e - lift, weights, bias_states, false);
        }
    }
    (sums, bias_sums, change)
}

/// Columns `cols` of the deltas in the scale 2^e, and the distance between their rows: the deltas themselves where all
/// rows have that exponent already, else a copy of those columns.
pub(super) fn aligned<'a, T: Real>(
    d: &'a [T],
    exponents: &[i64],
    e: i64,
    width: usize,
    cols: std::ops::Range<usize>,
    copy: &'a mut Vec<T>,
) -> (&'a [T], usize) {
    if exponents.iter().all(|&x| x == e || x == NO_SCALE) {
        return (&d[cols.start..], width);
    }
    let n = cols.len();
    copy.resize(copy.len().max(exponents.len() * n), T::ZERO);
    for ((r, row), &x) in copy.chunks_exact_mut(n).take(exponents.len()).enumerate().zip(exponents) {
        let d = &d[r * width..][cols.clone()];
        // Below any float the row adds nothing, as it would in floats without limits.
        let f = pow2_in::<T>((x - e).max(-2000)).to_f64();
        for (c, &d) in row.iter_mut().zip(d) {
            *c = T::from_f64(d.to_f64() * f);
        }
    }
    (&copy[..exponents.len() * n], n)
}

/// The inputs times 2^-lift: themselves where that is one, else a copy.
fn lifted<'a, T: Real>(x: &'a [T], lift: i64, copy: &'a mut Vec<T>) -> &'a [T] {
    if lift == 0 {
        return x;
    }
    copy.clear();
    copy.extend_from_slice(x);
    normalise(copy, lift);
    copy
}

/// The largest magnitude that each format flushes to zero, in the scale 2^e of a gradient; infinity where all is
/// flushed, zero where nothing is.
pub(super) fn thresholds<T: Real>(e: i64) -> [T; 6] {
    FORMATS.map(|f| T::from_f64(mul_pow2(1.0, f.min_subnormal_log2 - 1 - e)))
}

/// Distinct pieces of several buffers as unique borrows, in the order of the spans (buffer, start, length).
pub(super) fn carve<'a, T>(
    buffers: Vec<Option<&'a mut [T]>>,
    spans: &[Option<(usize, usize, usize)>],
) -> Vec<Option<&'a mut [T]>> {
    let mut order: Vec<usize> = (0..spans.len()).filter(|&i| spans[i].is_some()).collect();
    // The spans of each buffer mostly come in order, and only that is needed.
    let mut ends = vec![0; buffers.len()];
    let ascend = spans.iter().flatten().all(|&(buffer, at, len)| std::mem::replace(&mut ends[buffer], at + len) <= at);
    if !ascend {
        order.sort_by_key(|&i| spans[i]);
    }
    let mut out: Vec<Option<&'a mut [T]>> = spans.iter().map(|_| None).collect();
    let mut rest: Vec<(usize, Option<&'a mut [T]>)> = buffers.into_iter().map(|b| (0, b)).collect();
    for i in order {
        let Some((buffer, at, len)) = spans[i] else { continue };
        let (done, slot) = &mut rest[buffer];
        if let Some(b) = slot.take() {
            let (piece, tail) = b[at - *done..].split_at_mut(len);
            out[i] = Some(piece);
            *slot = Some(tail);
            *done = at + len;
        }
    }
    out
}

/// Figures of deltas, outputs and slopes, for the full level.
fn unit_sums<T: Real>(tape: &Tape<T>, out: &mut UnitSums, u: &Use<'_>) {
    let width = u.op.widths.1;
    if let Some(delta) = u.delta {
        let (d, exponents) = tape.delta(delta);
        let mut m = Magnitudes::default();
        m.add_rows(d, width, exponents);
        out.delta = Some(Box::new(m));
    }
    let limit = u.op.act.as_ref().map_or(0.0, |a| 0.05 * a.act.max_slope());
    out.forward = Some(crate::kernels::unit::forward(tape.at(u.y), u.d.map(|d| tape.at(d)), width, limit));
}

pub(super) fn lock<X>(m: &Mutex<X>) -> std::sync::MutexGuard<'_, X> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
