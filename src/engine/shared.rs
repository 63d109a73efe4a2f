//! engine: gradients of weights that several operations share (tied layers): summed over their uses, from the output
//! to the input, with a running exponent. Knows no sweep. The order is fixed, so no plan or thread changes a bit.

use super::derived::{self, Parts};
use super::program::{Derived, Kind, Program, Ref};
use super::stats::UnitSums;
use super::sweep::Level;
use super::tape::Tape;
use super::uses::Use;
use super::weights::{Job, ScaledGradient, aligned, lock, thresholds};
use crate::error::Error;
use crate::kernels::delta;
use crate::kernels::gradient::{Block, GradientSums, Step, Weights, block, column_sums};
use crate::kernels::matmul::{Matrix, Scratch, Start, product};
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::{exponent, mul_pow2, pow2};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

/// Rows of a shared gradient that one task owns for the whole pass.
pub(super) const ROWS: usize = 16;

/// Makes room for a tensor's gradient. Shared tensors count an exponent for every [`ROWS`] rows
/// until [`settle`] gives each copy one.
pub fn room<T: Real>(p: &Program, tensor: usize) -> Result<ScaledGradient<T>, Error> {
    let t = &p.tensors[tensor];
    let blocks = if t.shared { t.rows.div_ceil(ROWS) } else { 1 };
    Ok(ScaledGradient { mantissa: Buffer::zeroed(t.copies * t.len())?, exponent: vec![i64::MIN; t.copies * blocks] })
}

/// Makes a tensor's room ready for the next pass.
pub fn clear<T: Real>(p: &Program, tensor: usize, kept: &mut ScaledGradient<T>, own: bool) {
    let t = &p.tensors[tensor];
    let blocks = if t.shared { t.rows.div_ceil(ROWS) } else { 1 };
    kept.exponent.clear();
    kept.exponent.resize(t.copies * blocks, i64::MIN);
    // The gradient of a tensor with one use is written as a whole.
    if !own {
        kept.mantissa.fill(T::ZERO);
    }
}

/// The bias that goes with a shared weight, what the weight is made from, and the uses of all, output first.
type Group = (Option<Ref>, Option<Derived>, Vec<usize>);

/// A running sum and its exponent.
type Sum<'a, T> = (&'a mut [T], &'a mut i64);

/// One block of rows of a shared weight and bias, with all its uses in the segment.
struct Task<'a, T: Real> {
    uses: Vec<usize>,
    rows: Range<usize>,
    weight: Sum<'a, T>,
    bias: Option<Sum<'a, T>>,
    /// Where the weight is made from others: from what, the vector's gradient, and the power of two that is taken out.
    made: Option<(Derived, Sum<'a, T>, i64)>,
}

