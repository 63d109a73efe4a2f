//! kernels: one time step of a recurrent cell over rows, its reverse, and the step's statistics. Knows no particular
//! cell, no weights and no time.
//!
//! A cell has `U` units. Its pre-activations z are `COLUMNS` runs of U numbers a row, its state s is `STATES` runs, and
//! per-unit parameters p are `VECTORS` runs: everything is unit by unit, so that a vector of units is a step of work.

use super::cell_faint::{Lost, Row, faint_row};
use super::delta::squares_of;
use super::number;
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, pow2};
use crate::num::simd::{Duo, Isa, Kernel, Vector, dispatch};

/// Most pre-activations, states and parameters that a unit has.
pub const MAX: (usize, usize, usize) = (4, 2, 3);

/// Pre-activations of one unit; entries from `COLUMNS` on are zero.
pub type Z<V> = [V; MAX.0];
/// States of one unit.
pub type S<V> = [V; MAX.1];
/// Parameters of one unit.
pub type P<V> = [V; MAX.2];

/// What the reverse of a step yields: dL/dz, dL/d(previous state) on the direct path, dL/dp.
pub struct Back<V> {
    /// dL/dz
    pub z: Z<V>,
    /// dL/ds, without the path through the weights.
    pub s: S<V>,
    /// dL/dp
    pub p: P<V>,
    /// dL/d(new second state) by every path, also that through the first, where there are two apart; else zero.
    pub c: V,
}

/// The unit-wise part of a recurrent cell. `step` stands directly above `back`; both `#[inline(always)]`.
pub trait CellMath: Copy + Send + Sync + 'static {
    /// Runs of pre-activations.
    const COLUMNS: usize;
    /// Runs of state.
    const STATES: usize;
    /// Runs of parameters.
    const VECTORS: usize;
    /// Gates, for statistics.
    const GATES: usize;
    /// The previous state reaches the new one other than through z.
    const DIRECT: bool;
    /// Slopes or gates decay towards zero without being zero, so that small floats may lose them.
    const TAILS: bool = true;
    /// The new state.
    fn step<V: Vector>(&self, z: Z<V>, s: S<V>, p: P<V>) -> S<V>;
    /// From dL/d(new state) to dL/d(everything that `step` reads).
    fn back<N: number::Number>(&self, z: Z<N>, s: S<N>, p: P<N>, d: S<N>) -> Back<N>;
    /// Value of each gate and its slope relative to the gate's largest slope.
    fn gates<V: Vector>(&self, z: Z<V>, s: S<V>, p: P<V>) -> Z<(V, V)>;
}

/// Runs a piece of work with the cell's own type.
pub trait CellVisitor {
    /// What it returns.
    type Out;
    /// The work.
    fn visit<M: CellMath>(self, cell: M) -> Self::Out;
}

/// Loads `N` runs of units `j..j + len` from a row.
///
/// # Safety
/// `row` is valid for `runs * units` elements and `j + len <= units`.
#[inline(always)]
pub(super) unsafe fn runs<V: Vector, const N: usize>(
    row: *const V::Elem,
    runs: usize,
    units: usize,
    j: usize,
    len: usize,
) -> [V; N] {
    let mut out = [V::zero(); N];
    let mut i = 0;
    while i < runs {
        // SAFETY: the caller vouches for the run i from unit j on.
        out[i] = unsafe {
            let p = row.add(i * units + j);
            V::load_some(p, len)
        };
        i += 1;
    }
    out
}

/// The inverse of [`runs`].
///
/// # Safety
/// As [`runs`], for writing.
#[inline(always)]
unsafe fn store<V: Vector, const N: usize>(
    v: [V; N],
    row: *mut V::Elem,
    runs: usize,
    units: usize,
    j: usize,
    len: usize,
) {
    let mut i = 0;
    while i < runs {
        // SAFETY: the caller vouches for the run i from unit j on.
        unsafe {
            let p = row.add(i * units + j);
            v[i].store_some(p, len)
        }
        i += 1;
    }
}

