//! kernels: the update of a block of weights by any rule: weights, gradient and what the rule remembers go through
//! the registers once. Knows no rule and no layers.

use super::delta::squares_of;
use super::gradient::Step;
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::num::scaled::{ScaledSum, pow2};
use crate::num::simd::{Isa, Kernel, Vector, dispatch};

/// Most arrays that a rule remembers for each weight.
pub const STATES: usize = 3;
/// Most numbers that a rule takes along.
pub const NUMBERS: usize = 8;

/// A gradient as it comes: `x * factor`. `x` has been brought near the type's range by a power of two.
#[derive(Clone, Copy)]
pub struct Gradient<V> {
    /// The gradient but for the factor.
    pub x: V,
    /// What is left of its scale.
    pub factor: V,
    /// Below this magnitude of `x` the gradient is subnormal.
    least: V,
}

impl<V: Vector> Gradient<V> {
    /// The gradient as a plain float, infinite or zero where it is out of the range of normal numbers.
    ///
    /// Subnormal numbers count as zero here, in [`square`] and in what is remembered: processors take some hundred
    /// cycles for a product of one, and where gradients vanish most of them are.
    #[inline(always)]
    pub fn plain(self) -> V {
        from(self.least, self.x).mul(self.factor)
    }
}

/// `g^2 * by` for `by` up to one; zero where that is subnormal.
#[inline(always)]
pub fn square<V: Vector>(g: V, by: V) -> V {
    let g = from(V::c(least_normal::<V::Elem>()).div(by).sqrt(), g);
    g.mul(g).mul(by)
}

/// Zero for magnitudes below `least`, else x.
#[inline(always)]
fn from<V: Vector>(least: V, x: V) -> V {
    V::select(x.abs().lt(least), V::zero(), x)
}

/// The smallest normal number of a type.
fn least_normal<T: Real>() -> f64 {
    pow2(1 - i64::from(T::BIAS))
}

/// What is added to a root that is divided by, at least the smallest normal number: a weight that has seen no gradient
/// moves by nothing over that, not by nothing over nothing. The same for all vectors, so no work for each.
#[inline(always)]
pub fn above_zero<V: Vector>(eps: V) -> V {
    eps.max(V::c(least_normal::<V::Elem>()))
}

/// What a rule does with one vector of weights.
pub trait Lanes: Copy + Sync {
    /// Arrays that it remembers, at most [`STATES`].
    fn used(&self) -> usize {
        0
    }

    /// The next weights, and what is remembered. `k`: numbers of this step.
    fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, s: [V; STATES]) -> (V, [V; STATES]);

    /// What is remembered next, and the direction of the step before it is given a length: only for rules whose step
    /// depends on that length. `lanes` then follows with the new memory.
    #[inline(always)]
    fn direction<V: Vector>(self, _k: &[V; NUMBERS], w: V, _g: Gradient<V>, s: [V; STATES]) -> (V, [V; STATES]) {
        (w, s)
    }
}

/// Sums over an update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    /// Squares of what was added to the weights (or of the direction); what is below 1e-160 of a double counts as zero.
    pub moved: ScaledSum,
    /// Squares of the weights before, or after where the sum left a double's range.
    pub weights: ScaledSum,
    /// Weights that stayed equal to the bit.
    pub unchanged: u64,
    /// Weights that are exactly zero after it.
    pub zero: u64,
}

impl Change {
    /// Adds another block's.
    pub fn add(&mut self, o: &Self) {
        self.moved.add(o.moved);
        self.weights.add(o.weights);
        self.unchanged += o.unchanged;
        self.zero += o.zero;
    }
}

/// A block of weights and its gradient `gradient * scale`.
pub struct Block<'a, T, R> {
    /// The rule.
    pub rule: R,
    /// Its numbers.
    pub numbers: [f64; NUMBERS],
    /// Mantissas.
    pub gradient: &'a [T],
    /// What they are to be multiplied by.
    pub scale: Scale,
    /// The weights.
    pub weights: &'a mut [T],
    /// What is remembered, each as long as the weights, or empty where it is not used.
    pub states: [&'a mut [T]; STATES],
    /// Sums are wanted.
    pub count: bool,
    /// Only the memory moves on, and the sums are those of the direction.
    pub direction: bool,
}

