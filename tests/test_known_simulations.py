"""Tests against mean-field and finite-width theory: many random networks, each probed once, averaged as
theory asks.

Each entry of tests/data/known_answers.json is held to its own tolerance; how many networks are averaged is
chosen so that four standard errors fit in it. Entries that no probe can measure are listed with the reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vgcore as vg
from helpers import known_answers, of_kind
from numpy.typing import NDArray

LN10 = np.log(10.0)

# No critical point exists, or it lies at q* = 0, which a power law approaches but no network reaches, or the
# entry states only the solution of an equation: for a module that computes theory, not for a probe.
THEORY_ONLY = {
    "critical_softsign_sb2_0",
    "critical_arctan_sb2_0",
    "critical_hardtanh_sb2_0",
    "critical_lecun_tanh_sb2_0",
    "critical_elu_sb2_0",
    "critical_selu_sb2_0",
    "critical_silu_sb2_0",
    "critical_gelu_tanh_sb2_0",
    "critical_softplus_sb2_0.05",
    "critical_softplus_sb2_0.3",
    "critical_tanh_xiao_pair",
    "typical_decay_n500_L100000",  # 2.5e10 random weights: the law is tested at width 128
}


def activation(name: str) -> vg.Activation:
    """The layer for a name as the entries write it."""
    if name == "linear":
        return vg.Activation("identity")
    if name.startswith("leaky_relu_"):
        return vg.Activation("leaky_relu", negative_slope=float(name.removeprefix("leaky_relu_")))
    return vg.Activation(name)


def deltas(
    function: str,
    sigma_w2: float,
    sigma_b2: float,
    q1: float,
    n: int,
    depth: int,
    seed: int,
    columns: int = 16,
    keep: float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log10 norm of delta at h_1 .. h_L, and the mean square of h_2 .. h_L, of one random network.

    The network starts at the pre-activation h_1, of mean square exactly q1 in every column, and ends at h_L,
    where delta is standard normal.
    """
    rng = np.random.default_rng(seed)
    h1 = rng.normal(size=(columns, n))
    h1 *= np.sqrt(q1 / np.mean(h1**2, axis=1, keepdims=True))
    dense = vg.Dense(n, bias=sigma_b2 > 0, sigma_w2=sigma_w2, sigma_b2=sigma_b2 if sigma_b2 > 0 else None)
    step = [activation(function), *([vg.Dropout(1.0 - keep)] if keep < 1.0 else []), dense]
    net = vg.Network(n, [vg.Repeat(step, depth - 1)], dtype="float32", rng=seed)
    flow = net.probe(h1.astype(np.float32), cotangent=rng.normal(size=(columns, n)).astype(np.float32))
    units = np.asarray(flow.raw["kind"]) == 0
    q = np.asarray(flow.raw["out_var"])[units] + np.asarray(flow.raw["out_mean"])[units] ** 2
    return np.concatenate([[flow.log10_input_grad_norm], flow.log10_delta_norm]), q


def setting(name: str) -> dict[str, Any]:
    """Setting and expected values of an entry in one dict."""
    entry = known_answers()[name]
    return {**entry["setting"], **entry["expected"], **entry["tolerance"]}


# --- infinite width -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of_kind("grad_ratio"))
def test_gradient_ratio_over_40_layers(name: str) -> None:
    s = setting(name)
    runs = np.array(
        [
            deltas(s["activation"], s["sigma_w2"], s["sigma_b2_value"], s["q1"], s["n"], s["L"], k)[0]
            for k in range(20)
        ]
    )
    ratios = np.mean(10.0 ** (2 * np.diff(-runs, axis=1)), axis=0)  # per layer, mean over networks
    total = float(np.sum(0.5 * np.log10(ratios)))
    assert abs(total - s["log10_norm_ratio_total"]) <= s["simulation_abs"]


