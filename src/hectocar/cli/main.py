"""The command line: parse, call, say what came out. How it is printed stands in terminal.py, how it may fail in boundary.py."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.cli.boundary import run_guarded
from hectocar.cli.parser import build_parser
from hectocar.cli.terminal import ConsoleProgress, print_table, say
from hectocar.config.reader import describe_config, read_config
from hectocar.dataset.classes import ClassList
from hectocar.disk.outputs import check_folder, check_unedited, claim_file, claim_folder
from hectocar.errors import ConfigError
from hectocar.progress import count_with

# Heavy rooms (torch) are imported inside the commands, so that --help answers at once.


def command_audit(args: argparse.Namespace) -> None:
    from hectocar.auditing.audit import audit_photos, summarize
    from hectocar.config.schema import DataConfig
    from hectocar.network.arithmetic import choose_device

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
        say(f"{kind}: not looked for: {why}")
    if report.drift is not None:
        for line in report.drift.table():
            say(line)
    say(f"look at {args.out / 'audit.html'}; edit {args.out / 'decisions.csv'} if you know better")
    say(f"next: hectocar train {args.data} --audit {args.out} --out RUN")


def command_folds(args: argparse.Namespace) -> None:
    from hectocar.dataset.folds import deal_folds, fold_rows, write_fold_table
    from hectocar.dataset.manifest import scan_photos

    config = read_config(args.preset, args.config, args.set, overrides=_overrides(args)).data
    inputs = [Path(name) for name in (args.config, config.audit, *config.exclude) if name]
    with claim_file(args.out, "folds", inputs=inputs, data=args.data, overwrite=args.overwrite) as check:
        with ConsoleProgress() as progress:
            manifest, classes = scan_photos(args.data, config, progress)
            folds = deal_folds(manifest, classes, config, progress)
        check()
        write_fold_table(args.out, manifest, folds)
    print_table(fold_rows(manifest, classes, folds, config.num_folds))
    say(f"{args.out}: image_id, class_name, fold (-1: not used), group, status, problem")


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Options that stand for a configuration key, as plain values: a path is no YAML."""
    chosen = {"data.audit": args.audit, "network.weights": getattr(args, "weights", None)}
    return {path: str(value) for path, value in chosen.items() if value is not None}


def command_train(args: argparse.Namespace) -> None:
    from hectocar.network.arithmetic import choose_device
    from hectocar.training.run import check_folds, start_run, train_folds

    config = read_config(args.preset, args.config, args.set, overrides=_overrides(args))
    folds = list(range(config.data.num_folds)) if args.fold is None else [args.fold]
    check_folds(config, folds)
    device = choose_device(args.device)
    with ConsoleProgress() as progress:
        run = start_run(args.out, args.data, config, progress, resume=args.resume)
        results = train_folds(run, folds, device, progress)
    for fold, best in results.items():
        say(
            f"fold {fold}: log loss {best['log_loss']:.4f}"
            + (f" (shifted {best['shifted_log_loss']:.4f})" if "shifted_log_loss" in best else "")
            + f", top-1 {best['top1']:.1%}, top-5 {best['top5']:.1%} "
            f"(epoch {best['epoch']}, {best['weights']} weights, {best['size_px']} px)"
        )
    say(f"run: {args.out}; next: hectocar predict {args.out} {args.data / 'test.csv'} --out submission.csv")


def command_predict(args: argparse.Namespace) -> None:
    from hectocar.dataset.photo_list import find_photo_list
    from hectocar.delivery.choice import describe_choice
    from hectocar.delivery.predictor import Classifier
    from hectocar.delivery.submit import check_form, predict_photos, save_submission

    with ConsoleProgress() as progress, ExitStack() as stack:
        photos = find_photo_list(args.photos, args.sample, progress)
        check = None
        if args.out is not None:
            folders = [path for path in args.photos if path.is_dir()]  # an answer may lie in one
            inputs = [path for path in (args.model, *args.photos, photos.sample, *photos.files) if path and path not in folders]
            claim = claim_file(args.out, "submission", inputs=inputs, overwrite=args.overwrite)
            check = stack.enter_context(claim)
        classifier = Classifier.load(args.model, device=args.device, num_views=args.views, num_folds=args.folds)
        if args.out is not None:
            check_form(classifier, photos)
        for line in describe_choice(classifier).splitlines():
            progress.note(line)
        answer = predict_photos(classifier, photos, progress, num_workers=args.workers, out=args.out)
        if check is not None:
            check()
            submission = save_submission(classifier, answer, args.out, args.equivalent)
    if args.out is not None:
        say(f"{args.out}: {len(submission.ids)} rows x {len(submission.columns)} classes, checked by the evaluator's rules")
    else:
        for row, image_id in enumerate(photos.ids):
            say(_describe_prediction(classifier.classes, image_id, answer.probs_NG[row], answer.unreadable.get(image_id)))
    if answer.unreadable:
        say(f"{len(answer.unreadable)} of {len(photos.ids)} photographs could not be read; their rows are the class prior")


