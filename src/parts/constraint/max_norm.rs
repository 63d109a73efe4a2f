//! parts: a limit on the norm of each unit's weights. Knows one matrix.

use super::{Rule, Work};
use crate::kernels::gradient::squares;
use crate::kernels::update::multiply;
use crate::num::real::Real;
use crate::num::scale::Scale;
use crate::parts::catalogue::{Given, Info, Param};

/// Rows longer than the limit are shortened to it.
#[derive(Clone, Copy, Debug)]
pub struct MaxNorm {
    limit: f64,
}

impl Rule for MaxNorm {
    const INFO: &'static Info = &Info {
        name: "max_norm",
        aliases: &["maxnorm"],
        formula: "w <- w limit / |w| for each row with |w| > limit",
        summary: "No unit's weights are longer than the limit.",
        reference: "Srebro & Shraibman 2005; Srivastava et al. 2014, JMLR 15:1929",
        params: &[Param::bounded("limit", 3.0, f64::MIN_POSITIVE, f64::MAX, "largest norm of a row")],
    };

    fn new(given: &Given) -> Self {
        Self { limit: given.number("limit") }
    }

    fn hold<T: Real>(&self, w: &mut [T], cols: usize, _: &mut [T], _: &mut Work<T>) {
        for row in w.chunks_exact_mut(cols) {
            let norm = Scale::root(squares(row));
            if norm.above(self.limit.into()) {
                multiply(row, Scale::from(self.limit).over(norm));
            }
        }
    }
}
