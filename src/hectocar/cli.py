"""The command line: parse, call, print. The only place that prints."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from hectocar.config_reader import describe_config, list_presets, read_config
from hectocar.errors import HectocarError

# Heavy rooms (torch) are imported inside the commands, so that --help answers at once.


class _RateColumn(TextColumn):
    def __init__(self) -> None:
        super().__init__("{task.fields[rate]}")

    def render(self, task: Any) -> Any:
        speed = task.finished_speed or task.speed
        task.fields["rate"] = f"{speed:,.1f}/s" if speed else ""
        return super().render(task)


class ConsoleProgress:
    """Bars with rate and time left on stderr; notes stay on the screen. Without a terminal only the notes appear."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn())
        self.bars = Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console, transient=True)
        self.task: TaskID | None = None

    def __enter__(self) -> "ConsoleProgress":
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def start(self, what: str, total: int) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(what, total=total, rate="")

    def advance(self, count: int, detail: str = "") -> None:
        if self.task is not None:
            self.bars.advance(self.task, count)

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """A header row and data rows, numbers to the right."""
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)


def command_train(args: argparse.Namespace) -> None:
    from hectocar.network.inference import choose_device
    from hectocar.training.run import create_run, resume_run, train_folds

    settings = list(args.set)
    if args.weights is not None:
        settings.append(f"network.weights={args.weights}")
    config = read_config(args.preset, args.config, settings)
    folds = list(range(config.data.num_folds)) if args.fold == "all" else [_fold_number(args.fold)]
    with ConsoleProgress() as progress:
        started = (args.out / "config.json").is_file()
        if args.resume and started:
            run = resume_run(args.out, args.data, config)
        else:
            run = create_run(args.out, args.data, config, progress)
        results = train_folds(run, folds, choose_device(args.device), progress)
    for fold, best in results.items():
        print(
            f"fold {fold}: log loss {best['log_loss']:.4f}, top-1 {best['top1']:.1%}, top-5 {best['top5']:.1%} "
            f"(epoch {best['epoch']}, {best['weights']} weights, {best['size_px']} px)"
        )
    print(f"run: {args.out}")


def _fold_number(text: str) -> int:
    from hectocar.errors import ConfigError

    if not text.isdigit():
        raise ConfigError(f"--fold is {text!r}; allowed: a number from 0, or all")
    return int(text)


def command_plan(args: argparse.Namespace) -> None:
    from hectocar.training.recipe import plan_rows

    print_table(plan_rows(read_config(args.preset, args.config, args.set)))


def command_config(args: argparse.Namespace) -> None:
    print_table([["key", "default", "meaning"], *describe_config()])


def add_config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default=None, help=f"starting point: {', '.join(list_presets())}")
    parser.add_argument("--config", type=Path, default=None, metavar="FILE", help="YAML file that overrides the preset")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value, such as training.epochs=12; repeatable",
    )


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="hectocar", description="Fine-grained car recognition from photographs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train one fold or all")
    train.add_argument("data", type=Path, metavar="DATA", help="folder with train/<class>/*.jpg, or <class>/*.jpg")
    add_config_options(train)
    train.add_argument("--weights", default=None, metavar="FILE", help="pretrained backbone: a file, 'hub' or 'none'")
    train.add_argument("--fold", default="0", help="number of the fold to hold out, or all (default: 0)")
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder to make")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto)")
    train.set_defaults(run=command_train)

    plan = commands.add_parser("plan", help="print the schedule, epoch by epoch")
    add_config_options(plan)
    plan.set_defaults(run=command_plan)

    config = commands.add_parser("config", help="print every configuration key with its meaning")
    config.set_defaults(run=command_config)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0, or 2 after a message about the input, or 130 when interrupted."""
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except HectocarError as error:
        print(f"hectocar: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hectocar: interrupted; what was finished is kept (train: go on with --resume)", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
