//! engine: one pass through a recurrent layer: its levels and stacks forward, then backward with the weight phase after
//! each segment. Knows no losses and no other layers.

use super::backward::{Above, NOTHING, join};
use super::figures::{NonFinite, StepEntry, Tables, TimeStats, ready};
use super::forward::{Ready, Scene, Worker};
use super::gradient::{Gradients, Whole};
use super::lyapunov::Spectrum;
use super::plan::TimePlan;
use super::tape::{Key, Spare, Tape};
use super::{Recurrent, Stack};
use crate::engine::pass::cut;
use crate::engine::sweep::Level;
use crate::error::Error;
use crate::kernels::delta::normalise;
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, exponent, pow2};
use std::sync::{Mutex, PoisonError};

/// What a pass through a layer is to do.
#[derive(Clone, Copy)]
pub struct Setting<'a, T: Real> {
    /// The layer.
    pub r: &'a Recurrent,
    /// Its parameters.
    pub params: &'a [Buffer<T>],
    /// The plan.
    pub plan: &'a TimePlan,
    /// Steps of each sample; all if none.
    pub lengths: Option<&'a [usize]>,
    /// The gradient is cut every so many steps.
    pub truncate: Option<usize>,
    /// Figures wanted.
    pub level: Level,
    /// A backward pass will follow.
    pub backward: bool,
    /// It is to yield dL/d(input).
    pub inputs: bool,
    /// Tapes of earlier passes, and the number of the layer among the network's stages.
    pub spare: Option<(&'a Spare<T>, usize)>,
    /// True once the caller wants to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// Tapes of plans above this are given back after a pass.
const SPARE_LIMIT: u64 = 2 << 30;

struct StackRun<T: Real> {
    key: Key,
    tape: Tape<T>,
    ready: Vec<Ready<T>>,
    workers: Vec<Worker<T>>,
}

/// A pass in work.
pub struct Run<'a, T: Real> {
    set: Setting<'a, T>,
    threads: usize,
    levels: Vec<Vec<StackRun<T>>>,
    /// Outputs of all levels but the last: (batch, steps, out).
    between: Vec<Vec<T>>,
}

/// dL/d(output) row by row: (sample, step) where every step is read, else the sample.
pub struct Seed<T> {
    /// Mantissas.
    pub g: Vec<T>,
    /// Exponents; the least possible marks a row of zeros.
    pub e: Vec<i64>,
}

impl<T: Real> Seed<T> {
    /// Each row at [1, 2): what becomes of it then depends neither on its scale nor on the other rows, to the bit.
    fn normalised(mut self, width: usize) -> Self {
        for (g, e) in self.g.chunks_exact_mut(width).zip(&mut self.e) {
            let largest = g.iter().fold(0.0f64, |m, x| m.max(x.to_f64().abs()));
            if *e != NOTHING && largest != 0.0 && largest.is_finite() {
                let k = exponent(largest);
                normalise(g, k);
                *e += k;
            }
        }
        self
    }
}

/// What a backward pass yields.
pub struct Backward<T: Real> {
    /// Figures.
    pub stats: TimeStats,
    /// Gradients by tensor: mantissas in doubles and an exponent.
    pub gradients: Vec<Whole>,
    /// dL/d(input), rows (sample, step), if asked for.
    pub inputs: Option<Seed<T>>,
    /// dL/d(initial state) by state: rows (cell, sample).
    pub states: Vec<Seed<T>>,
}

impl<'a, T: Real> Run<'a, T> {
    /// A pass that has not begun.
    pub fn new(set: Setting<'a, T>) -> Self {
        Self::on(set, pool::num_threads())
    }

    /// The same on so many threads.
    pub fn on(set: Setting<'a, T>, threads: usize) -> Self {
        Self { set, threads, levels: Vec::new(), between: Vec::new() }
    }

