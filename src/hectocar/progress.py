"""How long work reports on itself. The command line draws bars; a library user may pass NoProgress or an own class."""

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Receives what goes on; nothing below the command line prints."""

    def start(self, what: str, total: int) -> None:
        """Some counted work begins; the work before it is over."""

    def advance(self, count: int) -> None:
        """``count`` more are done."""

    def note(self, text: str) -> None:
        """A line worth keeping, such as an epoch's result or a damaged file."""


class NoProgress:
    """Says nothing."""

    def start(self, what: str, total: int) -> None: ...

    def advance(self, count: int) -> None: ...

    def note(self, text: str) -> None: ...


def count_with(progress: Progress, what: str) -> Callable[[int, int], None]:
    """Turns calls (done, total) into a started and advanced bar."""
    seen = [-1]

    def on_item(done: int, total: int) -> None:
        if seen[0] < 0:
            progress.start(what, total)
            seen[0] = 0
        progress.advance(done - seen[0])
        seen[0] = done

    return on_item
