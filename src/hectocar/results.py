"""What a step returns to a person: a table, shown as text in a console and as HTML in a notebook."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

Table = Sequence[Sequence[str]]
"""Rows of cells, the header first."""
MAX_ROWS, MAX_CELL = 30, 60
"""That a console or a notebook is shown; ``table`` has all."""


class Result(ABC):
    """Base of the small dataclasses that the verbs return (``@dataclass(frozen=True, repr=False)``)."""

    @abstractmethod
    def table(self) -> Table:
        """The result at a glance."""

    def __repr__(self) -> str:
        header, rows, rest = self._shown()
        cells = [[cell if len(cell) <= MAX_CELL else f"{cell[:MAX_CELL]} ..." for cell in row] for row in (header, *rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([type(self).__name__, *lines, *([rest] if rest else [])])

    def _repr_html_(self) -> str:
        from hectocar.pages.environment import render  # a console needs no template

        header, rows, rest = self._shown()
        return render("table.html", header=header, rows=rows, rest=rest)

    def _shown(self) -> tuple[Sequence[str], Table, str]:
        header, *rows = self.table()
        rest = len(rows) - MAX_ROWS
        return header, rows[:MAX_ROWS], f"... and {rest} rows more: table() has all" if rest > 0 else ""
