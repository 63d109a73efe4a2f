//! parts: normal entries of which a share in every column is zero. Knows no fans.

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::num::real::Real;
use crate::num::rng::{Law, fill};

/// Sparse normal entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    sparsity: f64,
    std: f64,
}

impl Initializer for Sparse {
    const INFO: &'static Info = &Info {
        name: "sparse",
        aliases: &["sparse_"],
        formula: "in every column ceil(sparsity * rows) zeros at random places, else W ~ N(0, std^2)",
        summary: "Few large entries: each input reaches only some outputs.",
        reference: "Martens 2010, Deep learning via Hessian-free optimization; PyTorch torch.nn.init.sparse_",
        params: &[
            Param::bounded("sparsity", 0.9, 0.0, 1.0, "Share of zeros in every column."),
            Param::bounded("std", 0.01, 0.0, f64::MAX, "Standard deviation of the others."),
        ],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        Ok(Self { sparsity: given.number("sparsity"), std: given.number("std") })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        fill(site.out, site.key, 0, 0, Law::Normal, T::from_f64(self.std), T::ZERO);
        let zeros = ((self.sparsity * site.rows as f64).ceil() as usize).min(site.rows);
        if zeros == 0 {
            return;
        }
        // The rows with the smallest of independent uniform numbers are a random subset.
        let mut lots = vec![0f64; site.rows];
        let mut order: Vec<usize> = Vec::with_capacity(site.rows);
        for col in 0..site.cols {
            fill(&mut lots, site.key, 1, (col * site.rows) as u64, Law::Unit, 1.0, 0.0);
            order.clear();
            order.extend(0..site.rows);
            order.select_nth_unstable_by(zeros - 1, |&i, &j| lots[i].total_cmp(&lots[j]).then(i.cmp(&j)));
            for &row in &order[..zeros] {
                site.out[row * site.cols + col] = T::ZERO;
            }
        }
    }
}
