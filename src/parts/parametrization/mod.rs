//! parts: the catalogue of parametrizations: weights that are made, row by row, from a matrix and a number a row.
//! Knows no particular one beyond the line that lists it, and no network.
//!
//! To add one, write one file with a struct that implements [`Rule`] and add its line to the table below. Names,
//! parameters, documentation, the layers' argument and the command line follow from the table.

use super::catalogue::{CatalogueError, Given, Info, Value};
use crate::num::real::Real;

/// How a row of weights is made, and how its gradient goes back.
pub trait Rule: Sized {
    /// Its line in the catalogue.
    const INFO: &'static Info;
    /// Leaf names of the matrix v, shaped as the weights, and of the vector g, one number a row.
    const LEAVES: [&'static str; 2];
    /// From checked parameters.
    fn new(given: &Given) -> Self;
    /// Where g starts for a fresh row v.
    fn start<T: Real>(&self, v: &[T]) -> T;
    /// The row w of weights that v and g make.
    fn forward<T: Real>(&self, v: &[T], g: T, w: &mut [T]);
    /// Turns `d`, dL/dw, into 2^-shift dL/dv, and returns dL/dg.
    fn backward<T: Real>(&self, v: &[T], g: T, d: &mut [T], shift: i64) -> f64;
    /// Size of the factor between dL/dw and dL/dv: none where that is zero or not a number.
    fn factor<T: Real>(&self, v: &[T], g: T) -> Option<f64>;
}

/// Makes the modules, [`Parametrization`] and its dispatch from the table.
macro_rules! catalogue {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(mod $module;)*

        /// Any parametrization of the catalogue with its parameters.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Parametrization {
            $(
                #[doc = concat!("The parametrization `", stringify!($module), "`.")]
                $name($module::$name),
            )*
        }

        impl Parametrization {
            /// The whole catalogue, each with the leaf names of its parameters.
            pub fn all() -> &'static [(&'static Info, [&'static str; 2])] {
                const { &[$(($module::$name::INFO, $module::$name::LEAVES)),*] }
            }

            /// The parametrization that `name` means, with `params` in place of its defaults.
            pub fn parse(name: &str, params: &[(String, Value)]) -> Result<Self, CatalogueError> {
                $(
                    let info = $module::$name::INFO;
                    if info.answers_to(name) {
                        return Ok(Self::$name($module::$name::new(&info.read(params)?)));
                    }
                )*
                let known = Self::all().iter().map(|(i, _)| i.name).collect();
                Err(CatalogueError::UnknownName { kind: "parametrization", name: name.into(), known })
            }

            /// Leaf names of the matrix and of the vector.
            pub fn leaves(&self) -> [&'static str; 2] {
                match self { $(Self::$name(_) => $module::$name::LEAVES,)* }
            }

            /// See [`Rule::start`].
            pub fn start<T: Real>(&self, v: &[T]) -> T {
                match self { $(Self::$name(r) => r.start(v),)* }
            }

            /// See [`Rule::forward`].
            pub fn forward<T: Real>(&self, v: &[T], g: T, w: &mut [T]) {
                match self { $(Self::$name(r) => r.forward(v, g, w),)* }
            }

            /// See [`Rule::backward`].
            pub fn backward<T: Real>(&self, v: &[T], g: T, d: &mut [T], shift: i64) -> f64 {
                match self { $(Self::$name(r) => r.backward(v, g, d, shift),)* }
            }

            /// See [`Rule::factor`].
            pub fn factor<T: Real>(&self, v: &[T], g: T) -> Option<f64> {
                match self { $(Self::$name(r) => r.factor(v, g),)* }
            }
        }
    };
}

// The catalogue: one line a parametrization.
catalogue! {
    weight_norm::WeightNorm,
    weight_standardized::WeightStandardized,
}

#[cfg(test)]
mod tests;
