//! parts: normal entries with a given mean and deviation. Knows no fans.

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::num::real::Real;
use crate::num::rng::{Law, fill};

/// Normal entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Normal {
    mean: f64,
    std: f64,
}

impl Initializer for Normal {
    const INFO: &'static Info = &Info {
        name: "normal",
        aliases: &["normal_", "random_normal", "RandomNormal", "gaussian"],
        formula: "W ~ N(mean, std^2)",
        summary: "Normal entries with a given mean and standard deviation, whatever the layer's size.",
        reference: "PyTorch torch.nn.init.normal_",
        params: &[
            Param::number("mean", 0.0, "Mean."),
            Param::bounded("std", 1.0, 0.0, f64::MAX, "Standard deviation."),
        ],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        Ok(Self { mean: given.number("mean"), std: given.number("std") })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        fill(site.out, site.key, 0, 0, Law::Normal, T::from_f64(self.std), T::from_f64(self.mean));
    }
}
