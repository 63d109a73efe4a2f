//! parts: initializers whose variance is `scale / fan`: one law, several names. Knows fans, not activations.

use super::truncated::{STD_OF_TWO, truncated};
use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::num::real::Real;
use crate::num::rng::{Law, fill};

const MODES: &[&str] = &["fan_in", "fan_out", "fan_avg"];
const MODE: Param =
    Param::choice("mode", "fan_in", MODES, "The fan that divides the variance: inputs, outputs or their mean.");
const GAIN: Param = Param::number("gain", 1.0, "Factor on every entry, as torch.nn.init.calculate_gain gives.");
const BESIDE: Param = Param::number(
    "gain",
    1.0,
    "Factor on every entry, beside the sqrt(2 / (1 + negative_slope^2)) that is in the law.",
);
const SLOPE: Param = Param::number(
    "negative_slope",
    0.0,
    "Slope of a leaky ReLU below zero (PyTorch's a); the gain is sqrt(2 / (1 + negative_slope^2)).",
);

const DISTRIBUTION: Param = Param::choice(
    "distribution",
    "truncated_normal",
    &["normal", "uniform", "truncated_normal"],
    "Shape of the distribution; truncated_normal is cut at two deviations and rescaled to the variance asked for.",
);

/// Gain of a leaky ReLU, as PyTorch's calculate_gain gives it.
fn slope_gain(given: &Given) -> f64 {
    (2.0 / (1.0 + given.number("negative_slope").powi(2))).sqrt()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    In,
    Out,
    Average,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Normal,
    Uniform,
    Truncated,
}

/// Variance `gain^2 / fan`, whatever the shape of the distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scaled {
    gain: f64,
    mode: Mode,
    shape: Shape,
}

impl Scaled {
    fn mode(given: &Given) -> Mode {
        match given.text("mode") {
            "fan_out" => Mode::Out,
            "fan_avg" => Mode::Average,
            _ => Mode::In,
        }
    }

    fn fill<T: Real>(&self, site: Site<'_, T>) {
        let fan = match self.mode {
            Mode::In => site.fan_in as f64,
            Mode::Out => site.fan_out as f64,
            Mode::Average => (site.fan_in as f64 + site.fan_out as f64) / 2.0,
        };
        let std = self.gain / fan.sqrt();
        match self.shape {
            Shape::Normal => fill(site.out, site.key, 0, 0, Law::Normal, T::from_f64(std), T::ZERO),
            // A uniform number on (-1, 1) has variance 1/3.
            Shape::Uniform => {
                let bound = self.gain * (3.0 / fan).sqrt();
                fill(site.out, site.key, 0, 0, Law::Signed, T::from_f64(bound), T::ZERO);
            }
            // Cut at two deviations of the parent, whose deviation makes up for the cut.
            Shape::Truncated => {
                let parent = std.abs() / STD_OF_TWO;
                truncated(site.out, site.key, 0.0, parent, -2.0 * parent, 2.0 * parent);
            }
        }
    }
}

macro_rules! scaled {
    ($name:ident, $given:ident => $rule:expr, $info:expr) => {
        /// What [`Initializer::INFO`] says of this type.
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name(Scaled);

        impl Initializer for $name {
            const INFO: &'static Info = &$info;
            fn new($given: &Given) -> Result<Self, CatalogueError> {
                Ok(Self($rule))
            }
            fn fill<T: Real>(&self, site: Site<'_, T>) {
                self.0.fill(site);
            }
        }
    };
}

scaled!(
    LecunNormal,
    given => Scaled { gain: given.number("gain"), mode: Mode::In, shape: Shape::Normal },
    Info {
        name: "lecun_normal",
        aliases: &["LecunNormal", "lecun"],
        formula: "W ~ N(0, gain^2 / fan_in)",
        summary: "Keeps the variance of a linear layer going forward; the fit for SELU.",
        reference: "LeCun, Bottou, Orr, Müller 1998, Efficient BackProp; Klambauer et al. 2017, Self-normalizing neural networks",
        params: &[GAIN],
    }
);

scaled!(
    LecunUniform,
    given => Scaled { gain: given.number("gain"), mode: Mode::In, shape: Shape::Uniform },
    Info {
        name: "lecun_uniform",
        aliases: &["LecunUniform"],
        formula: "W ~ U(-b, b), b = gain sqrt(3 / fan_in)",
        summary: "Uniform entries of variance gain^2 / fan_in.",
        reference: "LeCun, Bottou, Orr, Müller 1998, Efficient BackProp",
        params: &[GAIN],
    }
);

scaled!(
    GlorotNormal,
    given => Scaled { gain: given.number("gain"), mode: Mode::Average, shape: Shape::Normal },
    Info {
        name: "glorot_normal",
        aliases: &["xavier_normal", "xavier_normal_", "GlorotNormal", "glorot", "xavier"],
        formula: "W ~ N(0, 2 gain^2 / (fan_in + fan_out))",
        summary: "Normal entries whose variance is a compromise between the forward and the backward pass of a linear layer.",
        reference: "Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural networks",
        params: &[GAIN],
    }
);

