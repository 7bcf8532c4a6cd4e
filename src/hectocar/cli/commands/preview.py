"""``hectocar preview``."""

import argparse
from pathlib import Path

from hectocar.cli.options import NOTHING_WRITTEN, add_config_options, read_options
from hectocar.cli.terminal import say
from hectocar.cli.values import path, whole_number
from hectocar.config.training import MAX_SEED
from hectocar.disk.outputs import claim_file

HELP = "draw what the network sees at each size"
AGAIN = NOTHING_WRITTEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=path, metavar="DATA")
    add_config_options(parser)
    parser.add_argument("--audit", type=path, default=None, metavar="DIR", help="tones like the test set's, as its shift says")
    parser.add_argument("--out", type=path, default=Path("preview.png"), metavar="PNG")
    parser.add_argument("--photos", type=whole_number(2, 64), default=6, help="photographs per row (default: 6)")
    parser.add_argument("--seed", type=whole_number(0, MAX_SEED), default=0, help="which photographs")
    parser.add_argument("--overwrite", action="store_true", help="replace --out even if it is a file of yours")


def run(args: argparse.Namespace) -> None:
    from hectocar.lab.preview import draw_preview

    config = read_options(args)
    inputs = [path for path in (args.config, args.audit) if path is not None]
    with claim_file(args.out, "preview", inputs=inputs, data=args.data, overwrite=args.overwrite):
        sizes = draw_preview(args.data, config, args.out, num_photos=args.photos, seed=args.seed)
    say(f"{args.out}: what the network sees at {', '.join(map(str, sizes))} px")
