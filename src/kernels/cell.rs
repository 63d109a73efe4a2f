//! kernels: one time step of a recurrent cell over rows, its reverse, and the step's statistics. Knows no particular
//! cell, no weights and no time.
//!
//! A cell has `U` units. Its pre-activations z are `COLUMNS` runs of U numbers a row, its state s is `STATES` runs, and
//! per-unit parameters p are `VECTORS` runs: everything is unit by unit, so that a vector of units is a step of work.

use super::delta::{fold, largest, squares_of};
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, exponent};
use crate::num::simd::{Isa, Kernel, One, Vector, dispatch};

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
    /// The new state.
    fn step<V: Vector>(&self, z: Z<V>, s: S<V>, p: P<V>) -> S<V>;
    /// From dL/d(new state) to dL/d(everything that `step` reads).
    fn back<V: Vector>(&self, z: Z<V>, s: S<V>, p: P<V>, d: S<V>) -> Back<V>;
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
            if len == V::LANES { V::load(p) } else { V::load_partial(p, len) }
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
            if len == V::LANES { v[i].store(p) } else { v[i].store_partial(p, len) }
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
            while j < units {
                let len = n.min(units - j);
                // SAFETY: `step` checked that all rows are whole.
                unsafe {
                    let zv = runs::<T::V<I>, { MAX.0 }>(z, M::COLUMNS, units, j, len);
                    let sv = runs::<T::V<I>, { MAX.1 }>(s, M::STATES, units, j, len);
                    let pv = runs::<T::V<I>, { MAX.2 }>(p.as_ptr(), M::VECTORS, units, j, len);
                    store(cell.step(zv, sv, pv), out, M::STATES, units, j, len);
                }
                j += n;
            }
        }
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

/// What the reverse of a step learns of a row, in the row's own scale.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowBack {
    /// Sum of squares of dL/d(output part of the state).
    pub output: ScaledSum,
    /// Sum of squares of dL/d(second state), where it is apart from the output.
    pub cell: ScaledSum,
    /// Sum of squares of dL/d(the gates' pre-activations).
    pub delta: ScaledSum,
    /// Largest |dL/ds| that came in.
    pub largest: f64,
    /// Largest magnitude among dL/dz and dL/dp.
    pub largest_delta: f64,
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
        let halves = if n == 16 { 2 } else { 1 };
        let wide = <T::V<I> as Vector>::Wide::zero();
        for (r, row) in rows.iter_mut().enumerate() {
            let (z, s, g) = (z[r * zw..].as_ptr(), s[r * sw..].as_ptr(), g[r * sw..].as_ptr());
            let (delta, direct) = (delta[r * dw..].as_mut_ptr(), direct[r * sw..].as_mut_ptr());
            let mut sums = [wide; 3];
            let (mut top, mut top_delta) = (T::V::<I>::zero(), T::V::<I>::zero());
            let mut j = 0;
            while j < units {
                let len = n.min(units - j);
                // SAFETY: `reverse` checked that all rows are whole.
                unsafe {
                    let zv = runs::<T::V<I>, { MAX.0 }>(z, M::COLUMNS, units, j, len);
                    let sv = runs::<T::V<I>, { MAX.1 }>(s, M::STATES, units, j, len);
                    let pv = runs::<T::V<I>, { MAX.2 }>(p.as_ptr(), M::VECTORS, units, j, len);
                    let gv = runs::<T::V<I>, { MAX.1 }>(g, M::STATES, units, j, len);
                    let b = cell.back(zv, sv, pv, gv);
                    let mut i = 0;
                    while i < M::STATES {
                        let of_output = i < outputs;
                        let w = if of_output { gv[i] } else { b.c }.widen();
                        let which = usize::from(!of_output);
                        let mut h = 0;
                        while h < halves {
                            sums[which] = w[h].fma(w[h], sums[which]);
                            h += 1;
                        }
                        top = gv[i].abs().max(top);
                        i += 1;
                    }
                    i = 0;
                    while i < M::COLUMNS {
                        if i < gate_columns::<M>() {
                            let w = b.z[i].widen();
                            let mut h = 0;
                            while h < halves {
                                sums[2] = w[h].fma(w[h], sums[2]);
                                h += 1;
                            }
                        }
                        top_delta = b.z[i].abs().max(top_delta);
                        i += 1;
                    }
                    i = 0;
                    while i < M::VECTORS {
                        top_delta = b.p[i].abs().max(top_delta);
                        i += 1;
                    }
                    store(b.z, delta, M::COLUMNS, units, j, len);
                    store(b.p, delta.add(zw), M::VECTORS, units, j, len);
                    store(b.s, direct, M::STATES, units, j, len);
                }
                j += n;
            }
            row.largest = largest::<T, _>(top);
            row.largest_delta = largest::<T, _>(top_delta);
            row.output = ScaledSum::new(fold(sums[0]), 0);
            row.cell = ScaledSum::new(fold(sums[1]), 0);
            row.delta = ScaledSum::new(fold(sums[2]), 0);
        }
    }
}

