"""``hectocar train``."""

import argparse

from hectocar.cli.options import CALL_AGAIN, add_config_options, add_device_option, add_start_options, read_options
from hectocar.cli.terminal import ConsoleProgress, print_table, say
from hectocar.cli.values import fold_choice, path, whole_number

HELP = "train one fold or all"
AGAIN = f"all up to the last checkpoint is kept; {CALL_AGAIN} with --resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=path, metavar="DATA", help="folder with train/<class>/*.jpg, or <class>/*.jpg")
    add_config_options(parser)
    add_start_options(parser)
    parser.add_argument("--fold", type=fold_choice, default=0, help="number of the fold to hold out, or all (default: 0)")
    parser.add_argument("--out", type=path, required=True, metavar="RUN", help="run folder to make")
    parser.add_argument(
        "--relabel",
        type=whole_number(1, 9),
        default=0,
        metavar="ROUNDS",
        help="so often decide about doubtful labels, and train again",
    )
    parser.add_argument(
        "--relabel-by", choices=["drop", "relabel", "soften"], default=None, help="what is done about them (default: drop)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    add_device_option(parser)


def run(args: argparse.Namespace) -> None:
    from hectocar.verbs.training import train

    config = read_options(args)
    with ConsoleProgress() as progress:
        result = train(
            args.data, args.out, config, folds="all" if args.fold is None else args.fold, relabel=args.relabel,
            relabel_by=args.relabel_by, resume=args.resume, device=args.device, progress=progress,
        )  # fmt: skip
    for fold, best in result.folds.items():
        say(
            f"fold {fold}: log loss {best['log_loss']:.4f}"
            + (f" (shifted {best['shifted_log_loss']:.4f})" if "shifted_log_loss" in best else "")
            + f", top-1 {best['top1']:.1%}, top-5 {best['top5']:.1%} "
            f"(epoch {best['epoch']}, {best['weights']} weights, {best['size_px']} px)"
        )
    if result.rounds:
        print_table(result.round_table())
    say(f"run: {args.out}; next: hectocar predict {args.out} {args.data / 'test.csv'} --out submission.csv")
