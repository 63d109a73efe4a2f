//! engine: how layers that branch or draw become operations: residuals, gates, concatenation, dropout. Knows no memory and
//! no numbers.
//!
//! Branches follow one another between a Fork and the operation that ends them. Going back, that operation leaves the
//! gradient of the last branch in work and those of the others on a stack, first branch lowest; each Switch exchanges
//! the one in work for the next branch's, and the Fork adds up what has come to lie there.

use super::op::{Chance, Gate, Join, Kind, Noise, Op, Source};
use super::program::{Context, Program, fnv1a};
use crate::error::Error;
use crate::parts::init::Init;
use crate::parts::layer::{Highway, Layer, Residual};

/// An operation that only marks a place.
fn mark(cx: &mut Context, kind: Kind, source: Source, widths: (usize, usize)) {
    cx.block.ops.push(Op { kind, source, y: usize::MAX, act: None, delta: None, widths, unit: None });
}

impl Program {
    pub(super) fn residual(
        &mut self,
        cx: &mut Context,
        r: &Residual,
        source: Source,
        width: usize,
    ) -> Result<(Source, usize), Error> {
        cx.path.push(r.name.clone());
        mark(cx, Kind::Fork { joins: 1 }, source, (width, width));
        let (mut skip, mut skip_width) = (source, width);
        if !r.shortcut.is_empty() {
            cx.path.push("shortcut".into());
            (skip, skip_width) = self.lower(cx, &r.shortcut, source, width)?;
            cx.path.pop();
            mark(cx, Kind::Switch { back: 1 }, skip, (width, skip_width));
        }
        let mut chance = None;
        if r.survival < 1.0 {
            let noise = self.noise(cx, "")?;
            chance = Some(Chance { survival: r.survival, noise, end: cx.block.ops.len() });
            mark(cx, Kind::Maybe(Chance { survival: r.survival, noise, end: usize::MAX }), source, (width, width));
        }
        let (branch, w) = self.lower(cx, &r.body, source, width)?;
        if w != skip_width {
            return Err(Error::Shape(format!(
                "Residual {} adds its shortcut ({skip_width} features) to its branch ({w} features); end the branch with \
                 Dense({skip_width}), or give a shortcut that ends with {w} features",
                cx.at()
            )));
        }
        if let Some(Chance { end: begin, .. }) = chance {
            let end = cx.block.ops.len();
            if let Kind::Maybe(c) = &mut cx.block.ops[begin].kind {
                c.end = end;
            }
        }
        let learned = if r.learned {
            let scale = self.tensor(cx, "", "scale", &[1], (1, 1), &Init::constant(r.scale))?;
            // Of the delta only the exponents are used, and the numbers beside it.
            cx.block.deltas.push(0);
            Some((scale, cx.block.deltas.len() - 1))
        } else {
            None
        };
        cx.path.pop();
        let join = Join { scale: r.scale, learned, gain: r.gain, skip, chance };
        Ok((cx.unit(Kind::Join(join), branch, None, (w, w), false), w))
    }

    pub(super) fn highway(
        &mut self,
        cx: &mut Context,
        h: &Highway,
        source: Source,
        width: usize,
    ) -> Result<Source, Error> {
        cx.path.push(h.name.clone());
        mark(cx, Kind::Fork { joins: if h.carry.is_empty() { 2 } else { 3 } }, source, (width, width));
        let mut carry = None;
        if !h.carry.is_empty() {
            carry = Some(self.lower(cx, &h.carry, source, width)?);
            mark(cx, Kind::Switch { back: 2 }, source, (width, width));
        }
        let (gate, gate_width) = self.lower(cx, &h.gate, source, width)?;
        let slope = cx.block.ops.last().and_then(|o| o.act).filter(|a| a.act.info().name == "sigmoid").map(|a| a.d);
        mark(cx, Kind::Switch { back: 1 }, source, (width, width));
        let (branch, w) = self.lower(cx, &h.transform, source, width)?;
        let at = cx.at();
        let widths = [w, gate_width, carry.map_or(width, |c| c.1)];
        let (Some(slope), true) = (slope, widths == [width; 3]) else {
            return Err(Error::Shape(format!(
                "Highway {at} mixes its input ({width} features) with its transform ({w} features) by a sigmoid gate \
                 ({gate_width} features); all must be of one width: end the transform with Dense({width})"
            )));
        };
        cx.path.pop();
        let kind = Kind::Gate(Gate { skip: source, gate, slope, carry: carry.map(|c| c.0) });
        Ok(cx.unit(kind, branch, None, (width, width), false))
    }

    pub(super) fn concat(
        &mut self,
        cx: &mut Context,
        name: &str,
        body: &[Layer],
        source: Source,
        width: usize,
    ) -> Result<(Source, usize), Error> {
        cx.path.push(name.into());
        mark(cx, Kind::Fork { joins: 1 }, source, (width, width));
        let (branch, w) = self.lower(cx, body, source, width)?;
        cx.path.pop();
        Ok((cx.unit(Kind::Concat { skip: source }, branch, None, (w, width + w), false), width + w))
    }

    pub(super) fn dropout(
        &mut self,
        cx: &mut Context,
        name: &str,
        p: f64,
        source: Source,
        width: usize,
    ) -> Result<Source, Error> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::Argument(format!("Dropout {} needs 0 <= p < 1, got {p}", cx.below(name))));
        }
        let noise = self.noise(cx, name)?;
        Ok(cx.unit(Kind::Drop { p, noise }, source, None, (width, width), false))
    }

    /// The random numbers of the layer of that name.
    fn noise(&mut self, cx: &Context, name: &str) -> Result<Noise, Error> {
        let parts = cx.path.iter().map(String::as_str).chain([name]).filter(|s| !s.is_empty());
        let path = parts.collect::<Vec<_>>().join(".");
        let key = fnv1a(&path);
        if !self.drawing.insert(path) && !cx.again() {
            return Err(Error::Argument(format!(
                "two layers that draw random numbers are both {}; give one of them another name",
                cx.below(name)
            )));
        }
        let (first, stride) = cx.applications();
        Ok(Noise { key, first, stride })
    }
}