/// Columns of z that are gates' own pre-activations: the first ones. (A GRU's last column is a part of its third.)
const fn gate_columns<M: CellMath>() -> usize {
    if M::GATES == 0 { M::COLUMNS } else { M::GATES }
}

/// A delta this much smaller than the gradient it came from may owe its size to faint slopes alone.
const SHADE: f64 = 8.7e-19; // 2^-60

/// Runs a step in reverse. Rows whose slopes are so faint that the type would lose their deltas are taken again in
/// doubles; the returned exponents, by which such rows of `delta` are smaller than they stand, are zero for all others.
pub fn reverse<T: Real, M: CellMath>(k: Reverse<'_, T, M>, shift: &mut [i64]) {
    let rows = k.rows.len();
    let (zw, sw) = (M::COLUMNS * k.units, M::STATES * k.units);
    let dw = zw + M::VECTORS * k.units;
    let read = k.z.len() >= rows * zw && k.s.len() >= rows * sw && k.g.len() >= rows * sw;
    let write = k.delta.len() >= rows * dw && k.direct.len() >= rows * sw && shift.len() == rows;
    assert!(read && write && k.p.len() >= M::VECTORS * k.units, "cell reverse: a slice is too short");
    let Reverse { cell, units, outputs, z, s, p, g, .. } = k;
    dispatch(Reverse { cell, units, outputs, z, s, p, g, delta: k.delta, direct: k.direct, rows: k.rows });
    for (r, shift) in shift.iter_mut().enumerate() {
        *shift = 0;
        let row = &mut k.rows[r];
        let g = &g[r * sw..][..sw];
        row.output = squares_of(row.output.s, &g[..outputs * units]);
        if row.largest_delta < row.largest * SHADE && row.largest.is_finite() {
            *shift = faint_row(cell, units, &z[r * zw..], &s[r * sw..], p, g, &mut k.delta[r * dw..][..dw], row);
        }
        if !(1e-280..1e300).contains(&row.delta.s) {
            row.delta = squares_of(row.delta.s, &k.delta[r * dw..][..gate_columns::<M>() * units]);
        }
    }
}

/// The deltas of one row in doubles, which reach slopes of 1e-300. Returns the exponent they are stored with.
#[allow(clippy::too_many_arguments)] // reason: the row's part of everything that `Reverse` holds
fn faint_row<T: Real, M: CellMath>(
    cell: M,
    units: usize,
    z: &[T],
    s: &[T],
    p: &[T],
    g: &[T],
    delta: &mut [T],
    row: &mut RowBack,
) -> i64 {
    let at = |v: &[T], i: usize, j: usize, n: usize| {
        if i < n { One::splat(v[i * units + j].to_f64()) } else { One::splat(0.0) }
    };
    let mut exact = vec![0.0f64; delta.len()];
    for j in 0..units {
        let b = cell.back::<One>(
            std::array::from_fn(|i| at(z, i, j, M::COLUMNS)),
            std::array::from_fn(|i| at(s, i, j, M::STATES)),
            std::array::from_fn(|i| at(p, i, j, M::VECTORS)),
            std::array::from_fn(|i| at(g, i, j, M::STATES)),
        );
        for i in 0..M::COLUMNS {
            exact[i * units + j] = b.z[i].get();
        }
        for i in 0..M::VECTORS {
            exact[(M::COLUMNS + i) * units + j] = b.p[i].get();
        }
    }
    let top = exact.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    if top == 0.0 || !top.is_finite() {
        return 0;
    }
    let k = super::delta::on_grid(exponent(top));
    for (d, &x) in delta.iter_mut().zip(&exact) {
        *d = T::from_f64(crate::num::scaled::mul_pow2(x, -k));
    }
    row.largest_delta = crate::num::scaled::mul_pow2(top, -k);
    if !row.delta.s.is_nan() {
        row.delta = squares_of(-1.0, &delta[..gate_columns::<M>() * units]);
    }
    k
}
