//! engine: where the parameters of an iteration come from: storage or, for initial values that need none, the generator
//! they were drawn from. Knows no sweep.

use super::program::{Block, Origin, Program, Ref};
use crate::num::aligned::Buffer;
use crate::num::real::Real;
use crate::num::rng::Key;

/// A copy that was made again. A place in a block's body names it: its tensor and its copy in the first iteration.
struct Copy<T> {
    tensor: usize,
    first: usize,
    copy: usize,
    values: Vec<T>,
}

/// One thread's copies that were made again.
pub struct Made<T> {
    copies: Vec<Copy<T>>,
    /// Whether anything is to be made; not known before the first iteration.
    needed: Option<bool>,
}

impl<T> Default for Made<T> {
    fn default() -> Self {
        Self { copies: Vec::new(), needed: None }
    }
}

/// Whether a tensor's values are made again whenever they are needed.
pub fn is_made<T: Real>(p: &Program, params: &[Buffer<T>], tensor: usize) -> bool {
    params[tensor].is_empty() && !p.tensors[tensor].is_empty()
}

/// Initial values of a copy of a tensor.
pub fn make<T: Real>(p: &Program, tensor: usize, copy: usize, out: &mut Vec<T>) {
    let t = &p.tensors[tensor];
    out.resize(t.len(), T::ZERO);
    let from = match t.origin {
        Origin::Drawn => None,
        Origin::Started(rule, matrix) => Some((rule, matrix)),
        Origin::Derived(d) => Some((d.rule, d.matrix)),
    };
    if let Some((rule, matrix)) = from {
        // Initial values of the matrix say where the vector starts, and both what the weights are.
        let mut v = Vec::new();
        make(p, matrix, copy, &mut v);
        let cols = p.tensors[matrix].cols.max(1);
        for (out, v) in out.chunks_mut(if t.derived().is_some() { cols } else { 1 }).zip(v.chunks(cols)) {
            let g: T = rule.start(v);
            match out {
                [one] if t.derived().is_none() => *one = g,
                row => rule.forward(v, g, row),
            }
        }
        return;
    }
    let key = Key { seed: p.seed, tensor: t.key, layer: copy as u32 };
    // The same call succeeded when the network was built: shapes and fans are the program's own.
    if t.init.fill(out, t.rows, t.cols, t.fans.0, t.fans.1, key).is_err() {
        out.fill(T::from_f64(f64::NAN));
    }
}

impl<T: Real> Made<T> {
    /// Makes what a block's iteration needs and storage does not have.
    pub fn prepare(&mut self, p: &Program, params: &[Buffer<T>], b: &Block, i: usize) {
        if !*self.needed.get_or_insert_with(|| (0..p.tensors.len()).any(|t| is_made(p, params, t))) {
            return;
        }
        for op in &b.ops {
            for r in op.refs().filter(|r| is_made(p, params, r.tensor)) {
                let copy = r.copy(i);
                let at = self.copies.iter().position(|c| (c.tensor, c.first) == (r.tensor, r.first));
                let at = at.unwrap_or_else(|| {
                    self.copies.push(Copy { tensor: r.tensor, first: r.first, copy: usize::MAX, values: Vec::new() });
                    self.copies.len() - 1
                });
                let entry = &mut self.copies[at];
                if entry.copy != copy {
                    entry.copy = copy;
                    make(p, r.tensor, copy, &mut entry.values);
                }
            }
        }
    }

    /// The values of the copy of a tensor used in iteration `i`.
    pub fn copy<'s>(&'s self, p: &Program, params: &'s [Buffer<T>], r: &Ref, i: usize) -> &'s [T] {
        let (len, copy) = (p.tensors[r.tensor].len(), r.copy(i));
        if is_made(p, params, r.tensor) {
            let found = self.copies.iter().find(|c| (c.tensor, c.copy) == (r.tensor, copy));
            return found.map_or(&[], |c| &c.values);
        }
        &params[r.tensor][copy * len..][..len]
    }
}
