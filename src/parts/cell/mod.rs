//! parts: the catalogue of recurrent cells. Knows no particular one beyond the line that lists it, and no time.
//!
//! To add a cell, write one file with a struct that implements [`CellPart`] and [`CellMath`], and add its line to the
//! table below. Names, parameters, weights, dispatch and tests follow from the table.

mod antisymmetric;
mod gru;
mod lru;
mod lstm;
mod min_gru;
mod min_lstm;
mod rnn;

pub use super::catalogue::{CatalogueError, Given, Info, Param, Value};
use super::init::Init;
use crate::kernels::cell::CellVisitor;

/// Which weights a cell has and how they reach its pre-activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Names of the gates in the order of PyTorch's weights: gate k is rows `k * units..` of the matrices.
    pub gates: &'static [&'static str],
    /// Column of z that each gate of `weight_ih` and `bias_ih` adds to.
    pub ih: &'static [usize],
    /// Column of z that each gate of `weight_hh` and `bias_hh` adds to; empty where the cell has neither.
    pub hh: &'static [usize],
    /// Columns of z.
    pub columns: usize,
    /// Runs of state.
    pub states: usize,
    /// Runs of the state that are the cell's output, which its recurrent weights see.
    pub outputs: usize,
    /// Runs of per-unit parameters, and the name of the array that holds them.
    pub vectors: (usize, &'static str),
    /// `bias_ih` exists where biases are wanted.
    pub bias: bool,
    /// Gates have values of their own, of which figures are taken.
    pub gated: bool,
    /// The recurrent matrix in use is `W - W^T - gamma I`.
    pub antisymmetric: Option<f64>,
    /// The gate that keeps the state, and the sign with which its bias does.
    pub keep: Option<(usize, f64)>,
    /// The gate that lets the input in, where it has one of its own.
    pub input: Option<usize>,
}

/// Arrays of a cell that have initial values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// From the input.
    WeightIh,
    /// From the state.
    WeightHh,
    /// Per unit.
    Vectors,
}

/// A cell with its parameters.
pub trait CellPart: Sized {
    /// Its line in the catalogue.
    const INFO: &'static Info;
    /// From checked parameters.
    fn new(given: &Given) -> Result<Self, CatalogueError>;
    /// Its weights.
    fn shape(&self) -> Shape;
    /// Calls the visitor with the unit-wise arithmetic.
    fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out;
    /// How a leaf starts where the cell has a way of its own; else as in PyTorch, U(-1/sqrt(hidden), 1/sqrt(hidden)).
    fn start(&self, _leaf: Leaf, _fan_in: usize) -> Option<Init> {
        None
    }
    /// Biases start at zero.
    fn quiet(&self) -> bool {
        false
    }
    /// The initial per-unit parameters of a unit, from `u` uniform in (0, 1).
    fn start_vectors(&self, _u: [f64; 3]) -> [f64; 3] {
        [0.0; 3]
    }
    /// The per-unit numbers that the arithmetic uses, from the parameters that are learned.
    fn effective(&self, learned: [f64; 3]) -> [f64; 3] {
        learned
    }
    /// dL/d(learned) from dL/d(effective).
    fn pull_back(&self, _learned: [f64; 3], gradient: [f64; 3]) -> [f64; 3] {
        gradient
    }
}

macro_rules! cells {
    ($($variant:ident($kind:ty),)*) => {
        /// Any cell of the catalogue with its parameters.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Cell {
            $(#[doc = concat!("[`", stringify!($kind), "`]")] $variant($kind),)*
        }

        macro_rules! with {
            ($cell:expr, $c:ident => $body:expr) => {
                match $cell { $(Cell::$variant($c) => $body,)* }
            };
        }

        impl Cell {
            /// What the catalogue says of every cell, in the table's order.
            pub fn infos() -> Vec<&'static Info> {
                vec![$(<$kind>::INFO),*]
            }

            /// Every cell with default parameters, in the table's order.
            pub fn all() -> Vec<Cell> {
                Self::infos().into_iter().filter_map(|i| Cell::parse(i.name, &[]).ok()).collect()
            }

            fn build(given: &Given) -> Option<Result<Self, CatalogueError>> {
                $(if given.info().name == <$kind>::INFO.name {
                    return Some(<$kind>::new(given).map(Self::$variant));
                })*
                None
            }

            /// What the catalogue says of this one.
            pub fn info(&self) -> &'static Info {
                match self { $(Self::$variant(_) => <$kind>::INFO,)* }
            }
        }
    };
}

// The one table.
cells! {
    Rnn(rnn::Rnn),
    Lstm(lstm::Lstm),
    Gru(gru::Gru),
    Irnn(rnn::Irnn),
    OrthogonalRnn(rnn::OrthogonalRnn),
    AntisymmetricRnn(antisymmetric::Antisymmetric),
    MinGru(min_gru::MinGru),
    MinLstm(min_lstm::MinLstm),
    Lru(lru::Lru),
}

impl Cell {
    /// The cell of that name or alias with these parameters, defaults for the others.
    pub fn parse(name: &str, params: &[(String, Value)]) -> Result<Self, CatalogueError> {
        let infos = Self::infos();
        let unknown = || CatalogueError::UnknownName {
            kind: "cell",
            name: name.to_owned(),
            known: Self::infos().iter().map(|i| i.name).collect(),
        };
        let info = infos.into_iter().find(|i| i.answers_to(name)).ok_or_else(unknown)?;
        let given = info.read(params)?;
        Self::build(&given).ok_or_else(unknown)?
    }

    /// See [`CellPart::shape`].
    pub fn shape(&self) -> Shape {
        with!(self, c => c.shape())
    }

    /// See [`CellPart::visit`].
    pub fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out {
        with!(self, c => c.visit(visitor))
    }

    /// See [`CellPart::start`].
    pub fn start(&self, leaf: Leaf, fan_in: usize) -> Option<Init> {
        with!(self, c => c.start(leaf, fan_in))
    }

    /// See [`CellPart::quiet`].
    pub fn quiet(&self) -> bool {
        with!(self, c => c.quiet())
    }

    /// See [`CellPart::start_vectors`].
    pub fn start_vectors(&self, u: [f64; 3]) -> [f64; 3] {
        with!(self, c => c.start_vectors(u))
    }

    /// See [`CellPart::effective`].
    pub fn effective(&self, learned: [f64; 3]) -> [f64; 3] {
        with!(self, c => c.effective(learned))
    }

    /// See [`CellPart::pull_back`].
    pub fn pull_back(&self, learned: [f64; 3], gradient: [f64; 3]) -> [f64; 3] {
        with!(self, c => c.pull_back(learned, gradient))
    }
}

#[cfg(test)]
mod tests;