/// One step forward for `rows` rows. Shapes: `z`: (rows, COLUMNS * units), `s` and `out`: (rows, STATES * units),
/// `p`: (VECTORS * units,).
pub struct Step<'a, T, M> {
    /// The cell.
    pub cell: M,
    /// Its units.
    pub units: usize,
    /// Pre-activations.
    pub z: &'a [T],
    /// Previous states.
    pub s: &'a [T],
    /// Parameters.
    pub p: &'a [T],
    /// New states.
    pub out: &'a mut [T],
}

impl<T: Real, M: CellMath> Kernel for Step<'_, T, M> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { cell, units, z, s, p, out } = self;
        let (zw, sw) = (M::COLUMNS * units, M::STATES * units);
        let n = T::V::<I>::LANES;
        for r in 0..out.len() / sw {
            let (z, s, out) = (z[r * zw..].as_ptr(), s[r * sw..].as_ptr(), out[r * sw..].as_mut_ptr());
            let mut j = 0;
            while j + 2 * n <= units {
                // SAFETY: `step` checked that all rows are whole.
                unsafe { step_units::<Duo<T::V<I>>, M>(&cell, units, (z, s, p.as_ptr()), out, j, 2 * n) };
                j += 2 * n;
            }
            while j < units {
                // SAFETY: as above.
                unsafe { step_units::<T::V<I>, M>(&cell, units, (z, s, p.as_ptr()), out, j, n.min(units - j)) };
                j += n;
            }
        }
    }
}

/// Units `j..j + len` of a row. Two vectors of them are taken at a time where there are so many: gates are long chains
/// of dependent operations, and two overlap.
///
/// # Safety
/// `z`, `s`, `p` and `out` are valid for a row of runs of `units` elements, and `j + len <= units`.
#[inline(always)]
unsafe fn step_units<V: Vector, M: CellMath>(
    cell: &M,
    units: usize,
    (z, s, p): (*const V::Elem, *const V::Elem, *const V::Elem),
    out: *mut V::Elem,
    j: usize,
    len: usize,
) {
    // SAFETY: the caller vouches for all runs.
    unsafe {
        let zv = runs::<V, { MAX.0 }>(z, M::COLUMNS, units, j, len);
        let sv = runs::<V, { MAX.1 }>(s, M::STATES, units, j, len);
        let pv = runs::<V, { MAX.2 }>(p, M::VECTORS, units, j, len);
        store(cell.step(zv, sv, pv), out, M::STATES, units, j, len);
    }
}

/// Runs a step.
pub fn step<T: Real, M: CellMath>(k: Step<'_, T, M>) {
    let rows = k.out.len() / (M::STATES * k.units);
    let whole = k.out.len() == rows * M::STATES * k.units && k.s.len() >= k.out.len();
    let enough = k.z.len() >= rows * M::COLUMNS * k.units && k.p.len() >= M::VECTORS * k.units;
    assert!(whole && enough, "cell step: a slice is too short");
    dispatch(k);
}

/// What the reverse of a step learns of a row, in the row's own scale; its delta and direct path may have others.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowBack {
    /// Sum of squares of dL/d(output part of the state).
    pub output: ScaledSum,
    /// Sum of squares of dL/d(second state), where it is apart from the output.
    pub cell: ScaledSum,
    /// Sum of squares of dL/d(the gates' pre-activations).
    pub delta: ScaledSum,
    /// Largest magnitude among dL/dz and dL/dp as they stand.
    pub largest_delta: f64,
    /// Largest |dL/ds| of the direct path as it stands; zero where there is no such path.
    pub largest_direct: f64,
    /// The exponent by which dL/dz and dL/dp are larger than they stand.
    pub shift: i64,
    /// The same of the direct path.
    pub direct_shift: i64,
}

/// One step in reverse. Shapes as in [`Step`]; `g` and `direct`: (rows, STATES * units), `delta`: (rows, (COLUMNS +
/// VECTORS) * units): dL/dz, then dL/dp.
pub struct Reverse<'a, T, M> {
    /// The cell.
    pub cell: M,
    /// Its units.
    pub units: usize,
    /// Runs of the state that are its output.
    pub outputs: usize,
    /// Pre-activations.
    pub z: &'a [T],
    /// Previous states.
    pub s: &'a [T],
    /// Parameters.
    pub p: &'a [T],
    /// dL/d(new state).
    pub g: &'a [T],
    /// Receives dL/dz and dL/dp.
    pub delta: &'a mut [T],
    /// Receives dL/ds on the direct path.
    pub direct: &'a mut [T],
    /// Receives what is learned of each row.
    pub rows: &'a mut [RowBack],
}

