"""``hectocar predict``."""

import argparse
from collections.abc import Sequence

from hectocar.cli.options import CALL_AGAIN, add_device_option
from hectocar.cli.terminal import ConsoleProgress, say
from hectocar.cli.values import MAX_WORKERS, path, whole_number

HELP = "predict photographs; with --out in the form of a submission"
AGAIN = f"what was predicted so far is kept beside --out; {CALL_AGAIN}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=path, metavar="MODEL", help="a run or a bundle")
    parser.add_argument("photos", type=path, nargs="+", metavar="PHOTOS", help="a csv (ID, img_path), photographs or a folder")
    parser.add_argument("--out", type=path, default=None, metavar="CSV", help="write all probabilities here")
    parser.add_argument("--sample", type=path, default=None, metavar="CSV", help="form to follow (default: beside the csv)")
    parser.add_argument(
        "--views", type=whole_number(1), default=None, metavar="N", help="at most N views a photograph (default: all)"
    )
    parser.add_argument(
        "--folds", type=whole_number(1), default=None, metavar="N", help="N networks of each model (default: all)"
    )
    parser.add_argument(
        "--equivalent", default="whole", choices=("whole", "split", "frequency"), help="columns of merged classes"
    )
    parser.add_argument(
        "--workers", type=whole_number(0, MAX_WORKERS), default=0, help="decoding threads (default: one per core)"
    )
    add_device_option(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace --out even if it is a file of yours")


def run(args: argparse.Namespace) -> None:
    from hectocar.verbs.answers import predict

    with ConsoleProgress() as progress:
        result = predict(
            args.model, args.photos, args.out, sample=args.sample, views=args.views, folds=args.folds,
            equivalent=args.equivalent, workers=args.workers, device=args.device, overwrite=args.overwrite, progress=progress,
        )  # fmt: skip
    ids, unreadable = result.answer.photos.ids, result.answer.unreadable
    if args.out is not None:
        num_classes = len(result.classifier.classes.names)
        say(f"{args.out}: {len(ids)} rows x {num_classes} classes, checked by the evaluator's rules")
    else:
        for row in result.table()[1:]:
            say(describe_prediction(row))
    if unreadable:
        say(f"{len(unreadable)} of {len(ids)} photographs could not be read; their rows are the class prior")


def describe_prediction(row: Sequence[str]) -> str:
    """A photograph's best classes, or why it cannot be read."""
    image_id, *cells = row
    said = ", ".join(f"{name} {prob}" for name, prob in zip(cells[::2], cells[1::2], strict=True) if prob)
    return f"{image_id}: {said or cells[0]}"
