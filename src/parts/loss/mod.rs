//! parts: the catalogue of losses. Knows no particular one beyond the line that lists it, and no network.
//!
//! To add a loss, write one file with a struct that implements [`Rule`] and add its line to the table below. Names,
//! parameters, documentation and the command line follow from the table.

use super::catalogue::{CatalogueError, Given, Info, Value};
use crate::num::real::Real;
use crate::num::scaled::{exponent, mul_pow2};

/// Targets of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a, T> {
    /// One class a sample.
    Classes(&'a [i64]),
    /// Values shaped as the output.
    Values(&'a [T]),
}

/// The target of one sample.
#[derive(Clone, Copy, Debug)]
pub enum TargetRow<'a, T> {
    /// Its class, already checked to exist.
    Class(usize),
    /// Its values.
    Values(&'a [T]),
}

impl<'a, T> Target<'a, T> {
    /// The target of sample `r` of outputs `width` wide.
    pub fn row(&self, r: usize, width: usize) -> TargetRow<'a, T> {
        match self {
            Target::Classes(c) => TargetRow::Class(usize::try_from(c[r]).unwrap_or(usize::MAX).min(width - 1)),
            Target::Values(v) => TargetRow::Values(&v[r * width..][..width]),
        }
    }
}

/// A gradient that no float may lose: a value and an exponent of two for each output.
pub type Scaled = (f64, i64);

/// A loss with its parameters.
pub trait Rule: Sized {
    /// Its line in the catalogue.
    const INFO: &'static Info;
    /// Class labels can be its targets. Such a loss is a mean over samples, any other over all elements, as PyTorch's
    /// are with `reduction="mean"`.
    const CLASSES: bool = false;
    /// From checked parameters.
    fn new(given: &Given) -> Self;
    /// The loss of one sample, summed over its outputs, and its gradient d(loss)/dz.
    fn row<T: Real>(&self, z: &[T], target: TargetRow<'_, T>, gradient: &mut [Scaled]) -> f64;
}

/// Makes the modules, [`Loss`] and its dispatch from the table.
macro_rules! catalogue {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(mod $module;)*

        /// Any loss of the catalogue with its parameters.
        #[derive(Clone, Copy, Debug)]
        pub enum Loss {
            $(
                #[doc = concat!("The loss `", stringify!($module), "`.")]
                $name($module::$name),
            )*
        }

        impl Loss {
            /// The whole catalogue, each with whether class labels can be its targets.
            pub fn all() -> &'static [(&'static Info, bool)] {
                const { &[$(($module::$name::INFO, $module::$name::CLASSES)),*] }
            }

            /// The loss that `name` means, with `params` in place of its defaults.
            pub fn parse(name: &str, params: &[(String, Value)]) -> Result<Loss, CatalogueError> {
                $(
                    let info = $module::$name::INFO;
                    if info.answers_to(name) {
                        return Ok(Loss::$name($module::$name::new(&info.read(params)?)));
                    }
                )*
                let known = Self::all().iter().map(|(i, _)| i.name).collect();
                Err(CatalogueError::UnknownName { kind: "loss", name: name.into(), known })
            }

            /// Whether class labels can be its targets.
            pub fn takes_classes(&self) -> bool {
                match self {
                    $(Loss::$name(_) => $module::$name::CLASSES,)*
                }
            }

            fn scaled<T: Real>(&self, z: &[T], target: TargetRow<'_, T>, gradient: &mut [Scaled]) -> f64 {
                match self {
                    $(Loss::$name(l) => l.row(z, target, gradient),)*
                }
            }
        }
    };
}

// The catalogue: one line a loss.
catalogue! {
    mse::Mse,
    cross_entropy::CrossEntropy,
    bce_with_logits::BceWithLogits,
    smooth_l1::SmoothL1,
}

impl Loss {
    /// One sample's part of the mean loss over the batch, and its gradient: `gradient * 2^exponent`, with the largest
    /// magnitude in [1, 2), or zeros. `spare` is working memory.
    pub fn row<T: Real>(
        &self,
        z: &[T],
        target: TargetRow<'_, T>,
        batch: usize,
        gradient: &mut [T],
        spare: &mut Vec<Scaled>,
    ) -> (f64, i64) {
        spare.clear();
        spare.resize(z.len(), (0.0, 0));
        let loss = self.scaled(z, target, spare);
        let parts = if self.takes_classes() { batch as f64 } else { (batch * z.len()) as f64 };
        for g in spare.iter_mut() {
            g.0 /= parts;
        }
        let top =
            spare.iter().filter(|g| g.0 != 0.0 && g.0.is_finite()).map(|g| exponent(g.0) + g.1).max().unwrap_or(0);
        for (out, g) in gradient.iter_mut().zip(spare.iter()) {
            *out = T::from_f64(mul_pow2(g.0, g.1 - top));
        }
        (loss / parts, top)
    }
}

#[cfg(test)]
mod tests;
