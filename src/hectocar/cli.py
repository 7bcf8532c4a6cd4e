"""The command line: parse, call, print. The only place that prints."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from hectocar.cli_parser import build_parser
from hectocar.config_reader import describe_config, read_config
from hectocar.errors import ConfigError, HectocarError
from hectocar.photos.classes import ClassList
from hectocar.progress import count_with

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
        if self.console.is_terminal:
            self.bars.stop()

    def start(self, what: str, total: int) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(what, total=total, rate="")

    def advance(self, count: int) -> None:
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


def command_audit(args: argparse.Namespace) -> None:
    from hectocar.audit.audit import audit_photos, summarize
    from hectocar.config import DataConfig
    from hectocar.network.inference import choose_device

    with ConsoleProgress() as progress:
        report = audit_photos(
            args.data,
            args.out,
            progress,
            test_folder=args.test,
            run=args.run_folder,
            weights=args.weights,
            backbone=args.backbone,
            device=choose_device(args.device),
            config=DataConfig(max_megapixels=args.max_megapixels, num_workers=args.workers),
            overwrite=args.overwrite,
        )
    print_table(summarize(report))
    for kind, why in report.unavailable.items():
        print(f"{kind}: not looked for: {why}")
    if report.drift is not None:
        for line in report.drift.table():
            print(line)
    print(f"look at {args.out / 'audit.html'}; edit {args.out / 'decisions.csv'} if you know better")
    print(f"next: hectocar train {args.data} --audit {args.out} --out RUN")


def command_folds(args: argparse.Namespace) -> None:
    from hectocar.photos.folds import deal_folds, fold_rows, write_fold_table
    from hectocar.photos.manifest import scan_photos

    config = read_config(args.preset, args.config, _audit_settings(args)).data
    with ConsoleProgress() as progress:
        manifest, classes = scan_photos(args.data, config, count_with(progress, "reading photographs"))
        folds = deal_folds(manifest, classes, config, progress)
    write_fold_table(args.out, manifest, folds)
    print_table(fold_rows(manifest, classes, folds, config.num_folds))
    print(f"{args.out}: image_id, class_name, fold (-1: not used), group, status, problem")


def _audit_settings(args: argparse.Namespace) -> list[str]:
    return [*args.set, *([] if args.audit is None else [f"data.audit={args.audit}"])]


def _start_settings(args: argparse.Namespace) -> list[str]:
    return [*_audit_settings(args), *([] if args.weights is None else [f"network.weights={args.weights}"])]


def command_train(args: argparse.Namespace) -> None:
    from hectocar.network.inference import choose_device
    from hectocar.training.run import check_folds, create_run, resume_run, train_folds

    config = read_config(args.preset, args.config, _start_settings(args))
    folds = list(range(config.data.num_folds)) if args.fold == "all" else [_fold_number(args.fold)]
    check_folds(config, folds)
    with ConsoleProgress() as progress:
        started = (args.out / "config.json").is_file()
        if args.resume and started:
            run = resume_run(args.out, args.data, config)
        else:
            run = create_run(args.out, args.data, config, progress)
        results = train_folds(run, folds, choose_device(args.device), progress)
    for fold, best in results.items():
        print(
            f"fold {fold}: log loss {best['log_loss']:.4f}"
            + (f" (shifted {best['shifted_log_loss']:.4f})" if "shifted_log_loss" in best else "")
            + f", top-1 {best['top1']:.1%}, top-5 {best['top5']:.1%} "
            f"(epoch {best['epoch']}, {best['weights']} weights, {best['size_px']} px)"
        )
    print(f"run: {args.out}; next: hectocar predict {args.out} {args.data / 'test.csv'} --out submission.csv")


def _fold_number(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"--fold is {text!r}; allowed: a number from 0, or all")
    return int(text)


def command_predict(args: argparse.Namespace) -> None:
    from hectocar.delivery.predictor import Classifier, describe_choice
    from hectocar.delivery.submit import check_form, find_photo_list, predict_photos, save_submission

    photos = find_photo_list(args.photos, args.sample)
    classifier = Classifier.load(args.model, device=args.device, num_views=args.views, num_folds=args.folds)
    if args.out is not None:
        check_form(classifier, photos)
    with ConsoleProgress() as progress:
        progress.note(describe_choice(classifier))
        answer = predict_photos(classifier, photos, progress, num_workers=args.workers, out=args.out)
    if args.out is not None:
        submission = save_submission(classifier, answer, args.out, args.equivalent)
        print(f"{args.out}: {len(submission.ids)} rows x {len(submission.columns)} classes, checked by the evaluator's rules")
    else:
        for row, image_id in enumerate(photos.ids):
            print(_describe_prediction(classifier.classes, image_id, answer.probs_NG[row], answer.unreadable.get(image_id)))
    if answer.unreadable:
        print(f"{len(answer.unreadable)} of {len(photos.ids)} photographs could not be read; their rows are the class prior")


def _describe_prediction(classes: ClassList, image_id: str, probs_G: NDArray[np.float64], problem: str | None) -> str:
    if problem is not None:
        return f"{image_id}: cannot be read: {problem}"
    best = np.argsort(-probs_G, kind="stable")[:3]
    return f"{image_id}: " + ", ".join(f"{classes.label(int(g))} {probs_G[g]:.1%}" for g in best)


def command_score(args: argparse.Namespace) -> None:
    from hectocar.photos.classes import read_equivalent_pairs
    from hectocar.photos.manifest import find_equivalent_pairs
    from hectocar.scoring.answers import read_answers, score_submission
    from hectocar.scoring.costs import compute_costs
    from hectocar.scoring.submission import read_submission

    if args.top < 0:
        raise ConfigError(f"--top is {args.top}; allowed: 0 or more")
    if args.photos is not None and args.out is None:
        raise ConfigError("--photos is for the pictures of score.html; give --out DIR too")
    submission, answers = read_submission(args.submission), read_answers(args.answer)
    if args.equivalent is not None:
        pairs = read_equivalent_pairs(args.equivalent)
    else:
        pairs = find_equivalent_pairs(args.answer.parent)
    num_pairs = sum(set(submission.columns).issuperset(pair) for pair in pairs)
    print(f"equivalent pairs among the columns: {num_pairs}" + ("" if num_pairs else "; --equivalent names a csv of them"))
    report, costs = score_submission(submission, answers, pairs), compute_costs(submission, answers, pairs)
    shown = costs.describe_top(args.top)
    for line in (*report.table(), "", *costs.class_table(10), "", *costs.photo_table(args.top), shown):
        print(line)
    if args.out is not None:
        from hectocar.lab.score_page import find_pictures, save_score

        pictures = find_pictures(args.photos, args.answer, answers.ids)
        save_score(args.out, report, costs, pictures, title=f"Score of {args.submission.name}", top=args.top)
        print(f"{args.out}: score.html, per_class.csv, photographs.csv" + (" (no pictures)" if pictures.problem else ""))


def command_bundle(args: argparse.Namespace) -> None:
    from hectocar.delivery.bundle import join_runs, write_bundle

    spec = write_bundle(join_runs([args.model]), args.out)
    losses = ", ".join(f"fold {member.fold}: {member.log_loss:.4f}" for member in spec.members)
    print(f"{args.out}: {len(spec.members)} networks, {spec.classes.num_trained} classes; validation log loss {losses}")


def command_finish(args: argparse.Namespace) -> None:
    from hectocar.delivery.finish import finish_runs
    from hectocar.delivery.finish_report import report_tables, total_lines
    from hectocar.network.inference import choose_device
    from hectocar.photos.views import VIEWS

    views = tuple(VIEWS) if args.views is None else tuple(args.views.split(","))
    with ConsoleProgress() as progress:
        result = finish_runs(
            args.runs, args.out, data_folder=args.data, views=views, device=choose_device(args.device), progress=progress
        )
    for title, table in report_tables(result.report, result.equivalents).items():
        print(title)
        print_table(table)
        print()
    for line in total_lines(result.report):
        print(line)
    print(f"{args.out}: {len(result.bundle.members)} networks and what was fitted; report/report.md, report/calibration.png")
    print(f"next: hectocar predict {args.out} test.csv --out submission.csv")


def command_preview(args: argparse.Namespace) -> None:
    from hectocar.lab.preview import draw_preview

    config = read_config(args.preset, args.config, args.set)
    sizes = draw_preview(args.data, config, args.out, num_photos=args.photos, seed=args.seed)
    print(f"{args.out}: what the network sees at {', '.join(map(str, sizes))} px")


def command_showroom(args: argparse.Namespace) -> None:
    from hectocar.photos.showroom import ShowroomSpec, write_showroom

    spec = ShowroomSpec(
        num_classes=args.classes,
        train_per_class=args.train_per_class,
        test_per_class=args.test_per_class,
        seed=args.seed,
        num_faults=args.faults,
    )
    with ConsoleProgress() as progress:
        summary = write_showroom(args.out, spec, count_with(progress, "rendering cars"))
    print(f"{args.out}: {summary.num_train} training and {summary.num_test} test photographs of {summary.num_classes} classes")
    print("planted faults: " + ", ".join(f"{count} {kind}" for kind, count in summary.faults.items()))


def command_demo(args: argparse.Namespace) -> None:
    from hectocar.lab.demo import run_demo

    with ConsoleProgress() as progress:
        result = run_demo(args.out, progress)
    for line in result.table():
        print(line)


def command_ablate(args: argparse.Namespace) -> None:
    from hectocar.lab.ablation import read_plan, run_ablation
    from hectocar.lab.ablation_report import save_ablation
    from hectocar.network.inference import choose_device

    plan = read_plan(args.plan, _start_settings(args))
    if args.jobs < 1:
        raise ConfigError(f"--jobs is {args.jobs}; allowed: 1 or more")
    with ConsoleProgress() as progress:
        results = run_ablation(
            plan, args.data, args.out, device=choose_device(args.device), num_jobs=args.jobs, progress=progress
        )
        table = save_ablation(plan, results, args.out)
    print(plan.title)
    print_table(table)
    print(f"{args.out}: table.md, plot.png, runs.csv; mean ± standard error, differences paired by seed and fold")


def command_plan(args: argparse.Namespace) -> None:
    from hectocar.training.recipe import plan_rows

    config = read_config(args.preset, args.config, args.set)
    print_table(plan_rows(config))
    if args.measure:
        from hectocar.lab.step_cost import measure_step_costs, step_cost_rows
        from hectocar.network.inference import choose_device

        if args.steps < 1 or args.classes < 2:
            raise ConfigError(f"--steps is {args.steps}, --classes {args.classes}; allowed: 1 or more, and 2 or more")
        print()
        print_table(step_cost_rows(measure_step_costs(config, choose_device(args.device), args.classes, args.steps)))


def command_config(args: argparse.Namespace) -> None:
    print_table([["key", "default", "meaning"], *describe_config()])


COMMANDS = {
    "audit": command_audit,
    "folds": command_folds,
    "train": command_train,
    "predict": command_predict,
    "score": command_score,
    "bundle": command_bundle,
    "finish": command_finish,
    "preview": command_preview,
    "showroom": command_showroom,
    "demo": command_demo,
    "ablate": command_ablate,
    "plan": command_plan,
    "config": command_config,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0, or 2 after a message about the input, or 130 when interrupted."""
    args = build_parser().parse_args(argv)
    try:
        COMMANDS[args.command](args)
    except HectocarError as error:
        print(f"hectocar: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hectocar: interrupted; what was finished is kept: call again (train: with --resume)", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
