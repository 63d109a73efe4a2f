//! engine: the units of a segment and where on the tape they have left what the weight phase reads. Knows no numbers.

use super::noise::left_out;
use super::pass::Training;
use super::plan::Segment;
use super::program::{Kind, Op, Program, Ref, Source};
use super::tape::{Place, Tape};
use crate::num::real::Real;

/// One use of a dense layer's weights, or of a unit without any, in the segment.
pub struct Use<'a> {
    /// The operation.
    pub op: &'a Op,
    /// Its iteration.
    pub iteration: usize,
    /// Unit within the segment, and within the network.
    pub unit: (usize, usize),
    /// Input, output and slope on the tape.
    pub x: Place,
    /// See `x`.
    pub y: Place,
    /// See `x`.
    pub d: Option<Place>,
    /// The delta.
    pub delta: Option<Place>,
    /// A learned number, and where its gradient lies row by row.
    pub scalar: Option<(Ref, Place)>,
    /// What a normalisation kept of its rows.
    pub kept: Option<Place>,
}

/// The units of a segment, input first. Those of branches that the pass left out are in the second list: the unit within
/// the network.
pub fn uses<'a, T: Real>(
    p: &'a Program,
    tape: &Tape<T>,
    keep: bool,
    (index, s): (usize, &Segment),
    training: Option<Training>,
) -> (Vec<Use<'a>>, Vec<(usize, &'a Op)>) {
    let (mut out, mut absent) = (Vec::new(), Vec::new());
    let mut input = tape.inputs[index];
    let mut unit = 0;
    for piece in &s.pieces {
        let b = &p.blocks[piece.block];
        let (base, delta_base) = tape.base[piece.block];
        for i in piece.from..piece.to {
            let k = i - piece.from;
            let t = if keep { i } else { k };
            let mut next = 0;
            for (at, op) in b.ops.iter().enumerate() {
                if let Kind::Maybe(chance) = &op.kind
                    && left_out(training, chance, i)
                {
                    next = chance.end.max(next);
                }
                let Some(u) = op.unit else { continue };
                if at < next {
                    absent.push((b.first_unit + i * b.units + u, op));
                    continue;
                }
                // The factor of a branch that was left out had no part in the pass: the tape still holds an earlier one's.
                let alone =
                    matches!(&op.kind, Kind::Join(j) if j.chance.as_ref().is_some_and(|c| left_out(training, c, i)));
                let x = match op.source {
                    Source::Input => input,
                    Source::Slot(s) => (base + s, t),
                };
                out.push(Use {
                    op,
                    iteration: i,
                    unit: (unit + u, b.first_unit + i * b.units + u),
                    x,
                    y: (base + op.y, t),
                    d: op.act.as_ref().map(|a| (base + a.d, t)),
                    delta: op.delta.map(|d| (delta_base + d, k)),
                    scalar: op.scalar().filter(|_| !alone).map(|(r, d)| (r, (delta_base + d, k))),
                    kept: match &op.kind {
                        Kind::Norm(n) if n.running.is_none() => Some((base + n.kept, t)),
                        _ => None,
                    },
                });
            }
            unit += b.units;
            if let Source::Slot(s) = b.out {
                input = (base + s, t);
            }
        }
    }
    (out, absent)
}
