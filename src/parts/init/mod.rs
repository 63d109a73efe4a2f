//! parts: the catalogue of initializers. Knows no particular one beyond the line that lists it.
//!
//! To add an initializer, write a struct that implements [`Initializer`] and add its line to the table below. Names,
//! checks of parameters, dispatch and tests follow from the table.
//!
//! Matrices are row-major with one row per output: rows = fan_out, cols = fan_in. A bias is a matrix of one column whose
//! fans are those of its layer. Numbers depend on the key and the place in the matrix alone (see [`crate::num::rng`]).

mod constant;
mod delta;
mod identity;
mod mirrored;
mod normal;
mod orthogonal;
mod scaled;
mod sparse;
mod truncated;
mod uniform;

use super::catalogue::Given;
pub use super::catalogue::{CatalogueError, Info, Kind, Param, Value};
use crate::num::real::Real;
use crate::num::rng::Key;

/// The array to fill and its place in the network.
pub struct Site<'a, T> {
    /// The entries, row-major.
    pub out: &'a mut [T],
    /// Number of rows (outputs).
    pub rows: usize,
    /// Number of columns (inputs; 1 for a bias).
    pub cols: usize,
    /// Inputs of the layer.
    pub fan_in: usize,
    /// Outputs of the layer.
    pub fan_out: usize,
    /// Names the random numbers.
    pub key: Key,
}

/// One way to fill an array.
pub trait Initializer: Sized {
    /// Its catalogue entry.
    const INFO: &'static Info;
    /// Reads its parameters, whose names and ranges have been checked.
    fn new(given: &Given) -> Result<Self, CatalogueError>;
    /// Fills the array.
    fn fill<T: Real>(&self, site: Site<'_, T>);
}

/// Why an initializer could not be made or applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InitError {
    /// A name or a parameter does not fit.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The array and its shape do not fit, or a fan is zero.
    #[error(
        "{name}: expected {rows} x {cols} entries and fans of at least 1; got {len} entries, fan_in {fan_in}, fan_out \
         {fan_out}. Give the array's own shape and the layer's sizes"
    )]
    Shape {
        /// The initializer.
        name: &'static str,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Length of the array.
        len: usize,
        /// Inputs of the layer.
        fan_in: usize,
        /// Outputs of the layer.
        fan_out: usize,
    },
    /// Values that the network's type does not hold.
    #[error(
        "expected initial values that {dtype} holds (up to {largest:.1e} in magnitude), got {got}; choose smaller \
         parameters{wider}"
    )]
    Range {
        /// The type.
        dtype: &'static str,
        /// Its largest value.
        largest: f64,
        /// What came of a value.
        got: f64,
        /// What else helps.
        wider: &'static str,
    },
}

/// Refuses values that left the range of their type when they were made.
pub fn check_range<T: Real>(values: &[T]) -> Result<(), InitError> {
    // All are looked at, because a loop without an exit takes many at a time.
    if values.iter().fold(true, |all, x| all & x.finite()) {
        return Ok(());
    }
    let got = values.iter().find(|x| !x.finite()).map_or(f64::NAN, |x| x.to_f64());
    let wider = if T::MANTISSA_BITS == 23 { ", or dtype=\"float64\"" } else { "" };
    Err(InitError::Range { dtype: T::NAME, largest: T::LARGEST, got, wider })
}

impl InitError {
    /// Whether it is the name that no initializer answers to.
    pub fn is_unknown_name(&self) -> bool {
        matches!(self, Self::Catalogue(e) if e.is_unknown_name())
    }
}

macro_rules! initializers {
    ($($variant:ident($kind:ty),)*) => {
        /// An initializer with its parameters.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Init {
            $(#[doc = concat!("[`", stringify!($kind), "`]")] $variant($kind),)*
        }

        impl Init {
            /// What the catalogue says of every initializer, in the table's order.
            pub fn infos() -> Vec<&'static Info> {
                vec![$(<$kind>::INFO),*]
            }

            /// What the catalogue says of this one.
            pub fn info(&self) -> &'static Info {
                match self { $(Self::$variant(_) => <$kind>::INFO,)* }
            }

            fn build(given: &Given) -> Option<Result<Self, CatalogueError>> {
                $(if given.info().name == <$kind>::INFO.name {
                    return Some(<$kind>::new(given).map(Self::$variant));
                })*
                None
            }

            fn apply<T: Real>(&self, site: Site<'_, T>) {
                match self { $(Self::$variant(i) => i.fill(site),)* }
            }
        }
    };
}

// The one table.
initializers! {
    Zeros(constant::Zeros),
    Ones(constant::Ones),
    Constant(constant::Constant),
    Identity(identity::Identity),
    Delta(delta::Delta),
    Normal(normal::Normal),
    Uniform(uniform::Uniform),
    TruncatedNormal(truncated::TruncatedNormal),
    LecunNormal(scaled::LecunNormal),
    LecunUniform(scaled::LecunUniform),
    GlorotNormal(scaled::GlorotNormal),
    GlorotUniform(scaled::GlorotUniform),
    HeNormal(scaled::HeNormal),
    HeUniform(scaled::HeUniform),
    Standard(scaled::Standard),
    VarianceScaling(scaled::VarianceScaling),
    MeanField(scaled::MeanField),
    EdgeOfChaos(scaled::EdgeOfChaos),
    Orthogonal(orthogonal::Orthogonal),
    LooksLinear(mirrored::LooksLinear),
    Sparse(sparse::Sparse),
}

impl Init {
    /// The initializer of that name or alias with these parameters, defaults for the others.
    ///
    /// ```
    /// use vgcore::parts::init::{Init, Value};
    /// let he = Init::parse("kaiming_normal", &[("mode".into(), Value::Text("fan_out".into()))]).unwrap();
    /// assert_eq!(he.info().name, "he_normal");
    /// assert!(Init::parse("hee", &[]).unwrap_err().is_unknown_name());
    /// ```
    pub fn parse(name: &str, params: &[(String, Value)]) -> Result<Self, InitError> {
        let infos = Self::infos();
        let unknown = || CatalogueError::UnknownName {
            kind: "initializer",
            name: name.to_owned(),
            known: Self::infos().iter().map(|i| i.name).collect(),
        };
        let info = infos.into_iter().find(|i| i.answers_to(name)).ok_or_else(unknown)?;
        let given = info.read(params)?;
        Ok(Self::build(&given).ok_or_else(unknown)??)
    }

    /// Every entry equal to `value`.
    pub fn constant(value: f64) -> Self {
        Self::Constant(constant::Constant { value })
    }

    /// Fills `out`, row-major of `rows` (outputs) x `cols` (inputs, 1 for a bias), for a layer with these fans.
    pub fn fill<T: Real>(
        &self,
        out: &mut [T],
        rows: usize,
        cols: usize,
        fan_in: usize,
        fan_out: usize,
        key: Key,
    ) -> Result<(), InitError> {
        let len = out.len();
        if rows.checked_mul(cols) != Some(len) || (len > 0 && (fan_in == 0 || fan_out == 0)) {
            return Err(InitError::Shape { name: self.info().name, rows, cols, len, fan_in, fan_out });
        }
        if len > 0 {
            self.apply(Site { out, rows, cols, fan_in, fan_out, key });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