    /// The same pass over as many copies of its one sample as `plan` has rows, without running them: `x` is the input as
    /// often, and all steps have been kept.
    pub fn copies<'b>(mut self, plan: &'b TimePlan, x: &[T]) -> Result<Run<'b, T>, Error>
    where
        'a: 'b,
    {
        let (r, set) = (self.set.r, Setting { plan, ..self.set });
        let mut run = Run::on(set, self.threads);
        let Some(StackRun { key, tape: one, ready, .. }) = std::mem::take(&mut self.levels[0]).pop() else {
            return Ok(run);
        };
        let stack = &r.levels[0][0];
        let mut tape = Tape::new(r, stack, plan, true, false)?;
        for (to, from) in tape.cells.iter_mut().zip(&one.cells) {
            for (to, from, width) in [
                (&mut to.z, &from.z, r.z_width()),
                (&mut to.s, &from.s, r.state_width()),
                (&mut to.y, &from.y, r.hidden),
            ] {
                for (rows, row) in to.chunks_exact_mut(plan.batch * width).zip(from.chunks_exact(width)) {
                    rows.chunks_exact_mut(width).for_each(|copy| copy.copy_from_slice(row));
                }
            }
        }
        let scene = run.scene(0, stack, &ready, x, tape.chunk);
        let new = |c: std::ops::Range<usize>| Worker::new(&scene, c.clone(), tape.rows(&c), true, set.inputs);
        let workers = tape.split(self.threads).into_iter().map(new).collect();
        run.levels.push(vec![StackRun { key, tape, ready, workers }]);
        Ok(run)
    }

    /// Takes orthonormal gradients `a` of the final state back on one thread, and has them made orthonormal again after
    /// every segment; `a` becomes those of the initial state. `x` is what `forward` was given.
    pub fn turn(mut self, x: &[T], a: &mut [f64], spectrum: &mut Spectrum) -> Result<(), Error> {
        let (r, plan) = (self.set.r, self.set.plan);
        let Some(run) = std::mem::take(&mut self.levels[0]).pop() else { return Ok(()) };
        let StackRun { mut tape, ready, mut workers, .. } = run;
        let stack = &r.levels[0][0];
        let scene = self.scene(0, stack, &ready, x, tape.chunk);
        let (sw, k) = (r.state_width(), plan.batch);
        let n = sw * stack.cells.len();
        let split: Vec<_> = workers.iter().map(|w| w.chunks.clone()).collect();
        for segment in (0..plan.segments()).rev() {
            let mut shares = tape.share(&split);
            for (w, share) in workers.iter_mut().zip(&mut shares) {
                for (c, cell) in w.cells.iter_mut().enumerate() {
                    for row in 0..k {
                        let from = &a[row * n + c * sw..][..sw];
                        cell.g[row * sw..][..sw].iter_mut().zip(from).for_each(|(g, a)| *g = T::from_f64(*a));
                    }
                    cell.e.fill(0);
                    cell.apart.fill_with(|| None);
                }
                if !scene.backward(w, share, segment, None, None, &[]) {
                    return Err(Error::Interrupted);
                }
                // A row is all cells' states together, so it takes one exponent: the largest of theirs.
                let e: Vec<i64> = (0..k).map(|row| w.cells.iter().map(|c| c.e[row]).max().unwrap_or(0)).collect();
                for (c, cell) in w.cells.iter().enumerate() {
                    for row in 0..k {
                        // A cell without a gradient has the least exponent there is.
                        let f = pow2(cell.e[row].saturating_sub(e[row]));
                        let to = &mut a[row * n + c * sw..][..sw];
                        to.iter_mut().zip(&cell.g[row * sw..][..sw]).for_each(|(a, g)| *a = g.to_f64() * f);
                    }
                }
                spectrum.turn(a, n, &e);
            }
        }
        Ok(())
    }

    fn scene<'s>(
        &'s self,
        level: usize,
        stack: &'s Stack,
        ready: &'s [Ready<T>],
        x: &'s [T],
        chunk: usize,
    ) -> Scene<'s, T> {
        let s = &self.set;
        Scene {
            r: s.r,
            stack,
            ready,
            params: s.params,
            plan: s.plan,
            x,
            lengths: s.lengths,
            truncate: s.truncate,
            every: s.r.every || level + 1 < s.r.levels.len(),
            level: s.level,
            chunk,
            stop: s.stop,
        }
    }

    /// The input of a level.
    fn input<'s>(&'s self, level: usize, x: &'s [T]) -> &'s [T] {
        if level == 0 { x } else { &self.between[level - 1] }
    }

    /// Runs forward over `x`, (batch, steps, in). `state`, where given, has (cells, batch, hidden) for each state.
    /// Returns the output, the final states in the same form, and where numbers were first left.
    #[allow(clippy::type_complexity)] // reason: three results that belong together
    pub fn forward(
        &mut self,
        x: &[T],
        state: Option<&[Vec<T>]>,
    ) -> Result<(Vec<T>, Vec<Vec<T>>, Option<NonFinite>), Error> {
        let (r, plan, set) = (self.set.r, self.set.plan, self.set);
        let (batch, steps, wide) = (plan.batch, plan.steps, r.out_features);
        let kinds = r.shape.states / r.shape.outputs;
        let mut last = vec![vec![T::ZERO; r.num_layers * r.directions * batch * r.hidden]; kinds];
        let mut bad: Option<(usize, NonFinite)> = None;
        for (level, stacks) in r.levels.iter().enumerate() {
            let every = r.every || level + 1 < r.levels.len();
            let rows = if every { batch * steps } else { batch };
            let mut out = vec![T::ZERO; rows * wide];
            let mut runs = Vec::with_capacity(stacks.len());
            for (direction, stack) in stacks.iter().enumerate() {
                let ready = ready(r, stack, set.params);
                let full = set.level == Level::Full;
                let stage = set.spare.map_or(0, |s| s.1);
                let sizes = (plan.kept(), plan.segment, if plan.keep { 0 } else { plan.segments() });
                let key = (stage, level, direction, sizes.0, sizes.1, sizes.2, batch, set.backward, full);
                let mut tape = match set.spare.and_then(|(s, _)| s.take(key)) {
                    Some(tape) => tape,
                    None => Tape::new(r, stack, plan, set.backward, full)?,
                };
                self.start(&mut tape, stack, state);
                let scene = self.scene(level, stack, &ready, self.input(level, x), tape.chunk);
                let split = tape.split(self.threads);
                let first_dx = level > 0 || set.inputs;
                let new =
                    |c: &std::ops::Range<usize>| Worker::new(&scene, c.clone(), tape.rows(c), set.backward, first_dx);
                let mut workers: Vec<_> = split.iter().map(new).collect();
                let counts: Vec<_> = workers.iter().map(|w| w.rows.len()).collect();
                let outs = cut(&mut out, &counts, if every { steps * wide } else { wide });
                let items: Vec<_> = workers.iter_mut().zip(tape.share(&split)).zip(outs).collect();
                pool::each_owned(self.threads, items, &|_, ((w, mut share), out)| {
                    for segment in 0..plan.segments() {
                        if !scene.forward(w, &mut share, segment, Some((&mut *out, direction * r.hidden))) {
                            return;
                        }
                    }
                });
                if (set.stop)() {
                    return Err(Error::Interrupted);
                }
                for first in workers.iter().filter_map(|w| w.bad) {
                    let c = &stack.cells[first.cell];
                    let (layer, direction) = (c.index / r.directions, c.index % r.directions);
                    let (at, units) = (first.at, first.units);
                    let same = workers.iter().filter_map(|w| w.bad).filter(|b| (b.at, b.cell) == (at, first.cell));
                    let units = same.map(|b| b.units).sum::<usize>().max(units);
                    let here = NonFinite { step: scene.time(at), layer, direction, units };
                    if bad.as_ref().is_none_or(|(b, _)| at < *b) {
                        bad = Some((at, here));
                    }
                }
                let end = if plan.keep { steps } else { 0 };
                for (c, cell) in stack.cells.iter().zip(&tape.cells) {
                    let sw = r.state_width();
                    for b in 0..batch {
                        let row = &cell.s[(end * batch + b) * sw..][..sw];
                        for (s, part) in last.iter_mut().zip(row.chunks_exact(r.hidden)) {
                            s[(c.index * batch + b) * r.hidden..][..r.hidden].copy_from_slice(part);
                        }
                    }
                }
                if set.backward {
                    runs.push(StackRun { key, tape, ready, workers });
                } else if let Some((spare, _)) = set.spare {
                    drop(workers);
                    spare.put(key, tape);
                }
            }
            self.levels.push(runs);
            if level + 1 == r.levels.len() {
                return Ok((out, last, bad.map(|b| b.1)));
            }
            self.between.push(out);
        }
        Ok((Vec::new(), last, None))
    }

    /// Puts the initial state where the first step finds it.
    fn start(&self, tape: &mut Tape<T>, stack: &Stack, state: Option<&[Vec<T>]>) {
        let (r, batch) = (self.set.r, self.set.plan.batch);
        let (sw, h) = (r.state_width(), r.hidden);
        for (c, cell) in stack.cells.iter().zip(&mut tape.cells) {
            for b in 0..batch {
                for (s, part) in cell.s[b * sw..][..sw].chunks_exact_mut(h).enumerate() {
                    if let Some(given) = state {
                        part.copy_from_slice(&given[s][(c.index * batch + b) * h..][..h]);
                    } else if let Some(&t) = r.start.get(s) {
                        part.copy_from_slice(&self.set.params[t][c.index * h..][..h]);
                    } else {
                        part.fill(T::ZERO);
                    }
                }
            }
        }
    }

    /// Takes dL/d(output) back. `x` is what `forward` was given.
    pub fn backward(mut self, x: &[T], seed: Seed<T>, given_state: bool) -> Result<Backward<T>, Error> {
        let (r, plan, set) = (self.set.r, self.set.plan, self.set);
        let (batch, steps) = (plan.batch, plan.steps);
        let kinds = r.shape.states / r.shape.outputs;
        let cells = r.num_layers * r.directions;
        let mut stats = TimeStats::new(r, steps, set.level)?;
        let mut gradients = Vec::new();
        let states = || Seed { g: vec![T::ZERO; cells * batch * r.hidden], e: vec![NOTHING; cells * batch] };
        let mut states: Vec<Seed<T>> = (0..kinds).map(|_| states()).collect();
        let mut above = seed.normalised(r.out_features);
        for level in (0..r.levels.len()).rev() {
            let mut below: Option<Seed<T>> = None;
            let width = r.levels[level][0].cells[0].in_width;
            let wanted = level > 0 || set.inputs;
            let mut runs = std::mem::take(&mut self.levels[level]);
            for (direction, (stack, run)) in r.levels[level].iter().zip(&mut runs).enumerate() {
                let scene = self.scene(level, stack, &run.ready, self.input(level, x), run.tape.chunk);
                let size = if wanted { batch * steps } else { 0 };
                let mut dx = Seed { g: vec![T::ZERO; size * width], e: vec![NOTHING; size] };
                let seed = Above { g: &above.g, e: &above.e, width: r.out_features, col: direction * r.hidden };
                gradients.extend(stack_back(
                    &self.set,
                    &scene,
                    &mut run.tape,
                    &mut run.workers,
                    seed,
                    &mut dx,
                    &mut stats,
                    self.threads,
                )?);
                for w in &run.workers {
                    for (c, cell) in stack.cells.iter().zip(&w.cells) {
                        for (i, b) in w.rows.clone().enumerate() {
                            let row = &cell.g[i * r.state_width()..][..r.state_width()];
                            for (n, (s, part)) in states.iter_mut().zip(row.chunks_exact(r.hidden)).enumerate() {
                                let at = c.index * batch + b;
                                let own = cell.apart[i].as_ref().filter(|a| a.output == (n == 0));
                                let (part, e) = own.map_or((part, cell.e[i]), |a| (&a.values, a.e));
                                s.g[at * r.hidden..][..r.hidden].copy_from_slice(part);
                                s.e[at] = e;
                            }
                        }
                    }
                }
                match &mut below {
                    None => below = Some(dx),
                    Some(sum) => {
                        for ((a, ea), (b, &eb)) in
                            sum.g.chunks_exact_mut(width).zip(&mut sum.e).zip(dx.g.chunks_exact(width).zip(&dx.e))
                        {
                            join(a, ea, b, eb);
                        }
                    }
                }
            }
            if let Some((spare, _)) = set.spare.filter(|_| plan.bytes <= SPARE_LIMIT) {
                for run in runs {
                    spare.put(run.key, run.tape);
                }
            }
            above = below.unwrap_or(Seed { g: Vec::new(), e: Vec::new() });
        }
        if set.level > Level::None {
            for cell in 0..cells {
                let mut sum = ScaledSum::default();
                for s in &states {
                    for b in cell * batch..(cell + 1) * batch {
                        let q = crate::kernels::gradient::squares(&s.g[b * r.hidden..][..r.hidden]);
                        if s.e[b] != NOTHING {
                            sum.add(ScaledSum { s: q.s, e: q.e + 2 * s.e[b] });
                        }
                    }
                }
                stats.state_grad_log2_norm[cell] = sum.log2_sqrt();
            }
        }
        for (s, &t) in states.iter().zip(&r.start) {
            // A state that was given stood in place of the learned one, which had no part in the result.
            let whole = if given_state {
                (t, vec![0.0; cells * r.hidden], 0)
            } else {
                start_gradient(s, t, cells, batch, r.hidden)
            };
            gradients.push(whole);
        }
        Ok(Backward { stats, gradients, inputs: set.inputs.then_some(above), states })
    }
}

