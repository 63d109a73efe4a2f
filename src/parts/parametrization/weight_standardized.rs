//! parts: weight standardisation: rows of weights of mean zero and a variance that the fan-in sets. Knows one row.

use super::Rule;
use crate::kernels::row_affine::{affine, affine_onto, row_sums};
use crate::num::real::Real;
use crate::num::scaled::mul_pow2;
use crate::parts::catalogue::{Given, Info, Param};

/// `w = gain (v - mean) / ((std + eps) sqrt(fan_in))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightStandardized {
    gain: f64,
    eps: f64,
}

/// Mean and standard deviation of a row, and the root of its length.
struct Law {
    mean: f64,
    std: f64,
    root: f64,
}

impl Law {
    fn of<T: Real>(v: &[T]) -> Self {
        let n = v.len() as f64;
        let mean = row_sums(v, v, 0.0).sum / n;
        Self { mean, std: (row_sums(v, v, mean).squares / n).sqrt(), root: n.sqrt() }
    }
}

impl Rule for WeightStandardized {
    const INFO: &'static Info = &Info {
        name: "weight_standardized",
        aliases: &["weight_standardization", "weight_standardisation", "standardized", "scaled_ws"],
        formula: "w = gain (v - mean v) / ((std v + eps) sqrt(fan_in)), row by row, std v of the population",
        summary: "Rows of weights have mean zero and norm gain, whatever v becomes; gain, one number a unit, learns too.",
        reference: "Qiao et al. 2019, Weight standardization, eqs. 4 to 6; scaled by fan-in and gain as in Brock, De, Smith \
                    2021, Characterizing signal propagation to close the performance gap in unnormalized ResNets, eq. 4",
        params: &[
            Param::number("gain", 1.0, "Where every unit's gain starts; sqrt(2 / (1 - 1 / pi)) fits ReLU."),
            Param::bounded("eps", 1e-5, 0.0, f64::MAX, "Added to the standard deviation."),
        ],
    };
    const LEAVES: [&'static str; 2] = ["weight", "gain"];
    fn new(given: &Given) -> Self {
        Self { gain: given.number("gain"), eps: given.number("eps") }
    }
    fn start<T: Real>(&self, _: &[T]) -> T {
        T::from_f64(self.gain)
    }
    fn forward<T: Real>(&self, v: &[T], g: T, w: &mut [T]) {
        let Law { mean, std, root } = Law::of(v);
        let f = g.to_f64() / ((std + self.eps) * root);
        affine(v, f, -f * mean, w);
    }
    fn backward<T: Real>(&self, v: &[T], g: T, d: &mut [T], shift: i64) -> f64 {
        let Law { mean, std, root } = Law::of(v);
        let n = v.len() as f64;
        let s = row_sums(v, d, mean);
        let f = mul_pow2(g.to_f64() / ((std + self.eps) * root), -shift);
        // How the deviation answers to v: (v - mean) / (n std); a row of equal entries has none to answer with.
        let c = if std == 0.0 { 0.0 } else { -f * (s.dot / (n * std) / (std + self.eps)) };
        affine_onto(v, c, -c * mean - f * (s.sum / n), d, f);
        s.dot / ((std + self.eps) * root)
    }
    fn factor<T: Real>(&self, v: &[T], g: T) -> Option<f64> {
        let Law { std, root, .. } = Law::of(v);
        let f = (g.to_f64() / ((std + self.eps) * root)).abs();
        (f != 0.0 && f.is_finite()).then_some(f)
    }
}
