"""How long work reports on itself. The command line draws bars; a library user may pass NoProgress or an own class."""

from typing import Protocol


class Progress(Protocol):
    """Receives what goes on; nothing below the command line prints."""

    def start(self, what: str, total: int) -> None:
        """Some counted work begins; the work before it is over."""

    def advance(self, count: int, detail: str = "") -> None:
        """``count`` more are done."""

    def note(self, text: str) -> None:
        """A line worth keeping, such as an epoch's result or a damaged file."""


class NoProgress:
    """Says nothing."""

    def start(self, what: str, total: int) -> None: ...

    def advance(self, count: int, detail: str = "") -> None: ...

    def note(self, text: str) -> None: ...