/// The gradient of a learned initial state: rows of one cell summed over the batch.
fn start_gradient<T: Real>(s: &Seed<T>, tensor: usize, cells: usize, batch: usize, h: usize) -> Whole {
    let top = s.e.iter().copied().filter(|&e| e != NOTHING).max().unwrap_or(0);
    let mut sum = vec![0.0; cells * h];
    for (row, (g, &e)) in s.g.chunks_exact(h).zip(&s.e).enumerate() {
        let f = if e == NOTHING { 0.0 } else { pow2(e - top) };
        for (o, g) in sum[row / batch * h..][..h].iter_mut().zip(g) {
            *o += g.to_f64() * f;
        }
    }
    (tensor, sum, top)
}

/// Steps whose figures one task makes.
const RUN: usize = 16;

#[allow(clippy::too_many_arguments)] // reason: one pass's parts, borrowed apart from each other
fn stack_back<T: Real>(
    set: &Setting<'_, T>,
    scene: &Scene<'_, T>,
    tape: &mut Tape<T>,
    workers: &mut [Worker<T>],
    above: Above<'_, T>,
    dx: &mut Seed<T>,
    stats: &mut TimeStats,
    threads: usize,
) -> Result<Vec<Whole>, Error> {
    let (r, plan) = (set.r, set.plan);
    let width = scene.stack.cells[0].in_width;
    let wanted = !dx.e.is_empty();
    let full = set.level == Level::Full;
    let tables: Vec<_> =
        if full { (0..scene.stack.cells.len()).map(|k| Tables::new(scene, k)).collect() } else { Vec::new() };
    let gradients = Gradients::new(r, &scene.stack.cells);
    let split: Vec<_> = workers.iter().map(|w| w.chunks.clone()).collect();
    let counts: Vec<_> = workers.iter().map(|w| w.rows.len()).collect();
    let chunks = tape.chunks();
    let last = plan.segments() - 1;
    for segment in (0..=last).rev() {
        {
            let size = if wanted { plan.steps } else { 0 };
            let g = cut(&mut dx.g, &counts, size * width);
            let e = cut(&mut dx.e, &counts, size);
            let items: Vec<_> = workers.iter_mut().zip(tape.share(&split)).zip(g.into_iter().zip(e)).collect();
            pool::each_owned(threads, items, &|_, ((w, mut share), (g, e))| {
                if segment == last {
                    scene.resume(&mut share, segment);
                } else if !plan.keep && !scene.forward(w, &mut share, segment, None) {
                    return;
                }
                let dx = wanted.then_some((g, e));
                scene.backward(w, &mut share, segment, Some(above), dx, &tables);
            });
        }
        if (set.stop)() {
            return Err(Error::Interrupted);
        }
        let steps = plan.range(segment);
        let runs = if set.level > Level::None { steps.len().div_ceil(RUN) } else { 0 };
        let entries: Vec<_> = (0..runs * tape.cells.len()).map(|_| Mutex::new(Vec::new())).collect();
        let parts = gradients.add(scene, tape, segment, threads, entries.len(), &|i| {
            let (cell, local) = (&tape.cells[i / runs], i % runs * RUN..(i % runs * RUN + RUN).min(steps.len()));
            let entry = |local: usize| {
                let t = scene.time(steps.start + local);
                let lives = (0..plan.batch).filter(|&b| scene.lives(b, t)).count();
                let figures = if full { &cell.figures[local * chunks..][..chunks] } else { &[] };
                StepEntry::new(r, &cell.sums[local * chunks..][..chunks], figures, lives)
            };
            *entries[i].lock().unwrap_or_else(PoisonError::into_inner) = local.map(entry).collect();
        });
        if set.level > Level::None {
            for (i, list) in entries.into_iter().enumerate() {
                let index = scene.stack.cells[i / runs].index;
                let list = list.into_inner().unwrap_or_else(PoisonError::into_inner);
                for (local, entry) in list.iter().enumerate() {
                    stats.enter(r, index, scene.time(steps.start + i % runs * RUN + local), entry);
                }
            }
            for (k, recurrent, at, norm) in parts {
                let to = scene.stack.cells[k].index * plan.steps + scene.time(at);
                if recurrent {
                    stats.hh_log2_norm[to] = norm;
                } else {
                    stats.ih_log2_norm[to] = norm;
                }
            }
        }
    }
    Ok(gradients.finish(scene))
}
