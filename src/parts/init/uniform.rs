//! parts: uniform entries between two bounds. Knows no fans.

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::num::real::Real;
use crate::num::rng::{Law, fill};

/// Uniform entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Uniform {
    low: f64,
    high: f64,
}

impl Initializer for Uniform {
    const INFO: &'static Info = &Info {
        name: "uniform",
        aliases: &["uniform_", "random_uniform", "RandomUniform"],
        formula: "W ~ U(low, high)",
        summary: "Uniform entries between two bounds, whatever the layer's size.",
        reference: "PyTorch torch.nn.init.uniform_",
        params: &[
            Param::number("low", 0.0, "Lower bound (PyTorch's a)."),
            Param::number("high", 1.0, "Upper bound (PyTorch's b), at least low."),
        ],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        let (low, high) = (given.number("low"), given.number("high"));
        if low > high || !(high - low).is_finite() {
            return Err(Self::INFO.invalid(
                "high",
                format!("{high}"),
                format!("at least low = {low}, and not further from it than a float64 can tell"),
            ));
        }
        Ok(Self { low, high })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        let (low, high) = (T::from_f64(self.low), T::from_f64(self.high));
        if self.low == -self.high {
            // Symmetric to the bit, as the bounds are.
            return fill(site.out, site.key, 0, 0, Law::Signed, high, T::ZERO);
        }
        fill(site.out, site.key, 0, 0, Law::Unit, T::from_f64(self.high - self.low), low);
        // Rounding may reach past a bound by an ulp.
        for x in site.out {
            *x = if *x > high {
                high
            } else if *x < low {
                low
            } else {
                *x
            };
        }
    }
}
