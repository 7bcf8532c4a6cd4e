"""The grammar of the command line, put together from that of every command."""

import argparse
import re
from typing import NoReturn, TextIO

from hectocar.cli.commands import COMMANDS
from hectocar.cli.options import add_debug_option
from hectocar.cli.terminal import say
from hectocar.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints are messages like all others."""

    def error(self, message: str) -> NoReturn:
        named = re.fullmatch(r"argument (\S+): (is .*)", message, re.DOTALL)
        if named:
            raise ConfigError(f"{named[1]} {named[2]}")
        raise ConfigError(f"{message}; `{self.prog} --help` shows what is allowed")

    def print_help(self, file: TextIO | None = None) -> None:  # type: ignore[override]
        for line in self.format_help().splitlines():
            say(line)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(prog="hectocar", description="Fine-grained car recognition from photographs.")
    add_debug_option(parser, default=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.HELP)
        command.add_arguments(own)
        own.set_defaults(command=name)
        add_debug_option(own, default=argparse.SUPPRESS)  # before or after the command; the later does not undo the former
    return parser
