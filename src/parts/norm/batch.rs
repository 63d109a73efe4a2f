//! parts: batch normalisation. Knows no arithmetic.

use super::{EPS, Given, Info, Over, Param, Rule, some};

/// Each unit by its mean and variance over the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    momentum: Option<f64>,
    online: bool,
}

impl Rule for Batch {
    const INFO: &'static Info = &Info {
        name: "batch",
        aliases: &["batch_norm", "BatchNorm", "BatchNorm1d", "BatchNormalization", "bn"],
        formula: "y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, over the samples of a batch; running \
                  statistics in inference",
        summary: "Each unit is normalised over the batch, whose samples therefore see each other; stacked without \
                  shortcuts it makes gradients explode.",
        reference: "Ioffe & Szegedy 2015, arXiv:1502.03167; PyTorch torch.nn.BatchNorm1d; Yang et al. 2019, \
                    arXiv:1902.08129",
        params: &[
            Param::bounded(
                "momentum",
                0.1,
                -1.0,
                1.0,
                "Share of a new batch in the running statistics; None: the average over all batches.",
            ),
            EPS,
            Param::bounded(
                "online",
                0.0,
                0.0,
                1.0,
                "1: running statistics normalise in training too, so that batches of one sample work.",
            ),
        ],
    };
    fn new(given: &Given) -> Self {
        Self { momentum: some(given.number("momentum")), online: given.number("online") != 0.0 }
    }
    fn over(&self, _: usize) -> Result<Over, String> {
        Ok(Over::Batch { momentum: self.momentum, online: self.online })
    }
}
