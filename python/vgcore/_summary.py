"""Layer: model description. A network as a table of text or HTML, one row per layer however often it repeats.

Knows layers; takes the numbers it cannot know as arguments.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from ._memory import format_bytes
from .layers import Layer, Repeat, walk

#: Rows of a summary; a longer hand-written list is cut in the middle.
_MOST_ROWS = 60


def rows(layers: Sequence[Layer], in_features: int) -> list[tuple[str, str, str, str]]:
    """Return (name, layer, output width, parameters) of every layer, as text; Repeat's body appears once."""
    result = []
    for placed in walk(layers, in_features):
        layer = placed.layer
        count = sum(math.prod(shape) for shape in placed.parameters().values())
        name = ".".join(placed.path)
        out = layer.out_features(placed.in_features)
        words = "  " * placed.level + describe(layer)
        result.append((name, words, f"{out:,}", f"{count:,}" if count else ""))
    if len(result) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        gap = ("...", f"{len(result) - 2 * half:,} more layers", "", "")
        result = [*result[:half], gap, *result[-half:]]
    return result


def describe(layer: Layer) -> str:
    """Return one layer as a summary shows it.

    Example:
        >>> from vgcore.layers import Activation, Repeat
        >>> describe(Repeat(Activation("tanh"), 1000, tied=True))
        'Repeat 1,000 x, one set of parameters'
    """
    if isinstance(layer, Repeat):
        return f"Repeat {layer.n:,} x{', one set of parameters' if layer.tied else ''}"
    return layer.describe()


def text(head: str, layers: Sequence[Layer], in_features: int, total: int, itemsize: int) -> str:
    """Return the summary as a table of text."""
    table = [("name", "layer", "output", "parameters"), *rows(layers, in_features)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {layer:<{widths[1]}}  {out:>{widths[2]}}  {count:>{widths[3]}}".rstrip()
        for name, layer, out, count in table
    ]
    rule = "-" * max(map(len, lines))
    foot = f"{total:,} parameters, {format_bytes(total * itemsize)}"
    return "\n".join([head, lines[0], rule, *lines[1:], rule, foot])


def table_html(head: str, layers: Sequence[Layer], in_features: int, total: int, itemsize: int) -> str:
    """Return the summary as an HTML table."""
    body = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td>"
        f"<td style='text-align:left'>{html.escape(layer).replace('  ', '&emsp;')}</td>"
        f"<td>{out}</td><td>{count}</td></tr>"
        for name, layer, out, count in rows(layers, in_features)
    )
    return (
        f"<table><caption>{html.escape(head)}</caption>"
        f"<thead><tr><th>name</th><th>layer</th><th>output</th><th>parameters</th></tr></thead>"
        f"<tbody>{body}</tbody><tfoot><tr><td colspan='4'>{total:,} parameters, "
        f"{format_bytes(total * itemsize)}</td></tr></tfoot></table>"
    )
