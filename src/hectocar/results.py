"""What a step returns to a person: a table, shown as text in a console and as HTML in a notebook."""

import html
from collections.abc import Sequence

Table = Sequence[Sequence[str]]
"""Rows of cells, the header first."""


class Result:
    """Base of the small dataclasses that the verbs return (``@dataclass(frozen=True, repr=False)``)."""

    def table(self) -> Table:
        """The result at a glance."""
        raise NotImplementedError

    def __repr__(self) -> str:
        rows = self.table()
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        header, *rows = [[html.escape(cell) for cell in row] for row in self.table()]
        head = "".join(f"<th>{cell}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
