"""``hectocar finish``."""

import argparse

from hectocar.cli.options import CALL_AGAIN, add_device_option
from hectocar.cli.terminal import ConsoleProgress, print_table, say
from hectocar.cli.values import path, plain_text

HELP = "fit views, neighbours, calibration and blend out of fold; make the bundle"
AGAIN = f"the out-of-fold predictions of finished folds are kept in the runs; {CALL_AGAIN}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=path, nargs="+", metavar="RUN", help="runs of the same photographs and classes")
    parser.add_argument("--out", type=path, required=True, metavar="BUNDLE")
    parser.add_argument("--data", type=path, default=None, metavar="DATA", help="the photographs (default: where they were)")
    parser.add_argument(
        "--audit", type=path, default=None, metavar="DIR",
        help="give the expected loss without this audit's suspects, too (default: the audit that the first run obeys)",
    )  # fmt: skip
    parser.add_argument(
        "--views", type=plain_text, default=None, metavar="NAME,...", help="candidates (default: all; see the README)"
    )
    parser.add_argument("--all-views", action="store_true", help="try hopeless candidates on every photograph, too")
    add_device_option(parser)


def run(args: argparse.Namespace) -> None:
    from hectocar.verbs.training import finish

    views = None if args.views is None else args.views.split(",")
    with ConsoleProgress() as progress:
        result = finish(
            args.runs,
            args.out,
            data=args.data,
            audit=args.audit,
            views=views,
            screen=not args.all_views,
            device=args.device,
            progress=progress,
        )
    for title, table in result.tables().items():
        say(title)
        print_table(table)
        say()
    for line in result.totals():
        say(line)
    say(f"{args.out}: {len(result.bundle.members)} networks and what was fitted; report/report.md, report/calibration.png")
    say(f"next: hectocar predict {args.out} test.csv --out submission.csv")
