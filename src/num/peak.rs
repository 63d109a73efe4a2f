//! num: the machine's own fused-multiply-add peak, measured. Knows no workload.

use super::pool;
use super::real::Real;
use super::simd::{Isa, Kernel, Vector, dispatch};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Independent sums: the latency of a fused multiply-add (4 cycles) times two units, and some more.
const SUMS: usize = 12;
const ROUND: usize = 4096;

struct Spin<T> {
    x: T,
}

impl<T: Real> Kernel for Spin<T> {
    type Out = T;
    #[inline(always)]
    fn run<I: Isa>(self) -> T {
        let (a, b) = (T::V::<I>::splat(self.x), T::V::<I>::c(0.5));
        let mut sum = [a; SUMS];
        for _ in 0..ROUND {
            for s in &mut sum {
                *s = s.fma(b, a);
            }
        }
        let mut out = [T::ZERO; 16];
        let all = sum.into_iter().fold(T::V::<I>::zero(), |t, s| t.add(s));
        // SAFETY: 16 elements hold the lanes of any vector.
        unsafe { all.store(out.as_mut_ptr()) };
        out[0]
    }
}

/// Floating-point operations a second, in units of 1e9, of `threads` threads for `seconds`: two for each fused
/// multiply-add. The best of several slices is taken, as whatever else runs can only lower it.
pub fn fma_peak<T: Real>(threads: usize, seconds: f64) -> f64 {
    let lanes = if T::MANTISSA_BITS == 23 { 16 } else { 8 };
    let slices = 8;
    let slice = Duration::from_secs_f64(seconds.clamp(0.01, 60.0) / f64::from(slices));
    let mut best = 0.0f64;
    for _ in 0..slices {
        let rounds = AtomicU64::new(0);
        let start = Instant::now();
        pool::run(threads, &|_| {
            let mut n = 0;
            while start.elapsed() < slice {
                for _ in 0..8 {
                    std::hint::black_box(dispatch(Spin { x: std::hint::black_box(T::ONE) }));
                }
                n += 8;
            }
            rounds.fetch_add(n, Ordering::Relaxed);
        });
        let flops = rounds.load(Ordering::Relaxed) as f64 * (2 * lanes * SUMS * ROUND) as f64;
        best = best.max(flops / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}
