//! parts: the catalogue of losses. Knows no particular one beyond the line that lists it, and no network.
//!
//! To add a loss, write one file with a struct that implements [`Rule`] and add its line to the table below. Names,
//! parameters, documentation and the command line follow from the table.

use crate::num::real::Real;

/// A parameter of a loss.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Value when none is given.
    pub default: f64,
    /// What it does, and its range.
    pub doc: &'static str,
    /// Least and greatest value.
    pub range: (f64, f64),
}

/// What the catalogue says of a loss.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Canonical name.
    pub name: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    /// The mean that is computed.
    pub formula: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Where it is defined.
    pub reference: &'static str,
    /// Its parameters.
    pub params: &'static [Param],
    /// It can take class labels as targets.
    pub classes: bool,
}

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
    const INFO: Info;
    /// From one checked value for each of `INFO.params`.
    fn new(params: &[f64]) -> Self;
    /// The loss of one sample, summed over its outputs, and its gradient d(loss)/dz.
    fn row<T: Real>(&self, z: &[T], target: TargetRow<'_, T>, gradient: &mut [Scaled]) -> f64;
}

/// Why a loss could not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LossError {
    /// No loss has this name.
    #[error("unknown loss {name:?}; known are {known}")]
    Unknown {
        /// As given.
        name: String,
        /// What there is.
        known: String,
    },
    /// A parameter does not exist or has no valid value.
    #[error("loss {loss:?}, parameter {param:?}: {reason}")]
    Param {
        /// Canonical name.
        loss: &'static str,
        /// The parameter.
        param: String,
        /// Expected, got, and what to do.
        reason: String,
    },
}

impl LossError {
    /// Whether the name, not a parameter, is at fault.
    pub fn is_unknown_name(&self) -> bool {
        matches!(self, LossError::Unknown { .. })
    }
}

fn build<R: Rule>(given: &[(String, f64)]) -> Result<R, LossError> {
    let info = R::INFO;
    let fail = |param: &str, reason| Err(LossError::Param { loss: info.name, param: param.into(), reason });
    let mut values: Vec<f64> = info.params.iter().map(|p| p.default).collect();
    for (name, value) in given {
        let Some(i) = info.params.iter().position(|p| p.name == name) else {
            let known: Vec<_> = info.params.iter().map(|p| p.name).collect();
            return fail(name, format!("expected one of {known:?}; remove it or correct its name"));
        };
        let (min, max) = info.params[i].range;
        if !(min..=max).contains(value) {
            return fail(name, format!("expected a number from {min:e} to {max:e}, got {value}"));
        }
        values[i] = *value;
    }
    Ok(R::new(&values))
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
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
            /// The whole catalogue.
            pub fn infos() -> &'static [&'static Info] {
                const { &[$(&$module::$name::INFO),*] }
            }

            /// The loss that `name` means, with `params` in place of its defaults.
            pub fn parse(name: &str, params: &[(String, f64)]) -> Result<Loss, LossError> {
                let asked = plain(name);
                $(
                    let info = &$module::$name::INFO;
                    if plain(info.name) == asked || info.aliases.iter().any(|a| plain(a) == asked) {
                        return Ok(Loss::$name(build(params)?));
                    }
                )*
                let known = Self::infos().iter().map(|i| i.name).collect::<Vec<_>>().join(", ");
                Err(LossError::Unknown { name: name.into(), known })
            }

            /// Its line in the catalogue.
            pub fn info(&self) -> &'static Info {
                match self {
                    $(Loss::$name(_) => const { &$module::$name::INFO },)*
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
    /// Whether class labels can be its targets.
    pub fn takes_classes(&self) -> bool {
        self.info().classes
    }

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
        use crate::num::scaled::{exponent, mul_pow2};
        spare.clear();
        spare.resize(z.len(), (0.0, 0));
        let loss = self.scaled(z, target, spare);
        // Cross entropy is a mean over samples, the others over all elements (PyTorch's reduction="mean").
        let parts = if self.info().classes { batch as f64 } else { (batch * z.len()) as f64 };
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