def _describe_prediction(classes: ClassList, image_id: str, probs_G: NDArray[np.float64], problem: str | None) -> str:
    if problem is not None:
        return f"{image_id}: cannot be read: {problem}"
    best = np.argsort(-probs_G, kind="stable")[:3]
    return f"{image_id}: " + ", ".join(f"{classes.label(int(g))} {probs_G[g]:.1%}" for g in best)


def command_score(args: argparse.Namespace) -> None:
    from hectocar.dataset.classes import read_equivalent_pairs
    from hectocar.dataset.manifest import find_equivalent_pairs
    from hectocar.scoring.photo_losses import compute_costs
    from hectocar.scoring.submission import read_submission
    from hectocar.scoring.truth import read_answers, score_submission

    if args.photos is not None and args.out is None:
        raise ConfigError("--photos is for the pictures of score.html; give --out DIR too")
    if args.out is not None:
        check_folder(args.out, "score", inputs=[args.submission, args.answer])  # before the work
    submission, answers = read_submission(args.submission), read_answers(args.answer)
    if args.equivalent is not None:
        pairs = read_equivalent_pairs(args.equivalent)
    else:
        pairs = find_equivalent_pairs(args.answer.parent, submission.columns)
    num_pairs = sum(set(submission.columns).issuperset(pair) for pair in pairs)
    say(f"equivalent pairs among the columns: {num_pairs}" + ("" if num_pairs else "; --equivalent names a csv of them"))
    report, costs = score_submission(submission, answers, pairs), compute_costs(submission, answers, pairs)
    shown = costs.describe_top(args.top)
    for line in (*report.table(), "", *costs.class_table(10), "", *costs.photo_table(args.top), shown):
        say(line)
    if args.out is not None:
        from hectocar.lab.score_page import EDITED, find_pictures, save_score

        with claim_folder(args.out, "score", inputs=[args.submission, args.answer]):
            if not args.overwrite:
                check_unedited(args.out, EDITED)
            pictures = find_pictures(args.photos, args.answer, answers.ids)
            title = f"Score of {args.submission.name}"
            save_score(args.out, report, costs, pictures, title=title, top=args.top, overwrite=args.overwrite)
        say(f"{args.out}: score.html, per_class.csv, photographs.csv" + (" (no pictures)" if pictures.problem else ""))


def command_bundle(args: argparse.Namespace) -> None:
    from hectocar.delivery.bundle import write_bundle
    from hectocar.delivery.bundle_place import claim_bundle
    from hectocar.delivery.runs import join_runs

    runs = join_runs([args.model])
    with claim_bundle(args.out, runs) as made_of:
        spec = write_bundle(runs, args.out, made_of=made_of)
    losses = ", ".join(f"fold {member.fold}: {member.log_loss:.4f}" for member in spec.members)
    say(f"{args.out}: {len(spec.members)} networks, {spec.classes.num_trained} classes; validation log loss {losses}")


def command_finish(args: argparse.Namespace) -> None:
    from hectocar.finishing.finish import finish_runs
    from hectocar.finishing.report import report_tables, total_lines
    from hectocar.network.arithmetic import choose_device
    from hectocar.photos.views import VIEWS, find_views

    views = tuple(VIEWS) if args.views is None else tuple(args.views.split(","))
    find_views(views)  # a wrong name is told before the work
    with ConsoleProgress() as progress:
        result = finish_runs(
            args.runs,
            args.out,
            data_folder=args.data,
            audit_folder=args.audit,
            views=views,
            device=choose_device(args.device),
            progress=progress,
        )
    for title, table in report_tables(result.report, result.equivalents).items():
        say(title)
        print_table(table)
        say()
    for line in total_lines(result.report):
        say(line)
    say(f"{args.out}: {len(result.bundle.members)} networks and what was fitted; report/report.md, report/calibration.png")
    say(f"next: hectocar predict {args.out} test.csv --out submission.csv")


