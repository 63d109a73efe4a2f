//! kernels: statistics of one time step of a recurrent cell: gates, outputs and the norm of the Jacobian. Knows no
//! particular cell, no weights and no time.

use super::cell::{CellMath, MAX, runs};
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::num::scaled::{ScaledSum, pow2};
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// Sums of one step's figures over rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepFigures {
    /// Sum of each gate's values.
    pub gate: [f64; MAX.0],
    /// Gates whose slope is below a twentieth of the largest.
    pub saturated: [f64; MAX.0],
    /// Sum of the outputs.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
    /// Sum over rows of ||d(new state)/d(state)||_F^2.
    pub jacobian: ScaledSum,
}

impl StepFigures {
    /// Adds another chunk's figures.
    pub fn add(&mut self, o: &Self) {
        for i in 0..MAX.0 {
            self.gate[i] += o.gate[i];
            self.saturated[i] += o.saturated[i];
        }
        self.sum += o.sum;
        self.squares += o.squares;
        self.jacobian.add(o.jacobian);
    }
}

/// What is known of recurrent weights for the norm of a Jacobian. Row a of z is reached by the weights `W_a`.
/// `diagonal`: (COLUMNS, units), `W_a[i, i]`; `gram`: (COLUMNS, COLUMNS, units), `W_a[i, :] . W_b[i, :]`; zero where a
/// column has no recurrent weights.
pub struct Tables<'a, T> {
    /// See above.
    pub diagonal: &'a [T],
    /// See above.
    pub gram: &'a [T],
}

/// The figures of one step of one row.
pub struct Figures<'a, T, M> {
    /// The cell.
    pub cell: M,
    /// Its units.
    pub units: usize,
    /// Runs of the state that are its output.
    pub outputs: usize,
    /// Pre-activations.
    pub z: &'a [T],
    /// Previous state.
    pub s: &'a [T],
    /// New state.
    pub new: &'a [T],
    /// Parameters.
    pub p: &'a [T],
    /// Of the recurrent weights.
    pub tables: Tables<'a, T>,
}

impl<T: Real, M: CellMath> Kernel for Figures<'_, T, M> {
    type Out = StepFigures;
    #[inline(always)]
    fn run<I: Isa>(self) -> StepFigures {
        let Self { cell, units, outputs, z, s, new, p, tables } = self;
        let n = T::V::<I>::LANES;
        let zero = T::V::<I>::zero();
        let one = T::V::<I>::splat(T::ONE);
        let limit = T::V::<I>::c(0.05);
        let (mut gate, mut low) = ([0.0f64; MAX.0], [0.0f64; MAX.0]);
        let (mut sum, mut squares, mut jacobian) = (0.0, 0.0, 0.0);
        let mut j = 0;
        while j < units {
            let len = n.min(units - j);
            // SAFETY: `figures` checked that all rows are whole.
            unsafe {
                let zv = runs::<T::V<I>, { MAX.0 }>(z.as_ptr(), M::COLUMNS, units, j, len);
                let sv = runs::<T::V<I>, { MAX.1 }>(s.as_ptr(), M::STATES, units, j, len);
                let pv = runs::<T::V<I>, { MAX.2 }>(p.as_ptr(), M::VECTORS, units, j, len);
                let values = cell.gates(zv, sv, pv);
                let mut i = 0;
                while i < M::GATES {
                    gate[i] += total::<T, I>(values[i].0, len);
                    low[i] += total::<T, I>(T::V::<I>::select(values[i].1.abs().lt(limit), one, zero), len);
                    i += 1;
                }
                let out = runs::<T::V<I>, { MAX.1 }>(new.as_ptr(), outputs, units, j, len);
                i = 0;
                while i < outputs {
                    let mut lanes = [T::ZERO; 16];
                    out[i].store(lanes.as_mut_ptr());
                    for x in &lanes[..len] {
                        sum += x.to_f64();
                        squares += x.to_f64() * x.to_f64();
                    }
                    i += 1;
                }
                let diagonal = runs::<T::V<I>, { MAX.0 }>(tables.diagonal.as_ptr(), M::COLUMNS, units, j, len);
                let mut a = 0;
                while a < M::STATES {
                    let mut seed = [zero; MAX.1];
                    seed[a] = one;
                    let b = cell.back(zv, sv, pv, seed);
                    let mut row = zero;
                    i = 0;
                    while i < M::STATES {
                        row = b.s[i].fma(b.s[i], row);
                        i += 1;
                    }
                    i = 0;
                    while i < M::COLUMNS {
                        row = b.s[0].add(b.s[0]).mul(b.z[i]).fma(diagonal[i], row);
                        let at = tables.gram.as_ptr().add(i * M::COLUMNS * units);
                        let gram = runs::<T::V<I>, { MAX.0 }>(at, M::COLUMNS, units, j, len);
                        let mut k = 0;
                        while k < M::COLUMNS {
                            row = b.z[i].mul(b.z[k]).fma(gram[k], row);
                            k += 1;
                        }
                        i += 1;
                    }
                    jacobian += total::<T, I>(row, len);
                    a += 1;
                }
            }
            j += n;
        }
        StepFigures { gate, saturated: low, sum, squares, jacobian: ScaledSum::new(jacobian, 0) }
    }
}

