//! num: the plain instruction path, arrays of lanes and `mul_add`. Knows no hardware.

use super::{Isa, Vector};

/// Plain code; processors without a path of their own run it natively.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Isa for Scalar {
    type F32 = Lanes<f32, 16>;
    type F64 = Lanes<f64, 8>;
    const ACCUMULATORS: usize = 4;
}

/// `N` lanes of `T` held in an array.
#[derive(Clone, Copy)]
pub struct Lanes<T, const N: usize>([T; N]);

#[inline(always)]
fn map<T: Copy, const N: usize>(a: [T; N], b: [T; N], f: impl Fn(T, T) -> T) -> [T; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

macro_rules! lanes {
    ($t:ty, $n:literal, $u:ty, $widen:expr, $narrow:expr) => {
        impl Vector for Lanes<$t, $n> {
            type Elem = $t;
            type Mask = [bool; $n];
            type Wide = Lanes<f64, 8>;
            const LANES: usize = $n;

            #[inline(always)]
            fn splat(x: $t) -> Self {
                Self([x; $n])
            }
            #[inline(always)]
            fn splat_bits(bits: u64) -> Self {
                Self([<$t>::from_bits(bits as $u); $n])
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: the caller vouches for LANES readable elements.
                Self(unsafe { p.cast::<[$t; $n]>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: the caller vouches for LANES writable elements.
                unsafe { p.cast::<[$t; $n]>().write_unaligned(self.0) }
            }
            #[inline(always)]
            unsafe fn load_partial(p: *const $t, n: usize) -> Self {
                let mut v = [0.0; $n];
                // SAFETY: the caller vouches for n readable elements, and n <= LANES.
                unsafe { std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), n) };
                Self(v)
            }
            #[inline(always)]
            unsafe fn store_partial(self, p: *mut $t, n: usize) {
                // SAFETY: the caller vouches for n writable elements, and n <= LANES.
                unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), p, n) }
            }
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| x + y))
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| x - y))
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| x * y))
            }
            #[inline(always)]
            fn div(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| x / y))
            }
            #[inline(always)]
            fn fma(self, b: Self, c: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                Self(self.0.map(<$t>::sqrt))
            }
            #[inline(always)]
            fn round(self) -> Self {
                Self(self.0.map(<$t>::round_ties_even))
            }
            #[inline(always)]
            fn max(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| if x > y { x } else { y }))
            }
            #[inline(always)]
            fn min(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| if x < y { x } else { y }))
            }
            #[inline(always)]
            fn lt(self, b: Self) -> Self::Mask {
                std::array::from_fn(|i| self.0[i] < b.0[i])
            }
            #[inline(always)]
            fn le(self, b: Self) -> Self::Mask {
                std::array::from_fn(|i| self.0[i] <= b.0[i])
            }
            #[inline(always)]
            fn eq(self, b: Self) -> Self::Mask {
                std::array::from_fn(|i| self.0[i] == b.0[i])
            }
            #[inline(always)]
            fn is_nan(self) -> Self::Mask {
                self.0.map(<$t>::is_nan)
            }
            #[inline(always)]
            fn select(m: Self::Mask, a: Self, b: Self) -> Self {
                Self(std::array::from_fn(|i| if m[i] { a.0[i] } else { b.0[i] }))
            }
            #[inline(always)]
            fn mask_bits(m: Self::Mask) -> u32 {
                (0..$n).fold(0, |s, i| s | (u32::from(m[i]) << i))
            }
            #[inline(always)]
            fn and(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| <$t>::from_bits(x.to_bits() & y.to_bits())))
            }
            #[inline(always)]
            fn or(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| <$t>::from_bits(x.to_bits() | y.to_bits())))
            }
            #[inline(always)]
            fn xor(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| <$t>::from_bits(x.to_bits() ^ y.to_bits())))
            }
            #[inline(always)]
            fn shl<const N: u32>(self) -> Self {
                Self(self.0.map(|x| <$t>::from_bits(x.to_bits() << N)))
            }
            #[inline(always)]
            fn shr<const N: u32>(self) -> Self {
                Self(self.0.map(|x| <$t>::from_bits(x.to_bits() >> N)))
            }
            #[inline(always)]
            fn add_bits(self, b: Self) -> Self {
                Self(map(self.0, b.0, |x, y| <$t>::from_bits(x.to_bits().wrapping_add(y.to_bits()))))
            }
            #[inline(always)]
            fn widen(self) -> [Self::Wide; 2] {
                $widen(self.0)
            }
            #[inline(always)]
            fn narrow(w: [Self::Wide; 2]) -> Self {
                Self($narrow(w))
            }
        }
    };
}

lanes!(
    f32,
    16,
    u32,
    |v: [f32; 16]| [
        Lanes(std::array::from_fn(|i| f64::from(v[i]))),
        Lanes(std::array::from_fn(|i| f64::from(v[i + 8])))
    ],
    |w: [Lanes<f64, 8>; 2]| std::array::from_fn(|i| w[i / 8].0[i % 8] as f32)
);
lanes!(f64, 8, u64, |v: [f64; 8]| [Lanes(v), Lanes([0.0; 8])], |w: [Lanes<f64, 8>; 2]| w[0].0);
lanes!(
    f64,
    1,
    u64,
    |v: [f64; 1]| [Lanes([v[0], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), Lanes([0.0; 8])],
    |w: [Lanes<f64, 8>; 2]| [w[0].0[0]]
);

/// One double as a vector, for the slow paths that treat single numbers.
pub type One = Lanes<f64, 1>;

impl One {
    /// The number.
    #[inline(always)]
    pub fn get(self) -> f64 {
        self.0[0]
    }
}
