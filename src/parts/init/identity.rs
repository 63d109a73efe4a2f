//! parts: a multiple of the identity. Knows no random numbers.

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::num::real::Real;

/// `gain` on the main diagonal, 0 elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    gain: f64,
}

impl Initializer for Identity {
    const INFO: &'static Info = &Info {
        name: "identity",
        aliases: &["eye", "eye_", "Identity", "IdentityInitializer"],
        formula: "W_ij = gain if i = j else 0",
        summary: "A multiple of the identity; with ReLU, zero bias and a non-negative state it passes gradients unchanged.",
        reference: "Le, Jaitly, Hinton 2015, A simple way to initialize recurrent networks of rectified linear units",
        params: &[Param::number("gain", 1.0, "The entries on the main diagonal.")],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        Ok(Self { gain: given.number("gain") })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        site.out.fill(T::ZERO);
        for (i, row) in site.out.chunks_exact_mut(site.cols).enumerate().take(site.cols) {
            row[i] = T::from_f64(self.gain);
        }
    }
}