/// The sum of the first `len` lanes: those past the end are whatever zeros were turned into.
#[inline(always)]
fn total<T: Real, I: Isa>(v: T::V<I>, len: usize) -> f64 {
    let mut a = [T::ZERO; 16];
    // SAFETY: 16 elements hold the lanes of any vector.
    unsafe { v.store(a.as_mut_ptr()) };
    let mut s = 0.0;
    for x in &a[..len] {
        s += x.to_f64();
    }
    s
}

/// Takes the figures of one row.
pub fn figures<T: Real, M: CellMath>(k: Figures<'_, T, M>) -> StepFigures {
    let u = k.units;
    let rows = k.z.len() >= M::COLUMNS * u && k.s.len() >= M::STATES * u && k.new.len() >= M::STATES * u;
    let tables = k.tables.diagonal.len() >= M::COLUMNS * u && k.tables.gram.len() >= M::COLUMNS * M::COLUMNS * u;
    assert!(rows && tables && k.p.len() >= M::VECTORS * u, "cell figures: a slice is too short");
    let Figures { cell, z, s, p, tables: Tables { diagonal, gram }, .. } = k;
    let mut out = dispatch(k);
    // Squares of what closed gates let through leave the type's range long before it does.
    let faint = out.jacobian.e < 0 || out.jacobian.s < const { pow2(50 - T::BIAS as i64) };
    if faint && (M::TAILS || out.jacobian.s > 0.0) {
        out.jacobian = faint_jacobian(cell, u, (z, s, p), Tables { diagonal, gram });
    }
    out
}

/// The sum of squares of a row's Jacobian in numbers without ends of range.
#[cold]
fn faint_jacobian<T: Real, M: CellMath>(
    cell: M,
    units: usize,
    (z, s, p): (&[T], &[T], &[T]),
    tables: Tables<'_, T>,
) -> ScaledSum {
    let mut sum = Scale::ZERO;
    for j in 0..units {
        let at = |v: &[T], i: usize, n: usize| {
            if i < n { Scale::from(v[i * units + j].to_f64()) } else { Scale::ZERO }
        };
        for a in 0..M::STATES {
            let b = cell.back::<Scale>(
                std::array::from_fn(|i| at(z, i, M::COLUMNS)),
                std::array::from_fn(|i| at(s, i, M::STATES)),
                std::array::from_fn(|i| at(p, i, M::VECTORS)),
                std::array::from_fn(|i| if i == a { Scale::ONE } else { Scale::ZERO }),
            );
            for x in &b.s[..M::STATES] {
                sum = sum.plus(x.times(*x));
            }
            for i in 0..M::COLUMNS {
                let cross = b.s[0].plus(b.s[0]).times(b.z[i]);
                sum = sum.plus(cross.times(at(tables.diagonal, i, M::COLUMNS)));
                for k in 0..M::COLUMNS {
                    let gram = at(tables.gram, i * M::COLUMNS + k, M::COLUMNS * M::COLUMNS);
                    sum = sum.plus(b.z[i].times(b.z[k]).times(gram));
                }
            }
        }
    }
    ScaledSum { s: sum.m, e: sum.e }
}
