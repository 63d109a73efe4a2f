//! num: every vector operation gives the same bits on every path.

use super::{Duo, Isa, Kernel, Scalar, Vector, available, dispatch_on};
use crate::num::real::Real;

struct Ops<'a, T> {
    x: &'a [T],
    y: &'a [T],
}

impl<T: Real> Kernel for Ops<'_, T> {
    type Out = Vec<u64>;
    #[inline(always)]
    fn run<I: Isa>(self) -> Vec<u64> {
        let n = T::V::<I>::LANES;
        let mut out = Vec::new();
        let mut buf = vec![T::ZERO; n];
        let mut keep = |out: &mut Vec<u64>, v: T::V<I>, len: usize| {
            // SAFETY: `buf` has LANES elements and len <= LANES.
            unsafe { v.store_partial(buf.as_mut_ptr(), len) };
            out.extend(buf[..len].iter().map(|b| b.bits()));
        };
        for i in (0..self.x.len() - n).step_by(3) {
            // SAFETY: i + LANES is inside both slices.
            let (a, b) = unsafe { (T::V::<I>::load(self.x.as_ptr().add(i)), T::V::<I>::load(self.y.as_ptr().add(i))) };
            // SAFETY: 5 <= LANES elements are inside the slice.
            let p = unsafe { T::V::<I>::load_partial(self.x.as_ptr().add(i), 5) };
            for v in [
                a.add(b),
                a.sub(b),
                a.mul(b),
                a.div(b),
                a.fma(b, p),
                a.abs().sqrt(),
                a.round(),
                a.max(b),
                a.min(b),
                a.abs(),
                a.neg(),
                a.abs().with_sign_of(b),
                a.and(b),
                a.or(b),
                a.xor(b),
                a.shl::<3>(),
                a.shr::<7>(),
                a.add_bits(b),
                T::V::<I>::select(a.lt(b), a, b),
                T::V::<I>::select(a.le(b), a, p),
                T::V::<I>::select(a.eq(b), a, p),
                T::V::<I>::select(a.is_nan(), p, b),
                T::V::<I>::narrow(a.widen()),
                T::V::<I>::splat(a.total()),
                T::V::<I>::splat(a.max(T::V::<I>::zero()).top()),
                p,
            ] {
                keep(&mut out, v, n);
            }
            keep(&mut out, a, 3);
            out.push(u64::from(T::V::<I>::mask_bits(a.lt(b))));
        }
        // A NaN's payload is free in IEEE 754, so all NaN count as one.
        out.into_iter().map(|b| if nan::<T>(b) { u64::MAX } else { b }).collect()
    }
}

fn nan<T: Real>(bits: u64) -> bool {
    let (sign, inf) = if T::MANTISSA_BITS == 23 { (1 << 31, 0x7f80_0000) } else { (1 << 63, 0x7ff0_0000_0000_0000) };
    bits & !sign > inf
}

fn values<T: Real>(seed: u64) -> Vec<T> {
    let special = [0.0, -0.0, 1.5, -2.5, 0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-42, 3e38, -1e-310, 2.5];
    (0..240u64)
        .map(|i| {
            let h = (i + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            if h.is_multiple_of(7) {
                T::from_f64(special[(h as usize / 7) % 12])
            } else {
                T::from_f64((h as f64 / 3e12 - 1.0) * 40.0)
            }
        })
        .collect()
}

#[test]
fn paths_agree() {
    fn check<T: Real>() {
        let (x, y) = (values::<T>(1), values::<T>(77));
        let all: Vec<_> = available().into_iter().map(|p| dispatch_on(p, Ops { x: &x, y: &y })).collect();
        for other in &all[1..] {
            assert_eq!(&all[0], other);
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn duo_is_two_vectors() {
    fn check<T: Real>() {
        type Two<T> = Duo<<T as Real>::V<Scalar>>;
        let (x, y) = (values::<T>(3), values::<T>(5));
        let n = Two::<T>::LANES;
        let bits = |v: Two<T>| {
            let mut out = vec![T::ZERO; n];
            // SAFETY: `out` has LANES elements.
            unsafe { v.store(out.as_mut_ptr()) };
            out.iter().map(|b| if nan::<T>(b.bits()) { u64::MAX } else { b.bits() }).collect::<Vec<_>>()
        };
        // SAFETY: both slices have 240 elements, more than LANES.
        let (a, b) = unsafe { (Two::<T>::load(x.as_ptr()), Two::<T>::load(y.as_ptr())) };
        assert_eq!(bits(Vector::narrow(a.widen())), bits(a));
        assert_eq!(bits(a.fma(b, a)), bits(Duo(a.0.fma(b.0, a.0), a.1.fma(b.1, a.1))));
        let less = (0..n).fold(0, |m, i| m | u32::from(x[i] < y[i]) << i);
        assert_eq!(Two::<T>::mask_bits(a.lt(b)), less);
        // SAFETY: 240 elements are more than LANES.
        let part = unsafe { Two::<T>::load_partial(x.as_ptr(), n - 3) };
        let want: Vec<u64> = bits(a).into_iter().enumerate().map(|(i, b)| if i < n - 3 { b } else { 0 }).collect();
        assert_eq!(bits(part), want);
    }
    check::<f32>();
    check::<f64>();
}
