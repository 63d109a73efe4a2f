//! num: 512-bit virtual vectors with one meaning on every instruction path. Knows no algorithm.
//!
//! Every path shows 16 lanes of `f32` or 8 of `f64`; narrower hardware uses several registers. Because the lane count
//! is part of the meaning, an algorithm written once gives the same bits on AVX-512, AVX2 and plain code.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod duo;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::real::Real;
use super::setting;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use duo::Duo;
pub use scalar::{One, Scalar};

/// An instruction path: it names its vector types. Instances of the vector types are only made below [`dispatch`],
/// which has asked the processor first.
pub trait Isa: Copy + Send + Sync + 'static {
    /// 16 lanes of `f32`.
    type F32: Vector<Elem = f32, Wide = Self::F64>;
    /// 8 lanes of `f64`.
    type F64: Vector<Elem = f64, Wide = Self::F64>;
    /// Registers that a matrix tile may use for sums, in units of this path's virtual vector.
    const ACCUMULATORS: usize;
}

/// A 512-bit vector of floats. All operations are lane-wise and correctly rounded; none is contracted or reordered.
pub trait Vector: Copy {
    /// Lane type.
    type Elem: Real;
    /// One truth value per lane.
    type Mask: Copy;
    /// The `f64` vector of the same path.
    type Wide: Vector<Elem = f64>;
    /// Number of lanes: 16 for `f32`, 8 for `f64`, on every path.
    const LANES: usize;

    /// All lanes equal to `x`.
    fn splat(x: Self::Elem) -> Self;
    /// All lanes with the bit pattern `bits` (the low 32 for `f32`).
    fn splat_bits(bits: u64) -> Self;
    /// Loads `LANES` values; no alignment is needed.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` elements.
    unsafe fn load(p: *const Self::Elem) -> Self;
    /// Stores `LANES` values.
    ///
    /// # Safety
    /// `p` is valid for writing `LANES` elements.
    unsafe fn store(self, p: *mut Self::Elem);
    /// Loads the first `n <= LANES` values, zero in the others; memory past `n` is not touched.
    ///
    /// # Safety
    /// `p` is valid for reading `n` elements.
    unsafe fn load_partial(p: *const Self::Elem, n: usize) -> Self;
    /// Stores the first `n <= LANES` values; memory past `n` is not touched.
    ///
    /// # Safety
    /// `p` is valid for writing `n` elements.
    unsafe fn store_partial(self, p: *mut Self::Elem, n: usize);

    /// Asks for the cache line at `p`, which may be any address, in the second-level cache; a hint, no access.
    #[inline(always)]
    fn prefetch(_p: *const Self::Elem) {}

    /// `self + b`
    fn add(self, b: Self) -> Self;
    /// `self - b`
    fn sub(self, b: Self) -> Self;
    /// `self * b`
    fn mul(self, b: Self) -> Self;
    /// `self / b`
    fn div(self, b: Self) -> Self;
    /// `self * b + c`, rounded once.
    fn fma(self, b: Self, c: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Nearest integer, ties to even.
    fn round(self) -> Self;
    /// `if self > b { self } else { b }`: a NaN in `self` gives `b`, a NaN in `b` gives `b`.
    fn max(self, b: Self) -> Self;
    /// `if self < b { self } else { b }`
    fn min(self, b: Self) -> Self;

    /// `self < b` (false for NaN)
    fn lt(self, b: Self) -> Self::Mask;
    /// `self <= b` (false for NaN)
    fn le(self, b: Self) -> Self::Mask;
    /// `self == b` (false for NaN)
    fn eq(self, b: Self) -> Self::Mask;
    /// True where the lane is NaN.
    fn is_nan(self) -> Self::Mask;
    /// Lane of `a` where the mask is true, of `b` elsewhere.
    fn select(m: Self::Mask, a: Self, b: Self) -> Self;
    /// Bit `i` is lane `i`.
    fn mask_bits(m: Self::Mask) -> u32;

    /// Bitwise and of the patterns.
    fn and(self, b: Self) -> Self;
    /// Bitwise or of the patterns.
    fn or(self, b: Self) -> Self;
    /// Bitwise exclusive or of the patterns.
    fn xor(self, b: Self) -> Self;
    /// Pattern shifted left by `N` bits, as an unsigned integer of the lane's width.
    fn shl<const N: u32>(self) -> Self;
    /// Pattern shifted right by `N` bits, as an unsigned integer of the lane's width.
    fn shr<const N: u32>(self) -> Self;
    /// Patterns added as integers of the lane's width, wrapping.
    fn add_bits(self, b: Self) -> Self;

    /// The lanes as doubles: lanes 0..8 and 8..16 for `f32`; the vector itself and zeros for `f64`.
    fn widen(self) -> [Self::Wide; 2];
    /// The inverse of [`Vector::widen`], rounding to the lane type.
    fn narrow(w: [Self::Wide; 2]) -> Self;

    /// Loads the first `n` values, or all where there are more.
    ///
    /// # Safety
    /// `p` is valid for reading `n.min(LANES)` elements.
    #[inline(always)]
    unsafe fn load_some(p: *const Self::Elem, n: usize) -> Self {
        // SAFETY: the caller's promise. Whole vectors are not loaded and stored through a mask, which is slower.
        unsafe { if n >= Self::LANES { Self::load(p) } else { Self::load_partial(p, n) } }
    }
    /// Stores the first `n` values, or all where there are more.
    ///
    /// # Safety
    /// `p` is valid for writing `n.min(LANES)` elements.
    #[inline(always)]
    unsafe fn store_some(self, p: *mut Self::Elem, n: usize) {
        // SAFETY: as in `load_some`.
        unsafe { if n >= Self::LANES { self.store(p) } else { self.store_partial(p, n) } }
    }
    /// Sum of the lanes, in a fixed tree: by halves.
    #[inline(always)]
    fn total(self) -> Self::Elem {
        by_halves(self, |a, b| Self::Elem::from_f64(a.to_f64() + b.to_f64()))
    }
    /// The largest lane of a vector without NaN.
    #[inline(always)]
    fn top(self) -> Self::Elem {
        by_halves(self, |a, b| if b > a { b } else { a })
    }

    /// Absolute value.
    #[inline(always)]
    fn abs(self) -> Self {
        let sign = Self::splat_bits(1 << (if Self::Elem::MANTISSA_BITS == 23 { 31 } else { 63 }));
        self.xor(self.and(sign))
    }
    /// Negation (flips the sign bit, also of NaN and zero).
    #[inline(always)]
    fn neg(self) -> Self {
        self.xor(Self::splat_bits(1 << (if Self::Elem::MANTISSA_BITS == 23 { 31 } else { 63 })))
    }
    /// Magnitude of `self` (which must be non-negative) with the sign of `s`.
    #[inline(always)]
    fn with_sign_of(self, s: Self) -> Self {
        self.or(s.and(Self::splat_bits(1 << (if Self::Elem::MANTISSA_BITS == 23 { 31 } else { 63 }))))
    }
    /// `self`, but NaN where `x` is: what a comparison chose for it is not known of a NaN.
    #[inline(always)]
    fn unless_nan(self, x: Self) -> Self {
        Self::select(x.is_nan(), x, self)
    }
    /// All lanes equal to `x` rounded to the lane type.
    #[inline(always)]
    fn c(x: f64) -> Self {
        Self::splat(Self::Elem::from_f64(x))
    }
    /// All lanes zero.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(Self::Elem::ZERO)
    }
}