impl<T: Real, M: CellMath> Kernel for Reverse<'_, T, M> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { cell, units, outputs, z, s, p, g, delta, direct, rows } = self;
        let (zw, sw) = (M::COLUMNS * units, M::STATES * units);
        let dw = zw + M::VECTORS * units;
        let n = T::V::<I>::LANES;
        for (r, row) in rows.iter_mut().enumerate() {
            let from = (z[r * zw..].as_ptr(), s[r * sw..].as_ptr(), p.as_ptr(), g[r * sw..].as_ptr());
            let to = (delta[r * dw..].as_mut_ptr(), direct[r * sw..].as_mut_ptr());
            let mut learned = Learned::<T::V<I>>::new();
            let mut j = 0;
            while j + 2 * n <= units {
                // SAFETY: `reverse` checked that all rows are whole.
                let (g, b) = unsafe { back_units::<Duo<T::V<I>>, M>(&cell, units, from, to, j, 2 * n) };
                let (g, z, s, p) = (halves(g), halves(b.z), halves(b.s), halves(b.p));
                learned.note::<M>(outputs, g.0, &Back { z: z.0, s: s.0, p: p.0, c: b.c.0 });
                learned.note::<M>(outputs, g.1, &Back { z: z.1, s: s.1, p: p.1, c: b.c.1 });
                j += 2 * n;
            }
            while j < units {
                // SAFETY: as above.
                let (g, b) = unsafe { back_units::<T::V<I>, M>(&cell, units, from, to, j, n.min(units - j)) };
                learned.note::<M>(outputs, g, &b);
                j += n;
            }
            *row = learned.row::<T, M>();
        }
    }
}

/// [`step_units`] in reverse: stores the gradients, and returns them with what came in. `from`: z, s, p and dL/d(new
/// state), `to`: deltas and the direct path.
///
/// # Safety
/// All are valid for a row of runs of `units` elements, those of `to` for writing, and `j + len <= units`.
#[inline(always)]
unsafe fn back_units<V: Vector, M: CellMath>(
    cell: &M,
    units: usize,
    (z, s, p, g): (*const V::Elem, *const V::Elem, *const V::Elem, *const V::Elem),
    (delta, direct): (*mut V::Elem, *mut V::Elem),
    j: usize,
    len: usize,
) -> (S<V>, Back<V>) {
    // SAFETY: the caller vouches for all runs.
    unsafe {
        let zv = runs::<V, { MAX.0 }>(z, M::COLUMNS, units, j, len);
        let sv = runs::<V, { MAX.1 }>(s, M::STATES, units, j, len);
        let pv = runs::<V, { MAX.2 }>(p, M::VECTORS, units, j, len);
        let gv = runs::<V, { MAX.1 }>(g, M::STATES, units, j, len);
        let b = cell.back(zv, sv, pv, gv);
        store(b.z, delta, M::COLUMNS, units, j, len);
        store(b.p, delta.add(M::COLUMNS * units), M::VECTORS, units, j, len);
        store(b.s, direct, M::STATES, units, j, len);
        (gv, b)
    }
}

/// The two vectors of each pair. (A closure would be compiled without the path's features.)
#[inline(always)]
fn halves<V: Vector, const N: usize>(pairs: [Duo<V>; N]) -> ([V; N], [V; N]) {
    let mut out = ([V::zero(); N], [V::zero(); N]);
    let mut i = 0;
    while i < N {
        (out.0[i], out.1[i]) = (pairs[i].0, pairs[i].1);
        i += 1;
    }
    out
}

/// What is learned of a row, lane by lane.
struct Learned<V: Vector> {
    /// Sums of squares: of the gradient of the output, of the second state, of the gates' deltas.
    sums: [V::Wide; 3],
    top_delta: V,
    top_direct: V,
}

impl<V: Vector> Learned<V> {
    #[inline(always)]
    fn new() -> Self {
        Self { sums: [V::Wide::zero(); 3], top_delta: V::zero(), top_direct: V::zero() }
    }

