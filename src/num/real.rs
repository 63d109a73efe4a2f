//! num: the two float types a network can have. Knows no vectors but names the one that carries each type.

use super::simd::{Isa, Vector};
use std::fmt::{Debug, Display};

/// A float type that networks are computed in: `f32` or `f64`.
pub trait Real: Copy + Default + PartialOrd + Debug + Display + Send + Sync + 'static {
    /// The vector of an instruction path that carries this type: 512 bits wide on every path.
    type V<I: Isa>: Vector<Elem = Self>;
    /// The type's name as NumPy writes it.
    const NAME: &'static str;
    /// Bits of the stored significand, without the hidden one.
    const MANTISSA_BITS: u32;
    /// Exponent bias of the format.
    const BIAS: i32;
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The largest finite value.
    const LARGEST: f64;

    /// Rounds a double to this type.
    fn from_f64(x: f64) -> Self;
    /// The value as a double (exact).
    fn to_f64(self) -> f64;
    /// The bit pattern, widened.
    fn bits(self) -> u64;
    /// `self * b + c` with one rounding.
    fn fma(self, b: Self, c: Self) -> Self;
    /// Neither NaN nor infinite.
    fn finite(self) -> bool;
}

macro_rules! real {
    ($t:ty, $carrier:ident, $name:literal, $mant:expr, $bias:expr) => {
        impl Real for $t {
            type V<I: Isa> = I::$carrier;
            const NAME: &'static str = $name;
            const MANTISSA_BITS: u32 = $mant;
            const BIAS: i32 = $bias;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LARGEST: f64 = <$t>::MAX as f64;
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }
            #[inline(always)]
            fn fma(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }
            #[inline(always)]
            fn finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}

real!(f32, F32, "float32", 23, 127);
real!(f64, F64, "float64", 52, 1023);
