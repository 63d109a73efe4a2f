//! engine: what a sweep will touch in its next layer, so that it can be fetched during this one. Knows places, no values.

use super::program::{Kind, Op};
use super::sweep::Scene;
use super::tape::{Place, Share};
use crate::kernels::matmul::Ahead;
use crate::num::real::Real;

/// Weights up to this many bytes are asked for one layer ahead: a quarter of a second-level cache.
const NEAR: usize = 1 << 19;

/// Memory up to this many bytes is claimed before it is written: it must stay in the second-level cache until then.
pub const CLAIMED: usize = 1 << 17;

/// Which way a sweep goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the input to the output.
    Forward,
    /// From the output to the input.
    Back,
}

impl<T: Real> Scene<'_, T> {
    /// Has the next product ask for what the Dense that comes after operation `index` will touch: its weights, its slope
    /// and its output or, on the way back, its delta. A small layer takes about as long as its weights take to come from
    /// a far cache; large ones would drive out what is in use. `t` and `k` are the indices on the tape and in the segment.
    /// Returns, on the way back, where its delta will be written, if that is small enough to be claimed meanwhile.
    pub fn look_ahead(
        &self,
        ahead: &mut Ahead,
        share: &Share<'_, T>,
        (block, index, i): (usize, usize, usize),
        (t, k): (usize, usize),
        way: Way,
    ) -> Option<Place> {
        let b = &self.program.blocks[block];
        let dense = |o: &&Op| matches!(o.kind, Kind::Dense { .. });
        let (here, there) = match way {
            Way::Forward => (b.ops[index + 1..].iter().find(dense), b.ops.iter().find(dense)),
            Way::Back => (b.ops[..index].iter().rfind(dense), b.ops.iter().rfind(dense)),
        };
        let on = |at: usize| if way == Way::Forward { at.checked_add(1) } else { at.checked_sub(1) };
        let (op, i, t, k) = match (here, there, on(i), on(t), on(k)) {
            (Some(op), ..) => (op, i, t, k),
            (None, Some(op), Some(i), Some(t), Some(k)) if i < b.times => (op, i, t, k),
            _ => return None,
        };
        let Kind::Dense { weight, .. } = &op.kind else { return None };
        let (base, delta_base) = self.base[block];
        let next = op.delta.filter(|_| way == Way::Back).map(|d| (delta_base + d, k));
        let (len, copy) = (self.program.tensors[weight.tensor].len(), weight.copy(i));
        // Nothing is to be fetched of weights that are made again.
        let weights = self.params[weight.tensor].get(copy * len..(copy + 1) * len);
        if let Some(weights) = weights.filter(|w| size_of_val(*w) <= NEAR) {
            ahead.add(weights);
            if let Some(a) = &op.act {
                ahead.add(share.slots[base + a.d].peek(t));
            }
            if way == Way::Forward {
                ahead.add(share.slots[base + op.y].peek(t));
            }
        }
        next.filter(|&(delta, k)| size_of_val(share.deltas[delta].peek(k)) <= CLAIMED)
    }
}