scaled!(
    GlorotUniform,
    given => Scaled { gain: given.number("gain"), mode: Mode::Average, shape: Shape::Uniform },
    Info {
        name: "glorot_uniform",
        aliases: &["xavier_uniform", "xavier_uniform_", "GlorotUniform"],
        formula: "W ~ U(-b, b), b = gain sqrt(6 / (fan_in + fan_out))",
        summary: "Uniform entries whose variance is a compromise between the forward and the backward pass of a linear layer.",
        reference: "Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural networks",
        params: &[GAIN],
    }
);

scaled!(
    HeNormal,
    given => Scaled { gain: given.number("gain") * slope_gain(given), mode: Scaled::mode(given), shape: Shape::Normal },
    Info {
        name: "he_normal",
        aliases: &["kaiming_normal", "kaiming_normal_", "HeNormal", "he", "kaiming"],
        formula: "W ~ N(0, 2 gain^2 / ((1 + negative_slope^2) fan))",
        summary: "Normal entries that keep the second moment of a ReLU layer going forward (fan_in) or backward (fan_out). Not truncated, unlike in Keras and JAX.",
        reference: "He, Zhang, Ren, Sun 2015, Delving deep into rectifiers",
        params: &[MODE, SLOPE, BESIDE],
    }
);

scaled!(
    HeUniform,
    given => Scaled { gain: given.number("gain") * slope_gain(given), mode: Scaled::mode(given), shape: Shape::Uniform },
    Info {
        name: "he_uniform",
        aliases: &["kaiming_uniform", "kaiming_uniform_", "HeUniform"],
        formula: "W ~ U(-b, b), b = gain sqrt(6 / ((1 + negative_slope^2) fan))",
        summary: "Uniform entries that keep the second moment of a ReLU layer going forward (fan_in) or backward (fan_out). Not truncated, unlike in Keras and JAX.",
        reference: "He, Zhang, Ren, Sun 2015, Delving deep into rectifiers",
        params: &[MODE, SLOPE, BESIDE],
    }
);

scaled!(
    Standard,
    _given => Scaled { gain: (1.0f64 / 3.0).sqrt(), mode: Mode::In, shape: Shape::Uniform },
    Info {
        name: "standard",
        aliases: &["pytorch_default", "torch_default", "default"],
        formula: "W ~ U(-b, b), b = 1 / sqrt(fan_in)",
        summary: "The default of PyTorch's Linear, for weights and for biases: squared gradients of a linear layer fall by 3 a layer.",
        reference: "Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, section 4.2; PyTorch torch.nn.Linear",
        params: &[],
    }
);

scaled!(
    VarianceScaling,
    given => Scaled {
        gain: given.number("scale").sqrt(),
        mode: Scaled::mode(given),
        shape: match given.text("distribution") {
            "normal" => Shape::Normal,
            "uniform" => Shape::Uniform,
            _ => Shape::Truncated,
        },
    },
    Info {
        name: "variance_scaling",
        aliases: &["VarianceScaling"],
        formula: "Var W = scale / fan",
        summary: "Any member of the family, with the defaults of Keras: its he_normal is scale 2, its glorot_uniform is scale 1, fan_avg, uniform.",
        reference: "Keras keras.initializers.VarianceScaling; JAX jax.nn.initializers.variance_scaling",
        params: &[Param::bounded("scale", 1.0, 0.0, f64::MAX, "Variance times fan."), MODE, DISTRIBUTION],
    }
);

scaled!(
    MeanField,
    given => Scaled { gain: given.number("sigma_w2").sqrt(), mode: Mode::In, shape: Shape::Normal },
    Info {
        name: "mean_field",
        aliases: &["mean_field_normal"],
        formula: "W ~ N(0, sigma_w2 / fan_in)",
        summary: "The weights of mean field theory, where sigma_w2 places the network in the ordered or the chaotic phase.",
        reference: "Poole et al. 2016, Exponential expressivity in deep neural networks through transient chaos",
        params: &[Param::bounded("sigma_w2", 1.0, 0.0, f64::MAX, "Variance times fan_in.")],
    }
);

scaled!(
    EdgeOfChaos,
    given => {
        let w2 = given.number("sigma_w2");
        Scaled { gain: if w2 == 0.0 { 1.0 } else { w2.sqrt() }, mode: Mode::In, shape: Shape::Normal }
    },
    Info {
        name: "edge_of_chaos",
        aliases: &["eoc", "critical"],
        formula: "W ~ N(0, sigma_w2 / fan_in), b ~ N(0, sigma_b2), chi_1 = sigma_w2 E phi'^2 = 1 at the length q* that stays",
        summary: "Gradients neither vanish nor explode in expectation: a network solves sigma_w2 for the activation behind \
                  the layer, or in front of it, with vg.theory.critical; sigma_b2 sets the biases too.",
        reference: "Poole et al. 2016, Exponential expressivity in deep neural networks through transient chaos; Schoenholz \
                    et al. 2017, Deep information propagation; Hayou, Doucet, Rousseau 2019, On the impact of the \
                    activation function",
        params: &[
            Param::bounded("sigma_b2", 0.0, 0.0, f64::MAX, "Variance of a bias."),
            Param::bounded(
                "sigma_w2",
                0.0,
                0.0,
                f64::MAX,
                "Variance of a weight times fan_in; 0 solves for it, and is 1, a linear layer's, where there is no activation.",
            ),
        ],
    }
);
