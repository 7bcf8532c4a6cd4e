"""Runs what others would use on the split of one of our runs, and sets a table of ours beside theirs.

    python benchmarks/rivals.py RUN --weights mobilenetv2_100.in1k.safetensors --envs ENVS --out OUT \
        --expert expert_baseline.py --timm-script pytorch-image-models/train.py

Same photographs to train on and held out, classes, backbone, weights, size, epochs (or, with --minutes, time of training) and
mirrored test view. Each rival runs in its own environment, made by uv below ENVS with the versions written here, starts from
the local file and writes log probabilities as plain arrays; the shifted photographs are PNG copies, the same pixels for all.
A run that has ended well is not run again. Of several settings the best on the held-out photographs counts, which flatters the
rival. Needs Linux (/proc).
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hectocar.cli.boundary import run_guarded
from hectocar.cli.terminal import ConsoleProgress, say
from hectocar.dataset.run_inputs import Run, read_run
from hectocar.errors import ConfigError
from hectocar.finishing.out_of_fold import UNUSABLE_CONDITION
from hectocar.network.arithmetic import has_fast_precision
from hectocar.scoring.metrics import cross_entropy_from_logits
from hectocar.tables import csv_text
from rival_parts import answers as said
from rival_parts.runs import RUNNERS, Rival, RivalError, make_environment, run_job
from rival_parts.split import Split, lay_out
from rival_parts.table import OURS, Entry, build_rows, write_losses, write_table

TORCH = ("torch==2.15.0", "torchvision==0.29.2", "timm==1.0.31", "pillow==12.0.0")  # timm's RandAugment fails with Pillow 13
EMA = {"model-ema": True, "model-ema-decay": 0.998, "model-ema-warmup": True}
CALM = {"lr": 2e-3, "scale": "0.6 1.0", "head-init-scale": 0.01}
"""Crops as mild as ours, and a head that does not begin with large logits: what one who knows timm would set first."""
RIVALS = {
    "expert": Rival("expert_file.py", TORCH, file="expert", environment="timm"),
    "timm": Rival(
        "timm_script.py",
        TORCH,
        {
            "rand-m7, MixUp": {"lr": 1e-3, "aa": "rand-m7", "mixup": 0.2, **EMA},
            "calm": {**CALM, **EMA},
            "calm, lr 1e-3": {**CALM, **EMA, "lr": 1e-3},
            "calm, lr 4e-3": {**CALM, **EMA, "lr": 4e-3},
            "calm, no EMA": CALM,
            "calm, rand-m7": {**CALM, **EMA, "aa": "rand-m7"},
            "calm, MixUp": {**CALM, **EMA, "mixup": 0.2},
            "calm, layer decay": {**CALM, **EMA, "layer-decay": 0.75},
            "calm, drop path": {**CALM, **EMA, "drop-path": 0.1},
        },
        file="timm_script",
    ),
    "fastai": Rival(
        "fastai_tune.py",
        ("fastai==2.8.12", "torch==2.15.0", "torchvision==0.29.2", "timm==1.0.31"),
        {"finder": {"times": 1.0}, "finder / 3": {"times": 1.0 / 3.0}, "finder x 3": {"times": 3.0}},
    ),
    "autogluon": Rival(
        "autogluon_fit.py",
        ("autogluon.multimodal==1.6.3", "torch==2.13.0", "torchvision==0.28.0"),  # it refuses torch 2.14 and newer
        {"default": {}, "lr 1e-3": {"optim.lr": 1e-3}},
    ),
}
MANY = 4
"""More settings than this are halved: all get a quarter of the epochs, the best third half, its best third all."""

NOTES = (
    "difference: ours minus theirs, paired over photographs, ± standard error (bootstrap); ratio: ours / theirs",
    "temperature and finish: nested, in 5 parts by photograph; a rival's finish has two views, ours all it chose",
    "minutes and CPU-minutes: training with its own validation, of the best setting alone; peak: the whole run",
)


@dataclass(frozen=True)
class Trial:
    """One setting of a rival that has run."""

    setting: str
    answers: said.Answers
    cost: dict[str, float]
    loss: float
    """Clean, mirrored, nothing fitted."""


@dataclass(frozen=True)
class Contest:
    """What is the same for all rivals."""

    args: argparse.Namespace
    run: Run
    split: Split
    label_N: np.ndarray[Any, np.dtype[np.int64]]

    def try_setting(self, name: str, setting: str, epochs: int, python: Path) -> Trial:
        """Runs a rival in one setting."""
        rival, args, network = RIVALS[name], self.args, self.run.config.network
        job = {
            "split": str(self.split.folder.absolute()), "weights": str(args.weights.absolute()), "backbone": network.backbone,
            "num_classes": self.split.num_classes, "size_px": args.size, "epochs": epochs, "batch_size": args.batch,
            "seed": args.seed, "bf16": has_fast_precision(torch.device("cpu"), "bfloat16"),
            "file": str(getattr(args, rival.file).absolute()) if rival.file else "", "settings": rival.settings[setting],
        }  # fmt: skip
        folder = args.out / name / f"{re.sub('[^a-z0-9]+', '_', setting.lower())}_{epochs}"
        cost = run_job(folder, job, RUNNERS / rival.runner, python)
        answers = said.read_answers(folder / "answers.npz", self.split)
        loss = cross_entropy_from_logits(answers.raw()["clean"], self.label_N)
        spent = f"{cost['minutes']:.1f} min, {cost['cpu_minutes']:.1f} CPU-min"
        say(f"{name}, {setting}, {cost['epochs']:g} epochs: {loss:.4f} clean, {spent}")
        return Trial(setting, answers, cost, loss)

    def try_rival(self, name: str) -> tuple[Trial, list[list[str]]]:
        """The best of a rival's settings, and a row about every run."""
        rival, args = RIVALS[name], self.args
        python = make_environment(rival.environment or name, rival.packages, args.envs)
        settings, rows = list(rival.settings), []
        halved = len(settings) > MANY and args.epochs >= 4 and not args.all_settings and not args.minutes
        for rung in (4, 2, 1) if halved else (1,):
            epochs = {setting: self._count_epochs(name, setting, python) // rung for setting in settings}
            trials = [self.try_setting(name, setting, count, python) for setting, count in epochs.items()]
            for trial in trials:
                cost = trial.cost
                rows.append([name, trial.setting, f"{cost['epochs']:g}", f"{trial.loss:.4f}", f"{cost['minutes']:.1f}"])
            trials.sort(key=lambda trial: trial.loss)
            settings = [trial.setting for trial in trials[: math.ceil(len(trials) / 3)]]
        return trials[0], rows

    def _count_epochs(self, name: str, setting: str, python: Path) -> int:
        """As given, or what a first epoch says would take the time given."""
        if not self.args.minutes:
            return int(self.args.epochs)
        cost = self.try_setting(name, setting, 1, python).cost
        return max(1, round(float(self.args.minutes) * cost["epochs"] / cost["minutes"]))


def compare(args: argparse.Namespace) -> None:
    """Everything, from the run to the table."""
    check(args)
    run, progress, device = read_run(args.run), ConsoleProgress(), torch.device("cpu")
    ours = said.ask_ours(run, args.fold, device, progress)
    finished = not args.limit_classes and not args.no_finish
    split = lay_out(run, args.fold, args.out / "split", list_unusable(run, ours) if finished else (), args.limit_classes)
    label_N, part_N = run.manifest.labels(run.classes)[split.held_N], said.deal_parts(run, split)
    say(f"{len(split.train_M)} photographs to train on, {len(split.held_N)} held out, {split.num_classes} classes")

    def describe(program: str, raw: said.Tables, finish: said.Tables | None, **facts: Any) -> list[Entry]:
        levels = {"raw": raw, "temperature": said.nested_temperature(raw, label_N, part_N)}
        levels |= {"finish": finish} if finish else {}
        return [Entry(program, level, tables, **facts) for level, tables in levels.items()]

    own_finish = said.finish_ours(run, split, args.out, device, progress) if finished else None
    entries = describe(OURS, ours.raw(run, split), own_finish, cost=read_cost(run, args.fold))
    contest, trials, notes = Contest(args, run, split, label_N), [], [" ".join(["python benchmarks/rivals.py", *sys.argv[1:]])]
    for name in args.rivals:
        try:
            best, rows = contest.try_rival(name)
        except RivalError as error:
            notes.append(f"{name} is missing: {error}")
            say(notes[-1])
            continue
        finish = said.finish_rival(run, split, ours, best.answers, progress) if finished else None
        entries += describe(name, best.answers.raw(), finish, setting=best.setting, cost=best.cost)
        trials += rows
    if split.num_classes < run.classes.num_trained:
        notes.append(f"{OURS}: trained on {run.classes.num_trained} classes, judged on the first {split.num_classes} of them")
    for line in write_table(args.out, build_rows(entries, label_N), [*notes, *NOTES]).splitlines():
        say(line)
    write_losses(args.out, entries, [run.manifest.image_id[row] for row in split.held_N], label_N)
    header = ["rival", "setting", "epochs", "clean log loss", "minutes"]
    (args.out / "settings.csv").write_text(csv_text(header, trials), encoding="utf-8", newline="")


def list_unusable(run: Run, ours: said.Ours) -> list[tuple[int, str]]:
    """(row, kind) of the photographs that our finish looks at made unusable."""
    row_of, table = {image_id: row for row, image_id in enumerate(run.manifest.image_id)}, ours.tables[UNUSABLE_CONDITION]
    return [(row_of[image_id], kind) for image_id, kind in zip(table.image_id, table.kind, strict=True)]


def check(args: argparse.Namespace) -> None:
    """Raises ConfigError for what cannot be done, before anything is."""
    have = [name for name, rival in RIVALS.items() if not rival.file or getattr(args, rival.file)]
    args.rivals = args.rivals or have
    missing = [name for name in args.rivals if name not in have]
    if missing:
        raise ConfigError(f"--rivals {missing[0]} needs --{RIVALS[missing[0]].file.replace('_', '-')} FILE")
    for path in (args.weights, *(getattr(args, RIVALS[name].file) for name in args.rivals if RIVALS[name].file)):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
    if args.epochs < 1 or args.minutes < 0.0:
        raise ConfigError(f"--epochs is {args.epochs}, --minutes {args.minutes:g}; allowed: 1 or more, 0 or more")


def read_cost(run: Run, fold: int) -> dict[str, float]:
    """Minutes and peak memory of our own training, where its events tell; CPU-minutes they do not."""
    cost: dict[str, float] = {}
    for line in (run.fold_folder(fold) / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event: Mapping[str, Any] = json.loads(line)
        if event["kind"] == "epoch":
            cost["minutes"] = event["seconds"] / 60.0
            cost["peak_gib"] = max(cost.get("peak_gib", 0.0), event["peak_bytes"] / 2**30)
    return cost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--weights", type=Path, required=True, help="safetensors of the backbone, without a classifier")
    parser.add_argument("--envs", type=Path, required=True, help="where environments are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rivals", nargs="+", choices=tuple(RIVALS), help="default: all whose files are given")
    parser.add_argument("--expert", type=Path, help="expert_baseline.py")
    parser.add_argument("--timm-script", type=Path, help="train.py of timm's repository")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=0.0, help="of training, not epochs: a first epoch tells how many")
    parser.add_argument("--size", type=int, default=160, help="px")
    parser.add_argument("--batch", type=int, default=32, help="expert_baseline.py has its own, 32")
    parser.add_argument("--seed", type=int, default=1, help="expert_baseline.py has its own, 1")
    parser.add_argument("--all-settings", action="store_true", help="every setting for all epochs, none is halved away")
    parser.add_argument("--limit-classes", type=int, default=0, help="the first so many; no finish then")
    parser.add_argument("--no-finish", action="store_true", help="raw and temperature only")
    args = parser.parse_args()
    return run_guarded(lambda: compare(args), again="the same command", debug=False, out=args.out)


if __name__ == "__main__":
    sys.exit(main())
