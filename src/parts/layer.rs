//! parts: the layers a network is described with. A tree of plain data; knows nothing of programs or memory.

use super::activation::Act;
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
}
