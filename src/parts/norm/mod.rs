//! parts: the catalogue of normalisations. Knows no particular one beyond the line that lists it, and no network.
//!
//! To add one, write one file with a struct that implements [`Rule`] and add its line to the table below. Names, docs,
//! the command line and the study's axis follow from the table.

use super::catalogue::{CatalogueError, Given, Info, Param, Value};

/// What statistics are taken over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Over {
    /// Groups of neighbouring columns of each row.
    Row {
        /// How many; they divide the width.
        groups: usize,
        /// The mean is taken away.
        centre: bool,
    },
    /// The rows of the batch, column by column, with running statistics for inference.
    Batch {
        /// Share of a new batch in the running statistics; none: the average over all batches.
        momentum: Option<f64>,
        /// Running statistics normalise in training too.
        online: bool,
    },
}

/// A normalisation with its parameters.
pub trait Rule: Sized {
    /// Its line in the catalogue.
    const INFO: &'static Info;
    /// A shift is learned beside the gain.
    const SHIFT: bool = true;
    /// From checked parameters.
    fn new(given: &Given) -> Self;
    /// What its statistics are taken over, for rows of a width; what is wrong with that width else.
    fn over(&self, width: usize) -> Result<Over, String>;
}

/// A normalisation, ready for use at any width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    rule: Any,
    /// Added to the variance; none: the machine epsilon of the float type.
    pub eps: Option<f64>,
    /// A shift is learned beside the gain, where gains are.
    pub shift: bool,
}

/// The parameter that all have, with the default of most.
const EPS: Param = Param::bounded("eps", 1e-5, -1.0, f64::MAX, "Added to the variance, under the root.");

/// Makes the modules, the enum and its dispatch from the table.
macro_rules! catalogue {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(mod $module;)*

        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Any {
            $($name($module::$name),)*
        }

        impl Norm {
            /// The whole catalogue.
            pub fn infos() -> &'static [&'static Info] {
                const { &[$($module::$name::INFO),*] }
            }

            /// The normalisation that `name` means, with `params` in place of its defaults. A negative `eps` or
            /// `momentum` stands for none.
            pub fn parse(name: &str, params: &[(String, Value)]) -> Result<Self, CatalogueError> {
                $(
                    let info = $module::$name::INFO;
                    if info.answers_to(name) {
                        let given = info.read(params)?;
                        let (rule, shift) = (Any::$name($module::$name::new(&given)), $module::$name::SHIFT);
                        return Ok(Self { rule, eps: some(given.number("eps")), shift });
                    }
                )*
                let known = Self::infos().iter().map(|i| i.name).collect();
                Err(CatalogueError::UnknownName { kind: "norm", name: name.into(), known })
            }

            /// The name of its line.
            pub fn name(&self) -> &'static str {
                match self.rule {
                    $(Any::$name(_) => $module::$name::INFO.name,)*
                }
            }

            /// What its statistics are taken over, for rows of a width; what is wrong with that width else.
            pub fn over(&self, width: usize) -> Result<Over, String> {
                match self.rule {
                    $(Any::$name(r) => r.over(width),)*
                }
            }
        }
    };
}

// The catalogue: one line a normalisation.
catalogue! {
    batch::Batch,
    layer::Layer,
    rms::Rms,
    group::Group,
}

/// A number that may be missing: negative then.
fn some(x: f64) -> Option<f64> {
    (x >= 0.0).then_some(x)
}
