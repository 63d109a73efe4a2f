//! parts: the layers a network is described with. A tree of plain data; knows nothing of programs or memory.

use super::activation::Act;
use super::cell::Cell;
use super::init::Init;

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
    },
    /// `y = phi(x)`, unit by unit.
    Activation {
        /// Component of the parameters' names.
        name: String,
        /// The function.
        act: Act,
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
    /// `y = x + scale * body(x)` (He et al. 2016, eq. 1, with a branch scale).
    Residual {
        /// Component of the parameters' names.
        name: String,
        /// Factor of the branch.
        scale: f64,
        /// The layers of the branch.
        body: Vec<Layer>,
    },
    /// Time steps of a cell.
    Recurrent(Box<Recurrent>),
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
