"""A table that reads well in a notebook and on a terminal."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Table:
    """Rows under column names.

    Args:
        columns: One name a column.
        rows: One sequence of values a row; values are shown with `str`.

    >>> Table(["request", "reply"], [["/foo", "hello foo"]])
    request  reply
    /foo     hello foo
    """

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self.columns = tuple(columns)
        self.rows = [tuple("" if value is None else str(value) for value in row) for row in rows]

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def _repr_html_(self) -> str:
        style = ' style="text-align:left"'
        head = "".join(f"<th{style}>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td{style}>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
