"""The grammar of the command line: every command, its arguments and its help. What a command does stands in main.py."""

import argparse
import re
from pathlib import Path
from typing import NoReturn, TextIO

from hectocar.cli.terminal import say
from hectocar.cli.values import MAX_WORKERS, fold_choice, path, plain_text, real_number, whole_number
from hectocar.config.reader import list_presets
from hectocar.config.schema import MAX_MEGAPIXELS
from hectocar.config.training import MAX_SEED
from hectocar.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints are messages like all others."""

    def error(self, message: str) -> NoReturn:
        named = re.fullmatch(r"argument (\S+): (is .*)", message, re.DOTALL)
        if named:
            raise ConfigError(f"{named[1]} {named[2]}")
        raise ConfigError(f"{message}; `{self.prog} --help` shows what is allowed")

    def print_help(self, file: TextIO | None = None) -> None:  # type: ignore[override]
        for line in self.format_help().splitlines():
            say(line)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default=None, help=f"starting point: {', '.join(list_presets())}")
    parser.add_argument("--config", type=path, default=None, metavar="FILE", help="YAML file that overrides the preset")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value, such as training.epochs=12; repeatable",
    )


def add_debug_option(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of whatever goes wrong")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto)")


def add_start_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=plain_text, default=None, metavar="FILE", help="pretrained backbone: a file, 'hub' or 'none'"
    )
    parser.add_argument("--audit", type=path, default=None, metavar="DIR", help="obey an audit, and validate shifted too")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(prog="hectocar", description="Fine-grained car recognition from photographs.")
    add_debug_option(parser, default=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    audit = commands.add_parser("audit", help="find what is wrong with the photographs; changes none of them")
    audit.add_argument("data", type=path, metavar="DATA", help="folder with train/<class>/*.jpg, or <class>/*.jpg")
    audit.add_argument("--out", type=path, required=True, metavar="DIR", help="gets audit.html, decisions.csv, shift.json")
    audit.add_argument("--test", type=path, default=None, metavar="FOLDER", help="photographs to compare (default: DATA/test)")
    audit.add_argument("--run", dest="run_folder", type=path, default=None, metavar="RUN", help="finds wrong labels with it")
    audit.add_argument(
        "--weights", type=plain_text, default=None, metavar="FILE", help="pretrained backbone: finds what shows no car"
    )
    audit.add_argument("--backbone", default="mobilenetv2_100", help="timm model of --weights (default: mobilenetv2_100)")
    audit.add_argument("--overwrite", action="store_true", help="replace decisions.csv even if it was edited")
    audit.add_argument(
        "--max-megapixels",
        type=real_number(0.0, MAX_MEGAPIXELS),
        default=100.0,
        help="larger photographs are unusable (default: 100)",
    )
    audit.add_argument("--workers", type=whole_number(0, MAX_WORKERS), default=0, help="threads (default: one per core)")
    add_device_option(audit)
    audit.set_defaults(command="audit")

    folds = commands.add_parser("folds", help="deal the photographs into folds and write the table")
    folds.add_argument("data", type=path, metavar="DATA")
    add_config_options(folds)
    folds.add_argument("--audit", type=path, default=None, metavar="DIR", help="obey the decisions of an audit")
    folds.add_argument("--out", type=path, default=Path("folds.csv"), metavar="CSV")
    folds.add_argument("--overwrite", action="store_true", help="replace --out even if it is a file of yours")
    folds.set_defaults(command="folds")

    train = commands.add_parser("train", help="train one fold or all")
    train.add_argument("data", type=path, metavar="DATA", help="folder with train/<class>/*.jpg, or <class>/*.jpg")
    add_config_options(train)
    add_start_options(train)
    train.add_argument("--fold", type=fold_choice, default=0, help="number of the fold to hold out, or all (default: 0)")
    train.add_argument("--out", type=path, required=True, metavar="RUN", help="run folder to make")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    add_device_option(train)
    train.set_defaults(command="train")

    predict = commands.add_parser("predict", help="predict photographs; with --out in the form of a submission")
    predict.add_argument("model", type=path, metavar="MODEL", help="a run or a bundle")
    predict.add_argument("photos", type=path, nargs="+", metavar="PHOTOS", help="a csv (ID, img_path), photographs or a folder")
    predict.add_argument("--out", type=path, default=None, metavar="CSV", help="write all probabilities here")
    predict.add_argument("--sample", type=path, default=None, metavar="CSV", help="form to follow (default: beside the csv)")
    predict.add_argument(
        "--views", type=whole_number(1), default=None, metavar="N", help="at most N views a photograph (default: all)"
    )
    predict.add_argument(
        "--folds", type=whole_number(1), default=None, metavar="N", help="N networks of each model (default: all)"
    )
    predict.add_argument(
        "--equivalent", default="whole", choices=("whole", "split", "frequency"), help="columns of merged classes"
    )
    predict.add_argument(
        "--workers", type=whole_number(0, MAX_WORKERS), default=0, help="decoding threads (default: one per core)"
    )
    add_device_option(predict)
    predict.add_argument("--overwrite", action="store_true", help="replace --out even if it is a file of yours")
    predict.set_defaults(command="predict")

    score = commands.add_parser("score", help="score a submission against known answers")
    score.add_argument("submission", type=path, metavar="SUBMISSION")
    score.add_argument("answer", type=path, metavar="ANSWER", help="csv with ID, label and optionally split")
    score.add_argument("--equivalent", type=path, default=None, metavar="CSV", help="pairs of names (default: beside ANSWER)")
    score.add_argument("--out", type=path, default=None, metavar="DIR", help="gets score.html, per_class.csv, photographs.csv")
    where = "pictures for score.html: a csv (ID, img_path) or a folder (default: test.csv beside or above ANSWER)"
    score.add_argument("--photos", type=path, default=None, metavar="PHOTOS", help=where)
    score.add_argument("--top", type=whole_number(0), default=20, help="most expensive photographs to show (default: 20)")
    score.add_argument("--overwrite", action="store_true", help="replace files in --out even if they were edited")
    score.set_defaults(command="score")

    bundle = commands.add_parser("bundle", help="make a model bundle from the finished folds of a run")
    bundle.add_argument("model", type=path, metavar="RUN")
    bundle.add_argument("--out", type=path, required=True, metavar="BUNDLE")
    bundle.set_defaults(command="bundle")

    finish = commands.add_parser("finish", help="fit views, neighbours, calibration and blend out of fold; make the bundle")
    finish.add_argument("runs", type=path, nargs="+", metavar="RUN", help="runs of the same photographs and classes")
    finish.add_argument("--out", type=path, required=True, metavar="BUNDLE")
    finish.add_argument("--data", type=path, default=None, metavar="DATA", help="the photographs (default: where they were)")
    finish.add_argument(
        "--audit", type=path, default=None, metavar="DIR",
        help="give the expected loss without this audit's suspects, too (default: the audit that the first run obeys)",
    )  # fmt: skip
    finish.add_argument(
        "--views", type=plain_text, default=None, metavar="NAME,...", help="candidates (default: all; see the README)"
    )
    add_device_option(finish)
    finish.set_defaults(command="finish")

    preview = commands.add_parser("preview", help="draw what the network sees at each size")
    preview.add_argument("data", type=path, metavar="DATA")
    add_config_options(preview)
    preview.add_argument("--audit", type=path, default=None, metavar="DIR", help="tones like the test set's, as its shift says")
    preview.add_argument("--out", type=path, default=Path("preview.png"), metavar="PNG")
    preview.add_argument("--photos", type=whole_number(2, 64), default=6, help="photographs per row (default: 6)")
    preview.add_argument("--seed", type=whole_number(0, MAX_SEED), default=0, help="which photographs")
    preview.add_argument("--overwrite", action="store_true", help="replace --out even if it is a file of yours")
    preview.set_defaults(command="preview")

    showroom = commands.add_parser("showroom", help="render the embedded data set of invented cars")
    showroom.add_argument("out", type=path, metavar="FOLDER")
    showroom.add_argument("--classes", type=whole_number(2, 48), default=24)
    showroom.add_argument("--train-per-class", type=whole_number(2, 9999), default=30)
    showroom.add_argument("--test-per-class", type=whole_number(1, 2000), default=6)
    showroom.add_argument("--faults", type=whole_number(0, 500), default=3, help="planted per kind; 0 for clean data")
    showroom.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=2025)
    showroom.set_defaults(command="showroom")

    demo = commands.add_parser("demo", help="the whole path on the showroom, in minutes")
    demo.add_argument("--out", type=path, default=Path("demo"), metavar="FOLDER")
    demo.set_defaults(command="demo")

    ablate = commands.add_parser("ablate", help="train variants x seeds x folds and say which differ")
    ablate.add_argument(
        "plan", type=plain_text, metavar="PLAN", help="a YAML file, or the name of a plan that comes with the package"
    )
    ablate.add_argument("data", type=path, metavar="DATA")
    ablate.add_argument("--out", type=path, required=True, metavar="DIR", help="gets the runs; the same again goes on")
    add_start_options(ablate)
    ablate.add_argument("--jobs", type=whole_number(1, MAX_WORKERS), default=1, help="runs side by side (default: 1)")
    add_device_option(ablate)
    ablate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="over every variant; repeatable")
    ablate.set_defaults(command="ablate")

    plan = commands.add_parser("plan", help="print the schedule, epoch by epoch")
    add_config_options(plan)
    plan.add_argument("--measure", action="store_true", help="also memory and images/s of a training step at each size")
    plan.add_argument(
        "--classes", type=whole_number(2, 1_000_000), default=396, help="--measure: classes of the head (default: 396)"
    )
    plan.add_argument(
        "--steps", type=whole_number(1, 1_000_000), default=5, help="--measure: timed steps per size (default: 5)"
    )
    add_device_option(plan)
    plan.set_defaults(command="plan")

    config = commands.add_parser("config", help="print every configuration key with its meaning")
    config.set_defaults(command="config")
    for command in commands.choices.values():  # before or after the command; the later does not undo the former
        add_debug_option(command, default=argparse.SUPPRESS)
    return parser
