//! parts: the catalogue of activations. Knows no particular one beyond the line that lists it.
//!
//! To add an activation, write one file with a struct that implements [`Activation`] and [`Pointwise`], and add its line
//! to the table at the end of this file. Names, checks of parameters, dispatch and tests follow from the table.

use crate::kernels::pointwise::{self, Pointwise, RowForward};
use crate::num::math::scalar::normalize;
use crate::num::real::Real;
use crate::num::simd::{Isa, Kernel, One, Vector, dispatch};

/// A parameter of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Param {
    /// Name.
    pub name: &'static str,
    /// Value when none is given.
    pub default: f64,
    /// What it does.
    pub doc: &'static str,
    /// Least and greatest valid value, both included.
    pub range: (f64, f64),
}

/// What the catalogue says of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Info {
    /// Canonical name.
    pub name: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    /// phi(x)
    pub formula: &'static str,
    /// phi'(x)
    pub derivative: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Where it was proposed.
    pub reference: &'static str,
    /// Its parameters.
    pub params: &'static [Param],
    /// PyTorch's `calculate_gain` with default parameters, 1 where PyTorch has none.
    pub gain: f64,
    /// The derivative tends to zero, or is zero, on both sides.
    pub saturates: bool,
    /// The initializer that fits when none is given.
    pub fits: &'static str,
    /// Largest `|phi'|` with default parameters.
    pub max_slope: f64,
    /// Its parameter is trained.
    pub learned: bool,
}

impl Info {
    /// What most activations share.
    const BASE: Info = Info {
        name: "",
        aliases: &[],
        formula: "",
        derivative: "",
        summary: "",
        reference: "",
        params: &[],
        gain: 1.0,
        saturates: false,
        fits: "glorot_normal",
        max_slope: 1.0,
        learned: false,
    };
}

/// An activation with its parameters.
pub trait Activation: Pointwise {
    /// Its line in the catalogue.
    const INFO: Info;

    /// From one checked value for each of `INFO.params`.
    ///
    /// # Errors
    /// What is wrong where values that are valid alone do not fit together.
    fn new(params: &[f64]) -> Result<Self, String>;

    /// Largest `|phi'|` with these parameters.
    fn max_slope(&self) -> f64 {
        Self::INFO.max_slope
    }

    /// `calculate_gain` with these parameters.
    fn gain(&self) -> f64 {
        Self::INFO.gain
    }

    /// The derivative as `m 2^k` where a double would lose it: asked only where `|phi'(x)| < 1e-290`, for a finite `x`.
    #[inline(always)]
    fn tail(&self, x: f64) -> (f64, i64) {
        normalize(self.eval(One::splat(x)).1.get(), 0)
    }

    /// The derivative as `(m, k)`, meaning `m 2^k` with `|m|` in [1, 2): relative error 1e-13 however small it is.
    ///
    /// `m` is 0 only where the derivative is exactly zero; a NaN argument gives a NaN `m`. Exponents saturate near
    /// `-2^51.7`, which is reached where `exp` of an argument beyond `-2^51` would be needed.
    #[inline(always)]
    fn scaled_derivative(&self, x: f64) -> (f64, i64) {
        let d = self.eval(One::splat(x)).1.get();
        if d.abs() < 1e-290 && x.is_finite() { self.tail(x) } else { normalize(d, 0) }
    }
}

/// Runs a piece of work with an activation's own type.
pub trait ActVisitor {
    /// What it returns.
    type Out;
    /// The work.
    fn visit<A: Activation>(self, act: A) -> Self::Out;
}

/// Why [`Act::parse`] refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ActError {
    /// No activation has this name.
    #[error("unknown activation {name:?}")]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// A parameter does not exist or has no valid value.
    #[error("activation {name:?}, parameter {param:?}: {reason}")]
    Param {
        /// Canonical name of the activation.
        name: &'static str,
        /// The parameter.
        param: String,
        /// Expected, got, and what to do.
        reason: String,
    },
}

/// Names are compared without case, '-', '_' and spaces.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

fn build<A: Activation>(given: &[(String, f64)]) -> Result<A, ActError> {
    let info = A::INFO;
    let fail = |param: &str, reason| Err(ActError::Param { name: info.name, param: param.to_string(), reason });
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
    A::new(&values).or_else(|reason| fail(info.params.first().map_or("", |p| p.name), reason))
}

struct Scaled<'a, A, T> {
    act: A,
    x: &'a [T],
    m: &'a mut [f64],
    k: &'a mut [i64],
}

impl<A: Activation, T: Real> Kernel for Scaled<'_, A, T> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for ((x, m), k) in self.x.iter().zip(self.m).zip(self.k) {
            (*m, *k) = self.act.scaled_derivative(x.to_f64());
        }
    }
}