/// Adds the segment's uses of shared weights to the kept gradients, and their own norms to `out`.
pub fn accumulate<T: Real>(
    job: &mut Job<'_, '_, T>,
    tape: &Tape<T>,
    list: &[Use<'_>],
    shifts: &[i64],
    out: &mut [UnitSums],
) {
    slopes(job, tape, list);
    let mut groups: BTreeMap<(usize, usize), Group> = BTreeMap::new();
    for (index, u) in list.iter().enumerate().rev() {
        if let Kind::Dense { weight, bias } = &u.op.kind
            && job.program.tensors[weight.tensor].shared
        {
            let key = (weight.tensor, weight.copy(u.iteration));
            let made = job.program.tensors[weight.tensor].derived();
            groups.entry(key).or_insert_with(|| (*bias, made, Vec::new())).2.push(index);
        }
    }
    if groups.is_empty() {
        return;
    }
    // Pieces of the kept gradients by (tensor, copy, block of rows).
    let mut pieces = BTreeMap::new();
    for (t, kept) in job.kept.iter_mut().enumerate() {
        let tensor = &job.program.tensors[t];
        let Some(kept) = kept.as_mut().filter(|_| tensor.shared && !tensor.is_empty()) else { continue };
        let blocks = tensor.rows.div_ceil(ROWS);
        let copies = kept.mantissa.chunks_mut(tensor.len()).zip(kept.exponent.chunks_mut(blocks));
        for (c, (mantissa, exponents)) in copies.enumerate() {
            for (b, (m, e)) in mantissa.chunks_mut(ROWS * tensor.cols).zip(exponents).enumerate() {
                pieces.insert((t, c, b), (m, e));
            }
        }
    }
    let mut tasks = Vec::new();
    for ((tensor, copy), (bias, made, uses)) in groups {
        let rows = job.program.tensors[tensor].rows;
        let bias = bias.map(|b| (b.tensor, b.copy(list[uses[0]].iteration)));
        for (b, from) in (0..rows).step_by(ROWS).enumerate() {
            if let Some(weight) = pieces.remove(&(made.map_or(tensor, |d| d.matrix), copy, b)) {
                let bias = bias.and_then(|(t, c)| pieces.remove(&(t, c, b)));
                let vector = made.and_then(|d| Some((d, pieces.remove(&(d.vector, copy, b))?, shifts[uses[0]])));
                tasks.push(Task { uses: uses.clone(), rows: from..rows.min(from + ROWS), weight, bias, made: vector });
            }
        }
    }
    let exponents: Vec<i64> = out.iter().map(|o| o.exponent).collect();
    let sums: Vec<_> = tasks.iter().map(|_| Mutex::new(Vec::new())).collect();
    let uses: Vec<Vec<usize>> = tasks.iter().map(|t| t.uses.clone()).collect();
    let numbered: Vec<_> = tasks.into_iter().enumerate().collect();
    let (level, rate) = (job.level, job.rate);
    let params = job.params.get();
    let program = job.program;
    pool::each_owned(job.threads, numbered, &|_, (of, task)| {
        *lock(&sums[of]) = add_uses(program, params, tape, list, &exponents, (level, rate), task);
    });
    for (uses, sums) in uses.iter().zip(sums) {
        let sums = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (&index, (weight, bias)) in uses.iter().zip(sums) {
            out[index].weight.get_or_insert_default().add(&weight);
            if let Some(b) = bias {
                out[index].bias.get_or_insert_default().add(&b);
            }
        }
    }
}

type Sums = (GradientSums, Option<GradientSums>);

fn add_uses<T: Real>(
    program: &Program,
    params: &[Buffer<T>],
    tape: &Tape<T>,
    list: &[Use<'_>],
    exponents: &[i64],
    (level, rate): (Level, Option<f64>),
    mut task: Task<'_, T>,
) -> Vec<Sums> {
    let (mut scratch, mut copy) = (Scratch::default(), Vec::new());
    let mut one = vec![T::ZERO; task.weight.0.len()];
    let (mut bias, mut vector) = (vec![T::ZERO; task.rows.len()], vec![T::ZERO; task.rows.len()]);
    let mut parts = Parts::default();
    let mut out = Vec::with_capacity(task.uses.len());
    for &index in &task.uses {
        let u = &list[index];
        let (Some(delta), Kind::Dense { weight, .. }) = (u.delta, &u.op.kind) else { continue };
        let (d, row_exponents) = tape.delta(delta);
        let e = exponents[index];
        let (n_in, n_out) = u.op.widths;
        let (a, width) = aligned(d, row_exponents, e, n_out, task.rows.clone(), &mut copy);
        let x = Matrix::rows(tape.at(u.x), n_in);
        let shape = (task.rows.len(), n_in, row_exponents.len());
        product(shape, Matrix::columns(a, width), x, Start::Zero, &mut one, &mut scratch);
        let mut scale = e;
        let mut tensor = weight.tensor;
        if let Some((d, sum, shift)) = &mut task.made {
            let (v, g) = parts.get(program, params, d, weight.copy(u.iteration));
            let rows = task.rows.clone();
            derived::backward(d, &v[rows.start * n_in..rows.end * n_in], &g[rows], &mut one, *shift, &mut vector);
            add_scaled(sum.0, sum.1, &vector, e);
            scale += *shift;
            tensor = d.matrix;
        }
        let len = program.tensors[tensor].len();
        let at = weight.copy(u.iteration) * len + task.rows.start * n_in;
        let weights =
            if level == Level::Full { Weights::Read(&params[tensor][at..][..one.len()]) } else { Weights::None };
        let figures = |g: &[T], weights, full, e| {
            let (step, flush) = (rate.map(|r| Step::new(r, e)), thresholds::<T>(e));
            if level == Level::None {
                GradientSums::default()
            } else {
                block(Block { gradient: g, weights, step, flush, full })
            }
        };
        let sums = figures(&one, weights, level == Level::Full, scale);
        add_scaled(task.weight.0, task.weight.1, &one, scale);
        let mut bias_sums = None;
        if let Some((mantissa, exponent)) = &mut task.bias {
            column_sums(a, width, row_exponents.len(), &mut bias);
            bias_sums = Some(figures(&bias, Weights::None, false, e));
            add_scaled(mantissa, exponent, &bias, e);
        }
        out.push((sums, bias_sums));
    }
    out
}

/// `sum * 2^se += x * 2^e`; an exponent of `i64::MIN` marks a sum that has not begun.
pub(super) fn add_scaled<T: Real>(sum: &mut [T], se: &mut i64, x: &[T], e: i64) {
    // Nothing is added, whose scale would hide what is there.
    if x.iter().all(|x| *x == T::ZERO) {
        return;
    }
    if *se == i64::MIN {
        sum.copy_from_slice(x);
        *se = e;
        return;
    }
    let top = (*se).max(e);
    delta::add_scaled(sum, pow2(*se - top), x, pow2(e - top));
    *se = top;
}

/// Adds the gradients of learned numbers: sums over rows, from the output to the input.
fn slopes<T: Real>(job: &mut Job<'_, '_, T>, tape: &Tape<T>, list: &[Use<'_>]) {
    for u in list.iter().rev() {
        let Some((r, at)) = u.scalar else { continue };
        let Some(kept) = &mut job.kept[r.tensor] else { continue };
        let copy = r.copy(u.iteration);
        let (_, exponents) = tape.delta(at);
        let values = &tape.slopes[at.0][at.1 * tape.batch..][..tape.batch];
        // Rows that add nothing have no say in the scale.
        let e = values.iter().zip(exponents).filter(|(v, _)| **v != 0.0).map(|(_, &x)| x).max().unwrap_or(0);
        let sum: f64 = values.iter().zip(exponents).map(|(v, &x)| if *v == 0.0 { 0.0 } else { v * pow2(x - e) }).sum();
        // A sum of doubles may lie outside the network's own type: its power of two joins the exponent.
        let k = if sum == 0.0 || !sum.is_finite() { 0 } else { exponent(sum) };
        let sum = T::from_f64(mul_pow2(sum, -k));
        add_scaled(&mut kept.mantissa[copy..=copy], &mut kept.exponent[copy], &[sum], e + k);
    }
}

/// Brings the blocks of every shared copy to one exponent, so that a copy is one mantissa array and one exponent.
pub fn settle<T: Real>(p: &Program, kept: &mut [Option<ScaledGradient<T>>]) {
    for (t, kept) in p.tensors.iter().zip(kept) {
        let Some(kept) = kept else { continue };
        let blocks = if t.shared { t.rows.div_ceil(ROWS) } else { 1 };
        let mut settled = Vec::with_capacity(t.copies);
        for (c, exponents) in kept.exponent.chunks(blocks).enumerate() {
            let begun = exponents.iter().copied().filter(|&e| e != i64::MIN).max();
            let e = begun.unwrap_or(0);
            let mantissa = &mut kept.mantissa[c * t.len()..][..t.len()];
            for (m, &x) in mantissa.chunks_mut(ROWS * t.cols.max(1)).zip(exponents) {
                if blocks > 1 && x != e && x != i64::MIN {
                    let f = pow2(x - e);
                    m.iter_mut().for_each(|v| *v = T::from_f64(v.to_f64() * f));
                }
            }
            settled.push(e);
        }
        kept.exponent = settled;
    }
}

/// The SGD step of a tensor whose gradient is complete, copy by copy.
pub fn step_tensor<T: Real>(kept: &ScaledGradient<T>, values: &mut [T], rate: f64) {
    let len = values.len() / kept.exponent.len().max(1);
    for ((g, w), &e) in kept.mantissa.chunks(len.max(1)).zip(values.chunks_mut(len.max(1))).zip(&kept.exponent) {
        let step = Some(Step::new(rate, e));
        block(Block { gradient: g, weights: Weights::Write(w), step, flush: [T::ZERO; 6], full: false });
    }
}

/// The SGD step of tensors whose gradient is complete only now.
pub fn step<T: Real>(p: &Program, kept: &[Option<ScaledGradient<T>>], params: &mut [Buffer<T>], rate: f64) {
    for ((t, kept), values) in p.tensors.iter().zip(kept).zip(params) {
        if let Some(kept) = kept.as_ref().filter(|_| t.shared || t.slope) {
            step_tensor(kept, values, rate);
        }
    }
}
