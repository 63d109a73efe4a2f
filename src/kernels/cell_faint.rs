//! kernels: the reverse of one row of a recurrent cell in numbers without ends of range, for rows whose gates are closed
//! so far that floats would lose what comes through. Knows no particular cell, no weights and no time.

use super::cell::{CellMath, RowBack, gate_columns};
use super::delta::{on_grid, squares_of};
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::num::scaled::ScaledSum;

/// What is to be taken again.
#[derive(Clone, Copy, Default)]
pub struct Lost {
    /// dL/dz and dL/dp.
    pub delta: bool,
    /// dL/d(previous state) on the direct path.
    pub direct: bool,
    /// The sum of squares of dL/d(second state).
    pub cell: bool,
}

impl Lost {
    /// Everything.
    pub const ALL: Self = Self { delta: true, direct: true, cell: true };
}

/// One row of everything that a step's reverse reads.
pub struct Row<'a, T> {
    /// Units.
    pub units: usize,
    /// Pre-activations.
    pub z: &'a [T],
    /// Previous state.
    pub s: &'a [T],
    /// Parameters.
    pub p: &'a [T],
    /// dL/d(new state).
    pub g: &'a [T],
    /// The part of it that is in a scale of its own: first entry, values, and the exponent by which they are larger than
    /// they stand.
    pub apart: Option<(usize, &'a [T], i64)>,
}

/// Takes again what is lost of a row; `row` then says what is in `delta` and `direct`, and with which exponents.
#[cold]
pub fn faint_row<T: Real, M: CellMath>(
    cell: M,
    from: Row<'_, T>,
    lost: Lost,
    delta: &mut [T],
    direct: &mut [T],
    row: &mut RowBack,
) {
    let units = from.units;
    let at = |v: &[T], i: usize, j: usize, n: usize| {
        if i < n { Scale::from(v[i * units + j].to_f64()) } else { Scale::ZERO }
    };
    let gradient = |i: usize, j: usize| match from.apart {
        Some((first, values, e)) if i < M::STATES && (first..first + values.len()).contains(&(i * units + j)) => {
            Scale::new(values[i * units + j - first].to_f64(), e)
        }
        _ => at(from.g, i, j, M::STATES),
    };
    let mut deltas = vec![Scale::ZERO; delta.len()];
    let mut states = vec![Scale::ZERO; direct.len()];
    let mut squares = Scale::ZERO;
    for j in 0..units {
        let b = cell.back::<Scale>(
            std::array::from_fn(|i| at(from.z, i, j, M::COLUMNS)),
            std::array::from_fn(|i| at(from.s, i, j, M::STATES)),
            std::array::from_fn(|i| at(from.p, i, j, M::VECTORS)),
            std::array::from_fn(|i| gradient(i, j)),
        );
        for (i, &x) in b.z[..M::COLUMNS].iter().chain(&b.p[..M::VECTORS]).enumerate() {
            deltas[i * units + j] = x;
        }
        for (i, &x) in b.s[..M::STATES].iter().enumerate() {
            states[i * units + j] = x;
        }
        squares = squares.plus(b.c.times(b.c));
    }
    if let Some((top, shift)) = lost.delta.then(|| stored(&deltas, delta)).flatten() {
        (row.largest_delta, row.shift) = (top, shift);
        row.delta = squares_of(0.0, &delta[..gate_columns::<M>() * units]);
    }
    if let Some((top, shift)) = lost.direct.then(|| stored(&states, direct)).flatten() {
        (row.largest_direct, row.direct_shift) = (top, shift);
    }
    if let Some((0, values, e)) = from.apart {
        let squares = squares_of(0.0, values);
        row.output = ScaledSum { s: squares.s, e: squares.e + 2 * e };
    }
    if lost.cell || lost.direct {
        row.cell = ScaledSum { s: squares.m, e: squares.e };
    }
}

/// Stores numbers as floats around one; returns the largest of these and the exponent of all. None where every number is
/// zero or one of them is none: floats say that as well.
fn stored<T: Real>(exact: &[Scale], out: &mut [T]) -> Option<(f64, i64)> {
    let top = exact.iter().filter(|x| x.m != 0.0).map(|x| x.e).max()?;
    if !exact.iter().all(|x| x.m.is_finite()) {
        return None;
    }
    let (k, mut largest) = (on_grid(top), 0.0f64);
    for (o, x) in out.iter_mut().zip(exact) {
        *o = T::from_f64(x.shifted(-k).value());
        largest = largest.max(o.to_f64().abs());
    }
    Some((largest, k))
}