    #[inline(always)]
    fn add(&mut self, which: usize, x: V) {
        let w = x.widen();
        let mut h = 0;
        while h < if V::LANES == 16 { 2 } else { 1 } {
            self.sums[which] = w[h].fma(w[h], self.sums[which]);
            h += 1;
        }
    }

    #[inline(always)]
    fn note<M: CellMath>(&mut self, outputs: usize, g: S<V>, b: &Back<V>) {
        let mut i = 0;
        while i < M::STATES {
            let of_output = i < outputs;
            self.add(usize::from(!of_output), if of_output { g[i] } else { b.c });
            if M::DIRECT {
                self.top_direct = b.s[i].abs().max(self.top_direct);
            }
            i += 1;
        }
        i = 0;
        while i < M::COLUMNS {
            if i < gate_columns::<M>() {
                self.add(2, b.z[i]);
            }
            self.top_delta = b.z[i].abs().max(self.top_delta);
            i += 1;
        }
        i = 0;
        while i < M::VECTORS {
            self.top_delta = b.p[i].abs().max(self.top_delta);
            i += 1;
        }
    }

    /// Sums as they were added up: a double's range may have spoilt them, which `reverse` looks for.
    #[inline(always)]
    fn row<T: Real, M: CellMath>(self) -> RowBack
    where
        V: Vector<Elem = T>,
    {
        let [output, cell, delta] = self.sums;
        RowBack {
            output: ScaledSum { s: output.total(), e: 0 },
            cell: ScaledSum { s: cell.total(), e: 0 },
            delta: ScaledSum { s: delta.total(), e: 0 },
            largest_delta: self.top_delta.top().to_f64(),
            largest_direct: if M::DIRECT { self.top_direct.top().to_f64() } else { 0.0 },
            shift: 0,
            direct_shift: 0,
        }
    }
}

/// Columns of z that are gates' own pre-activations: the first ones. (A GRU's last column is a part of its third.)
pub(super) const fn gate_columns<M: CellMath>() -> usize {
    if M::GATES == 0 { M::COLUMNS } else { M::GATES }
}

/// Runs a step in reverse. Rows of whose deltas or direct path the type would lose digits, or all, are taken again in
/// numbers that lose nothing.
pub fn reverse<T: Real, M: CellMath>(k: Reverse<'_, T, M>) {
    let rows = k.rows.len();
    let (zw, sw) = (M::COLUMNS * k.units, M::STATES * k.units);
    let dw = zw + M::VECTORS * k.units;
    let read = k.z.len() >= rows * zw && k.s.len() >= rows * sw && k.g.len() >= rows * sw;
    let write = k.delta.len() >= rows * dw && k.direct.len() >= rows * sw;
    assert!(read && write && k.p.len() >= M::VECTORS * k.units, "cell reverse: a slice is too short");
    let Reverse { cell, units, outputs, z, s, p, g, .. } = k;
    dispatch(Reverse { cell, units, outputs, z, s, p, g, delta: k.delta, direct: k.direct, rows: k.rows });
    // Gradients come in near one, and what is this small now owes it to slopes whose digits the type may have lost.
    let least = const { pow2(63 - T::BIAS as i64) };
    for (r, row) in k.rows.iter_mut().enumerate() {
        let (g, delta) = (&g[r * sw..][..sw], &mut k.delta[r * dw..][..dw]);
        row.output = squares_of(row.output.s, &g[..outputs * units]);
        row.delta = squares_of(row.delta.s, &delta[..gate_columns::<M>() * units]);
        let c = row.cell.s;
        row.cell = ScaledSum::new(c, 0);
        let lost = Lost {
            delta: row.largest_delta < least && (M::TAILS || row.largest_delta > 0.0),
            direct: M::DIRECT && row.largest_direct < least,
            cell: c != 0.0 && !(1e-280..1e300).contains(&c),
        };
        // Of zeros nothing is lost; and NaN, of which no comparison is true, stays.
        if (lost.delta || lost.direct || lost.cell) && (row.output.s > 0.0 || c > 0.0) {
            let from = Row { units, z: &z[r * zw..], s: &s[r * sw..], p, g, apart: None };
            faint_row(cell, from, lost, delta, &mut k.direct[r * sw..][..sw], row);
        }
    }
}
