//! parts: the catalogue of constraints: what weight matrices are brought back to after a step. Knows no particular one
//! beyond the line that lists it, and no network.
//!
//! To add a constraint, write one file with a struct that implements [`Rule`] and add its line to the table below.

use super::catalogue::{CatalogueError, Given, Info, Value};
use crate::kernels::matmul::Scratch;
use crate::num::real::Real;

/// Working memory of a thread.
#[derive(Default)]
pub struct Work<T: Real> {
    /// Of products.
    pub scratch: Scratch<T>,
    /// Arrays.
    pub arrays: [Vec<T>; 3],
}

/// A constraint with its parameters.
pub trait Rule: Sized {
    /// Its line in the catalogue.
    const INFO: &'static Info;
    /// It remembers a number for each column of a matrix.
    const REMEMBERS: bool = false;
    /// From checked parameters.
    fn new(given: &Given) -> Self;
    /// Brings a matrix, (rows, cols), back. `memory`: (cols,), zeros before the first call.
    fn hold<T: Real>(&self, w: &mut [T], cols: usize, memory: &mut [T], work: &mut Work<T>);
}

/// Makes the modules, [`Constraint`] and its dispatch from the table.
macro_rules! catalogue {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(mod $module;)*

        /// Any constraint of the catalogue with its parameters.
        #[derive(Clone, Copy, Debug)]
        pub enum Constraint {
            $(
                #[doc = concat!("The constraint `", stringify!($module), "`.")]
                $name($module::$name),
            )*
        }

        impl Constraint {
            /// The whole catalogue.
            pub fn infos() -> &'static [&'static Info] {
                const { &[$($module::$name::INFO),*] }
            }

            /// The constraint that `name` means, with `params` in place of its defaults.
            pub fn parse(name: &str, params: &[(String, Value)]) -> Result<Constraint, CatalogueError> {
                $(
                    let info = $module::$name::INFO;
                    if info.answers_to(name) {
                        return Ok(Constraint::$name($module::$name::new(&info.read(params)?)));
                    }
                )*
                let known = Self::infos().iter().map(|i| i.name).collect();
                Err(CatalogueError::UnknownName { kind: "constraint", name: name.into(), known })
            }

            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $(Constraint::$name(_) => $module::$name::INFO.name,)* }
            }

            /// Whether it remembers a number for each column.
            pub fn remembers(&self) -> bool {
                match self { $(Constraint::$name(_) => $module::$name::REMEMBERS,)* }
            }

            /// Brings a matrix back.
            pub fn hold<T: Real>(&self, w: &mut [T], cols: usize, memory: &mut [T], work: &mut Work<T>) {
                match self { $(Constraint::$name(c) => c.hold(w, cols, memory, work),)* }
            }
        }
    };
}

// The catalogue: one line a constraint.
catalogue! {
    max_norm::MaxNorm,
    spectral::Spectral,
    orthogonal::Orthogonal,
}

#[cfg(test)]
mod tests;
