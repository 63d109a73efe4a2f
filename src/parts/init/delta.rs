//! parts: a multiple of the identity with a little noise. Knows no activations.

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::num::real::Real;
use crate::num::rng::{Law, fill};

/// `gain` on the main diagonal plus normal noise everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    gain: f64,
    noise: f64,
}

impl Initializer for Delta {
    const INFO: &'static Info = &Info {
        name: "delta",
        aliases: &["dirac", "dirac_", "noisy_identity", "near_identity"],
        formula: "W_ij = gain [i = j] + N(0, noise^2 / fan_in)",
        summary: "A layer starts as its input passed on, and noise tells its units apart; the dense form of starting a \
                  convolution as a delta.",
        reference: "Hardt, Ma 2017, Identity matters in deep learning; Xiao et al. 2018, Dynamical isometry and a mean field \
                    theory of CNNs (delta); Le, Jaitly, Hinton 2015 (identity with ReLU)",
        params: &[
            Param::number("gain", 1.0, "The entries on the main diagonal, before noise."),
            Param::bounded("noise", 0.01, 0.0, f64::MAX, "Standard deviation of the noise times sqrt(fan_in)."),
        ],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        Ok(Self { gain: given.number("gain"), noise: given.number("noise") })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        let std = self.noise / (site.fan_in as f64).sqrt();
        fill(site.out, site.key, 0, 0, Law::Normal, T::from_f64(std), T::ZERO);
        for (i, row) in site.out.chunks_exact_mut(site.cols).enumerate().take(site.cols) {
            row[i] = T::from_f64(self.gain + row[i].to_f64());
        }
    }
}
