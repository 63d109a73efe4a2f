//! num: counter-based random numbers (Philox4x32-10), any part of which can be made again. Knows no initializer.
//!
//! A [`Key`] (seed, tensor, layer) and a stream number name an endless sequence; element `i` of it is a pure function
//! of those and `i`. So a layer's weights do not depend on how many layers there are, on which thread draws them or on
//! what was drawn before. Sequences of `f32` and of `f64` under one key are different numbers of the same law.
//!
//! Generator: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

use super::normal;
use super::real::Real;
use super::simd::{Isa, Kernel, Vector, dispatch};

/// Names a sequence of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The seed of the whole network.
    pub seed: u64,
    /// Which of a layer's tensors.
    pub tensor: u32,
    /// Which layer, counted from the input.
    pub layer: u32,
}

/// The distribution that [`fill`] draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Uniform on the open interval (0, 1); 32 random bits for `f32`, 64 for `f64`, rounded to the type.
    Unit,
    /// Uniform on the open interval (-1, 1), symmetric to the bit, with the same number of random bits.
    Signed,
    /// Standard normal by Box and Muller's transform; `|z|` reaches 6.7 for `f32` and 9.5 for `f64`.
    Normal,
}

/// Streams of one key: `fill` takes a number below this.
pub const STREAMS: u32 = 1 << 20;

/// Philox blocks that are computed side by side.
const BLOCKS: usize = 16;

/// Numbers of type `T` that one group of [`BLOCKS`] blocks gives. Work on whole groups is cheapest.
pub const fn group<T: Real>() -> usize {
    // A block is 128 bits, and a number takes as many bits as its type has.
    if T::MANTISSA_BITS == 23 { 4 * BLOCKS } else { 2 * BLOCKS }
}

/// One Philox4x32-10 block. The words live in the low halves of `u64`, whose upper halves carry leftovers that no
/// product reads: so each half round is one widening multiplication and one shift, which compilers vectorise.
#[inline(always)]
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const LOW: u64 = 0xffff_ffff;
    let [mut a, mut b, mut c, mut d] = counter.map(u64::from);
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p = (a & LOW) * 0xD251_1F53;
        let q = (c & LOW) * 0xCD9E_8D57;
        (a, b, c, d) = ((q >> 32) ^ b ^ u64::from(k0), q, (p >> 32) ^ d ^ u64::from(k1), p);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [a as u32, b as u32, c as u32, d as u32]
}

/// The words of one group: `words[j][i]` is word `j` of block `i`.
#[inline(always)]
fn words(key: Key, stream: u32, group: u64) -> [[u32; BLOCKS]; 4] {
    // Counter words: block index (low 32 bits), layer, tensor, block index (next 12 bits) with the stream above them.
    let first = group * BLOCKS as u64;
    let (low, high) = (first as u32, (first >> 32) as u32 & 0xfff | stream << 12);
    let k = [key.seed as u32, (key.seed >> 32) as u32];
    let mut w = [[0; BLOCKS]; 4];
    #[allow(clippy::needless_range_loop)] // reason: a plain loop over four arrays is what gets vectorised
    for i in 0..BLOCKS {
        // `low` is a multiple of BLOCKS: the sum never carries.
        let [a, b, c, d] = philox([low + i as u32, key.layer, key.tensor, high], k);
        w[0][i] = a;
        w[1][i] = b;
        w[2][i] = c;
        w[3][i] = d;
    }
    w
}

/// `(w + 1/2) 2^-32` or `2^-64`: inside (0, 1) before rounding.
#[inline(always)]
fn unit<T: Real>(high: u32, low: u32) -> T {
    if T::MANTISSA_BITS == 23 {
        T::from_f64((f64::from(high) + 0.5) * (-32f64).exp2_exact())
    } else {
        T::from_f64(((u64::from(high) << 32 | u64::from(low)) as f64 + 0.5) * (-64f64).exp2_exact())
    }
}

/// `(w + 1/2) 2^-31` or `2^-63` with `w` as a signed integer: inside (-1, 1) before rounding.
#[inline(always)]
fn signed<T: Real>(high: u32, low: u32) -> T {
    if T::MANTISSA_BITS == 23 {
        T::from_f64((f64::from(high as i32) + 0.5) * (-31f64).exp2_exact())
    } else {
        T::from_f64(((u64::from(high) << 32 | u64::from(low)) as i64 as f64 + 0.5) * (-63f64).exp2_exact())
    }
}

/// Powers of two that are known when the crate is compiled.
trait Exp2Exact {
    fn exp2_exact(self) -> f64;
}
impl Exp2Exact for f64 {
    #[inline(always)]
    fn exp2_exact(self) -> f64 {
        f64::from_bits(((1023 + self as i64) as u64) << 52)
    }
}

