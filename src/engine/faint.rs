//! engine: rows near the lower end of the type: inputs that are lifted before a product, and slopes that are taken again
//! with exponents of their own. Knows one operation at a time.

use super::program::{Kind, Op, Source};
use super::sweep::{Scene, Worker};
use super::tape::{Place, Share};
use crate::kernels::delta::{RowDelta, depth_below, normalise, on_grid};
use crate::kernels::matmul::{Matrix, Scratch, Start, product};
use crate::kernels::norm::KEPT;
use crate::num::real::Real;
use crate::num::scaled::{ScaledSum, exponent, mul_pow2};

/// A delta this much smaller than the gradient it came from may owe its size to faint slopes alone.
const SHADE: f64 = 8.7e-19; // 2^-60

impl<T: Real> Scene<'_, T> {
    /// Computes the deltas of rows with slopes near the end of the range once more, each slope with an exponent.
    pub(super) fn faint_rows(
        &self,
        w: &mut Worker<T>,
        share: &mut Share<'_, T>,
        (block, index, i): (usize, usize, usize),
        op: &Op,
        input: Place,
        (t, k): (usize, usize),
    ) {
        let Some(a) = &op.act else { return };
        let (base, delta_base) = self.base[block];
        let Some(delta) = op.delta else { return };
        let (n_in, n_out) = op.widths;
        while let Some(&(fb, fop, fi, r)) = w.faint.last() {
            if (fb, fop, fi) != (block, index, i) {
                break;
            }
            w.faint.pop();
            // Faint slopes beside ordinary ones change nothing that the type could hold beside them.
            let g = &w.g[r * n_out..][..n_out];
            let largest = g.iter().fold(0.0f64, |m, x| m.max(x.to_f64().abs()));
            if w.backward[r].largest >= largest * SHADE {
                continue;
            }
            let from = match op.source {
                Source::Input => input,
                Source::Slot(s) => (base + s, t),
            };
            let x = &share.slots[from.0].get(from.1)[r * n_in..][..n_in];
            let mut h = vec![T::ZERO; n_out];
            match &op.kind {
                Kind::Dense { weight, bias } => {
                    let weights = Matrix::columns(self.copy(&w.made, weight, i), n_in);
                    let start = bias.as_ref().map_or(Start::Zero, |b| Start::Row(self.copy(&w.made, b, i)));
                    product((1, n_out, n_in), Matrix::rows(x, n_in), weights, start, &mut h, &mut w.scratch);
                }
                Kind::Norm(n) => {
                    let kept = n.rows::<T>(n_out).map(|rows| rows.groups * KEPT);
                    let kept = kept.map(|k| &share.slots[base + n.kept].get(t)[r * k..][..k]);
                    self.norm_again(w, share, n, i, x, kept, &mut h);
                }
                _ => h.copy_from_slice(x),
            }
            let act = self.act(&w.made, a, i);
            let g = &w.g[r * n_out..][..n_out];
            let exact: Vec<(f64, i64)> = g
                .iter()
                .zip(&h)
                .map(|(g, h)| {
                    let (m, k) = act.scaled_derivative(h.to_f64());
                    (g.to_f64() * m, k)
                })
                .collect();
            let top = exact.iter().filter(|(p, _)| *p != 0.0 && p.is_finite()).map(|&(p, k)| exponent(p) + k).max();
            let Some(top) = top.map(on_grid) else { continue };
            let row = &mut share.deltas[delta_base + delta].get_mut(k)[r * n_out..][..n_out];
            for (d, (p, k)) in row.iter_mut().zip(exact) {
                *d = T::from_f64(mul_pow2(p, k - top));
            }
            let squares = row.iter().map(|d| d.to_f64() * d.to_f64()).sum();
            // The gradient's own sum stays in the scale the row had when it came in.
            let gradient = w.backward[r].gradient;
            w.e[r] += top;
            w.backward[r] = RowDelta {
                gradient: ScaledSum::new(gradient.s, gradient.e - 2 * top),
                delta: ScaledSum::new(squares, 0),
                largest: row.iter().fold(0.0, |m, d| m.max(d.to_f64().abs())),
            };
        }
    }
}

/// If some rows are faint, writes all of them to `lifted`, the faint ones brought to about one, and their exponents to
/// `lifts`. `x`: (rows, width).
pub fn lift_rows<T: Real>(x: &[T], width: usize, lifts: &mut [i64], lifted: &mut [T]) -> bool {
    for (k, x) in lifts.iter_mut().zip(x.chunks_exact(width)) {
        *k = depth_below(x);
    }
    if lifts.iter().all(|k| *k == 0) {
        return false;
    }
    for ((x, l), &k) in x.chunks_exact(width).zip(lifted.chunks_exact_mut(width)).zip(&*lifts) {
        l.copy_from_slice(x);
        normalise(l, k);
    }
    true
}

/// `y = x w^T + b` where some rows of x are faint. The product is linear in x, so those are computed at about one, brought
/// back, and meet the bias then: fading networks keep their speed and their digits down to the last subnormal number.
/// `x`, `lifted`: (rows, in); `y`: (rows, out).
pub fn faint_product<T: Real>(
    (n_out, n_in): (usize, usize),
    (x, lifted): (&[T], &[T]),
    lifts: &[i64],
    weights: Matrix<'_, T>,
    start: Start<'_, T>,
    y: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let mut from = 0;
    while from < lifts.len() {
        let faint = lifts[from] != 0;
        let n = lifts[from..].iter().take_while(|&&k| (k != 0) == faint).count();
        let y = &mut y[from * n_out..(from + n) * n_out];
        let (x, begin) = if faint { (lifted, Start::Zero) } else { (x, start) };
        product((n, n_out, n_in), Matrix::rows(&x[from * n_in..], n_in), weights, begin, y, scratch);
        if faint {
            for (y, &k) in y.chunks_exact_mut(n_out).zip(&lifts[from..]) {
                normalise(y, -k);
                if let Start::Row(bias) = start {
                    y.iter_mut().zip(bias).for_each(|(y, b)| *y = T::from_f64(y.to_f64() + b.to_f64()));
                }
            }
        }
        from += n;
    }
}
