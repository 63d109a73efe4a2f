//! kernels: a function of one number over rows, its derivative and the row's statistics. Knows no particular function.

use crate::num::real::Real;
use crate::num::simd::{Isa, Kernel, Path, Vector, dispatch_on, path};

/// A differentiable function of one number.
pub trait Pointwise: Copy + Send + Sync + 'static {
    /// The derivative decays towards zero without being zero, so that small floats may lose it.
    const TAILS: bool;
    /// Value and derivative; `#[inline(always)]` in implementations.
    fn eval<V: Vector>(&self, x: V) -> (V, V);
    /// Value alone.
    #[inline(always)]
    fn value<V: Vector>(&self, x: V) -> V {
        self.eval(x).0
    }
}

/// What the forward pass learns of a row on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowForward {
    /// Sum of the arguments; 0 unless asked for.
    pub pre_sum: f64,
    /// Sum of their squares; 0 unless asked for.
    pub pre_sum_sq: f64,
    /// Smallest `|phi'|` in the row as the lane type holds it (NaN aside; infinity for a row of NaN) where the function
    /// has tails, else 1.
    pub least_slope: f64,
}

/// Value and derivative of `rows.len()` rows of `width` numbers: `y = phi(h)`, `d = phi'(h)`.
///
/// The sums in `rows` are taken when `stats` is true, in an order that depends on `width` alone.
///
/// # Panics
/// If a slice has another length than `rows.len() * width`.
pub fn forward<T: Real, P: Pointwise>(
    p: &P,
    h: &[T],
    y: &mut [T],
    d: &mut [T],
    width: usize,
    rows: &mut [RowForward],
    stats: bool,
) {
    let n = rows.len() * width;
    assert!(h.len() == n && y.len() == n && d.len() == n, "forward: slices must hold rows.len() * width = {n} numbers");
    let job = Rows { p, h: h.as_ptr(), y: y.as_mut_ptr(), d: d.as_mut_ptr(), width, rows };
    run(path(), job, stats);
}

/// [`forward`] with the values written over the arguments.
///
/// # Panics
/// If a slice has another length than `rows.len() * width`.
pub fn forward_in_place<T: Real, P: Pointwise>(
    p: &P,
    hy: &mut [T],
    d: &mut [T],
    width: usize,
    rows: &mut [RowForward],
    stats: bool,
) {
    forward_in_place_on(path(), p, hy, d, width, rows, stats);
}

/// [`forward_in_place`] on a path that [`available`](crate::num::simd::available) names.
#[allow(clippy::too_many_arguments)] // reason: the arguments of `forward_in_place` and the path
pub fn forward_in_place_on<T: Real, P: Pointwise>(
    path: Path,
    p: &P,
    hy: &mut [T],
    d: &mut [T],
    width: usize,
    rows: &mut [RowForward],
    stats: bool,
) {
    let n = rows.len() * width;
    assert!(hy.len() == n && d.len() == n, "forward_in_place: slices must hold rows.len() * width = {n} numbers");
    let y = hy.as_mut_ptr();
    run(path, Rows { p, h: y, y, d: d.as_mut_ptr(), width, rows }, stats);
}

/// Value, and derivative if `d` is given, of a flat slice.
///
/// # Panics
/// If the lengths differ.
pub fn apply<T: Real, P: Pointwise>(p: &P, x: &[T], y: &mut [T], d: Option<&mut [T]>) {
    assert!(x.len() == y.len(), "apply: y must be as long as x");
    match d {
        None => dispatch_on(path(), Value { p, x, y }),
        Some(d) => {
            let mut row = [RowForward::default()];
            forward(p, x, y, d, x.len(), &mut row, false);
        }
    }
}

fn run<T: Real, P: Pointwise>(path: Path, job: Rows<'_, T, P>, stats: bool) {
    if stats {
        dispatch_on(path, With::<'_, T, P, true>(job));
    } else {
        dispatch_on(path, With::<'_, T, P, false>(job));
    }
}

/// The pointers are valid for `rows.len() * width` elements; `y` and `h` are equal or do not overlap.
struct Rows<'a, T, P> {
    p: &'a P,
    h: *const T,
    y: *mut T,
    d: *mut T,
    width: usize,
    rows: &'a mut [RowForward],
}

struct With<'a, T, P, const STATS: bool>(Rows<'a, T, P>);

