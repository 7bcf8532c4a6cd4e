"""What a caller may give as a path."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

AnyPath = str | PathLike[str]


def to_path(path: AnyPath | None) -> Path | None:
    """None stays None."""
    return None if path is None else Path(path)


def to_paths(paths: AnyPath | Sequence[AnyPath]) -> list[Path]:
    """One path or several."""
    return [Path(paths)] if isinstance(paths, str | PathLike) else [Path(path) for path in paths]
