//! parts: RMS normalisation. Knows no arithmetic.

use super::{Given, Info, Over, Param, Rule};

/// Each row by its root mean square.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rms;

impl Rule for Rms {
    const INFO: &'static Info = &Info {
        name: "rms",
        aliases: &["rms_norm", "RMSNorm", "RMSNormalization"],
        formula: "y = x / sqrt(mean(x^2) + eps) * weight, over the units of a sample",
        summary: "Layer normalisation without taking the mean away: one sum less, and no shift.",
        reference: "Zhang & Sennrich 2019, arXiv:1910.07467; PyTorch torch.nn.RMSNorm",
        params: &[Param::bounded(
            "eps",
            -1.0,
            -1.0,
            f64::MAX,
            "Added to the mean square, under the root; None: the machine epsilon of the float type.",
        )],
    };
    const SHIFT: bool = false;
    fn new(_: &Given) -> Self {
        Self
    }
    fn over(&self, _: usize) -> Result<Over, String> {
        Ok(Over::Row { groups: 1, centre: false })
    }
}
