//! engine: weights that are made from other tensors (weight normalisation and its kin): kept up to date, and their
//! gradients handed on to what they are made from. Everything goes by rows. Knows no sweep.

use super::origin::{is_made, make};
use super::program::{Derived, Kind, Program, Ref, Tensor};
use super::uses::Use;
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::exponent;
use std::sync::Mutex;

/// Weights that a task makes, about: enough to be worth handing out.
const GROUP: usize = 16_384;

/// What the weights of an operation are made from.
pub fn of(p: &Program, op: &Kind) -> Option<(Ref, Derived)> {
    match op {
        Kind::Dense { weight, .. } => p.tensors[weight.tensor].derived().map(|d| (*weight, d)),
        _ => None,
    }
}

/// Puts the vectors where their matrices say they start.
pub fn restart<T: Real>(tensors: &[Tensor], params: &mut [Buffer<T>]) {
    for d in tensors.iter().filter_map(Tensor::derived) {
        let cols = tensors[d.matrix].cols.max(1);
        let (g, v) = two(params, d.vector, d.matrix);
        let items: Vec<_> = g.chunks_mut(GROUP / cols + 1).zip(v.chunks((GROUP / cols + 1) * cols)).collect();
        pool::each_owned(pool::num_threads(), items, &|_, (g, v)| {
            for (g, v) in g.iter_mut().zip(v.chunks(cols)) {
                *g = d.rule.start(v);
            }
        });
    }
}

/// Makes derived tensors again: all, or those that are made from one tensor.
pub fn refresh<T: Real>(tensors: &[Tensor], params: &mut [Buffer<T>], from: Option<usize>) {
    let mut out: Vec<(usize, Derived, Buffer<T>)> = Vec::new();
    for (t, tensor) in tensors.iter().enumerate() {
        if let Some(d) = tensor.derived()
            && from.is_none_or(|f| f == d.matrix || f == d.vector)
            && let Ok(nothing) = Buffer::zeroed(0)
        {
            out.push((t, d, std::mem::replace(&mut params[t], nothing)));
        }
    }
    let mut items = Vec::new();
    for (t, d, w) in &mut out {
        let cols = tensors[*t].cols.max(1);
        let rows = GROUP / cols + 1;
        let (v, g) = (params[d.matrix].chunks(rows * cols), params[d.vector].chunks(rows));
        items.extend(w.chunks_mut(rows * cols).zip(v.zip(g)).map(|(w, (v, g))| (d.rule, cols, v, g, w)));
    }
    pool::each_owned(pool::num_threads(), items, &|_, (rule, cols, v, g, w)| {
        for ((v, g), w) in v.chunks(cols).zip(g).zip(w.chunks_mut(cols)) {
            rule.forward(v, *g, w);
        }
    });
    for (t, _, w) in out {
        params[t] = w;
    }
}

/// A buffer to write beside another one to read.
fn two<T: Real>(params: &mut [Buffer<T>], write: usize, read: usize) -> (&mut [T], &[T]) {
    if write > read {
        let (a, b) = params.split_at_mut(write);
        (&mut b[0], &a[read])
    } else {
        let (a, b) = params.split_at_mut(read);
        (&mut a[write], &b[0])
    }
}

/// One thread's matrix and vector of a copy, where they are made again instead of stored.
#[derive(Default)]
pub struct Parts<T> {
    v: Vec<T>,
    g: Vec<T>,
}

impl<T: Real> Parts<T> {
    /// Matrix and vector of the copy that a use has.
    pub fn get<'s>(&'s mut self, p: &Program, params: &'s [Buffer<T>], d: &Derived, copy: usize) -> (&'s [T], &'s [T]) {
        if is_made(p, params, d.matrix) {
            make(p, d.matrix, copy, &mut self.v);
            make(p, d.vector, copy, &mut self.g);
            return (&self.v, &self.g);
        }
        let of = |t: usize| &params[t][copy * p.tensors[t].len()..][..p.tensors[t].len()];
        (of(d.matrix), of(d.vector))
    }
}

/// For each use, the power of two that its dL/dv is taken out of the range by: zero almost always, and wherever the
/// weights are parameters themselves.
pub fn shifts<T: Real>(p: &Program, params: &[Buffer<T>], list: &[Use<'_>], threads: usize) -> Vec<i64> {
    let mut out = vec![0; list.len()];
    let found: Vec<_> = out.iter_mut().zip(list).filter_map(|(o, u)| Some((o, u, of(p, &u.op.kind)?))).collect();
    if found.is_empty() {
        return out;
    }
    let spare: Vec<Mutex<Parts<T>>> =
        (0..threads).map(|_| Mutex::new(Parts { v: Vec::new(), g: Vec::new() })).collect();
    pool::each_owned(threads, found, &|worker, (shift, u, (weight, d))| {
        let mut parts = super::weights::lock(&spare[worker]);
        let (v, g) = parts.get(p, params, &d, weight.copy(u.iteration));
        let cols = p.tensors[d.matrix].cols.max(1);
        let rows = v.chunks(cols).zip(g).filter_map(|(v, g)| d.rule.factor(v, *g));
        *shift = far(rows.fold(0.0, f64::max));
    });
    out
}

/// The exponent of a factor that is far from one, else zero.
fn far(factor: f64) -> i64 {
    const NEAR: i64 = 16;
    if factor == 0.0 { 0 } else { Some(exponent(factor)).filter(|k| k.abs() > NEAR).unwrap_or(0) }
}

/// Turns rows of dL/dw into rows of dL/dv, and gives dL/dg of these rows.
/// Shapes: `v`, `gradient`: (rows, cols), `g`, `out`: (rows,).
pub fn backward<T: Real>(d: &Derived, v: &[T], g: &[T], gradient: &mut [T], shift: i64, out: &mut [T]) {
    let cols = v.len() / g.len().max(1);
    for ((row, v), (g, out)) in gradient.chunks_mut(cols.max(1)).zip(v.chunks(cols.max(1))).zip(g.iter().zip(out)) {
        *out = T::from_f64(d.rule.backward(v, *g, row, shift));
    }
}
