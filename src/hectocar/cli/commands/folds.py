"""``hectocar folds``."""

import argparse
from pathlib import Path

from hectocar.cli.options import CALL_AGAIN, add_config_options, read_options
from hectocar.cli.terminal import ConsoleProgress, print_table, say
from hectocar.cli.values import path
from hectocar.disk.outputs import claim_file

HELP = "deal the photographs into folds and write the table"
AGAIN = f"the photographs read so far are remembered; {CALL_AGAIN}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=path, metavar="DATA")
    add_config_options(parser)
    parser.add_argument("--audit", type=path, default=None, metavar="DIR", help="obey the decisions of an audit")
    parser.add_argument("--out", type=path, default=Path("folds.csv"), metavar="CSV")
    parser.add_argument("--overwrite", action="store_true", help="replace --out even if it is a file of yours")


def run(args: argparse.Namespace) -> None:
    from hectocar.verbs.photographs import deal_folds

    config = read_options(args)
    inputs = [Path(name) for name in (args.config, config.data.audit, *config.data.exclude) if name]
    with claim_file(args.out, "folds", inputs=inputs, data=args.data, overwrite=args.overwrite) as check:
        with ConsoleProgress() as progress:
            result = deal_folds(args.data, config, progress=progress)
        check()
        result.write(args.out)
    print_table(result.table())
    say(f"{args.out}: image_id, class_name, fold (-1: not used), group, status, problem")
