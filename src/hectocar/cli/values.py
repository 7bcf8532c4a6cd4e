"""What an option's text may be: one rule for numbers, one for paths. A wrong text is refused before any work.

Only the digits 0 to 9 make a number, and it is finite and within its range. Python's own int() and float() also take
digits of other scripts, underscores, blanks, nan and 1e400.
"""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from hectocar.codec import show

MAX_WHOLE = 2**63 - 1
"""What NumPy and torch hold in an int64: the largest seed, too."""
MAX_WORKERS = 256
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_REAL = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
_MAX_CHARACTERS = 40


def whole_number(low: int, high: int | None = None, *, or_word: str | None = None) -> Callable[[str], int]:
    """A type for argparse: a whole number from ``low`` to ``high``; ``high`` None means as large as is held."""
    most = MAX_WHOLE if high is None else high

    def convert(text: str) -> int:
        number = int(text) if _WHOLE.fullmatch(text) and len(text) <= _MAX_CHARACTERS else None
        if number is not None and low <= number <= most:
            return number
        allowed = f"{low} or more" if high is None and (number is None or number < low) else f"{low} to {most}"
        words = f", or {or_word}" if or_word else ""
        shown = show(text) if number is None else number
        raise argparse.ArgumentTypeError(f"is {shown}; allowed: {'a whole number, ' if number is None else ''}{allowed}{words}")

    return convert


def real_number(above: float, high: float) -> Callable[[str], float]:
    """A type for argparse: a finite number more than ``above``, up to ``high``."""

    def convert(text: str) -> float:
        number = float(text) if _REAL.fullmatch(text) and len(text) <= _MAX_CHARACTERS else math.nan
        if above < number <= high:
            return number
        shown = text if math.isfinite(number) else show(text)
        raise argparse.ArgumentTypeError(f"is {shown}; allowed: a number of more than {above:g}, up to {high:g}")

    return convert


def fold_choice(text: str) -> int | None:
    """A type for argparse: the number of a fold, or None for ``all``."""
    return None if text == "all" else whole_number(0, or_word="all")(text)


def plain_text(text: str) -> str:
    """A type for argparse: some text that may name a file."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"is {show(text)}; allowed: a text that is not empty and holds no NUL")
    return text


def path(text: str) -> Path:
    """A type for argparse: a path, taken as it is typed."""
    return Path(plain_text(text))
