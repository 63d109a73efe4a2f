//! parts: matrices in mirrored blocks, for layers whose units come in pairs of opposite signs. Knows no activations.

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::kernels::gram_schmidt::orthonormalise;
use crate::num::real::Real;
use crate::num::rng::{Law, fill};

/// `[[W0, -W0], [-W0, W0]]`, W0 with orthonormal rows or columns.
#[derive(Clone, Debug, PartialEq)]
pub struct LooksLinear {
    gain: f64,
    rows: bool,
    cols: bool,
}

impl Initializer for LooksLinear {
    const INFO: &'static Info = &Info {
        name: "looks_linear",
        aliases: &["looks_linear_", "LooksLinear", "ll_init", "mirrored"],
        formula: "W = [[W0, -W0], [-W0, W0]], W0 orthogonal times gain; [W0; -W0] or [W0, -W0] where only outputs or \
                  only inputs are mirrored",
        summary: "The network starts linear: activations with phi(z) - phi(-z) = c z (ReLU, leaky ReLU, GELU, SiLU, \
                  softplus) get z and -z side by side, and the next layer takes the difference. Widths between layers \
                  must be even; a network works out for each Dense which sides are mirrored, and the gain 1/c.",
        reference: "Balduzzi et al. 2017, The shattered gradients problem, section 3.2; orthogonal blocks as in Saxe et al. \
                    2013",
        params: &[
            Param::number("gain", 0.0, "Every singular value of W0; 0 is 1/c of the activation that follows, else 1."),
            Param::choice(
                "mirror",
                "auto",
                &["auto", "both", "out", "in", "none"],
                "Which sides are mirrored: auto takes what stands around the layer in a network, and both elsewhere. An \
                 odd row or column that is left over is zero.",
            ),
        ],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        let (gain, mirror) = (given.number("gain"), given.text("mirror"));
        Ok(Self {
            gain: if gain == 0.0 { 1.0 } else { gain },
            rows: !matches!(mirror, "in" | "none"),
            cols: !matches!(mirror, "out" | "none"),
        })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        let Site { out, rows, cols, key, .. } = site;
        out.fill(T::ZERO);
        let half = |n: usize, mirrored: bool| if mirrored { n / 2 } else { n };
        let (r0, c0) = (half(rows, self.rows), half(cols, self.cols));
        let (count, len) = (r0.min(c0), r0.max(c0));
        if count == 0 {
            return;
        }
        let mut q = vec![0f64; count * len];
        fill(&mut q, key, 0, 0, Law::Normal, 1.0, 0.0);
        orthonormalise(&mut q, len);
        for (r, row) in out.chunks_exact_mut(cols).enumerate().take(r0 * (1 + usize::from(self.rows))) {
            for (c, w) in row.iter_mut().enumerate().take(c0 * (1 + usize::from(self.cols))) {
                let (i, j) = (r % r0, c % c0);
                let x = self.gain * if r0 < c0 { q[i * len + j] } else { q[j * len + i] };
                *w = T::from_f64(if (r >= r0) == (c >= c0) { x } else { -x });
            }
        }
    }
}
