"""Makes src/num/math/tables.rs: minimax polynomials for the vector functions, by Remez exchange in mpmath.

Run `python scripts/make_math_polynomials.py > src/num/math/tables.rs`. Needs mpmath; knows nothing of the package.
"""

import struct
import sys

import mpmath as mp

mp.mp.dps = 60
GRID = 1200


def remez(f, weight, lo, hi, degree, rounds=14):
    """Coefficients (lowest first) and largest weighted error of the minimax polynomial of `f` on [lo, hi]."""
    lo, hi, n = mp.mpf(lo), mp.mpf(hi), degree + 2
    mid, half = (lo + hi) / 2, (hi - lo) / 2
    grid = [mid - half * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / GRID) for i in range(GRID)]
    fs, ws = [f(x) for x in grid], [weight(x) for x in grid]
    at = [round((GRID - 1) * (1 - mp.cos(mp.pi * (i + mp.mpf("0.5")) / n)) / 2) for i in range(n)]
    at = [
        min(GRID - 1, max(0, int(mp.acos(1 - 2 * mp.mpf(k) / (GRID - 1)) / mp.pi * (GRID - 1)))) for k in at
    ]
    for i in range(1, n):
        at[i] = max(at[i], at[i - 1] + 1)
    coefs, worst = [], mp.inf
    for _ in range(rounds):
        a, b = mp.matrix(n, n), mp.matrix(n, 1)
        for i, k in enumerate(at):
            u = (grid[k] - mid) / half
            for j in range(degree + 1):
                a[i, j] = u**j
            a[i, degree + 1] = (-1) ** i / ws[k]
            b[i] = fs[k]
        c = mp.lu_solve(a, b)
        coefs = [c[j] for j in range(degree + 1)]
        err = [ws[k] * (fs[k] - mp.polyval(coefs[::-1], (grid[k] - mid) / half)) for k in range(GRID)]
        worst = max(abs(e) for e in err)
        # One extremum from each run of equal sign, then keep n in sequence, dropping the smallest at an end.
        runs, start = [], 0
        for k in range(1, GRID + 1):
            if k == GRID or (err[k] > 0) != (err[start] > 0):
                runs.append(max(range(start, k), key=lambda q: abs(err[q])))
                start = k
        while len(runs) > n:
            runs.pop(0 if abs(err[runs[0]]) < abs(err[runs[-1]]) else -1)
        if len(runs) < n or worst < abs(c[degree + 1]) * mp.mpf("1.001"):
            break
        at = runs
    # From the variable u on [-1, 1] back to x.
    out = [mp.mpf(0)] * (degree + 1)
    for j, cj in enumerate(coefs):
        for i in range(j + 1):
            out[i] += cj * mp.binomial(j, i) * (-mid) ** (j - i) / half**j
    return out, worst


def f32(x):
    """Nearest float32, as a float."""
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def emit(name, doc, f, weight, lo, hi, degrees):
    """Prints the float32 and the float64 table of one function."""
    for bits, degree in zip((32, 64), degrees, strict=True):
        coefs, err = remez(f, weight, lo, hi, degree)
        values = [f32(c) if bits == 32 else float(c) for c in coefs]
        print(f"{name}_{bits}: degree {degree}, error 2^{float(mp.log(err, 2)):.1f}", file=sys.stderr)
        body = "".join(f"    {v!r},\n" for v in values)
        print(f"/// {doc}; error 2^{float(mp.log(err, 2)):.1f} before rounding.")
        print(f"pub const {name}_{bits}: [f64; {degree + 1}] = [\n{body}];")


def two_parts(name, doc, value):
    """Prints a constant as a sum of two floats of each type."""
    h32, h64 = f32(value), float(value)
    print(f"/// {doc}, as a `f32` and its rest, a `f64` and its rest.")
    print(
        f"pub const {name}: [f64; 4] = [{h32!r}, {f32(value - mp.mpf(h32))!r}, {h64!r}, {float(value - mp.mpf(h64))!r}];"
    )


def mills(t):
    """(1 - Phi(t)) / phi(t); by its asymptotic series where that has converged to 60 digits."""
    if t > 60:
        return sum((-1) ** k * mp.fac2(2 * k - 1) / t ** (2 * k + 1) for k in range(25))
    return mp.sqrt(mp.pi / 2) * mp.exp(t * t / 2) * mp.erfc(t / mp.sqrt(2))


def mills_scaled(q, shift):
    """R(t) (t + shift) in the variable q = (t - shift)/(t + shift)."""
    if q > 1 - mp.mpf(10) ** -9:
        return 1 + shift * (1 - q) / (2 * shift)
    t = shift * (1 + q) / (1 - q)
    return mills(t) * (t + shift)


