"""``hectocar ablate``."""

import argparse

from hectocar.cli.options import CALL_AGAIN, add_device_option, add_start_options
from hectocar.cli.terminal import ConsoleProgress, print_table, say
from hectocar.cli.values import MAX_WORKERS, path, plain_text, whole_number

HELP = "train variants x seeds x folds and say which differ"
AGAIN = f"finished runs are kept and the others go on from their last checkpoint; {CALL_AGAIN}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "plan", type=plain_text, metavar="PLAN", help="a YAML file, or the name of a plan that comes with the package"
    )
    parser.add_argument("data", type=path, metavar="DATA")
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="gets the runs; the same again goes on")
    add_start_options(parser)
    parser.add_argument("--jobs", type=whole_number(1, MAX_WORKERS), default=1, help="runs side by side (default: 1)")
    add_device_option(parser)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="over every variant; repeatable")


def run(args: argparse.Namespace) -> None:
    from hectocar.verbs.training import ablate

    with ConsoleProgress() as progress:
        result = ablate(
            args.plan, args.data, args.out, settings=args.set, audit=args.audit, weights=args.weights, jobs=args.jobs,
            device=args.device, progress=progress,
        )  # fmt: skip
    say(result.plan.title)
    print_table(result.table())
    say(f"{args.out}: table.md, plot.png, runs.csv; mean ± standard error, differences paired by seed and fold")