def command_preview(args: argparse.Namespace) -> None:
    from hectocar.lab.preview import draw_preview

    config = read_config(args.preset, args.config, args.set, overrides=_overrides(args))
    inputs = [path for path in (args.config, args.audit) if path is not None]
    with claim_file(args.out, "preview", inputs=inputs, data=args.data, overwrite=args.overwrite):
        sizes = draw_preview(args.data, config, args.out, num_photos=args.photos, seed=args.seed)
    say(f"{args.out}: what the network sees at {', '.join(map(str, sizes))} px")


def command_showroom(args: argparse.Namespace) -> None:
    from hectocar.showroom import ShowroomSpec, write_showroom

    spec = ShowroomSpec(
        num_classes=args.classes,
        train_per_class=args.train_per_class,
        test_per_class=args.test_per_class,
        seed=args.seed,
        num_faults=args.faults,
    )
    with ConsoleProgress() as progress:
        summary = write_showroom(args.out, spec, count_with(progress, "rendering cars"))
    say(f"{args.out}: {summary.num_train} training and {summary.num_test} test photographs of {summary.num_classes} classes")
    say("planted faults: " + ", ".join(f"{count} {kind}" for kind, count in summary.faults.items()))


def command_demo(args: argparse.Namespace) -> None:
    from hectocar.lab.demo import run_demo

    with ConsoleProgress() as progress:
        result = run_demo(args.out, progress)
    for line in result.table():
        say(line)


def command_ablate(args: argparse.Namespace) -> None:
    from hectocar.lab.ablation import read_plan, run_ablation
    from hectocar.lab.ablation_report import save_ablation
    from hectocar.network.arithmetic import choose_device

    plan = read_plan(args.plan, args.set, _overrides(args))
    with ConsoleProgress() as progress:
        results = run_ablation(
            plan, args.data, args.out, device=choose_device(args.device), num_jobs=args.jobs, progress=progress
        )
        table = save_ablation(plan, results, args.out)
    say(plan.title)
    print_table(table)
    say(f"{args.out}: table.md, plot.png, runs.csv; mean ± standard error, differences paired by seed and fold")


def command_plan(args: argparse.Namespace) -> None:
    from hectocar.training.recipe import plan_rows

    config = read_config(args.preset, args.config, args.set)
    print_table(plan_rows(config))
    if args.measure:
        from hectocar.lab.step_cost import measure_step_costs, step_cost_rows
        from hectocar.network.arithmetic import choose_device

        say()
        print_table(step_cost_rows(measure_step_costs(config, choose_device(args.device), args.classes, args.steps)))


def command_config(args: argparse.Namespace) -> None:
    print_table([["key", "default", "meaning"], *describe_config()])


_AGAIN = "call the same command again"
INTERRUPTED = {
    "audit": f"the photographs measured so far are remembered; {_AGAIN}",
    "folds": f"the photographs read so far are remembered; {_AGAIN}",
    "train": f"all up to the last checkpoint is kept; {_AGAIN} with --resume",
    "predict": f"what was predicted so far is kept beside --out; {_AGAIN}",
    "finish": f"the out-of-fold predictions of finished folds are kept in the runs; {_AGAIN}",
    "ablate": f"finished runs are kept and the others go on from their last checkpoint; {_AGAIN}",
    "demo": f"{_AGAIN}: it clears away what it made and begins anew",
}
"""What an interruption or a full disk leaves, and how to go on; of the other commands nothing is kept."""


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
    """Runs a command; returns its exit code, see boundary.py. Raises nothing and leaves signal handlers as they were."""
    words = list(sys.argv[1:] if argv is None else argv)
    parsed: list[argparse.Namespace] = []
    nothing = f"nothing was written; {_AGAIN}"
    code = run_guarded(lambda: parsed.append(build_parser().parse_args(words)), again=nothing, debug="--debug" in words)
    if not parsed:
        return code
    (args,) = parsed
    again = nothing if args.command == "predict" and args.out is None else INTERRUPTED.get(args.command, nothing)
    return run_guarded(lambda: COMMANDS[args.command](args), again=again, debug=args.debug, out=getattr(args, "out", None))


if __name__ == "__main__":
    sys.exit(main())