/// The lanes joined in a fixed tree: by halves.
#[inline(always)]
fn by_halves<V: Vector>(v: V, join: impl Fn(V::Elem, V::Elem) -> V::Elem) -> V::Elem {
    let mut a = [V::Elem::ZERO; 16];
    // SAFETY: 16 elements hold the lanes of any vector.
    unsafe { v.store(a.as_mut_ptr()) };
    let mut n = V::LANES / 2;
    while n > 0 {
        for i in 0..n {
            a[i] = join(a[i], a[i + n]);
        }
        n /= 2;
    }
    a[0]
}

/// A piece of work written once for all instruction paths.
pub trait Kernel {
    /// What it returns.
    type Out;
    /// Runs it; implementations are `#[inline(always)]` so that they are compiled for the path's features.
    fn run<I: Isa>(self) -> Self::Out;
}

/// The instruction paths this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Plain code with `mul_add`: right everywhere.
    Scalar,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

impl Path {
    /// All of them, plainest first.
    pub const ALL: [Path; 3] = [Path::Scalar, Path::Avx2, Path::Avx512];

    /// The name that `VGCORE_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Path::Scalar => "scalar",
            Path::Avx2 => "avx2",
            Path::Avx512 => "avx512",
        }
    }
}

/// The paths this processor can run, plainest first.
pub fn available() -> Vec<Path> {
    #[allow(unused_mut)] // reason: on other architectures the plain path is the only one
    let mut v = vec![Path::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            v.push(Path::Avx2);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                v.push(Path::Avx512);
            }
        }
    }
    v
}

/// The path in use: the one that `VGCORE_ISA` names, else the widest available. A name that means nothing here has been
/// refused by [`setting::check`], where the library is entered.
pub fn path() -> Path {
    static PATH: OnceLock<Path> = OnceLock::new();
    *PATH.get_or_init(|| {
        let have = available();
        setting::path().ok().flatten().unwrap_or(have[have.len() - 1])
    })
}

/// Runs a kernel on the path in use.
#[inline]
pub fn dispatch<K: Kernel>(k: K) -> K::Out {
    dispatch_on(path(), k)
}

/// Runs a kernel on a given path, which must be one of [`available`].
#[inline]
pub fn dispatch_on<K: Kernel>(path: Path, k: K) -> K::Out {
    match path {
        Path::Scalar => k.run::<Scalar>(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `path()` and `available()` only name paths whose features the processor reported.
        Path::Avx2 => unsafe { run_avx2(k) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Path::Avx512 => unsafe { run_avx512(k) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => k.run::<Scalar>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(k: K) -> K::Out {
    k.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<K: Kernel>(k: K) -> K::Out {
    k.run::<Avx512>()
}

#[cfg(test)]
mod tests;
