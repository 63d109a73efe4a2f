//! parts: a limit on the largest singular value. Knows one matrix.

use super::{Rule, Work};
use crate::kernels::gradient::squares;
use crate::kernels::matmul::{Matrix, Start, product};
use crate::kernels::update::multiply;
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::parts::catalogue::{Given, Info, Param};

/// A matrix whose largest singular value is above the limit is multiplied by their ratio.
#[derive(Clone, Copy, Debug)]
pub struct Spectral {
    limit: f64,
    rounds: usize,
}

/// Rounds of the first call, whose start is arbitrary.
const FIRST: usize = 40;

impl Rule for Spectral {
    const INFO: &'static Info = &Info {
        name: "spectral",
        aliases: &["spectral_norm"],
        formula: "W <- W limit / sigma_1 where sigma_1 > limit; v <- W^T W v / |W^T W v|, sigma_1 = |W v|",
        summary: "No direction is stretched by more than the limit; found by power iteration, which goes on from step to step.",
        reference: "Yoshida & Miyato 2017, arXiv:1705.10941; Miyato et al. 2018, arXiv:1802.05957",
        params: &[
            Param::bounded("limit", 1.0, f64::MIN_POSITIVE, f64::MAX, "largest singular value"),
            Param::bounded("iterations", 2.0, 1.0, 1e6, "rounds of power iteration in each step"),
        ],
    };
    const REMEMBERS: bool = true;

    fn new(given: &Given) -> Self {
        Self { limit: given.number("limit"), rounds: given.number("iterations") as usize }
    }

    fn hold<T: Real>(&self, w: &mut [T], cols: usize, v: &mut [T], work: &mut Work<T>) {
        let rows = w.len() / cols;
        let mut rounds = self.rounds;
        // A memory that is no vector (of weights that once were no numbers) begins again too.
        if v.iter().all(|&x| x == T::ZERO) || !v.iter().all(|x| x.finite()) {
            // No matrix of interest has this as a direction that it leaves out.
            for (j, x) in v.iter_mut().enumerate() {
                *x = T::from_f64(1.0 + (j * 7919 % 101) as f64 / 101.0);
            }
            rounds = rounds.max(FIRST);
        }
        let Work { scratch, arrays: [u, ..] } = work;
        u.resize(rows, T::ZERO);
        unit(v);
        for _ in 0..rounds {
            product((rows, 1, cols), Matrix::rows(w, cols), Matrix::rows(v, 1), Start::Zero, u, scratch);
            // Between the products too: W^T W of faint or of large weights leaves the type's range.
            unit(u);
            product((cols, 1, rows), Matrix::columns(w, cols), Matrix::rows(u, 1), Start::Zero, v, scratch);
            unit(v);
        }
        product((rows, 1, cols), Matrix::rows(w, cols), Matrix::rows(v, 1), Start::Zero, u, scratch);
        let sigma = Scale::root(squares(u));
        if sigma.above(self.limit.into()) {
            multiply(w, Scale::from(self.limit).over(sigma));
        }
    }
}

/// Brings a vector to norm one; zero stays zero.
fn unit<T: Real>(v: &mut [T]) {
    let norm = Scale::root(squares(v));
    if norm.m != 0.0 {
        multiply(v, Scale::ONE.over(norm));
    }
}
