//! parts: weight normalisation: length and direction of a row of weights learn apart. Knows one row.

use super::Rule;
use crate::kernels::row_affine::{affine, affine_onto, row_norm, row_sums};
use crate::num::real::Real;
use crate::num::scaled::mul_pow2;
use crate::parts::catalogue::{Given, Info};

/// `w = g v / |v|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightNorm;

/// |v| as g holds it at the start, so that w is v then, to the bit; none for a row without a direction.
fn length<T: Real>(v: &[T]) -> Option<f64> {
    let n = T::from_f64(row_norm(v)).to_f64();
    (n != 0.0).then_some(n)
}

impl Rule for WeightNorm {
    const INFO: &'static Info = &Info {
        name: "weight_norm",
        aliases: &["weight_normalization", "weight_normalisation", "WeightNorm"],
        formula: "w = g v / |v|, row by row; dL/dg = <dL/dw, v> / |v|, dL/dv = g / |v| (dL/dw - <dL/dw, v> v / |v|^2)",
        summary: "Length g and direction v of a unit's weights learn apart, and dL/dv is orthogonal to v; g starts at \
                  |v|, so w starts as v. A row of zeros has no direction: its weights and gradients are zeros.",
        reference: "Salimans, Kingma 2016, Weight normalization, eqs. 2 and 3; torch.nn.utils.parametrizations.weight_norm",
        params: &[],
    };
    const LEAVES: [&'static str; 2] = ["weight_v", "weight_g"];
    fn new(_: &Given) -> Self {
        Self
    }
    fn start<T: Real>(&self, v: &[T]) -> T {
        T::from_f64(row_norm(v))
    }
    fn forward<T: Real>(&self, v: &[T], g: T, w: &mut [T]) {
        affine(v, length(v).map_or(0.0, |n| g.to_f64() / n), 0.0, w);
    }
    fn backward<T: Real>(&self, v: &[T], g: T, d: &mut [T], shift: i64) -> f64 {
        let n = length(v).unwrap_or(f64::INFINITY);
        let along = row_sums(v, d, 0.0).dot / n;
        let f = mul_pow2(g.to_f64() / n, -shift);
        affine_onto(v, -f * (along / n), 0.0, d, f);
        along
    }
    fn factor<T: Real>(&self, v: &[T], g: T) -> Option<f64> {
        let f = (g.to_f64() / length(v)?).abs();
        (f != 0.0 && f.is_finite()).then_some(f)
    }
}
