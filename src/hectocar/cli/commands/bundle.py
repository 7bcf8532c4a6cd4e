"""``hectocar bundle``."""

import argparse

from hectocar.cli.options import NOTHING_WRITTEN
from hectocar.cli.terminal import say
from hectocar.cli.values import path

HELP = "make a model bundle from the finished folds of a run"
AGAIN = NOTHING_WRITTEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=path, metavar="RUN")
    parser.add_argument("--out", type=path, required=True, metavar="BUNDLE")


def run(args: argparse.Namespace) -> None:
    from hectocar.dataset.run_inputs import read_run

    run = read_run(args.model)  # what is no run is refused before torch is loaded

    from hectocar.delivery.bundle import write_bundle
    from hectocar.delivery.bundle_place import claim_bundle
    from hectocar.delivery.runs import join_runs

    runs = join_runs([run])
    with claim_bundle(args.out, runs) as made_of:
        spec = write_bundle(runs, args.out, made_of=made_of)
    losses = ", ".join(f"fold {member.fold}: {member.log_loss:.4f}" for member in spec.members)
    say(f"{args.out}: {len(spec.members)} networks, {spec.classes.num_trained} classes; validation log loss {losses}")