impl<T: Real, R: Lanes> Kernel for Block<'_, T, R> {
    type Out = Change;
    #[inline(always)]
    fn run<I: Isa>(self) -> Change {
        let n = T::V::<I>::LANES;
        let zero = T::V::<I>::zero();
        let one = T::V::<I>::splat(T::ONE);
        let wide = <T::V<I> as Vector>::Wide::zero();
        let halves = if n == 16 { 2 } else { 1 };
        let (mut moved, mut squares, mut same, mut none) = ([wide; 2], [wide; 2], zero, zero);
        let step = Step::<T>::new(-self.scale.m, self.scale.e);
        let (first, factor) = (T::V::<I>::splat(step.first), T::V::<I>::splat(step.second));
        let least = T::V::<I>::c(least_normal::<T>() / step.second.to_f64().abs());
        // Far enough above the last normal number to be multiplied by what a rule keeps of it.
        let floor = T::V::<I>::c(4.0 * least_normal::<T>());
        // What is beyond the type's range counts as its end: a number times a direction of zero is then zero.
        let numbers = self.numbers.map(|x| T::V::<I>::c(x.clamp(-T::LARGEST, T::LARGEST)));
        let (len, used) = (self.gradient.len(), self.rule.used());
        let g = self.gradient.as_ptr();
        let w = self.weights.as_mut_ptr();
        let mut states = self.states;
        let s: [*mut T; STATES] = std::array::from_fn(|i| states[i].as_mut_ptr());
        let mut i = 0;
        while i < len {
            let left = n.min(len - i);
            // SAFETY: `left` elements remain in the gradient and, `apply` checked, in the weights and in each of the
            // `used` states.
            unsafe {
                let load = |p: *const T| {
                    if left == n { T::V::<I>::load(p.add(i)) } else { T::V::<I>::load_partial(p.add(i), left) }
                };
                let store = |p: *mut T, v: T::V<I>| {
                    if left == n { v.store(p.add(i)) } else { v.store_partial(p.add(i), left) }
                };
                let old = load(w);
                let x = Gradient { x: load(g).mul(first), factor, least };
                let mut memory = [zero; STATES];
                for j in 0..STATES {
                    if j < used {
                        memory[j] = load(s[j]);
                    }
                }
                let (next, memory) = if self.direction {
                    self.rule.direction(&numbers, old, x, memory)
                } else {
                    self.rule.lanes(&numbers, old, x, memory)
                };
                for j in 0..STATES {
                    if j < used {
                        store(s[j], from(floor, memory[j]));
                    }
                }
                if !self.direction {
                    store(w, next);
                }
                if self.count {
                    let mut next = next;
                    if left < n {
                        // Lanes past the end hold no weights: what a rule makes of zeros there does not count.
                        let mut lanes = [T::ZERO; 16];
                        next.store_partial(lanes.as_mut_ptr(), left);
                        next = T::V::<I>::load(lanes.as_ptr());
                    }
                    let difference = if self.direction { next } else { next.sub(old) };
                    same = same.add(T::V::<I>::select(next.eq(old), one, zero));
                    none = none.add(T::V::<I>::select(next.eq(zero), one, zero));
                    let (d, o) = (difference.widen(), old.widen());
                    for h in 0..halves {
                        moved[h] = d[h].fma(d[h], moved[h]);
                        squares[h] = o[h].fma(o[h], squares[h]);
                    }
                }
            }
            i += n;
        }
        let mut out = Change::default();
        if self.count {
            let fold = |v: [<T::V<I> as Vector>::Wide; 2]| sum(v[0].add(v[1]));
            let w: &[T] = self.weights;
            out.moved = ScaledSum::new(fold(moved), 0);
            out.weights = squares_of(fold(squares), w);
            let pad = (len.next_multiple_of(n) - len) as u64;
            out.unchanged = (sum(same) as u64).saturating_sub(pad);
            out.zero = (sum(none) as u64).saturating_sub(pad);
        }
        out
    }
}

/// The lanes of a vector added in order.
#[inline(always)]
fn sum<V: Vector>(v: V) -> f64 {
    let mut a = [V::Elem::ZERO; 16];
    // SAFETY: 16 elements hold the lanes of any vector.
    unsafe { v.store(a.as_mut_ptr()) };
    a.iter().map(|x| x.to_f64()).sum()
}

