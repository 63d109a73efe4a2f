"""Layer: results, tables. Numbers as people read them, and columns as text, CSV, HTML or a data frame.

Knows nothing of gradients: it is given names, columns and powers of ten.
"""

from __future__ import annotations

import csv
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from .errors import missing_dependency

__all__ = [
    "json_lines",
    "json_safe",
    "plain",
    "power",
    "render",
    "render_html",
    "share",
    "to_pandas",
    "write_csv",
]

Columns = Mapping[str, Sequence[Any]]


def power(log10: float, digits: int = 1) -> str:
    """Return ten to the `log10` as text; exact zero, NaN and infinity by name.

    Example:
        >>> power(-627.31), power(float("-inf")), power(0.301), power(2.61)
        ('1e-627.3', '0', '2', '410')
    """
    if math.isnan(log10):
        return "nan"
    if math.isinf(log10):
        return "inf" if log10 > 0 else "0"
    if abs(log10) < 3:
        return f"{float(f'{10.0**log10:.2g}'):g}"  # two digits, without an exponent
    return f"1e{log10:.{digits}f}"


def share(value: float) -> str:
    """Return a share as a percentage that does not round something to nothing.

    Example:
        >>> share(0.5), share(1.0), share(0.99999), share(1e-6), share(0.0)
        ('50 %', '100 %', '>99.9 %', '<0.1 %', '0 %')
    """
    if math.isnan(value):
        return "unknown"
    if 0 < value < 0.001:
        return "<0.1 %"
    if 0.999 < value < 1:
        return ">99.9 %"
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 or percent == int(percent) else f"{percent:.1f} %"


def count(value: float) -> str:
    """Return a number of steps with thousands separated; infinity as "never".

    Example:
        >>> count(1000.0), count(float("inf"))
        ('1,000', 'never')
    """
    if math.isnan(value):
        return "unknown"
    return "never" if math.isinf(value) else f"{round(value):,}"


def plain(value: Any) -> Any:
    """Return `value` with NumPy scalars and arrays as Python numbers and lists, recursively."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value


def json_safe(value: Any) -> Any:
    """Return `value` as strict JSON can hold it: NaN and infinities become the strings Python's float()
    reads.

    Example:
        >>> json_safe({"a": [1.0, float("-inf")]})
        {'a': [1.0, '-Infinity']}
    """
    value = plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_safe(item) for item in value]
    return value


def json_lines(value: Mapping[str, Any], depth: int = 2) -> str:
    """Return a mapping as strict JSON that people can edit: one entry a line down to `depth` levels.

    Example:
        >>> print(json_lines({"axes": {"depth": [1, 2]}, "seeds": [0]}))
        {
          "axes": {
            "depth": [1, 2]
          },
          "seeds": [0]
        }
    """

    def lines(entry: Any, level: int) -> str:
        if not isinstance(entry, dict) or level == depth or not entry:
            return json.dumps(entry, allow_nan=False)
        pad = "  " * (level + 1)
        inside = (f"{pad}{json.dumps(key)}: {lines(item, level + 1)}" for key, item in entry.items())
        return "{\n" + ",\n".join(inside) + "\n" + "  " * level + "}"

    return lines(json_safe(value), 0)


def render(rows: Iterable[Sequence[str]], header: Sequence[str], *, left: int = 1, indent: str = "") -> str:
    """Return rows of text as an aligned table; the first `left` columns are set flush left, the rest right.

    Example:
        >>> print(render([["sigmoid", "1e-6"], ["relu", "0.5"]], ["activation", "10"]))
        activation    10
        ----------------
        sigmoid     1e-6
        relu         0.5
    """
    body = [list(row) for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in body)]) for i, head in enumerate(header)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return (indent + "  ".join(padded)).rstrip()

    rule = indent + "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *map(line, body)])


def render_html(rows: Iterable[Sequence[str]], header: Sequence[str], caption: str = "") -> str:
    """Return rows of text as an HTML table, every cell escaped."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def write_csv(stream: IO[str], columns: Columns) -> None:
    """Write columns of equal length as CSV: floats in full, so that reading them back gives the same bits."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*(plain(list(column)) for column in columns.values()), strict=True):
        writer.writerow([repr(cell) if isinstance(cell, float) else cell for cell in row])


def to_pandas(columns: Mapping[str, Any], categories: Iterable[str] = ()) -> Any:
    """Return columns as a pandas DataFrame; the columns in `categories` become categorical.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise missing_dependency("pandas", "pandas", "a data frame") from None
    frame = pandas.DataFrame({name: list(c) if isinstance(c, list) else c for name, c in columns.items()})
    return frame.astype({name: "category" for name in categories if name in frame})
