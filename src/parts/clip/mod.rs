//! parts: the catalogue of clips: what is done to gradients between the backward pass and the optimizer. Knows no
//! particular one beyond the line that lists it, and no network.
//!
//! To add a clip, write one file with a struct that implements [`Rule`] and add its line to the table below. Names,
//! parameters, documentation and the command line follow from the table. Everything is decided from norms with
//! exponents of their own, so a gradient of 1e-4000 is clipped, or lifted, as exactly as one of 1.

use super::catalogue::{CatalogueError, Given, Info, Value};
use crate::kernels::update::{Entries, entries};
use crate::num::real::Real;
use crate::num::scale::Scale;

/// Whose norm a clip looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// That of all gradients together.
    All,
    /// That of each layer's copy of each parameter.
    Layer,
    /// That of each row of a weight matrix: one unit's weights. A vector counts as one row.
    Row,
    /// Nobody's: entries are changed one by one.
    Entry,
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Sum of magnitudes.
    One,
    /// Root of the sum of squares.
    Two,
    /// Largest magnitude.
    Largest,
}

/// How entries are to be presented to [`Entries::entry`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// The exponent they are brought to; none where it does not matter, and then the result's exponent is 0.
    pub exponent: Option<i64>,
    /// The rule's number in that scale.
    pub limit: f64,
}

/// A clip with its parameters.
pub trait Rule: Entries {
    /// Its line in the catalogue.
    const INFO: &'static Info;
    /// Refuses parameters that are right one by one and wrong together.
    fn check(_given: &Given) -> Result<(), CatalogueError> {
        Ok(())
    }
    /// From checked parameters.
    fn new(given: &Given) -> Self;
    /// Whose norm it looks at.
    fn scope(&self) -> Scope;
    /// Which norm.
    fn norm(&self) -> Norm {
        Norm::Two
    }
    /// What the gradient is multiplied by, from its norm and that of its weights.
    fn factor(&self, _norm: Scale, _weights: Scale) -> Scale {
        Scale::ONE
    }
    /// How entries of which this is the largest are shown; none if they stay as they are.
    fn shown(&self, _largest: Scale) -> Option<Shown> {
        None
    }
    /// Whether the network's last layer is left alone.
    fn spares_the_last(&self) -> bool {
        false
    }
}

/// Gives a clip that works by factors the entries it never sees.
macro_rules! by_factor {
    ($name:ident) => {
        impl crate::kernels::update::Entries for $name {
            #[inline(always)]
            fn entry<V: crate::num::simd::Vector>(self, x: V, _: V) -> V {
                x
            }
        }
    };
}

/// Makes the modules, [`Clip`] and its dispatch from the table.
macro_rules! catalogue {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(mod $module;)*

        /// Any clip of the catalogue with its parameters.
        #[derive(Clone, Copy, Debug)]
        pub enum Clip {
            $(
                #[doc = concat!("The clip `", stringify!($module), "`.")]
                $name($module::$name),
            )*
        }

        impl Clip {
            /// The whole catalogue.
            pub fn infos() -> &'static [&'static Info] {
                const { &[$($module::$name::INFO),*] }
            }

            /// The clip that `name` means, with `params` in place of its defaults.
            pub fn parse(name: &str, params: &[(String, Value)]) -> Result<Clip, CatalogueError> {
                $(
                    let info = $module::$name::INFO;
                    if info.answers_to(name) {
                        let given = info.read(params)?;
                        <$module::$name as Rule>::check(&given)?;
                        return Ok(Clip::$name($module::$name::new(&given)));
                    }
                )*
                let known = Self::infos().iter().map(|i| i.name).collect();
                Err(CatalogueError::UnknownName { kind: "clip", name: name.into(), known })
            }

            /// Whose norm it looks at.
            pub fn scope(&self) -> Scope {
                match self { $(Clip::$name(c) => c.scope(),)* }
            }

            /// Which norm.
            pub fn norm(&self) -> Norm {
                match self { $(Clip::$name(c) => c.norm(),)* }
            }

            /// What the gradient is multiplied by, from its norm and that of its weights.
            pub fn factor(&self, norm: Scale, weights: Scale) -> Scale {
                match self { $(Clip::$name(c) => c.factor(norm, weights),)* }
            }

            /// How entries of which this is the largest are shown; none if they stay as they are.
            pub fn shown(&self, largest: Scale) -> Option<Shown> {
                match self { $(Clip::$name(c) => c.shown(largest),)* }
            }

            /// Whether the network's last layer is left alone.
            pub fn spares_the_last(&self) -> bool {
                match self { $(Clip::$name(c) => c.spares_the_last(),)* }
            }

            /// Changes entries that are shown as `values * 2^shift`.
            pub fn change<T: Real>(&self, values: &mut [T], shift: i64, limit: f64) {
                match self { $(Clip::$name(c) => entries(*c, values, shift, limit),)* }
            }
        }
    };
}

// The catalogue: one line a clip.
catalogue! {
    value::ClipValue,
    norm::ClipNorm,
    layer::ClipLayer,
    agc::Agc,
    band::NormBand,
    unit_norm::UnitNorm,
    sign::SignGradient,
}
