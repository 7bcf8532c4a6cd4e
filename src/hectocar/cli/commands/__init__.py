"""Every command: one file with its grammar and its action side by side, and its name in this list."""

import argparse
from importlib import import_module
from typing import Protocol, cast


class Command(Protocol):
    """What the file of a command has."""

    HELP: str
    """One line for ``hectocar --help``."""
    AGAIN: str
    """What an interruption leaves, and which call goes on."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> None: ...


NAMES = (
    *("audit", "folds", "train", "predict", "score", "bundle", "finish"),
    *("preview", "showroom", "demo", "ablate", "plan", "bench", "config"),
)
COMMANDS = {name: cast(Command, import_module(f"{__name__}.{name}")) for name in NAMES}
