"""Layer: theory. What random networks do at the start of training, computed instead of measured.

Mean-field recursions of length, correlation and gradient for every activation of the catalogue, their fixed
points and critical points, blocks, normalisation, recurrence, finite width, and predictions for networks.
Knows activations, initializers and networks' descriptions; runs no network. NumPy alone.

Conventions: ``h = W x + b``, ``x' = phi(h)``, weights N(0, sigma_w2 / fan_in), biases N(0, sigma_b2), q the
variance of h; factors chi are of SQUARED gradient norms and go from the output to the input; log10 values are
of norms.

Example:
    >>> import vgcore as vg
    >>> edge = vg.theory.critical("tanh", sigma_b2=0.05)
    >>> theory = vg.theory.mean_field("tanh", edge.sigma_w2, 0.05)
    >>> round(theory.chi_1, 9), theory.phase
    (1.0, 'critical')
"""

from .blocks import (
    BlockFlow,
    gated_factor,
    highway,
    postnorm_factor,
    prenorm_factor,
    residual,
    residual_factor,
    stochastic_depth_blocks,
)
from .correlation import CorrelationTrajectory, Pair, correlation_map, correlation_trajectory, pair_moments
from .criticality import CriticalPoint, critical, critical_line, critical_points, half_stable_points
from .finite_width import (
    LogNorm,
    alive_probability,
    linear_log_norm,
    log_norm,
    lyapunov_spectrum,
    relu_fourth_moment,
    relu_log_norm,
    two_mode,
)
from .fixed_points import FixedPoint, MeanField, depth_scale, fixed_points, mean_field
from .isometry import Isometry, dynamical_isometry, largest_singular_value
from .maps import Trajectory, chi_1, chi_q, length_map, trajectory
from .moments import Gain, Moments, gain, moments
from .norms import batch_norm_factor, layer_norm_factor, rms_norm_factor
from .prediction import Prediction, predict, predict_layers
from .time_axis import (
    Chrono,
    GateDecay,
    Latching,
    chrono,
    gate_decay,
    hochreiter,
    largest_slope,
    lyapunov_exponent,
    pascanu_bound,
    pascanu_threshold,
    recurrent,
    scalar_recurrence,
    uniform_gate_mean,
)
from .weight_law import WeightLaw, weight_law

__all__ = [
    "BlockFlow",
    "Chrono",
    "CorrelationTrajectory",
    "CriticalPoint",
    "FixedPoint",
    "Gain",
    "GateDecay",
    "Isometry",
    "Latching",
    "LogNorm",
    "MeanField",
    "Moments",
    "Pair",
    "Prediction",
    "Trajectory",
    "WeightLaw",
    "alive_probability",
    "batch_norm_factor",
    "chi_1",
    "chi_q",
    "chrono",
    "correlation_map",
    "correlation_trajectory",
    "critical",
    "critical_line",
    "critical_points",
    "depth_scale",
    "dynamical_isometry",
    "fixed_points",
    "gain",
    "gate_decay",
    "gated_factor",
    "half_stable_points",
    "highway",
    "hochreiter",
    "largest_singular_value",
    "largest_slope",
    "layer_norm_factor",
    "length_map",
    "linear_log_norm",
    "log_norm",
    "lyapunov_exponent",
    "lyapunov_spectrum",
    "mean_field",
    "moments",
    "pair_moments",
    "pascanu_bound",
    "pascanu_threshold",
    "postnorm_factor",
    "predict",
    "predict_layers",
    "prenorm_factor",
    "recurrent",
    "relu_fourth_moment",
    "relu_log_norm",
    "residual",
    "residual_factor",
    "rms_norm_factor",
    "scalar_recurrence",
    "stochastic_depth_blocks",
    "trajectory",
    "two_mode",
    "uniform_gate_mean",
    "weight_law",
]
