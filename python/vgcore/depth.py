"""Layer: depth, as people use it. Networks made shallower or deeper with their weights kept, and how deep is
too deep.

The list of what there is; each of it is in a file of its own (`_depth_*`). Steps are numbered as in a
GradientFlow, 0 nearest the input.

==========================================  =============================================================
``removable(net, x, y)``                    what each step does, measured by leaving it out
``remove(net, steps)``                      the network without them; also ``net.without(steps)``
``prune(net, x, y)``                        without all steps that the loss does not need
``grow(net, to)``                           more steps, which start as the identity
``progressive(net, x, y, to=)``             train, grow, train on
``linear_survival(count)``                  probabilities of stochastic depth
``stochastic(net)``                         the network with stochastic depth
``trainable_depth(build, x, y, ...)``       the deepest network that still trains, by bisection
``shortest_truncation(net, x, y)``          the shortest truncated backpropagation that keeps the gradient
==========================================  =============================================================
"""

from __future__ import annotations

from ._depth_drop import linear_survival, stochastic
from ._depth_grow import grow
from ._depth_remove import Pruned, Removable, prune, removable, remove
from ._depth_search import TrainableDepth, Trial, trainable_depth
from ._depth_stages import Progressive, progressive
from ._depth_time import ShortestTruncation, shortest_truncation

__all__ = [
    "Progressive",
    "Pruned",
    "Removable",
    "ShortestTruncation",
    "TrainableDepth",
    "Trial",
    "grow",
    "linear_survival",
    "progressive",
    "prune",
    "removable",
    "remove",
    "shortest_truncation",
    "stochastic",
    "trainable_depth",
]
