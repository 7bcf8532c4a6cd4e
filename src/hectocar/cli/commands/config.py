"""``hectocar config``."""

import argparse

from hectocar.cli.options import NOTHING_WRITTEN
from hectocar.cli.terminal import print_table
from hectocar.config.reader import describe_config

HELP = "print every configuration key with its meaning"
AGAIN = NOTHING_WRITTEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    return


def run(args: argparse.Namespace) -> None:
    print_table([["key", "default", "meaning"], *describe_config()])