/// The largest value below one.
#[inline(always)]
fn below_one<T: Real>() -> T {
    T::from_f64(1.0 - (-f64::from(T::MANTISSA_BITS + 1)).exp2_exact())
}

/// One group of numbers into the first `group::<T>()` places of `out`.
#[inline(always)]
fn draw<T: Real, I: Isa>(law: Law, w: &[[u32; BLOCKS]; 4], out: &mut [T; 4 * BLOCKS]) {
    let top = below_one::<T>();
    let single = T::MANTISSA_BITS == 23;
    match law {
        Law::Unit => {
            for j in 0..if single { 4 } else { 2 } {
                let (high, low) = if single { (&w[j], &w[j]) } else { (&w[2 * j], &w[2 * j + 1]) };
                for i in 0..BLOCKS {
                    let u = unit::<T>(high[i], low[i]);
                    out[j * BLOCKS + i] = if u < top { u } else { top };
                }
            }
        }
        Law::Signed => {
            let bottom = T::from_f64(-top.to_f64());
            for j in 0..if single { 4 } else { 2 } {
                let (high, low) = if single { (&w[j], &w[j]) } else { (&w[2 * j], &w[2 * j + 1]) };
                for i in 0..BLOCKS {
                    let u = signed::<T>(high[i], low[i]);
                    let u = if u < top { u } else { top };
                    out[j * BLOCKS + i] = if u > bottom { u } else { bottom };
                }
            }
        }
        Law::Normal => {
            let zero = [0; BLOCKS];
            for j in 0..if single { 2 } else { 1 } {
                let [rh, rl, ah, al] =
                    if single { [w[2 * j], zero, w[2 * j + 1], zero] } else { [w[0], w[1], w[2], w[3]] };
                let mut p = normal::Inputs::<T, BLOCKS>::default();
                for i in 0..BLOCKS {
                    p.radius[i] = unit(rh[i], rl[i]);
                    p.rest[i] = unit(!rh[i], !rl[i]);
                    // The two leading bits choose the quadrant, the others the angle inside it.
                    let half: T = signed(ah[i] << 2 | al[i] >> 30, al[i] << 2);
                    p.angle[i] = T::from_f64(half.to_f64() * 0.5);
                    p.flip[i] = signed(ah[i], 0);
                    p.swap[i] = signed(ah[i] << 1, 0);
                }
                let (first, second) = out[2 * j * BLOCKS..(2 * j + 2) * BLOCKS].split_at_mut(BLOCKS);
                normal::transform::<T, I, BLOCKS>(&p, first, second);
            }
        }
    }
}

struct Fill<'a, T> {
    out: &'a mut [T],
    key: Key,
    stream: u32,
    offset: u64,
    law: Law,
    scale: T,
    shift: T,
}

impl<T: Real> Kernel for Fill<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let per = const { group::<T>() };
        let mut buf = [T::ZERO; 4 * BLOCKS];
        let plain = self.scale == T::ONE && self.shift == T::ZERO;
        let (scale, shift) = (T::V::<I>::splat(self.scale), T::V::<I>::splat(self.shift));
        let (mut at, mut pos) = (0, self.offset);
        while at < self.out.len() {
            let skip = (pos % per as u64) as usize;
            let n = (per - skip).min(self.out.len() - at);
            draw::<T, I>(self.law, &words(self.key, self.stream, pos / per as u64), &mut buf);
            if !plain {
                for i in (0..per).step_by(T::V::<I>::LANES) {
                    // SAFETY: LANES divides `per`, which does not exceed the length of `buf`.
                    unsafe { T::V::<I>::load(buf.as_ptr().add(i)).fma(scale, shift).store(buf.as_mut_ptr().add(i)) };
                }
            }
            self.out[at..at + n].copy_from_slice(&buf[skip..skip + n]);
            at += n;
            pos += n as u64;
        }
    }
}

/// Fills `out` with elements `offset..offset + out.len()` of the sequence that `key` and `stream` name, each being
/// `law * scale + shift` with one rounding. Any split of a range into calls gives the same bits as one call; the bits
/// are the same on every instruction path. `stream` is below [`STREAMS`], the end of the range at most `2^48`.
pub fn fill<T: Real>(out: &mut [T], key: Key, stream: u32, offset: u64, law: Law, scale: T, shift: T) {
    debug_assert!(stream < STREAMS);
    dispatch(Fill { out, key, stream, offset, law, scale, shift });
}

#[cfg(test)]
#[path = "rng_tests.rs"]
mod tests;