impl<T: Real, P: Pointwise, const STATS: bool> Kernel for With<'_, T, P, STATS> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Rows { p, h, y, d, width, rows } = self.0;
        // A copy in a local lets the parameters live in registers.
        let p = *p;
        let lanes = T::V::<I>::LANES;
        for (r, row) in rows.iter_mut().enumerate() {
            let at = r * width;
            let mut least = T::V::<I>::c(f64::INFINITY);
            let mut sum = [<T::V<I> as Vector>::Wide::zero(); 2];
            let mut square = sum;
            let mut j = 0;
            while j < width {
                let n = lanes.min(width - j);
                let i = at + j;
                // SAFETY: i + n <= rows.len() * width, for which the pointers are valid; y may be h, whose n elements
                // are read before they are written.
                let (x, slope) = unsafe {
                    let x = if n == lanes { T::V::<I>::load(h.add(i)) } else { T::V::<I>::load_partial(h.add(i), n) };
                    let (value, slope) = p.eval(x);
                    if n == lanes {
                        value.store(y.add(i));
                        slope.store(d.add(i));
                        (x, slope)
                    } else {
                        value.store_partial(y.add(i), n);
                        slope.store_partial(d.add(i), n);
                        // The lanes past the end are the function at 0: they must not count.
                        let mut kept = [T::from_f64(f64::INFINITY); 16];
                        slope.store_partial(kept.as_mut_ptr(), n);
                        (x, T::V::<I>::load(kept.as_ptr()))
                    }
                };
                if P::TAILS {
                    least = slope.abs().min(least);
                }
                if STATS {
                    let w = x.widen();
                    for half in 0..if lanes == 16 { 2 } else { 1 } {
                        sum[half] = sum[half].add(w[half]);
                        square[half] = w[half].fma(w[half], square[half]);
                    }
                }
                j += lanes;
            }
            *row = RowForward {
                pre_sum: if STATS { total(sum) } else { 0.0 },
                pre_sum_sq: if STATS { total(square) } else { 0.0 },
                least_slope: if P::TAILS { smallest::<T, _>(least) } else { 1.0 },
            };
        }
    }
}

/// Sum of the lanes in a fixed order.
#[inline(always)]
fn total<W: Vector<Elem = f64>>(v: [W; 2]) -> f64 {
    let mut a = [0.0; 8];
    // SAFETY: `a` has as many elements as `W` has lanes, 8.
    unsafe { v[0].add(v[1]).store(a.as_mut_ptr()) };
    ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
}

/// The smallest lane.
#[inline(always)]
fn smallest<T: Real, V: Vector<Elem = T>>(v: V) -> f64 {
    let mut a = [T::from_f64(f64::INFINITY); 16];
    // SAFETY: no vector has more than 16 lanes.
    unsafe { v.store(a.as_mut_ptr()) };
    // By halves, which compilers turn into a few narrower vector minima.
    let mut n = if V::LANES == 16 { 8 } else { 4 };
    while n > 0 {
        for i in 0..n {
            a[i] = if a[i + n] < a[i] { a[i + n] } else { a[i] };
        }
        n /= 2;
    }
    a[0].to_f64()
}

struct Value<'a, T, P> {
    p: &'a P,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Real, P: Pointwise> Kernel for Value<'_, T, P> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (p, lanes, len) = (*self.p, T::V::<I>::LANES, self.x.len());
        let mut i = 0;
        while i < len {
            let n = lanes.min(len - i);
            // SAFETY: i + n <= len, the length of both slices.
            unsafe {
                let from = self.x.as_ptr().add(i);
                let x = if n == lanes { T::V::<I>::load(from) } else { T::V::<I>::load_partial(from, n) };
                let value = p.value(x);
                let to = self.y.as_mut_ptr().add(i);
                if n == lanes { value.store(to) } else { value.store_partial(to, n) }
            }
            i += lanes;
        }
    }
}
