"""The command line."""

from hectocar.cli.command_line import main

__all__ = ["main"]