def mean_chi(s: dict[str, Any], depth: int, seeds: int) -> tuple[float, float]:
    """Mean of |delta_l|^2 / |delta_{l+1}|^2 over layers and networks that start at q*, and the mean late q
    over q*."""
    chi, late = [], []
    for seed in range(seeds):
        variances, keep = (s["sigma_w2"], s.get("sigma_b2", 0.0)), s.get("keep_prob", 1.0)
        d, q = deltas(s["activation"], *variances, s["q_star"], 500, depth, seed, keep=keep)
        chi.append(np.mean(10.0 ** (2 * (d[:-1] - d[1:]))))
        late.append(np.mean(q[len(q) // 2 :]))
    return float(np.mean(chi)), float(np.mean(late)) / s["q_star"]


@pytest.mark.parametrize("name", of_kind("chi1_fixed_point"))
def test_gradient_factor_at_the_fixed_point(name: str) -> None:
    s = setting(name)
    chi, q = mean_chi(s, depth=24, seeds=24)
    assert abs(chi / s["chi_1"] - 1) <= s["chi_1_sim_rel"]
    assert abs(q - 1) <= s.get("q_sim_rel", 0.02)


@pytest.mark.parametrize("name", [n for n in of_kind("critical") if n not in THEORY_ONLY])
def test_gradient_factor_is_one_at_criticality(name: str) -> None:
    """An unstable fixed point (chi_q > 1) is left within 1/ln(chi_q) layers: there only the first few
    count."""
    s = setting(name)
    stable = s.get("chi_q", 1.0) <= 1
    chi, _ = mean_chi(s, depth=16 if stable else 6, seeds=24 if stable else 72)
    assert abs(chi - 1) <= s["chi_1_sim_abs"]


def test_what_is_left_to_theory() -> None:
    """The lists above name entries that exist, and each has the property it is listed for."""
    for name in THEORY_ONLY - {"typical_decay_n500_L100000", "critical_tanh_xiao_pair"}:
        expected = known_answers()[name]["expected"]
        assert expected.get("exists") is False or expected["q_star"] == 0.0


# --- finite width: products of random matrices ----------------------------------------------------------


def backward_log_norms(n: int, depth: int, sigma: float, seeds: int) -> NDArray[np.float64]:
    """ln |W_1^T ... W_L^T u| for a unit u, one value for each of `seeds` networks."""
    u = np.zeros((1, n))
    u[0, 0] = 1.0
    layers = [vg.Repeat([vg.Dense(n, bias=False, sigma_w2=sigma**2)], depth)]
    nets = (vg.Network(n, layers, dtype="float64", rng=seed) for seed in range(seeds))
    return np.array([net.probe(u, cotangent=u).log10_input_grad_norm * LN10 for net in nets])


def relu_log_norms(n: int, depth: int, seeds: int) -> NDArray[np.float64]:
    """ln(|x_L|^2 / |x_0|^2) of ReLU networks with He weights; -inf where the network died."""
    x = np.ones((1, n))
    step = [vg.Dense(n, bias=False, init="he_normal"), vg.Activation("relu")]
    nets = (vg.Network(n, [vg.Repeat(step, depth)], dtype="float64", rng=seed) for seed in range(seeds))
    with np.errstate(divide="ignore"):
        return np.array([np.log(np.sum(net.forward(x) ** 2) / n) for net in nets])


def assert_moments(sample: NDArray[np.float64], mean: float, variance: float) -> None:
    """Sample mean and variance within four standard errors of the exact law."""
    count = len(sample)
    centred = sample - sample.mean()
    assert abs(sample.mean() - mean) < 4 * np.sqrt(variance / count)
    spread = np.sqrt((np.mean(centred**4) - np.mean(centred**2) ** 2) / count)
    assert abs(np.var(sample, ddof=1) - variance) < 4 * spread


@pytest.mark.parametrize("name", [n for n in of_kind("linear_exact") if "lognorm" in n])
def test_log_norm_of_linear_networks(name: str) -> None:
    s = setting(name)
    assert_moments(
        backward_log_norms(s["n"], s["L"], s["sigma"], 600 if s["n"] < 100 else 200), s["mean"], s["variance"]
    )


def test_lyapunov_spectrum_of_random_matrices() -> None:
    s = setting("linear_lyapunov_spectrum_n8")
    n, steps = s["n"], 20_000
    net = vg.Network(
        n, [vg.Repeat([vg.Dense(n, bias=False, sigma_w2=s["sigma"] ** 2)], steps)], dtype="float64", rng=1
    )
    (weights,) = net.parameters().values()
    q, logs = np.eye(n), np.empty((steps, n))
    for k in range(steps):
        q, r = np.linalg.qr(weights[k] @ q)
        logs[k] = np.log(np.abs(np.diag(r)))
    blocks = logs.reshape(200, -1, n).mean(axis=1)  # blocks of 100 steps: what correlation there is, is short
    error = blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))
    assert np.all(np.abs(logs.mean(axis=0) - s["spectrum"]) < 4.5 * error)
    assert abs(logs.mean(axis=0).sum() - s["sum"]) < 4.5 * blocks.sum(axis=1).std(ddof=1) / np.sqrt(
        len(blocks)
    )


def test_frobenius_norm_of_the_jacobian() -> None:
    s = setting("linear_jacobian_frobenius")
    n = s["n"]
    layers = [vg.Repeat([vg.Dense(n, bias=False, sigma_w2=s["sigma2"])], s["L"])]
    nets = (vg.Network(n, layers, dtype="float64", rng=seed) for seed in range(300))
    squares = np.array(
        [10.0 ** (2 * net.probe(np.eye(n), cotangent=np.eye(n)).log10_input_grad_norm) for net in nets]
    )
    assert abs(squares.mean() - s["value"]) < 4 * squares.std(ddof=1) / np.sqrt(len(squares))


@pytest.mark.parametrize("name", [n for n in of_kind("finite_width") if n.startswith("relu_lognorm2")])
def test_log_norm_of_relu_networks(name: str) -> None:
    s = setting(name)
    seeds = {10: 3000, 50: 1000, 200: 150}[s["n"]]
    sample = relu_log_norms(s["n"], s["L"], seeds)
    alive = np.isfinite(sample)
    expected = (1 - 2.0 ** -s["n"]) ** s["L"]
    assert abs(alive.mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / seeds) + 1e-9
    assert_moments(sample[alive], s["mean"], s["variance"])


def test_fourth_moment_of_relu_networks() -> None:
    s = setting("relu_fourth_moment")
    energy = np.exp(relu_log_norms(s["n"], s["L"], 4000))
    for power, expected in ((1, s["second"]), (2, s["fourth"])):
        sample = energy**power
        assert abs(sample.mean() - expected) < 4 * sample.std(ddof=1) / np.sqrt(len(sample))


@pytest.mark.parametrize("name", [n for n in of_kind("finite_width") if n.startswith("parallel_mode")])
def test_parallel_mode_of_softplus(name: str) -> None:
    """The radial mode that a mean-field factor alone misses."""
    s = setting(name)
    seeds = 40
    runs = [
        deltas(s["activation"], s["sigma_w2"], s["sigma_b2"], s["q1"], s["n"], s["L"], seed)[0]
        for seed in range(seeds)
    ]
    energy = np.mean([10.0 ** (2 * (d[0] - d[-1])) for d in runs])
    assert abs(0.5 * np.log10(energy) - s["two_mode"]) <= s["simulation_abs"]


def test_typical_decay_of_critical_networks() -> None:
    """The mean square is conserved, yet the typical network loses 4.3 decades (ReLU) over 1,000 layers of
    128."""
    s, seeds = setting("typical_decay_n128_L1000"), 24
    relu = relu_log_norms(s["n"], s["L"], seeds) / (2 * LN10)
    linear = backward_log_norms(s["n"], s["L"], 1.0, seeds) / LN10
    for sample, law in ((relu, s["relu_he"]), (linear, s["linear"])):
        assert abs(sample.mean() - law["mean_log10"]) < 4 * law["sd_log10"] / np.sqrt(seeds)
