"""Layer: testing tools, comparison. Decides whether a claimed derivative is right, and refuses to decide on
nothing.

Knows arrays of claimed and of numerical derivatives with their errors; nothing of networks. All tolerances
are
relative: an absolute one accepts zero wherever gradients are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import VgcoreError

__all__ = ["GradientCheck", "GradientCheckError", "Tally"]

FloatArray = NDArray[np.float64]


class GradientCheckError(VgcoreError, AssertionError):
    """A claimed gradient is wrong, or nothing could be checked; the message says where and by how much."""


@dataclass(frozen=True)
class GradientCheck:
    """What a passed check has covered.

    Attributes:
        entries: derivatives compared. resolved: of them, how many the numerical derivative is accurate enough
            to judge.
        worst: largest error found, relative to the entry and the root mean square of its array. where: its
            place.
        norm_error: largest relative error of a whole array, by norm.
        rtol: the tolerance that was applied.
    """

    entries: int
    resolved: int
    worst: float
    where: str
    norm_error: float
    rtol: float


class Tally:
    """Collects comparisons; `result` raises unless enough of them meant something."""

    def __init__(self, rtol: float) -> None:
        """Start with nothing compared."""
        self.rtol = rtol
        self.entries = self.resolved = self.nonzero = 0
        self.worst, self.where, self.norm_error = 0.0, "nowhere", 0.0

    def finite(self, claimed: Any, where: str) -> None:
        """Refuse a claimed gradient that holds NaN or infinity."""
        array = np.asarray(claimed)
        bad = ~np.isfinite(array)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise GradientCheckError(
                f"{where}{list(at)}: the gradient is {array[at]}, and {int(bad.sum())} of "
                f"{array.size} entries are "
                f"not finite; check the input and the weights for overflow"
            )

    def compare(
        self,
        claimed: Any,
        measured: FloatArray,
        error: FloatArray,
        where: str,
        index: Any = None,
        scale: float | None = None,
    ) -> None:
        """Compare arrays entry by entry and by norm.

        An entry is judged where the numerical `error` is below a fifth of the tolerance, on the scale of the
        entry and `scale`, the root mean square of its array. `index` names the entries' places in the array
        they came from.
        """
        got, exact, noise = (np.atleast_1d(np.asarray(a, np.float64)) for a in (claimed, measured, error))
        self.finite(got, where)
        rms = float(np.sqrt(np.mean(exact**2))) if scale is None else scale
        unit = np.abs(exact) + rms
        # Where f is flat, differences are exactly 0 and so is the claim: nothing is left to doubt.
        clear = (noise <= 0.2 * self.rtol * unit) | ((exact == 0) & (got == 0) & np.isfinite(noise))
        self.entries += got.size
        self.resolved += int(clear.sum())
        self.nonzero += int(np.count_nonzero(got))
        gap = np.abs(got - exact)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(clear & (gap > 0), gap / unit, 0.0)
        if not clear.any():
            return
        at = np.unravel_index(int(relative.argmax()), relative.shape)
        place = f"{where}{[int(i) for i in at] if index is None else np.asarray(index[at[0]]).tolist()}"
        top = float(relative[at])
        if top > self.worst or self.where == "nowhere":
            self.worst, self.where = top, place
        size = float(np.linalg.norm(exact[clear]))
        if size > 0:
            self.norm_error = max(self.norm_error, float(np.linalg.norm((got - exact)[clear])) / size)
        if top > self.rtol:
            wrong = int((relative > self.rtol).sum())
            raise GradientCheckError(
                f"{place}: the gradient is {got[at]:.17g}, but differences give {exact[at]:.17g} "
                f"(+- {noise[at]:.1g}); relative error {top:.3g}, tolerance {self.rtol:.3g}; "
                f"{wrong} of {got.size} entries compared there are wrong"
            )

    def result(self) -> GradientCheck:
        """Return the report; raise if no gradient, only zeros, or mostly noise was seen."""
        if not self.entries:
            raise GradientCheckError("there is no entry to check: no parameters, or empty arrays")
        if not self.nonzero:
            raise GradientCheckError(
                f"all {self.entries} gradient entries are exactly zero, so nothing was "
                "checked: choose an input, a "
                f"cotangent or a seed for which the network is not dead"
            )
        if self.resolved * 2 < self.entries:
            raise GradientCheckError(
                f"differences are too noisy to judge: {self.resolved} of {self.entries} "
                "entries are resolved to "
                f"{self.rtol:.3g}; use an input away from kinks, a smaller network or a larger rtol"
            )
        return GradientCheck(self.entries, self.resolved, self.worst, self.where, self.norm_error, self.rtol)
