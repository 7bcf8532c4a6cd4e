"""``hectocar demo``."""

import argparse
from pathlib import Path

from hectocar.cli.options import CALL_AGAIN
from hectocar.cli.terminal import ConsoleProgress, say
from hectocar.cli.values import path

HELP = "the whole path on the showroom, in minutes"
AGAIN = f"{CALL_AGAIN}: it clears away what it made and begins anew"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=path, default=Path("demo"), metavar="FOLDER")


def run(args: argparse.Namespace) -> None:
    from hectocar.lab.demo import run_demo

    with ConsoleProgress() as progress:
        result = run_demo(args.out, progress)
    for line in result.table():
        say(line)