/// Makes the modules, [`Act`] and its dispatch from the table.
macro_rules! catalogue {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// Any activation of the catalogue with its parameters.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Act {
            $(
                #[doc = concat!("See [`", stringify!($module), "`].")]
                $name($module::$name),
            )*
        }

        static INFOS: &[&Info] = &[$(&$module::$name::INFO),*];

        /// Runs `$body` with the activation inside an [`Act`].
        macro_rules! with {
            ($act:expr, $a:ident => $body:expr) => {
                match $act {
                    $(Act::$name($a) => $body,)*
                }
            };
        }

        impl Act {
            /// The activation that `name` means, with `params` in place of its defaults.
            ///
            /// # Errors
            /// [`ActError`] for an unknown name, an unknown parameter or a value out of range.
            pub fn parse(name: &str, params: &[(String, f64)]) -> Result<Act, ActError> {
                let asked = plain(name);
                $(
                    let info = &$module::$name::INFO;
                    if plain(info.name) == asked || info.aliases.iter().any(|a| plain(a) == asked) {
                        return Ok(Act::$name(build(params)?));
                    }
                )*
                Err(ActError::Unknown { name: name.to_string() })
            }

            /// Its line in the catalogue.
            pub fn info(&self) -> &'static Info {
                with!(self, a => info_of(a))
            }
        }
    };
}

fn info_of<A: Activation>(_: &A) -> &'static Info {
    const { &A::INFO }
}

// The catalogue: one line an activation.
catalogue! {
    identity::Identity,
    sigmoid::Sigmoid,
    tanh::Tanh,
    relu::Relu,
    leaky_relu::LeakyRelu,
    prelu::Prelu,
    elu::Elu,
    selu::Selu,
    celu::Celu,
    silu::Silu,
    gelu::Gelu,
    gelu_tanh::GeluTanh,
    mish::Mish,
    softplus::Softplus,
    softsign::Softsign,
    erf::Erf,
    arctan::Arctan,
    hardtanh::Hardtanh,
    hardsigmoid::Hardsigmoid,
    hardswish::Hardswish,
    relu6::Relu6,
    logsigmoid::Logsigmoid,
    tanhshrink::Tanhshrink,
    lecun_tanh::LecunTanh,
}

impl Act {
    /// The whole catalogue.
    pub fn infos() -> &'static [&'static Info] {
        INFOS
    }

    /// The learned activation with its parameter at `slope`; others unchanged.
    pub fn with_slope(self, slope: f64) -> Act {
        match self {
            Act::Prelu(_) => Act::Prelu(prelu::Prelu { slope }),
            other => other,
        }
    }

    /// Where a learned parameter starts, if there is one.
    pub fn learned_start(&self) -> Option<f64> {
        match self {
            Act::Prelu(p) => Some(p.slope),
            _ => None,
        }
    }

    /// Calls the visitor with the activation inside.
    pub fn visit<V: ActVisitor>(&self, visitor: V) -> V::Out {
        with!(self, a => visitor.visit(*a))
    }

    /// Largest `|phi'|` with these parameters.
    pub fn max_slope(&self) -> f64 {
        with!(self, a => a.max_slope())
    }

    /// PyTorch's `calculate_gain` with these parameters.
    pub fn gain(&self) -> f64 {
        with!(self, a => a.gain())
    }

    /// The derivative decays towards zero without being zero ([`Pointwise::TAILS`]).
    pub fn tails(&self) -> bool {
        fn of<P: Pointwise>(_: &P) -> bool {
            P::TAILS
        }
        with!(self, a => of(a))
    }

    /// [`pointwise::forward`] with this activation.
    pub fn forward<T: Real>(
        &self,
        h: &[T],
        y: &mut [T],
        d: &mut [T],
        width: usize,
        rows: &mut [RowForward],
        stats: bool,
    ) {
        with!(self, a => pointwise::forward(a, h, y, d, width, rows, stats))
    }

    /// [`pointwise::forward_in_place`] with this activation.
    pub fn forward_in_place<T: Real>(
        &self,
        hy: &mut [T],
        d: &mut [T],
        width: usize,
        rows: &mut [RowForward],
        stats: bool,
    ) {
        with!(self, a => pointwise::forward_in_place(a, hy, d, width, rows, stats))
    }

    /// [`pointwise::apply`] with this activation.
    pub fn apply<T: Real>(&self, x: &[T], y: &mut [T], d: Option<&mut [T]>) {
        with!(self, a => pointwise::apply(a, x, y, d))
    }

    /// [`Activation::scaled_derivative`] of one number.
    pub fn scaled_derivative(&self, x: f64) -> (f64, i64) {
        with!(self, a => a.scaled_derivative(x))
    }

    /// [`Activation::scaled_derivative`] of a slice: `phi'(x[i]) = m[i] 2^k[i]`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn scaled_derivatives<T: Real>(&self, x: &[T], m: &mut [f64], k: &mut [i64]) {
        assert!(x.len() == m.len() && x.len() == k.len(), "scaled_derivatives: x, m and k must be equally long");
        with!(self, a => dispatch(Scaled { act: *a, x, m, k }))
    }

    /// Value and derivative of one double.
    pub fn value_f64(&self, x: f64) -> (f64, f64) {
        let (y, d) = with!(self, a => a.eval(One::splat(x)));
        (y.get(), d.get())
    }
}

#[cfg(test)]
mod tests;
