//! engine: running statistics of normalisation over the batch: what a training pass makes of them. Knows no threads.

use super::noise::left_out;
use super::pass::Training;
use super::program::{Kind, Program};
use super::tape::Tape;
use crate::num::aligned::Buffer;
use crate::num::real::Real;
use crate::parts::norm::Over;

/// Tensors that a pass changes beside those that gradients do, and their new values.
pub type Updates<T> = Vec<(usize, Vec<T>)>;

/// Running statistics after a training pass over the tape's batch, step by step as the pass went.
///
/// `running = (1 - m) running + m new`, the variance unbiased, as PyTorch has it; without a momentum m is one over the
/// number of batches. Where running statistics normalise in training, they are those of a mixture of what was known with
/// weight 1 - m and the batch with weight m: `var = (1 - m) (var + m (new mean - mean)^2) + m new var`, which one sample
/// has too; without a momentum what was there at the start then counts as one batch.
pub fn updates<T: Real>(p: &Program, tape: &Tape<T>, params: &[Buffer<T>], training: Option<Training>) -> Updates<T> {
    let mut out: Updates<T> = Vec::new();
    for b in &p.blocks {
        for i in 0..b.times {
            let mut next = 0;
            for (at, op) in b.ops.iter().enumerate() {
                if let Kind::Maybe(chance) = &op.kind
                    && left_out(training, chance, i)
                {
                    next = chance.end.max(next);
                }
                let (Kind::Norm(n), false) = (&op.kind, at < next) else { continue };
                let (Some(refs), Over::Batch { momentum, online }) = (n.running, n.over) else { continue };
                let width = op.widths.1;
                let Some(moments) = tape.moments_at(n.kept, i, width) else { continue };
                let [mean, var, count] = refs.map(|r| {
                    let at = out.iter().position(|(t, _)| *t == r.tensor).unwrap_or_else(|| {
                        out.push((r.tensor, params[r.tensor].to_vec()));
                        out.len() - 1
                    });
                    (at, r.copy(i))
                });
                let seen = &mut out[count.0].1[count.1];
                *seen = T::from_f64(seen.to_f64() + 1.0);
                let batches = seen.to_f64();
                let m = momentum.unwrap_or(if online { 1.0 / (batches + 1.0) } else { 1.0 / batches });
                let rows = tape.batch as f64;
                let known = out[mean.0].1[mean.1 * width..][..width].to_vec();
                for (old, &new) in out[mean.0].1[mean.1 * width..][..width].iter_mut().zip(moments) {
                    *old = T::from_f64((1.0 - m) * old.to_f64() + m * new);
                }
                let vars = out[var.0].1[var.1 * width..][..width].iter_mut().zip(&moments[2 * width..]);
                for ((old, &new), (known, &mean)) in vars.zip(known.iter().zip(moments)) {
                    let (was, far) = (old.to_f64(), mean - known.to_f64());
                    *old = T::from_f64(if online {
                        (1.0 - m) * (was + m * far * far) + m * new
                    } else {
                        (1.0 - m) * was + m * (new * rows / (rows - 1.0))
                    });
                }
            }
        }
    }
    out
}

/// Takes the new values over.
pub fn apply<T: Real>(updates: Updates<T>, params: &mut [Buffer<T>]) {
    for (t, values) in updates {
        params[t].copy_from_slice(&values);
    }
}
