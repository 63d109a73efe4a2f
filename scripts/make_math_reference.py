"""Makes the reference values that the Rust tests compare with, in mpmath at 60 digits.

Run `python scripts/make_math_reference.py` in the repository's root. It writes
src/num/math/testdata/reference.txt      function, x, value rounded to double, (exact - rounded) in ulp
src/parts/activation/testdata/reference.txt   activation, parameters, x, value, derivative as m 2^k: m, k
Needs mpmath; knows nothing of the package.
"""

import math
import pathlib
import random

import mpmath as mp

mp.mp.dps = 60
ROOT = pathlib.Path(__file__).resolve().parent.parent / "src"
RNG = random.Random(20)


def rounded(value):
    """The nearest double, and how far the exact value lies from it, in ulp."""
    near = float(value)
    if not math.isfinite(near):
        return near, 0.0
    return near, float((value - mp.mpf(near)) / mp.mpf(math.ulp(near)))


def split(value):
    """(m, k) with value = m 2^k, |m| in [1, 2); (0, 0) for zero."""
    if value == 0:
        return 0.0, 0
    m, k = mp.frexp(value)
    return float(m * 2), int(k) - 1


def spread(lo, hi, n, signs=True):
    """n numbers with uniform logarithms in [lo, hi], of both signs."""
    return [
        10 ** RNG.uniform(math.log10(lo), math.log10(hi)) * (RNG.choice((-1, 1)) if signs else 1)
        for _ in range(n)
    ]


def line(lo, hi, n):
    """n numbers drawn uniformly from [lo, hi]."""
    return [RNG.uniform(lo, hi) for _ in range(n)]


def mills(t):
    """(1 - Phi(t)) / phi(t); by its asymptotic series where that has converged to 60 digits."""
    if t > 60:
        return sum((-1) ** k * mp.fac2(2 * k - 1) / t ** (2 * k + 1) for k in range(25))
    return mp.sqrt(mp.pi / 2) * mp.exp(t * t / 2) * mp.erfc(t / mp.sqrt(2))


def sig(x):
    """The logistic function."""
    return 1 / (1 + mp.exp(-x))


FUNCTIONS = {
    "exp": (mp.exp, line(-745, 709.7, 60) + line(-2, 2, 30) + spread(1e-18, 1, 20)),
    "expm1": (mp.expm1, line(-40, 40, 40) + line(-1, 1, 50) + spread(1e-300, 1, 30) + line(40, 709.7, 10)),
    "log": (mp.log, spread(5e-324, 1e308, 60, False) + line(0.5, 2, 60) + [1 - 1e-12, 1 + 1e-12, 5e-324]),
    "log1p": (mp.log1p, line(-0.999, 2, 70) + spread(1e-300, 0.9, 30) + spread(1, 1e300, 20, False)),
    "tanh": (mp.tanh, line(-3, 3, 60) + spread(1e-300, 30, 50)),
    "sigmoid": (sig, line(-40, 40, 60) + line(-745, 0, 30) + line(-2, 2, 30)),
    "erf": (mp.erf, line(-3, 3, 70) + spread(1e-300, 6, 40) + line(0.8, 1.2, 20)),
    "erfcx": (
        lambda x: mills(x * mp.sqrt(2)) * mp.sqrt(2 / mp.pi),
        line(0, 8, 60) + spread(1e-9, 1e9, 50, False),
    ),
    "mills": (mills, line(0, 40, 60) + spread(1e-9, 1e9, 50, False)),
    "atan": (mp.atan, line(-3, 3, 60) + spread(1e-300, 1e300, 60)),
}


def exact(c):
    """The decimal constant of a formula, as the double that the program holds."""
    return mp.mpf(c)


def selu(x):
    """SELU with the constants as doubles."""
    a, s = exact(1.6732632423543772), exact(1.0507009873554805)
    return (s * x, s) if x > 0 else (s * a * mp.expm1(x), s * a * mp.exp(x))


def leaky(x, a):
    """Leaky rectifier."""
    return (x, mp.mpf(1)) if x > 0 else (a * x, a)


def gated(x, z, dz):
    """x s(z) and its derivative."""
    return x * sig(z), sig(z) * (1 + x * dz * sig(-z))


def gelu_tanh(x):
    """GELU by tanh."""
    c, a = 2 * mp.sqrt(2 / mp.pi), mp.mpf("0.044715")
    return gated(x, c * (x + a * x**3), c * (1 + 3 * a * x * x))


def gelu(x):
    """GELU; below zero by Mills' ratio."""
    density = mp.npdf(abs(x))
    tail = density * mills(abs(x))
    value, slope = -abs(x) * tail, density * (mills(abs(x)) - abs(x))
    return (value, slope) if x < 0 else (x + value, 1 - slope)


def mish(x):
    """Mish; tanh(log(1 + w)) = n/(n + 2)."""
    if x > 1000:
        return x, mp.mpf(1)
    w = mp.exp(x)
    n = w * (w + 2)
    return x * n / (n + 2), n / (n + 2) + 4 * x * w * (1 + w) / (n + 2) ** 2