/// Carries out an update.
pub fn apply<T: Real, R: Lanes>(b: Block<'_, T, R>) -> Change {
    let len = b.weights.len();
    assert!(b.gradient.len() == len, "update: weights and gradient differ in size");
    assert!(b.states.iter().take(b.rule.used()).all(|s| s.len() == len), "update: the memory differs in size");
    dispatch(b)
}

/// What changes entries of a gradient one by one.
pub trait Entries: Copy + Sync {
    /// The new entry; `limit` is the rule's own number in the scale of `x`.
    fn entry<V: Vector>(self, x: V, limit: V) -> V;
}

/// Replaces every entry x by `rule(x * 2^shift)`.
pub fn entries<T: Real, R: Entries>(rule: R, values: &mut [T], shift: i64, limit: f64) {
    struct Each<'a, T, R> {
        rule: R,
        values: &'a mut [T],
        factors: [T; 2],
        limit: T,
    }
    impl<T: Real, R: Entries> Kernel for Each<'_, T, R> {
        type Out = ();
        #[inline(always)]
        fn run<I: Isa>(self) {
            let (a, b) = (T::V::<I>::splat(self.factors[0]), T::V::<I>::splat(self.factors[1]));
            let limit = T::V::<I>::splat(self.limit);
            for part in self.values.chunks_mut(T::V::<I>::LANES) {
                // SAFETY: the part has at most LANES elements.
                unsafe {
                    let x = T::V::<I>::load_partial(part.as_ptr(), part.len()).mul(a).mul(b);
                    self.rule.entry(x, limit).store_partial(part.as_mut_ptr(), part.len());
                }
            }
        }
    }
    // Two steps reach from one end of the range to the other; what is further is zero or infinite either way.
    let top = i64::from(T::BIAS) - 1;
    let near = shift.clamp(-top, top);
    let far = (shift - near).clamp(-top, top);
    let factors = [near, far].map(|k| crate::num::scaled::pow2_in::<T>(k));
    dispatch(Each { rule, values, factors, limit: T::from_f64(limit) });
}

