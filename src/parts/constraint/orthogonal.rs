//! parts: matrices kept orthogonal. Knows one matrix.

use super::{Rule, Work};
use crate::kernels::gradient::squares;
use crate::kernels::matmul::{Matrix, Start, product};
use crate::kernels::update::multiply;
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::num::scaled::{exponent, mul_pow2};
use crate::parts::catalogue::{Given, Info, Param};

/// Rows, or columns where there are fewer of them, are brought back to being orthogonal and of length `gain`.
#[derive(Clone, Copy, Debug)]
pub struct Orthogonal {
    gain: f64,
}

/// Rounds that a matrix far from orthogonal may take. One that a step has moved takes two or three.
const MOST: usize = 60;
/// Powers of two between the bound of a matrix and the gain from which it is surely far from orthogonal.
const FAR: i64 = 40;

impl Rule for Orthogonal {
    const INFO: &'static Info = &Info {
        name: "orthogonal",
        aliases: &["stiefel"],
        formula: "W <- gain X with X <- 3/2 X - 1/2 X X^T X until X X^T = I (X^T X where there are more rows)",
        summary: "The nearest matrix that keeps all lengths, times the gain: gradients neither vanish nor explode in it. Singular \
                  values of zero stay zero.",
        reference: "Bjorck & Bowie 1971; Arjovsky, Shah & Bengio 2016, arXiv:1511.06464; Vorontsov 2017, arXiv:1702.00071",
        params: &[Param::bounded("gain", 1.0, f64::MIN_POSITIVE, f64::MAX, "all singular values become this")],
    };

    fn new(given: &Given) -> Self {
        Self { gain: given.number("gain") }
    }

    fn hold<T: Real>(&self, w: &mut [T], cols: usize, _: &mut [T], work: &mut Work<T>) {
        let rows = w.len() / cols;
        let few = rows.min(cols);
        let (size, gain) = (bound(w, cols), Scale::from(self.gain));
        // Zeros have no nearest orthogonal matrix, and stay; so does what holds no numbers.
        if size.m == 0.0 || !size.m.is_finite() {
            return;
        }
        let Work { scratch, arrays: [gram, next, _] } = work;
        gram.resize(few * few, T::ZERO);
        next.resize(w.len(), T::ZERO);
        // Products of a matrix as far off as this might leave the range: it is brought to its bound at once.
        let far = size.over(gain).e.abs() > FAR;
        multiply(w, Scale::ONE.over(if far { size } else { gain }));
        let close = 4.0 * 0.5f64.powi(T::MANTISSA_BITS as i32 + 1) * few as f64;
        for round in 0..MOST {
            // Gram matrix of the rows, or of the columns: X X^T or X^T X.
            if rows <= cols {
                product((few, few, cols), Matrix::rows(w, cols), Matrix::columns(w, cols), Start::Zero, gram, scratch);
            } else {
                product((few, few, rows), Matrix::columns(w, cols), Matrix::rows(w, cols), Start::Zero, gram, scratch);
            }
            (0..few).for_each(|i| gram[i * few + i] = T::from_f64(gram[i * few + i].to_f64() - 1.0));
            let off = Scale::root(squares(gram)).value();
            if off <= close || !off.is_finite() {
                break;
            }
            if round == 0 && off >= 0.9 && !far {
                // The iteration needs singular values below sqrt 3, which this bound makes sure of.
                multiply(w, Scale::ONE.over(bound(w, cols)));
                continue;
            }
            // 3/2 X - 1/2 (I + E) X = X - 1/2 E X, with E what the Gram matrix is off by.
            gram.iter_mut().for_each(|x| *x = T::from_f64(-0.5 * x.to_f64()));
            next.copy_from_slice(w);
            if rows <= cols {
                product((rows, cols, few), Matrix::rows(gram, few), Matrix::rows(next, cols), Start::Output, w, scratch);
            } else {
                product((rows, cols, few), Matrix::rows(next, cols), Matrix::rows(gram, few), Start::Output, w, scratch);
            }
        }
        multiply(w, gain);
    }
}

/// The root of the largest sum of magnitudes of a row times that of a column: no singular value is above it.
fn bound<T: Real>(w: &[T], cols: usize) -> Scale {
    let largest = w.iter().fold(0.0f64, |m, x| if x.finite() { m.max(x.to_f64().abs()) } else { f64::NAN });
    if largest == 0.0 || largest.is_nan() {
        return Scale::from(largest);
    }
    // Sums of the largest doubles would be infinite.
    let k = exponent(largest);
    let (mut of_rows, mut of_cols) = (0.0f64, vec![0.0f64; cols]);
    for row in w.chunks_exact(cols) {
        let mut sum = 0.0;
        for (c, x) in of_cols.iter_mut().zip(row) {
            let x = mul_pow2(x.to_f64().abs(), -k);
            *c += x;
            sum += x;
        }
        of_rows = of_rows.max(sum);
    }
    Scale::new((of_rows * of_cols.into_iter().fold(0.0, f64::max)).sqrt(), k)
}
