"""``hectocar score``."""

import argparse

from hectocar.cli.options import NOTHING_WRITTEN
from hectocar.cli.terminal import say
from hectocar.cli.values import path, whole_number
from hectocar.errors import ConfigError

HELP = "score a submission against known answers"
AGAIN = NOTHING_WRITTEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("submission", type=path, metavar="SUBMISSION")
    parser.add_argument("answer", type=path, metavar="ANSWER", help="csv with ID, label and optionally split")
    parser.add_argument("--equivalent", type=path, default=None, metavar="CSV", help="pairs of names (default: beside ANSWER)")
    parser.add_argument("--out", type=path, default=None, metavar="DIR", help="gets score.html, per_class.csv, photographs.csv")
    where = "pictures for score.html: a csv (ID, img_path) or a folder (default: test.csv beside or above ANSWER)"
    parser.add_argument("--photos", type=path, default=None, metavar="PHOTOS", help=where)
    parser.add_argument("--top", type=whole_number(0), default=20, help="most expensive photographs to show (default: 20)")
    parser.add_argument("--overwrite", action="store_true", help="replace files in --out even if they were edited")


def run(args: argparse.Namespace) -> None:
    from hectocar.verbs.answers import score

    if args.photos is not None and args.out is None:
        raise ConfigError("--photos is for the pictures of score.html; give --out DIR too")
    result = score(args.submission, args.answer, equivalent=args.equivalent, out=args.out)
    num_pairs, losses = result.num_pairs, result.losses
    say(f"equivalent pairs among the columns: {num_pairs}" + ("" if num_pairs else "; --equivalent names a csv of them"))
    tables = (result.report.table(), losses.class_table(10), losses.photo_table(args.top))
    for line in (*tables[0], "", *tables[1], "", *tables[2], losses.describe_top(args.top)):
        say(line)
    if args.out is not None:
        problem = result.save(args.out, photos=args.photos, top=args.top, overwrite=args.overwrite)
        say(f"{args.out}: score.html, per_class.csv, photographs.csv" + (" (no pictures)" if problem else ""))
