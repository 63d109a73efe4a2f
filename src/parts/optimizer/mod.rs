//! parts: the catalogue of optimizers. Knows no particular one beyond the line that lists it, and no network.
//!
//! To add an optimizer, write one file with a struct that implements [`Rule`] and [`Lanes`] and add its line to the
//! table below. Names, parameters, documentation and the command line follow from the table.
//!
//! The learning rate is no parameter here: it comes with every step, from the caller's schedule.

use super::catalogue::{CatalogueError, Given, Info, Value};
use crate::kernels::update::{Block, Change, Lanes, NUMBERS, STATES, apply};
use crate::num::real::Real;
use crate::num::scale::Scale;

/// Numbers that a rule takes along through a step.
pub type Numbers = [f64; NUMBERS];

/// Figures of one copy of a parameter, for rules that give each layer a step of its own length.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Norm of the gradient.
    pub gradient: Scale,
    /// Norm of the weights.
    pub weights: Scale,
    /// Norm of the direction, for rules with two rounds.
    pub direction: Scale,
    /// Entries.
    pub count: usize,
}

/// How a rule goes through the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// Each weight by itself.
    Plain,
    /// After the norms of the layer's gradient and weights are known.
    Layerwise,
    /// The direction first, and after its norm is known the step.
    Twice,
}

/// An optimizer with its parameters; [`Lanes`] is what it does to a weight.
pub trait Rule: Lanes {
    /// Its line in the catalogue.
    const INFO: &'static Info;
    /// Names of what it remembers for each weight; [`Lanes::used`] says how many of them with these parameters.
    const MEMORY: &'static [&'static str] = &[];
    /// How it goes through the weights.
    const ROUNDS: Rounds = Rounds::Plain;
    /// Refuses parameters that are right one by one and wrong together.
    fn check(_given: &Given) -> Result<(), CatalogueError> {
        Ok(())
    }
    /// From checked parameters.
    fn new(given: &Given) -> Self;
    /// Its numbers in step `t`, counted from 1, at a learning rate.
    fn numbers(&self, rate: f64, t: u64) -> Numbers;
    /// The rule moves along the gradient itself, so that the rate may be a factor of it: then no gradient is too small
    /// or too large for the step that a float without limits would take.
    fn rate_is_a_factor(&self) -> bool {
        false
    }
    /// Sets the numbers of one layer; the result is one more factor of its gradient.
    fn layer(&self, _k: &mut Numbers, _layer: &Layer) -> Scale {
        Scale::ONE
    }
}

/// A learning rate's place among the parameters, the same for all.
pub const fn rate(default: f64, doc: &'static str) -> super::catalogue::Param {
    super::catalogue::Param::bounded("lr", default, 0.0, f64::MAX, doc)
}

/// A block of one copy of a parameter, with the gradient's exponent and what clipping made of it.
pub struct Piece<'a, T> {
    /// Mantissas of the gradient.
    pub gradient: &'a [T],
    /// Their exponent.
    pub exponent: i64,
    /// A factor of the gradient.
    pub factor: Scale,
    /// The weights.
    pub weights: &'a mut [T],
    /// What is remembered of them.
    pub states: [&'a mut [T]; STATES],
    /// Numbers of the step.
    pub numbers: Numbers,
    /// Sums are wanted.
    pub count: bool,
    /// Only the memory moves on.
    pub direction: bool,
}

/// Makes the modules, [`Optimizer`] and its dispatch from the table.
macro_rules! catalogue {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(mod $module;)*

        /// Any optimizer of the catalogue with its parameters.
        #[derive(Clone, Copy, Debug)]
        pub enum Optimizer {
            $(
                #[doc = concat!("The optimizer `", stringify!($module), "`.")]
                $name($module::$name),
            )*
        }

        impl Optimizer {
            /// The whole catalogue, each with the names of what it remembers for each weight.
            pub fn all() -> &'static [(&'static Info, &'static [&'static str])] {
                const { &[$(($module::$name::INFO, $module::$name::MEMORY)),*] }
            }

            /// The optimizer that `name` means, with `params` in place of its defaults.
            pub fn parse(name: &str, params: &[(String, Value)]) -> Result<Optimizer, CatalogueError> {
                $(
                    let info = $module::$name::INFO;
                    if info.answers_to(name) {
                        let given = info.read(params)?;
                        <$module::$name as Rule>::check(&given)?;
                        return Ok(Optimizer::$name($module::$name::new(&given)));
                    }
                )*
                let known = Self::all().iter().map(|(i, _)| i.name).collect();
                Err(CatalogueError::UnknownName { kind: "optimizer", name: name.into(), known })
            }

            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $(Optimizer::$name(_) => $module::$name::INFO.name,)* }
            }

            /// Names of what it remembers for each weight with these parameters.
            pub fn memory(&self) -> &'static [&'static str] {
                match self { $(Optimizer::$name(o) => &$module::$name::MEMORY[..o.used()],)* }
            }

            /// How it goes through the weights.
            pub fn rounds(&self) -> Rounds {
                match self { $(Optimizer::$name(_) => $module::$name::ROUNDS,)* }
            }

            /// Its numbers in step `t`, counted from 1.
            pub fn numbers(&self, rate: f64, t: u64) -> Numbers {
                match self { $(Optimizer::$name(o) => o.numbers(rate, t),)* }
            }

            /// Sets the numbers of one layer; the result is one more factor of its gradient.
            pub fn layer(&self, k: &mut Numbers, layer: &Layer) -> Scale {
                match self { $(Optimizer::$name(o) => o.layer(k, layer),)* }
            }

            /// Updates a block of weights.
            pub fn update<T: Real>(&self, p: Piece<'_, T>, rate: f64) -> Change {
                match self { $(Optimizer::$name(o) => run(*o, p, rate),)* }
            }
        }
    };
}

// The catalogue: one line an optimizer.
catalogue! {
    sgd::Sgd,
    adagrad::Adagrad,
    rmsprop::RmsProp,
    adam::Adam,
    adamw::AdamW,
    lars::Lars,
    lamb::Lamb,
    scale_free::ScaleFree,
}

fn run<T: Real, R: Rule>(rule: R, p: Piece<'_, T>, rate: f64) -> Change {
    let Piece { gradient, exponent, factor, weights, states, numbers, count, direction } = p;
    let m = if rule.rate_is_a_factor() { -(rate * factor.m) } else { factor.m };
    let scale = Scale { m, e: factor.e + exponent };
    apply(Block { rule, numbers, gradient, scale, weights, states, count, direction })
}
