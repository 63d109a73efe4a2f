//! parts: the Gaussian error linear unit by its tanh approximation. Knows nothing of networks.

use super::{Activation, Info};
use crate::kernels::pointwise::Pointwise;
use crate::num::math::scalar::{exp_parts, normalize};
use crate::num::math::{gated, pick, split};
use crate::num::simd::{One, Vector};

/// `x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeluTanh;

impl Pointwise for GeluTanh {
    const TAILS: bool = true;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let bound = pick::<V>(16.0, 40.0);
        let t = bound.neg().max(bound.min(x));
        let (z, tdz) = argument(t);
        gated(x, z, tdz)
    }
}

impl Activation for GeluTanh {
    const INFO: Info = Info {
        name: "gelu_tanh",
        aliases: &["gelu_new", "gelu_approximate"],
        formula: "x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3)",
        derivative: "s (1 + 2 x u' (1 - s)), s the logistic function of 2 u",
        summary: "The approximation of GELU that GPT-2 and BERT code uses.",
        reference: "Hendrycks, Gimpel 2016, arXiv:1606.08415",
        fits: "he_normal",
        max_slope: 1.128_993_068_658_771_8,
        ..Info::BASE
    };

    fn new(_: &[f64]) -> Result<Self, String> {
        Ok(Self)
    }

    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        // Beyond this bound the exponent is out of reach anyway.
        let t = One::splat(x.max(-3e5));
        let (z, tdz) = argument(t);
        let (m, k) = exp_parts(z.0.get(), z.1.get());
        normalize(m * (1.0 + tdz.get()), k)
    }
}

/// 2 sqrt(2/pi) and 0.044715 times that, each as a double and its rest.
const LINEAR: f64 = 1.595_769_121_605_730_8;
const LINEAR_REST: f64 = -9.969_308_809_110_92e-17;
const CUBIC: f64 = 0.071_354_816_272_600_25;
const CUBIC_REST: f64 = -6.175_149_918_155_315e-19;

/// The gate's argument `z = x (LINEAR + CUBIC x^2)` to twice the precision, and `x z'`.
#[inline(always)]
fn argument<V: Vector>(x: V) -> ((V, V), V) {
    let (c1, c3) = (split::<V>(LINEAR), split::<V>(CUBIC));
    let (c1_rest, c3_rest) = (c1.1.add(V::c(LINEAR_REST)), c3.1.add(V::c(CUBIC_REST)));
    let w = x.mul(x);
    let w_rest = x.fma(x, w.neg());
    let p = c3.0.mul(w);
    let p_rest = c3_rest.fma(w, c3.0.fma(w_rest, c3.0.fma(w, p.neg())));
    // The exact sum of c1 and p, whichever is larger.
    let v = c1.0.add(p);
    let back = v.sub(c1.0);
    let lost = c1.0.sub(v.sub(back)).add(p.sub(back));
    let v_rest = lost.add(p_rest).add(c1_rest);
    let z = x.mul(v);
    let z_rest = x.fma(v_rest, x.fma(v, z.neg()));
    ((z, z_rest), x.mul(V::c(3.0).fma(p, c1.0)))
}
