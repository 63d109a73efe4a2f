"""Layer: data sets. Real data that ships with Python or an optional package, and problems made from a seed.

The list of what there is: real ones in `_datasets_real`, text in `_datasets_text`, made ones in
`_datasets_made`. Knows nothing of networks. Nothing is downloaded.

=============================================  ==========================================================
``digits()``                                   1,797 images, (1797, 64): for networks without time
``digits_rows()``, ``digits_pixels()``         the same, 8 steps of 8 or 64 steps of 1
``mnist_pixels()``                             5,000 images, 784 steps of 1
``pigcvp()``                                   104 blood-pressure series, 2,000 steps of 1
``text(n, length, rng)``                       English characters, each to predict the next
``adding(n, length, rng)``                     add two marked numbers
``copy_memory(n, delay, rng)``                 repeat ten symbols after a delay
``long_lag(n, lag, rng)``                      tell which symbol came first
``temporal_order(n, length, rng)``             tell in which order two symbols came
=============================================  ==========================================================
"""

from __future__ import annotations

from ._datasets_made import ORDER_CHANNELS, adding, copy_memory, long_lag, temporal_order
from ._datasets_real import digits, digits_pixels, digits_rows, mnist_pixels, pigcvp
from ._datasets_text import TEXT_CHARACTERS, text

__all__ = [
    "ORDER_CHANNELS",
    "TEXT_CHARACTERS",
    "adding",
    "copy_memory",
    "digits",
    "digits_pixels",
    "digits_rows",
    "long_lag",
    "mnist_pixels",
    "pigcvp",
    "temporal_order",
    "text",
]
