//! parts: the layers a network is described with. A tree of plain data; knows nothing of programs or memory.

use super::activation::Act;
use super::cell::Cell;
use super::init::Init;
use super::norm::Norm;
use super::parametrization::Parametrization;

/// One layer of a description. `name` is a component of its parameters' names; an empty name adds none.
#[derive(Clone, Debug)]
pub enum Layer {
    /// `y = x w^T + b`, w (features, in), b (features,).
    Dense {
        /// Component of the parameters' names.
        name: String,
        /// Width of the output.
        features: usize,
        /// Start of the weights.
        weight: Init,
        /// Start of the bias; none without one.
        bias: Option<Init>,
        /// How the weights are made from what is learned; none where they are learned themselves.
        parametrization: Option<Parametrization>,
    },
    /// `y = phi(x)`, unit by unit.
    Activation {
        /// Component of the parameters' names.
        name: String,
        /// The function.
        act: Act,
    },
    /// Normalisation, then a gain and a shift for each unit.
    Norm {
        /// Component of the parameters' names.
        name: String,
        /// What is normalised.
        norm: Norm,
        /// Gain, and shift where this kind has one, are learned.
        affine: bool,
    },
    /// A body applied `n` times, each time with parameters of its own, or all with the same (`tied`).
    Repeat {
        /// Component of the parameters' names.
        name: String,
        /// How often.
        n: usize,
        /// One set of parameters for all.
        tied: bool,
        /// The layers of the body.
        body: Vec<Layer>,
    },
    /// `y = shortcut(x) + scale * body(x)`.
    Residual(Residual),
    /// `y = t h + (1 - t) x`.
    Highway(Highway),
    /// `y = [x, body(x)]` (Huang et al. 2017; Ronneberger et al. 2015).
    Concat {
        /// Component of the parameters' names.
        name: String,
        /// The layers of the branch.
        body: Vec<Layer>,
    },
    /// In training, each unit is zero with probability `p`, else `x / (1 - p)` (Srivastava et al. 2014).
    Dropout {
        /// Part of what names its random numbers.
        name: String,
        /// Probability, below 1.
        p: f64,
    },
    /// Time steps of a cell.
    Recurrent(Box<Recurrent>),
}

/// `y = shortcut(x) + scale * body(x)` (He et al. 2016, eq. 1, with a branch scale).
#[derive(Clone, Debug)]
pub struct Residual {
    /// Component of the parameters' names.
    pub name: String,
    /// Factor of the branch, or its start where it is learned (De, Smith 2020; Bachlechner et al. 2021).
    pub scale: f64,
    /// The factor is a parameter.
    pub learned: bool,
    /// Factor of the shortcut.
    pub gain: f64,
    /// Layers of the shortcut; none for the identity.
    pub shortcut: Vec<Layer>,
    /// Probability that the branch is there, drawn once a batch in training (Huang et al. 2016).
    pub survival: f64,
    /// The layers of the branch.
    pub body: Vec<Layer>,
}

/// `y = t h + c x` with gates t and c that see x (Srivastava, Greff, Schmidhuber 2015).
#[derive(Clone, Debug)]
pub struct Highway {
    /// Component of the parameters' names.
    pub name: String,
    /// Layers of h.
    pub transform: Vec<Layer>,
    /// Layers of t, which end in a sigmoid.
    pub gate: Vec<Layer>,
    /// Layers of c; none where it is `1 - t`.
    pub carry: Vec<Layer>,
}

/// A stack of recurrent cells.
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// Component of the parameters' names.
    pub name: String,
    /// The cell.
    pub cell: Cell,
    /// Width of the state that the next layer sees.
    pub hidden: usize,
    /// Cells on top of each other.
    pub num_layers: usize,
    /// A second stack runs from the last step to the first.
    pub bidirectional: bool,
    /// From the second cell on, a cell's input is added to its output.
    pub residual: bool,
    /// Biases exist.
    pub bias: bool,
    /// The output is the state of every step, not of the last alone.
    pub every: bool,
    /// The initial state is a parameter.
    pub learned: bool,
    /// Start of the weights from the input; the cell's own if none.
    pub init: Option<Init>,
    /// Start of the weights from the state.
    pub recurrent_init: Option<Init>,
    /// Start of the biases.
    pub bias_init: Option<Init>,
    /// What the gates' biases are set to afterwards.
    pub gate_bias: Option<GateBias>,
}

/// Starts of the biases of gates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GateBias {
    /// The keeping gate's whole bias (Gers, Schmidhuber, Cummins 2000; Jozefowicz et al. 2015).
    Forget(f64),
    /// For memory of up to so many steps: `log U(1, T - 1)` (Tallec, Ollivier 2018, eq. 16).
    Chrono(f64),
    /// The gate's value uniform in `(1/H, 1 - 1/H)` (Gu et al. 2020, section 3.2).
    Uniform,
}
