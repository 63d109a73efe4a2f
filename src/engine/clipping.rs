//! engine: clips applied to kept gradients: norms with exponents, factors, and what changes entries. Knows copies of
//! parameters cut into runs of rows, no optimizer.

use super::weights::block_rows;
use crate::kernels::gradient::{Block, Weights, block, squares};
use crate::kernels::update::{Change, STATES, multiply};
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::num::scaled::ScaledSum;
use crate::parts::clip::{Clip, Norm, Scope};
use crate::parts::optimizer::Numbers;

/// One copy of a parameter.
pub(super) struct Own {
    pub(super) tensor: usize,
    pub(super) copy: usize,
    /// Exponent of the gradient, and the factor that clips have given it.
    pub(super) exponent: i64,
    pub(super) factor: Scale,
    /// Squares of the mantissas, while nothing has changed them.
    pub(super) squares: Option<ScaledSum>,
    /// Belongs to the network's last layer.
    pub(super) last: bool,
    /// Numbers of the step.
    pub(super) numbers: Numbers,
    /// Entries.
    pub(super) count: usize,
}

impl Own {
    /// The factor as what the mantissas are multiplied by, and the exponent that is left of it: at most one, because
    /// mantissas may be at the upper end of their type's range.
    fn split(&self) -> (Scale, i64) {
        let Scale { m, e } = self.factor;
        if m == 0.0 || m.abs() == 1.0 || !m.is_finite() { (Scale::from(m), e) } else { (Scale::new(m, -1), e + 1) }
    }

    /// The factor and the exponent together.
    pub(super) fn scale(&self) -> Scale {
        self.factor.shifted(self.exponent)
    }
}

/// A run of rows of one copy.
pub(super) struct Part<'a, T> {
    pub(super) copy: usize,
    pub(super) cols: usize,
    pub(super) gradient: &'a mut [T],
    pub(super) weights: &'a mut [T],
    pub(super) states: [&'a mut [T]; STATES],
    pub(super) sums: [f64; 2],
    pub(super) squares: [ScaledSum; 2],
    pub(super) rows: Vec<Scale>,
    pub(super) change: Change,
}

/// Elements that are worth a task.
const TASK: usize = 16_384;

/// Calls `f` on all parts, small ones together.
pub(super) fn each<T: Real>(threads: usize, parts: &mut [Part<'_, T>], f: &(dyn Fn(&mut Part<'_, T>) + Sync)) {
    let mut tasks = Vec::new();
    let mut rest = parts;
    while !rest.is_empty() {
        let mut total = 0;
        let n = rest.iter().take_while(|p| (total < TASK, total += p.weights.len()).0).count();
        let (a, b) = rest.split_at_mut(n);
        tasks.push(a);
        rest = b;
    }
    pool::each_owned(threads, tasks, &|_, task| task.iter_mut().for_each(f));
}

/// Takes the first `n` elements off a slice; none where there are none.
pub(super) fn take<'a, T>(rest: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (a, b) = std::mem::take(rest).split_at_mut_checked(n).unwrap_or_default();
    *rest = b;
    a
}

