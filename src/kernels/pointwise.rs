//! kernels: a function of one number over rows, its derivative and the row's statistics. Knows no particular function.

use crate::num::real::Real;
use crate::num::simd::{Duo, Isa, Kernel, Path, Vector, dispatch_on, path};

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
    let (h, y, d) = (h.as_ptr(), y.as_mut_ptr(), d.as_mut_ptr());
    dispatch_on(path(), Rows { p, h, y, d, width, rows, stats });
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
    dispatch_on(path, Rows { p, h: y, y, d: d.as_mut_ptr(), width, rows, stats });
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

/// `sum = sum * a + x * b`, in doubles.
///
/// # Panics
/// If the lengths differ.
pub fn accumulate<T: Real>(sum: &mut [f64], a: f64, x: &[T], b: f64) {
    struct Accumulate<'a, T> {
        sum: &'a mut [f64],
        a: f64,
        x: &'a [T],
        b: f64,
    }
    impl<T: Real> Kernel for Accumulate<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<I: Isa>(self) {
            let (n, len) = (T::V::<I>::LANES, self.x.len());
            let a = <T::V<I> as Vector>::Wide::splat(self.a);
            let b = <T::V<I> as Vector>::Wide::splat(self.b);
            let mut i = 0;
            while i < len {
                // SAFETY: the elements from i on, LANES at most, are in both slices, which have one length.
                unsafe {
                    let x = T::V::<I>::load_partial(self.x.as_ptr().add(i), n.min(len - i)).widen();
                    let mut half = 0;
                    while half * 8 < n.min(len - i) {
                        let (p, left) = (self.sum.as_mut_ptr().add(i + 8 * half), 8.min(len - i - 8 * half));
                        let s = <T::V<I> as Vector>::Wide::load_partial(p, left);
                        x[half].fma(b, s.mul(a)).store_partial(p, left);
                        half += 1;
                    }
                }
                i += n;
            }
        }
    }
    assert!(sum.len() == x.len(), "accumulate: sum and x must be equally long");
    dispatch_on(path(), Accumulate { sum, a, x, b });
}

/// The pointers are valid for `rows.len() * width` elements; `y` and `h` are equal or do not overlap.
struct Rows<'a, T, P> {
    p: &'a P,
    h: *const T,
    y: *mut T,
    d: *mut T,
    width: usize,
    rows: &'a mut [RowForward],
    stats: bool,
}

/// Several vectors at a time: the functions are long chains of dependent operations.
type Many<V> = Duo<Duo<V>>;

/// Bytes of each slice that are treated at a time: several passes over them stay in the first-level cache.
const BLOCK: usize = 16 << 10;

impl<T: Real, P: Pointwise> Kernel for Rows<'_, T, P> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Rows { p, h, y, d, width, rows, stats } = self;
        rows.fill(RowForward {
            pre_sum: 0.0,
            pre_sum_sq: 0.0,
            least_slope: if P::TAILS { f64::INFINITY } else { 1.0 },
        });
        if width == 0 {
            return;
        }
        // A copy in a local lets the parameters live in registers.
        let p = *p;
        let group = (BLOCK / size_of::<T>() / width).max(1);
        for (g, rows) in rows.chunks_mut(group).enumerate() {
            let at = g * group * width;
            // SAFETY: at + rows.len() * width is at most the number of elements for which the pointers are valid. y may
            // be h: each element of h is read before y's is written, the sums are taken before that.
            unsafe {
                if stats {
                    for (r, row) in rows.iter_mut().enumerate() {
                        (row.pre_sum, row.pre_sum_sq) = sums::<T, I>(h.add(at + r * width), width);
                    }
                }
                both::<T, I, P>(&p, h.add(at), y.add(at), d.add(at), rows.len() * width);
                if P::TAILS {
                    for (r, row) in rows.iter_mut().enumerate() {
                        row.least_slope = least::<T, I>(d.add(at + r * width), width);
                    }
                }
            }
        }
    }
}

/// Value and derivative of `n` numbers. (No closures in here: they would be compiled without the path's features.)
///
/// # Safety
/// The pointers are valid for `n` elements; `y` and `h` are equal or do not overlap.
#[inline(always)]
unsafe fn both<T: Real, I: Isa, P: Pointwise>(p: &P, h: *const T, y: *mut T, d: *mut T, n: usize) {
    let mut i = 0;
    while i + Many::<T::V<I>>::LANES <= n {
        // SAFETY: the elements from i on, as many as `Many` has lanes, are below n.
        unsafe {
            let (value, slope) = p.eval(Many::<T::V<I>>::load(h.add(i)));
            value.store(y.add(i));
            slope.store(d.add(i));
        }
        i += Many::<T::V<I>>::LANES;
    }
    while i < n {
        let k = T::V::<I>::LANES.min(n - i);
        // SAFETY: the k elements from i on are below n.
        unsafe {
            let (value, slope) = p.eval(T::V::<I>::load_partial(h.add(i), k));
            value.store_partial(y.add(i), k);
            slope.store_partial(d.add(i), k);
        }
        i += k;
    }
}

/// Sum and sum of squares of a row.
///
/// # Safety
/// `h` is valid for `width` elements.
#[inline(always)]
unsafe fn sums<T: Real, I: Isa>(h: *const T, width: usize) -> (f64, f64) {
    let lanes = T::V::<I>::LANES;
    let mut sum = [<T::V<I> as Vector>::Wide::zero(); 2];
    let mut square = sum;
    let mut j = 0;
    while j < width {
        // SAFETY: the elements from j on, LANES at most, are in the row.
        let x = unsafe { T::V::<I>::load_some(h.add(j), width - j) };
        let w = x.widen();
        for half in 0..if T::MANTISSA_BITS == 23 { 2 } else { 1 } {
            sum[half] = sum[half].add(w[half]);
            square[half] = w[half].fma(w[half], square[half]);
        }
        j += lanes;
    }
    (total(sum), total(square))
}

/// The smallest magnitude in a row.
///
/// # Safety
/// `d` is valid for `width` elements.
#[inline(always)]
unsafe fn least<T: Real, I: Isa>(d: *const T, width: usize) -> f64 {
    let lanes = T::V::<I>::LANES;
    let mut least = T::V::<I>::c(f64::INFINITY);
    let mut j = 0;
    while j + lanes <= width {
        // SAFETY: the LANES elements from j on are in the row.
        least = unsafe { T::V::<I>::load(d.add(j)) }.abs().min(least);
        j += lanes;
    }
    let mut least = smallest(least);
    for i in j..width {
        // SAFETY: element i is in the row.
        let slope = unsafe { *d.add(i) }.to_f64().abs();
        least = if slope < least { slope } else { least };
    }
    least
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
    let mut n = V::LANES / 2;
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
        let (p, n, mut i) = (*self.p, self.x.len(), 0);
        let (from, to) = (self.x.as_ptr(), self.y.as_mut_ptr());
        while i + Many::<T::V<I>>::LANES <= n {
            // SAFETY: the elements from i on, as many as `Many` has lanes, are below n, the length of both slices.
            unsafe { p.value(Many::<T::V<I>>::load(from.add(i))).store(to.add(i)) };
            i += Many::<T::V<I>>::LANES;
        }
        while i < n {
            let k = T::V::<I>::LANES.min(n - i);
            // SAFETY: the k elements from i on are below n, the length of both slices.
            unsafe { p.value(T::V::<I>::load_partial(from.add(i), k)).store_partial(to.add(i), k) };
            i += k;
        }
    }
}
