//! parts: matrices with orthonormal rows or columns. Knows no fans.

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::kernels::gram_schmidt::orthonormalise;
use crate::num::real::Real;
use crate::num::rng::{Law, fill};

/// Orthonormal rows or columns, whichever are fewer.
#[derive(Clone, Debug, PartialEq)]
pub struct Orthogonal {
    gain: f64,
}

impl Initializer for Orthogonal {
    const INFO: &'static Info = &Info {
        name: "orthogonal",
        aliases: &["orthogonal_", "Orthogonal", "OrthogonalInitializer"],
        formula: "W^T W = gain^2 I (rows >= cols) or W W^T = gain^2 I, uniform among such matrices",
        summary: "All singular values are gain: the Q of a normal matrix, signs fixed so that R has a positive diagonal.",
        reference: "Saxe, McClelland, Ganguli 2013, Exact solutions to the nonlinear dynamics of learning in deep linear \
                    neural networks; Mezzadri 2007, How to generate random matrices from the classical compact groups",
        params: &[Param::number("gain", 1.0, "Every singular value.")],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        Ok(Self { gain: given.number("gain") })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        let Site { out, rows, cols, key, .. } = site;
        // The orthonormal vectors lie in memory as rows; a tall matrix has them as columns.
        let (count, len) = (rows.min(cols), rows.max(cols));
        let mut q = vec![0f64; count * len];
        fill(&mut q, key, 0, 0, Law::Normal, 1.0, 0.0);
        orthonormalise(&mut q, len);
        let value = |x: f64| T::from_f64(self.gain * x);
        if rows < cols {
            for (w, x) in out.iter_mut().zip(&q) {
                *w = value(*x);
            }
        } else {
            for (r, row) in out.chunks_exact_mut(cols).enumerate() {
                for (c, w) in row.iter_mut().enumerate() {
                    *w = value(q[c * len + r]);
                }
            }
        }
    }
}
