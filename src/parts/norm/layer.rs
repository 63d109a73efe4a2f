//! parts: layer normalisation. Knows no arithmetic.

use super::{EPS, Given, Info, Over, Rule};

/// Each row by its own mean and variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer;

impl Rule for Layer {
    const INFO: &'static Info = &Info {
        name: "layer",
        aliases: &["layer_norm", "LayerNorm", "LayerNormalization", "ln"],
        formula: "y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, over the units of a sample",
        summary: "Each sample is normalised by itself, so batches may have any size; scaling or shifting all weights in \
                  front changes nothing.",
        reference: "Ba, Kiros & Hinton 2016, arXiv:1607.06450; PyTorch torch.nn.LayerNorm",
        params: &[EPS],
    };
    fn new(_: &Given) -> Self {
        Self
    }
    fn over(&self, _: usize) -> Result<Over, String> {
        Ok(Over::Row { groups: 1, centre: true })
    }
}
