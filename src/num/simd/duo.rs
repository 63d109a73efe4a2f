//! num: two vectors that take every step together, so that two chains of operations overlap. Knows no algorithm.

use super::Vector;
use crate::num::real::Real;

/// Two vectors as one of twice the lanes; a `Duo` of `Duo` has four times the lanes.
///
/// Long chains of dependent operations leave the arithmetic units idle unless several chains run at a time; code for a
/// `Duo` has its chains interleaved, which the processor's own look-ahead is too short to do.
#[derive(Clone, Copy)]
pub struct Duo<V>(pub V, pub V);

macro_rules! both {
    ($($name:ident($($arg:ident),*);)*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: Self),*) -> Self {
            Duo(self.0.$name($($arg.0),*), self.1.$name($($arg.1),*))
        })*
    };
}

macro_rules! compare {
    ($($name:ident($($arg:ident),*);)*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: Self),*) -> Self::Mask {
            (self.0.$name($($arg.0),*), self.1.$name($($arg.1),*))
        })*
    };
}

impl<V: Vector> Vector for Duo<V> {
    type Elem = V::Elem;
    type Mask = (V::Mask, V::Mask);
    type Wide = Duo<V::Wide>;
    const LANES: usize = 2 * V::LANES;

    #[inline(always)]
    fn splat(x: V::Elem) -> Self {
        Duo(V::splat(x), V::splat(x))
    }
    #[inline(always)]
    fn splat_bits(bits: u64) -> Self {
        Duo(V::splat_bits(bits), V::splat_bits(bits))
    }
    #[inline(always)]
    unsafe fn load(p: *const V::Elem) -> Self {
        // SAFETY: the caller vouches for LANES readable elements, half of them for each.
        unsafe { Duo(V::load(p), V::load(p.add(V::LANES))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut V::Elem) {
        // SAFETY: the caller vouches for LANES writable elements, half of them for each.
        unsafe {
            self.0.store(p);
            self.1.store(p.add(V::LANES));
        }
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const V::Elem, n: usize) -> Self {
        let first = n.min(V::LANES);
        // SAFETY: the caller vouches for n readable elements; `p + first` is at most their end.
        unsafe { Duo(V::load_partial(p, first), V::load_partial(p.add(first), n - first)) }
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut V::Elem, n: usize) {
        let first = n.min(V::LANES);
        // SAFETY: the caller vouches for n writable elements; `p + first` is at most their end.
        unsafe {
            self.0.store_partial(p, first);
            self.1.store_partial(p.add(first), n - first);
        }
    }

    both! {
        add(b);
        sub(b);
        mul(b);
        div(b);
        fma(b, c);
        sqrt();
        round();
        max(b);
        min(b);
        and(b);
        or(b);
        xor(b);
        add_bits(b);
    }
    compare! {
        lt(b);
        le(b);
        eq(b);
        is_nan();
    }
    #[inline(always)]
    fn select(m: Self::Mask, a: Self, b: Self) -> Self {
        Duo(V::select(m.0, a.0, b.0), V::select(m.1, a.1, b.1))
    }
    /// At most 32 lanes have a bit.
    #[inline(always)]
    fn mask_bits(m: Self::Mask) -> u32 {
        V::mask_bits(m.0) | V::mask_bits(m.1).checked_shl(V::LANES as u32).unwrap_or(0)
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        Duo(self.0.shl::<N>(), self.1.shl::<N>())
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        Duo(self.0.shr::<N>(), self.1.shr::<N>())
    }
    #[inline(always)]
    fn widen(self) -> [Self::Wide; 2] {
        let (a, b) = (self.0.widen(), self.1.widen());
        if V::Elem::MANTISSA_BITS == 23 {
            [Duo(a[0], a[1]), Duo(b[0], b[1])]
        } else {
            [Duo(a[0], b[0]), Duo(a[1], b[1])]
        }
    }
    #[inline(always)]
    fn narrow(w: [Self::Wide; 2]) -> Self {
        let [a, b] = w;
        if V::Elem::MANTISSA_BITS == 23 {
            Duo(V::narrow([a.0, a.1]), V::narrow([b.0, b.1]))
        } else {
            Duo(V::narrow([a.0, b.0]), V::narrow([a.1, b.1]))
        }
    }
}
