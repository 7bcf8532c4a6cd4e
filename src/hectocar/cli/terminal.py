"""The only place that prints. Printing never fails, and what is printed cannot act on a terminal.

Names of files, classes and photographs come from anywhere: an escape sequence or a mark that turns the direction of
writing is shown as ``\\x1b`` or ``\\u202e`` on the screen, while files hold the name whole. A text may have several lines,
of which all but the first are indented: a name that holds a line end cannot begin a line of its own.
"""

import errno
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

_INDENT = "  "
_MIN_TEXT_COLUMNS = 24
"""A last column of texts is folded on a terminal that leaves it so much room; with less, lines run over the edge."""


def visible(text: str) -> str:
    """The text with all that acts instead of being seen written as an escape; line ends before an indented line stay."""
    lines = text.replace(f"\n{_INDENT}", "\0\n").split("\0\n")
    return f"\n{_INDENT}".join("".join(map(_visible_character, line)) for line in lines)


def _visible_character(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class SafeStream:
    """stdout or stderr as it is at the time: closed, full, gone, or in an encoding that lacks half of the characters.

    Work goes on without it: a training is not lost because nobody reads its notes any more.
    """

    def __init__(self, find: Callable[[], TextIO | None]) -> None:
        self._find = find
        self.problem: OSError | ValueError | None = None
        """What kept the last texts from being written; None while all is well or where there is no stream."""

    @property
    def encoding(self) -> str:
        return getattr(self._find(), "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        stream = self._find()
        if stream is not None and self.problem is None:
            try:
                stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
                stream.flush()
            except (OSError, ValueError) as problem:  # ValueError: somebody closed it
                self.problem = problem
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        try:
            stream = self._find()
            return stream is not None and self.problem is None and stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        stream = self._find()
        if stream is None:
            raise OSError(errno.EBADF, "closed")
        return stream.fileno()

    def close_if_broken(self) -> str | None:
        """Keeps the interpreter from failing once more on what it could not write, when it ends.

        Returns:
            What went wrong, in words; None where all was written, or where the reader had simply seen enough.
        """
        problem, self.problem = self.problem, None
        if problem is None:
            return None
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        except (OSError, ValueError):  # a stream of somebody's own making
            pass
        quiet = isinstance(problem, BrokenPipeError) or (isinstance(problem, OSError) and problem.errno == errno.EPIPE)
        return None if quiet else getattr(problem, "strerror", None) or str(problem)


def _below_bars(stream: TextIO | None) -> TextIO | None:
    found: TextIO | None = getattr(stream, "rich_proxied_file", stream)  # while bars are drawn, rich stands before the stream
    return found


STDOUT = SafeStream(lambda: _below_bars(sys.stdout))
STDERR = SafeStream(lambda: _below_bars(sys.stderr))


def say(text: str = "") -> None:
    """A line of a result."""
    STDOUT.write(visible(text) + "\n")


def complain(text: str) -> None:
    """A line about what went wrong."""
    STDERR.write(visible(text) + "\n")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """A header row and data rows, numbers to the right.

    One line a row, however long, unless a terminal shows it: there a last column of texts is folded to the width.
    """
    width = Console(file=STDOUT).width if STDOUT.isatty() else None  # type: ignore[arg-type]
    for line in format_table(rows, width):
        STDOUT.write(line + "\n")


def format_table(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lines of a table; ``width`` None folds nothing. Widths are those on the screen, where a Korean letter takes two cells."""
    cells = [[visible(cell).replace("\n", "\\n") for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(map(_is_numeric, column[1:])) for column in zip(*cells, strict=True)]
    left = sum(widths[:-1]) + len(_INDENT) * (len(widths) - 1)
    if width is None or numeric[-1] or left + widths[-1] <= width or width - left < _MIN_TEXT_COLUMNS:
        room = max(widths[-1], 1)
    else:
        room = width - left
    console, lines = Console(width=room), []
    for row in cells:
        head = [_pad(cell, size, right) for cell, size, right in zip(row[:-1], widths, numeric, strict=False)]
        last = [_pad(row[-1], widths[-1], right=True)] if numeric[-1] else _fold(row[-1], room, console)
        for number, part in enumerate(last):
            lines.append(_INDENT.join([*(head if number == 0 else [" " * size for size in widths[:-1]]), part]).rstrip())
    return lines


def _is_numeric(cell: str) -> bool:
    return not cell or cell[0] in "0123456789+-." or cell in ("nan", "inf")


def _pad(cell: str, width: int, right: bool) -> str:
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if right else cell + blanks


def _fold(cell: str, width: int, console: Console) -> list[str]:
    return [line.plain.rstrip() for line in Text(cell).wrap(console, width)] or [""]


class _RateColumn(TextColumn):
    def __init__(self) -> None:
        super().__init__("{task.fields[rate]}")

    def render(self, task: Any) -> Any:
        speed = task.finished_speed or task.speed
        task.fields["rate"] = f"{speed:,.1f}/s" if speed else ""
        return super().render(task)


class ConsoleProgress:
    """Bars with rate and time left on stderr; notes stay on the screen. Without a terminal only the notes appear."""

    def __init__(self) -> None:
        self.console = Console(file=STDERR, highlight=False, soft_wrap=True)  # type: ignore[arg-type]
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _RateColumn())
        self.bars = Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console, transient=True)
        self.task: TaskID | None = None

    def __enter__(self) -> "ConsoleProgress":
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.bars.stop()

    def start(self, what: str, total: int) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(visible(what), total=total, rate="")

    def advance(self, count: int) -> None:
        if self.task is not None:
            self.bars.advance(self.task, count)

    def note(self, text: str) -> None:
        self.console.print(Text(visible(text)))
