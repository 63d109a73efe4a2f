//! parts: the leaky rectified linear unit. Knows nothing of networks.

use super::{Activation, Info, Param};
use crate::kernels::pointwise::Pointwise;
use crate::num::simd::Vector;

/// `x for x > 0, else negative_slope x`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeakyRelu {
    /// Slope of negative arguments.
    pub negative_slope: f64,
}

impl Pointwise for LeakyRelu {
    const TAILS: bool = false;

    #[inline(always)]
    fn eval<V: Vector>(&self, x: V) -> (V, V) {
        let (a, positive) = (V::c(self.negative_slope), V::zero().lt(x));
        (V::select(positive, x, a.mul(x)), V::select(positive, V::c(1.0), a).unless_nan(x))
    }
}

impl Activation for LeakyRelu {
    const INFO: Info = Info {
        name: "leaky_relu",
        aliases: &["lrelu"],
        formula: "x for x > 0, else negative_slope x",
        derivative: "1 for x > 0, else negative_slope",
        summary: "A rectifier with a small slope for negative arguments, so that no unit dies.",
        reference: "Maas, Hannun, Ng 2013, ICML workshop",
        params: &[Param {
            name: "negative_slope",
            default: 0.01,
            doc: "slope of negative arguments",
            range: (-1e6, 1e6),
        }],
        gain: 1.414_142_856_997_835_3,
        fits: "he_normal",
        ..Info::BASE
    };

    fn new(params: &[f64]) -> Result<Self, String> {
        Ok(Self { negative_slope: params[0] })
    }

    fn max_slope(&self) -> f64 {
        self.negative_slope.abs().max(1.0)
    }

    fn gain(&self) -> f64 {
        (2.0 / (1.0 + self.negative_slope * self.negative_slope)).sqrt()
    }
}
