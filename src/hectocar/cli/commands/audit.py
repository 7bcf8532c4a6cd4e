"""``hectocar audit``."""

import argparse

from hectocar.cli.options import CALL_AGAIN, add_device_option
from hectocar.cli.terminal import ConsoleProgress, print_table, say
from hectocar.cli.values import MAX_WORKERS, path, plain_text, real_number, whole_number
from hectocar.config.schema import MAX_MEGAPIXELS

HELP = "find what is wrong with the photographs; changes none of them"
AGAIN = f"the photographs measured so far are remembered; {CALL_AGAIN}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=path, metavar="DATA", help="folder with train/<class>/*.jpg, or <class>/*.jpg")
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="gets audit.html, decisions.csv, shift.json")
    parser.add_argument("--test", type=path, default=None, metavar="FOLDER", help="photographs to compare (default: DATA/test)")
    parser.add_argument("--run", dest="run_folder", type=path, default=None, metavar="RUN", help="finds wrong labels with it")
    parser.add_argument(
        "--weights", type=plain_text, default=None, metavar="FILE", help="pretrained backbone: finds what shows no car"
    )
    parser.add_argument("--backbone", default="mobilenetv2_100", help="timm model of --weights (default: mobilenetv2_100)")
    parser.add_argument("--overwrite", action="store_true", help="replace decisions.csv even if it was edited")
    parser.add_argument(
        "--max-megapixels",
        type=real_number(0.0, MAX_MEGAPIXELS),
        default=100.0,
        help="larger photographs are unusable (default: 100)",
    )
    parser.add_argument("--workers", type=whole_number(0, MAX_WORKERS), default=0, help="threads (default: one per core)")
    add_device_option(parser)


def run(args: argparse.Namespace) -> None:
    from hectocar.verbs.photographs import audit

    with ConsoleProgress() as progress:
        result = audit(
            args.data, args.out, test=args.test, run=args.run_folder, weights=args.weights, backbone=args.backbone,
            max_megapixels=args.max_megapixels, workers=args.workers, device=args.device, overwrite=args.overwrite,
            progress=progress,
        )  # fmt: skip
    print_table(result.table())
    for kind, why in result.report.unavailable.items():
        say(f"{kind}: not looked for: {why}")
    if result.report.drift is not None:
        for line in result.report.drift.table():
            say(line)
    say(f"look at {args.out / 'audit.html'}; edit {args.out / 'decisions.csv'} if you know better")
    say(f"next: hectocar train {args.data} --audit {args.out} --out RUN")