/// Cuts a parameter and its gradient into copies and runs of rows. `cols`: of a matrix; a vector is one row. `last`:
/// copies that belong to the network's last layer.
pub(super) fn lay<'a, T: Real>(
    (tensor, cols, last, numbers): (usize, Option<usize>, &[usize], Numbers),
    (mut gradient, exponents): (&'a mut [T], &[i64]),
    mut weights: &'a mut [T],
    mut states: [&'a mut [T]; STATES],
    copies: &mut Vec<Own>,
    parts: &mut Vec<Part<'a, T>>,
) {
    let len = gradient.len() / exponents.len().max(1);
    let (cols, step) = cols.map_or((len, len), |c| (c, block_rows(c) * c));
    for (copy, &exponent) in exponents.iter().enumerate() {
        for from in (0..len).step_by(step.max(1)) {
            let n = step.min(len - from);
            parts.push(Part {
                copy: copies.len(),
                cols,
                gradient: take(&mut gradient, n),
                weights: take(&mut weights, n),
                states: states.each_mut().map(|s| take(s, n)),
                sums: [0.0; 2],
                squares: [ScaledSum::default(); 2],
                rows: Vec::new(),
                change: Change::default(),
            });
        }
        let (factor, squares, last) = (Scale::ONE, None, last.contains(&copy));
        copies.push(Own { tensor, copy, exponent, factor, squares, last, numbers, count: len });
    }
}

/// A gradient by itself, with the weights it belongs to.
pub struct Lone<T> {
    /// Mantissas.
    pub mantissa: Vec<T>,
    /// Exponents, one a copy.
    pub exponent: Vec<i64>,
    /// The weights.
    pub weights: Vec<T>,
    /// Columns, of a matrix.
    pub cols: Option<usize>,
    /// It belongs to the last layer.
    pub last: bool,
}

/// What clips, in order, make of gradients.
pub fn clip<T: Real>(threads: usize, clips: &[Clip], list: &mut [Lone<T>]) {
    let (mut copies, mut parts) = (Vec::new(), Vec::new());
    for (i, g) in list.iter_mut().enumerate() {
        let last: Vec<usize> = (0..g.exponent.len()).filter(|_| g.last).collect();
        let of = (&mut g.mantissa[..], &g.exponent[..]);
        lay((i, g.cols, &last, Numbers::default()), of, &mut g.weights, Default::default(), &mut copies, &mut parts);
    }
    for clip in clips {
        apply_clip(threads, clip, &mut copies, &mut parts);
    }
    each(threads, &mut parts, &|p| {
        let (factor, _) = copies[p.copy].split();
        if factor != Scale::ONE {
            multiply(p.gradient, factor);
        }
    });
    for c in &copies {
        list[c.tensor].exponent[c.copy] = c.exponent + c.split().1;
    }
}

/// Sees to it that the squares of every copy's mantissas are known.
pub(super) fn measure<T: Real>(threads: usize, copies: &mut [Own], parts: &mut [Part<'_, T>]) {
    {
        let copies = &*copies;
        each(threads, parts, &|p| {
            if copies[p.copy].squares.is_none() {
                p.squares[0] = squares(p.gradient);
            }
        });
    }
    let known: Vec<bool> = copies.iter().map(|c| c.squares.is_some()).collect();
    for p in parts.iter().filter(|p| !known[p.copy]) {
        copies[p.copy].squares.get_or_insert_default().add(p.squares[0]);
    }
}

/// The norm of each copy's gradient.
fn norms<T: Real>(threads: usize, norm: Norm, copies: &mut [Own], parts: &mut [Part<'_, T>]) -> Vec<Scale> {
    if norm == Norm::Two {
        measure(threads, copies, parts);
        return copies.iter().map(|c| Scale::root(c.squares.unwrap_or_default()).times(c.scale())).collect();
    }
    each(threads, parts, &|p| {
        let sums =
            block(Block { gradient: p.gradient, weights: Weights::None, step: None, flush: [T::ZERO; 6], full: true });
        // The largest leaves NaN out, which the sum does not.
        p.sums = [sums.abs, if sums.abs.is_nan() { f64::NAN } else { sums.largest }];
    });
    let mut out = vec![Scale::ZERO; copies.len()];
    for p in parts.iter() {
        let o = &mut out[p.copy];
        *o = if norm == Norm::One { o.plus(p.sums[0].into()) } else { largest(*o, p.sums[1].into()) };
    }
    out.iter().zip(copies.iter()).map(|(o, c)| o.times(c.scale())).collect()
}

/// The larger of two; NaN if one is.
fn largest(a: Scale, b: Scale) -> Scale {
    if b.m.is_nan() { b } else { a.at_least(b) }
}

/// The norm of all gradients together, from those of the copies, in order.
fn together(norm: Norm, norms: &[Scale]) -> Scale {
    let mut sum = ScaledSum::default();
    let mut out = Scale::ZERO;
    for &n in norms {
        match norm {
            Norm::Two => sum.add(ScaledSum { s: n.m * n.m, e: 2 * n.e }),
            Norm::One => out = out.plus(n),
            Norm::Largest => out = largest(out, n),
        }
    }
    if norm == Norm::Two { Scale::root(sum) } else { out }
}

pub(super) fn apply_clip<T: Real>(threads: usize, clip: &Clip, copies: &mut [Own], parts: &mut [Part<'_, T>]) {
    let spared = |c: &Own| clip.spares_the_last() && c.last;
    match clip.scope() {
        Scope::All => {
            let factor = clip.factor(together(clip.norm(), &norms(threads, clip.norm(), copies, parts)), Scale::ONE);
            if factor != Scale::ONE {
                copies.iter_mut().for_each(|c| c.factor = c.factor.times(factor));
            }
        }
        Scope::Layer => {
            let found = norms(threads, clip.norm(), copies, parts);
            for (c, norm) in copies.iter_mut().zip(found) {
                if !spared(c) {
                    c.factor = c.factor.times(clip.factor(norm, Scale::ONE));
                }
            }
        }
        Scope::Row => by_rows(threads, clip, copies, parts),
        Scope::Entry => {
            let found = norms(threads, Norm::Largest, copies, parts);
            let shown: Vec<_> = copies.iter().zip(found).map(|(c, n)| clip.shown(n).filter(|_| !spared(c))).collect();
            {
                let copies = &*copies;
                each(threads, parts, &|p| {
                    let (c, Some(shown)) = (&copies[p.copy], shown[p.copy]) else { return };
                    let (factor, rest) = c.split();
                    if factor != Scale::ONE {
                        multiply(p.gradient, factor);
                    }
                    let shift = shown.exponent.map_or(0, |e| c.exponent + rest - e);
                    clip.change(p.gradient, shift, shown.limit);
                });
            }
            for (c, shown) in copies.iter_mut().zip(shown) {
                if let Some(shown) = shown {
                    (c.exponent, c.factor, c.squares) = (shown.exponent.unwrap_or(0), Scale::ONE, None);
                }
            }
        }
    }
}

/// A clip of each row by its own norm and that of its weights.
fn by_rows<T: Real>(threads: usize, clip: &Clip, copies: &mut [Own], parts: &mut [Part<'_, T>]) {
    {
        let copies = &*copies;
        each(threads, parts, &|p| {
            p.rows.clear();
            let c = &copies[p.copy];
            if clip.spares_the_last() && c.last {
                return;
            }
            let scale = c.scale();
            for (g, w) in p.gradient.chunks(p.cols.max(1)).zip(p.weights.chunks(p.cols.max(1))) {
                let norm = Scale::root(squares(g)).times(scale);
                p.rows.push(clip.factor(norm, Scale::root(squares(w))));
            }
        });
    }
    // Rows of a copy share an exponent: that of the row that is cut least.
    let mut least: Vec<Option<i64>> = vec![None; copies.len()];
    let mut cut = vec![false; copies.len()];
    for p in parts.iter() {
        for f in &p.rows {
            // One more than its exponent: mantissas are multiplied by no more than one.
            let e = f.e + i64::from(f.m > 1.0);
            least[p.copy] = Some(least[p.copy].map_or(e, |old| old.max(e)));
            cut[p.copy] |= *f != Scale::ONE;
        }
    }
    each(threads, parts, &|p| {
        if cut[p.copy] {
            let top = least[p.copy].unwrap_or(0);
            for (g, f) in p.gradient.chunks_mut(p.cols.max(1)).zip(&p.rows) {
                multiply(g, f.shifted(-top));
            }
        }
    });
    for ((c, cut), least) in copies.iter_mut().zip(cut).zip(least) {
        if cut {
            c.exponent += least.unwrap_or(0);
            c.squares = None;
        }
    }
}