def softplus(x, beta, threshold):
    """Softplus with PyTorch's threshold."""
    if beta * x > threshold:
        return x, mp.mpf(1)
    return mp.log1p(mp.exp(beta * x)) / beta, sig(beta * x)


def tanhshrink(x):
    """x - tanh x by enough digits."""
    with mp.workdps(400):
        return x - mp.tanh(x), mp.tanh(x) ** 2


def sech2(x):
    """tanh'."""
    return 4 * mp.exp(-2 * abs(x)) / (1 + mp.exp(-2 * abs(x))) ** 2


WIDE = (
    [0.1, 0.5, 1.0, 3.0, 6.0, 20.0, 25.0]
    + [10.0**k for k in (-300, -12, -5, -3, -2)]
    + [0.3, 0.74, 0.76, 1.3, 2.2]
)
WIDE += [9.01, 14.5, 15.5, 40.0, 90.0, 104.0, 200.0, 372.0, 700.0, 744.9, 800.0, 2000.0, 1e5, 1e9]
WIDE += [5.0, 8.0, 10.0, 10.2, 12.0, 50.0, 88.0, 100.0, 103.0, 745.0, 746.0, 1e4, 1e10, 1e20]
WIDE = [s * x for x in WIDE for s in (1, -1)]

ACTIVATIONS = [
    ("identity", {}, lambda x: (x, mp.mpf(1))),
    ("sigmoid", {}, lambda x: (sig(x), sig(x) * sig(-x))),
    ("tanh", {}, lambda x: (mp.tanh(x), sech2(x))),
    ("relu", {}, lambda x: (max(x, 0), mp.mpf(x > 0))),
    ("leaky_relu", {"negative_slope": 0.2}, lambda x: leaky(x, exact(0.2))),
    ("prelu", {"init": 0.25}, lambda x: leaky(x, exact(0.25))),
    ("elu", {}, lambda x: (x, mp.mpf(1)) if x > 0 else (mp.expm1(x), mp.exp(x))),
    (
        "elu",
        {"alpha": 1.7},
        lambda x: (x, mp.mpf(1)) if x > 0 else (exact(1.7) * mp.expm1(x), exact(1.7) * mp.exp(x)),
    ),
    ("selu", {}, selu),
    (
        "celu",
        {"alpha": 1.7},
        lambda x: (
            (x, mp.mpf(1)) if x > 0 else (exact(1.7) * mp.expm1(x / exact(1.7)), mp.exp(x / exact(1.7)))
        ),
    ),
    ("silu", {}, lambda x: gated(x, x, 1)),
    ("silu", {"beta": 1.3}, lambda x: gated(x, exact(1.3) * x, exact(1.3))),
    ("gelu", {}, gelu),
    ("gelu_tanh", {}, gelu_tanh),
    ("mish", {}, mish),
    ("softplus", {}, lambda x: softplus(x, 1, 20)),
    ("softplus", {"beta": 2.1, "threshold": 5.0}, lambda x: softplus(x, exact(2.1), 5)),
    ("softsign", {}, lambda x: (x / (1 + abs(x)), 1 / (1 + abs(x)) ** 2)),
    ("erf", {}, lambda x: (mp.erf(x), 2 / mp.sqrt(mp.pi) * mp.exp(-x * x))),
    ("arctan", {}, lambda x: (mp.atan(x), 1 / (1 + x * x))),
    ("hardtanh", {}, lambda x: (min(max(x, -1), 1), mp.mpf(abs(x) < 1))),
    ("hardsigmoid", {}, lambda x: (min(max((x + 3) / 6, 0), 1), mp.mpf(abs(x) < 3) / 6)),
    (
        "hardswish",
        {},
        lambda x: (
            (x, mp.mpf(1)) if x >= 3 else (x * 0, x * 0) if x <= -3 else (x * (x + 3) / 6, (2 * x + 3) / 6)
        ),
    ),
    ("relu6", {}, lambda x: (min(max(x, 0), 6), mp.mpf(0 < x < 6))),
    ("logsigmoid", {}, lambda x: (-mp.log1p(mp.exp(-x)), sig(-x))),
    ("tanhshrink", {}, tanhshrink),
    (
        "lecun_tanh",
        {},
        lambda x: (exact(1.7159) * mp.tanh(2 * x / 3), exact(1.7159) * 2 / 3 * sech2(2 * x / 3)),
    ),
]


def main():
    """Writes both files."""
    out = []
    for name, (f, points) in FUNCTIONS.items():
        out += ["%s %r %r %.3f" % (name, x, *rounded(f(mp.mpf(x)))) for x in points]
    path = ROOT / "num/math/testdata/reference.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(out) + "\n")
    out = []
    for name, params, f in ACTIVATIONS:
        text = ",".join(f"{k}={v!r}" for k, v in params.items()) or "-"
        for x in [0.0, *WIDE]:
            value, slope = f(mp.mpf(x))
            m, k = split(slope)
            if abs(k) < 2**50:  # beyond, exponents saturate
                out.append("%s %s %r %r %r %d" % (name, text, x, float(value), m, k))
    path = ROOT / "parts/activation/testdata/reference.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
