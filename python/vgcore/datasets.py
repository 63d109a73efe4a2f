"""Layer: data sets. Real data that ships with an optional package, ready for a network.

Knows where the data comes from and how it is scaled, nothing of networks. Nothing is downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import missing_dependency

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["digits"]


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return 1,797 real images of handwritten digits, ``(x, y)``: 8 x 8 pixels each, and which digit it is.

    ``x``: float32 of shape (1797, 64). Pixels (0 to 16) are scaled to zero mean and unit variance over the
    whole
    set: one mean and one standard deviation for all pixels, so that E x^2 = 1 per unit, which is what the
    usual
    initialisers assume. ``y``: int64 of shape (1797,), classes 0 to 9. The arrays are fresh copies.

    Raises:
        MissingDependencyError: scikit-learn, which ships the images, is not installed.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (test part), as in
    ``sklearn.datasets.load_digits``.

    Example:
        >>> x, y = digits()
        >>> x.shape, x.dtype, y.shape
        ((1797, 64), dtype('float32'), (1797,))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise missing_dependency("scikit-learn", "study", "the digits data set") from None
    bunch = load_digits()
    pixels = np.asarray(bunch.data, dtype=np.float64)
    scaled = (pixels - pixels.mean()) / pixels.std()
    return scaled.astype(np.float32), np.asarray(bunch.target, dtype=np.int64)