def series(f, limit, x):
    """`f(x)`, or `limit` where the quotient is 0/0."""
    return f(x) if abs(x) > mp.mpf(10) ** -25 else mp.mpf(limit)


MILLS_SHIFT = 3.75
MILLS_DEGREES = (10, 23)


def main():
    """Prints the file."""
    print(
        "//! num: polynomial tables of the vector functions, made by scripts/make_math_polynomials.py. Knows no types."
    )
    print("#![allow(clippy::excessive_precision, clippy::unreadable_literal, clippy::approx_constant)]")
    print("// reason: the digits are a program's output and must round to exactly these values.\n")
    half_ln2 = mp.log(2) / 2 * mp.mpf("1.0005")
    emit(
        "EXPM1",
        "`(exp(r) - 1 - r)/r^2` for |r| <= ln 2 / 2, lowest power first",
        lambda r: series(lambda s: (mp.expm1(s) - s) / s**2, 0.5, r),
        lambda r: abs(r) + mp.mpf("0.01"),
        -half_ln2,
        half_ln2,
        (4, 9),
    )
    emit(
        "ATANH_NARROW",
        "`(atanh(s)/s - 1)/s^2` in z = s^2 <= 0.0296",
        lambda z: series(lambda y: (mp.atanh(mp.sqrt(y)) / mp.sqrt(y) - 1) / y, mp.mpf(1) / 3, z),
        lambda z: z + mp.mpf("0.0003"),
        0,
        "0.0296",
        (2, 6),
    )
    emit(
        "ATANH_WIDE",
        "`(atanh(s)/s - 1)/s^2` in z = s^2 <= 1/9",
        lambda z: series(lambda y: (mp.atanh(mp.sqrt(y)) / mp.sqrt(y) - 1) / y, mp.mpf(1) / 3, z),
        lambda z: z + mp.mpf("0.001"),
        0,
        mp.mpf(1) / 9 + mp.mpf("0.0001"),
        (3, 9),
    )
    emit(
        "ATAN",
        "`(atan(s)/s - 1)/s^2` in z = s^2 <= 1",
        lambda z: series(lambda y: (mp.atan(mp.sqrt(y)) / mp.sqrt(y) - 1) / y, -mp.mpf(1) / 3, z),
        lambda z: z + mp.mpf("0.01"),
        0,
        "1.0001",
        (8, 19),
    )
    emit(
        "ERF",
        "`(erf(x)/x - 2/sqrt(pi))/x^2` in z = x^2 <= 1",
        lambda z: series(
            lambda y: (mp.erf(mp.sqrt(y)) / mp.sqrt(y) - 2 / mp.sqrt(mp.pi)) / y, -2 / mp.sqrt(mp.pi) / 3, z
        ),
        lambda z: z + mp.mpf("0.01"),
        0,
        "1.001",
        (5, 10),
    )
    emit(
        "TANHSHRINK",
        "`(x - tanh(x))/x^3` in z = x^2 <= 0.5625",
        lambda z: series(lambda y: (1 - mp.tanh(mp.sqrt(y)) / mp.sqrt(y)) / y, mp.mpf(1) / 3, z),
        lambda z: mp.mpf(3),
        0,
        "0.563",
        (5, 12),
    )
    emit(
        "MILLS",
        f"`R(t) (t + {MILLS_SHIFT})` in q = (t - {MILLS_SHIFT})/(t + {MILLS_SHIFT}), R Mills' ratio",
        lambda q: mills_scaled(q, mp.mpf(MILLS_SHIFT)),
        lambda q: 1 / mills_scaled(q, mp.mpf(MILLS_SHIFT)),
        -1,
        1,
        MILLS_DEGREES,
    )
    # 1 - d P(d) = T_4(2 d - 3)/577 on [1, 2] is the equioscillating residual.
    y4 = mp.taylor(lambda d: 1 - mp.chebyt(4, 2 * d - 3) / 577, 0, 4)
    print("/// Cubic start for 1/d on [1, 2]; `1 - d P(d)` is at most 1/577.")
    print("pub const RECIP: [f64; 4] = [" + ", ".join(repr(f32(c)) for c in y4[1:]) + "];")
    print("/// The shift in the variable of [`MILLS_32`] and [`MILLS_64`].")
    print(f"pub const MILLS_SHIFT: f64 = {MILLS_SHIFT!r};")
    two_parts("LN2", "ln 2", mp.log(2))
    two_parts("HALF_PI", "pi/2", mp.pi / 2)
    two_parts("TWO_OVER_SQRT_PI", "2/sqrt(pi)", 2 / mp.sqrt(mp.pi))
    two_parts("INV_SQRT_2PI", "1/sqrt(2 pi)", 1 / mp.sqrt(2 * mp.pi))


if __name__ == "__main__":
    main()
