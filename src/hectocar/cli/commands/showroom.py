"""``hectocar showroom``."""

import argparse

from hectocar.cli.options import NOTHING_WRITTEN
from hectocar.cli.terminal import ConsoleProgress, say
from hectocar.cli.values import path, whole_number
from hectocar.progress import count_with

HELP = "render the embedded data set of invented cars"
AGAIN = NOTHING_WRITTEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=path, metavar="FOLDER")
    parser.add_argument("--classes", type=whole_number(2, 48), default=24)
    parser.add_argument("--train-per-class", type=whole_number(2, 9999), default=30)
    parser.add_argument("--test-per-class", type=whole_number(1, 2000), default=6)
    parser.add_argument("--faults", type=whole_number(0, 500), default=3, help="planted per kind; 0 for clean data")
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=2025)


def run(args: argparse.Namespace) -> None:
    from hectocar.showroom import ShowroomSpec, write_showroom

    spec = ShowroomSpec(
        num_classes=args.classes,
        train_per_class=args.train_per_class,
        test_per_class=args.test_per_class,
        seed=args.seed,
        num_faults=args.faults,
    )
    with ConsoleProgress() as progress:
        summary = write_showroom(args.out, spec, count_with(progress, "rendering cars"))
    say(f"{args.out}: {summary.num_train} training and {summary.num_test} test photographs of {summary.num_classes} classes")
    say("planted faults: " + ", ".join(f"{count} {kind}" for kind, count in summary.faults.items()))
