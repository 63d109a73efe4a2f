//! engine: normalisation in a program: its parameters, what it keeps, and how rows are cut into chunks where they see
//! each other. Knows no values.

use super::program::{Context, Program, Ref};
use super::tape::CHUNKS;
use crate::error::Error;
use crate::kernels::norm::{KEPT, Rows};
use crate::num::real::Real;
use crate::num::scaled::pow2;
use crate::parts::init::Init;
use crate::parts::norm::{Norm as Described, Over};

/// Rows of statistics kept of a batch: means, reciprocals of the deviations, variances; and, on the way back, sums of the
/// deltas and of the deltas times what was normalised.
pub const MOMENTS: usize = 5;

/// Chunks that the moments of a small batch come in: enough for as many threads, few enough to be joined by each.
const SMALL: usize = 8;

/// A normalisation as an operation.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// What statistics are taken over.
    pub over: Over,
    /// Added to the variance; none: the machine epsilon.
    pub eps: Option<f64>,
    /// Gain, (width,).
    pub weight: Option<Ref>,
    /// Shift, (width,).
    pub bias: Option<Ref>,
    /// Running mean and variance, (width,), and number of batches, (1,): where statistics are taken over the batch.
    pub running: Option<[Ref; 3]>,
    /// Slot of the rows' statistics, or number of the batch's.
    pub kept: usize,
}

impl Norm {
    /// The parameters that a sweep reads.
    pub fn refs(&self) -> [Option<Ref>; 4] {
        [self.weight, self.bias, self.running.map(|r| r[0]), self.running.map(|r| r[1])]
    }

    /// What is added to the variance.
    pub fn eps<T: Real>(&self) -> f64 {
        self.eps.unwrap_or_else(|| pow2(-i64::from(T::MANTISSA_BITS)))
    }

    /// How rows of a width are normalised; none where the batch is.
    pub fn rows<T: Real>(&self, width: usize) -> Option<Rows> {
        match self.over {
            Over::Row { groups, centre } => Some(Rows { width, groups, centre, eps: self.eps::<T>() }),
            Over::Batch { .. } => None,
        }
    }

    /// Whether running statistics normalise, in training or not.
    pub fn runs(&self, training: bool) -> bool {
        !training || matches!(self.over, Over::Batch { online: true, .. })
    }
}

impl Program {
    /// Whether rows of a batch see each other in training.
    pub fn couples(&self) -> bool {
        self.blocks.iter().any(|b| !b.moments.is_empty())
    }

    /// Lowers a normalisation of rows of a width.
    pub(super) fn norm(
        &mut self,
        cx: &mut Context,
        name: &str,
        norm: &Described,
        affine: bool,
        width: usize,
    ) -> Result<Norm, Error> {
        let over = norm
            .over(width)
            .map_err(|why| Error::Argument(format!("{} normalisation {}: {why}", norm.name(), cx.below(name))))?;
        let (shape, fans) = ([width], (width, width));
        let mut vector = |wanted: bool, leaf: &str, start: f64| {
            wanted.then(|| self.tensor(cx, name, leaf, &shape, fans, &Init::constant(start))).transpose()
        };
        let (weight, bias) = (vector(affine, "weight", 1.0)?, vector(affine && norm.shift, "bias", 0.0)?);
        let (mut running, kept) = (None, self.kept_of(cx, over, width));
        if let Over::Batch { .. } = over {
            let mut buffer = |leaf: &str, shape: &[usize], start: f64| {
                let r = self.tensor(cx, name, leaf, shape, fans, &Init::constant(start))?;
                self.tensors[r.tensor].trainable = false;
                Ok::<_, Error>(r)
            };
            let (mean, var) = (buffer("running_mean", &shape, 0.0)?, buffer("running_var", &shape, 1.0)?);
            running = Some([mean, var, buffer("num_batches", &[1], 0.0)?]);
        }
        Ok(Norm { over, eps: norm.eps, weight, bias, running, kept })
    }

    fn kept_of(&self, cx: &mut Context, over: Over, width: usize) -> usize {
        match over {
            Over::Row { groups, .. } => cx.slot(groups * KEPT),
            Over::Batch { .. } => {
                cx.block.moments.push(width);
                cx.block.first_moment + cx.block.moments.len() - 1
            }
        }
    }

    /// Refuses rows behind the ends of sequences, which would count in the statistics of a batch.
    pub fn check_rows(&self, padded: bool, training: bool) -> Result<(), Error> {
        if !padded || !training || !self.couples() {
            return Ok(());
        }
        Err(Error::Argument(
            "batch normalisation takes its statistics over all steps of all samples in training, so it needs sequences of \
             one length; got shorter ones (lengths or mask); take LayerNorm, which sees each step alone"
                .into(),
        ))
    }

    /// Refuses a batch whose variance is not defined, before anything runs.
    pub fn check_batch(&self, rows: usize, training: bool) -> Result<(), Error> {
        if !training || rows > 1 {
            return Ok(());
        }
        let strict = |n: &Norm| !n.runs(true);
        let found = self.blocks.iter().flat_map(|b| &b.ops).find_map(|o| match &o.kind {
            super::program::Kind::Norm(n) => n.running.filter(|_| strict(n)),
            _ => None,
        });
        let Some([mean, ..]) = found else { return Ok(()) };
        let name = self.tensors[mean.tensor].name.trim_end_matches("running_mean").trim_end_matches('.');
        Err(Error::Argument(format!(
            "batch normalisation {name:?} takes the variance over the batch in training, which one sample does not \
             have; give at least 2 samples, use running statistics (online=True) or pass training=False"
        )))
    }
}

/// Rows of a chunk of a batch, by the batch and by whether its rows see each other: then each thread reads the moments of
/// all chunks in every layer, so that there are fewer.
pub fn chunk_rows(p: &Program, batch: usize) -> usize {
    let rows = batch.div_ceil(CHUNKS);
    if p.couples() { rows.max(SMALL.min(batch.div_ceil(SMALL))) } else { rows }
}