/// Multiplies every entry by a number that the type need not hold: the reciprocal of a faint norm is beyond its range.
pub fn multiply<T: Real>(values: &mut [T], by: Scale) {
    #[derive(Clone, Copy)]
    struct Times;
    impl Entries for Times {
        #[inline(always)]
        fn entry<V: Vector>(self, x: V, limit: V) -> V {
            x.mul(limit)
        }
    }
    // The power of two apart, where the factor is no normal number of the type.
    if by.e.abs() < i64::from(T::BIAS) - 1 {
        entries(Times, values, 0, by.value());
    } else {
        entries(Times, values, by.e, by.m);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::simd::{available, dispatch_on};

    #[derive(Clone, Copy)]
    struct Momentum;
    impl Lanes for Momentum {
        fn used(&self) -> usize {
            1
        }
        #[inline(always)]
        fn lanes<V: Vector>(self, k: &[V; NUMBERS], w: V, g: Gradient<V>, mut s: [V; STATES]) -> (V, [V; STATES]) {
            s[0] = s[0].fma(k[1], g.plain());
            (s[0].fma(k[0], w), s)
        }
    }

    #[test]
    fn every_path_and_length_gives_the_plain_loop() {
        for len in [1usize, 7, 16, 19, 64] {
            let g: Vec<f32> = (0..len).map(|i| (i as f32 - 3.3) * 0.7).collect();
            let want: Vec<(f32, f32)> = g
                .iter()
                .map(|&g| {
                    let v = 0.5f32.mul_add(0.9, g * 0.25);
                    (v.mul_add(-0.1, 1.0), v)
                })
                .collect();
            for path in available() {
                let (mut w, mut v) = (vec![1.0f32; len], vec![0.5f32; len]);
                let mut numbers = [0.0; NUMBERS];
                (numbers[0], numbers[1]) = (-0.1, 0.9);
                let block = Block {
                    rule: Momentum,
                    numbers,
                    gradient: &g,
                    scale: Scale::new(1.0, -2),
                    weights: &mut w,
                    states: [&mut v, &mut [], &mut []],
                    count: true,
                    direction: false,
                };
                let change = dispatch_on(path, block);
                assert!(w.iter().zip(&v).zip(&want).all(|((w, v), want)| (*w, *v) == *want), "{path:?} {len}");
                let moved: f64 = w.iter().map(|&w| f64::from(w - 1.0).powi(2)).sum();
                assert!((change.moved.s - moved).abs() <= 1e-12 * moved);
                assert_eq!((change.weights.s, change.unchanged, change.zero), (len as f64, 0, 0));
            }
        }
    }

    /// Weights that a step takes to zero, of either sign, and those that were there; lanes past the end are none.
    #[test]
    fn weights_at_zero_are_counted() {
        for len in [1usize, 7, 16, 19, 64] {
            let g: Vec<f32> = (0..len).map(|i| [1.0, 0.0, -1.0][i % 3]).collect();
            for path in available() {
                let mut w: Vec<f32> = (0..len).map(|i| [0.5, -0.0, 0.25][i % 3]).collect();
                let mut v = vec![0.0f32; len];
                let mut numbers = [0.0; NUMBERS];
                numbers[0] = -0.5;
                let states = [&mut v[..], &mut [], &mut []];
                let (rule, scale) = (Momentum, Scale::ONE);
                let (count, direction) = (true, false);
                let block = Block { rule, numbers, gradient: &g, scale, weights: &mut w, states, count, direction };
                let change = dispatch_on(path, block);
                let zeros = w.iter().filter(|&&w| w == 0.0).count() as u64;
                assert_eq!(zeros, (0..len).filter(|i| i % 3 < 2).count() as u64);
                assert_eq!(change.zero, zeros, "{path:?} {len}");
            }
        }
    }

    #[test]
    fn a_number_that_the_type_does_not_hold_moves_nothing_by_nothing() {
        let (mut w, mut v) = ([1.0f32; 2], [0.0f32; 2]);
        let numbers = std::array::from_fn(|i| [-1e300, f64::NEG_INFINITY][i % 2]);
        let (gradient, weights, states) = (&[0.0f32, 0.0][..], &mut w[..], [&mut v[..], &mut [], &mut []]);
        let scale = Scale::ONE;
        let change =
            apply(Block { rule: Momentum, numbers, gradient, scale, weights, states, count: true, direction: false });
        assert_eq!((w, v, change.unchanged), ([1.0; 2], [0.0; 2], 2));
    }

    #[test]
    fn factors_that_the_type_does_not_hold() {
        for e in [0, 50, -120, 126, 140, 149, -127, -145, 200, -300] {
            let x = 1.5 * 2f32.powi((-e / 2) as i32);
            let mut v = [x, -x, 0.0];
            multiply(&mut v, Scale::new(1.25, e));
            let want = f64::from(x) * 1.25 * pow2(e);
            assert_eq!(v.map(f64::from), [want, -want, 0.0], "{e}");
        }
        let mut v = [1.0f32, 0.0];
        multiply(&mut v, Scale::ZERO);
        assert_eq!(v, [0.0, 0.0]);
    }

    #[test]
    fn a_gradient_beyond_the_range_comes_near_it_by_its_scale() {
        #[derive(Clone, Copy)]
        struct Plain;
        impl Lanes for Plain {
            #[inline(always)]
            fn lanes<V: Vector>(self, _: &[V; NUMBERS], w: V, g: Gradient<V>, s: [V; STATES]) -> (V, [V; STATES]) {
                (g.x.fma(g.factor, w), s)
            }
        }
        for (e, want) in [(0, 1.5f32), (-140, 1.5 * 2f32.powi(-140)), (-9000, 0.0), (9000, f32::INFINITY)] {
            let mut w = [0.0f32];
            let states = [&mut [][..], &mut [], &mut []];
            let (numbers, scale) = ([0.0; NUMBERS], Scale::new(1.0, e));
            let gradient = &[1.5f32][..];
            let weights = &mut w[..];
            apply(Block { rule: Plain, numbers, gradient, scale, weights, states, count: false, direction: false });
            assert_eq!(w[0], want, "{e}");
        }
    }
}
