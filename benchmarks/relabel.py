"""What deciding about wrong labels brings on photographs whose labels are right: labels are turned, and four ways trained.

python benchmarks/relabel.py DATA WORK --weights FILE [--classes N] [--folds N] [--rates R ...] [--kinds random confusable]
                             [--seeds S ...] [--policies drop relabel soften] [--preset NAME] [--set KEY=VALUE ...]

A fifth of the photographs, whole groups of duplicates, is held out of everything and keeps its labels. Of the others a share
gets another class: any, or the one whose name is most similar. They are linked, not copied. ``off`` is the first training of
each way, so that a noise and a seed cost (1 + number of policies) x folds trainings. Differences are paired by photograph,
means over the seeds; their standard error is a bootstrap's over photographs. The same call again goes on.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

import hectocar
from hectocar.auditing.relabel import POLICIES
from hectocar.cli.terminal import print_table, say
from hectocar.config.schema import Config, DataConfig
from hectocar.dataset.car_names import find_similar_pairs
from hectocar.dataset.classes import ClassList
from hectocar.dataset.folds import deal_folds
from hectocar.dataset.manifest import Manifest, scan_photos
from hectocar.dataset.run_inputs import read_run
from hectocar.dataset.teaching import doubted_photos
from hectocar.delivery.bundle import load_network
from hectocar.delivery.runs import read_run_model
from hectocar.finishing.out_of_fold import predict_out_of_fold
from hectocar.network.inference import infer_photos
from hectocar.progress import NoProgress

CPU = torch.device("cpu")
NUM_BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Split:
    """The photographs to train on, by row of the manifest, and those that nothing sees."""

    manifest: Manifest
    classes: ClassList
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


@dataclass(frozen=True)
class Losses:
    """Of one way to train; N held-out photographs."""

    single_N: list[float]
    """Mean over the networks of each one's loss."""
    mean_N: list[float]
    """Loss of the mean of their probabilities."""
    out_of_fold: float
    """Mean over the photographs to train on whose labels were not turned."""
    num_doubted: int
    num_found: int
    """Turned ones among the doubted."""


def split_photos(data: Path, num_classes: int) -> Split:
    manifest, classes = scan_photos(data, DataConfig(class_limit=num_classes))
    folds = deal_folds(manifest, classes, DataConfig(num_folds=5), NoProgress())
    return Split(manifest, classes, np.flatnonzero(folds.fold > 0), np.flatnonzero(folds.fold == 0))


def find_partners(classes: ClassList) -> list[int]:
    """The class whose name is most similar, or that of the next number."""
    partners: dict[int, int] = {}
    for first, second in find_similar_pairs(classes, 10_000):
        partners.setdefault(first, second)
        partners.setdefault(second, first)
    return [partners.get(g, (g + 1) % classes.num_trained) for g in range(classes.num_trained)]


def plant(split: Split, folder: Path, kind: str, rate: float, seed: int) -> set[str]:
    """Links the photographs to train on, a share of them in another class; returns the image ids of those."""
    rng, label_N, partners = np.random.default_rng(seed), split.manifest.labels(split.classes), find_partners(split.classes)
    turned = set(rng.choice(split.train, round(rate * len(split.train)), replace=False).tolist())
    planted = set()
    shutil.rmtree(folder, ignore_errors=True)
    for row in split.train.tolist():
        name = split.manifest.class_name[row]
        if row in turned:
            other = (label_N[row] + 1 + rng.integers(split.classes.num_trained - 1)) % split.classes.num_trained
            name = split.classes.members[partners[label_N[row]] if kind == "confusable" else int(other)][0]
            planted.add(f"train/{name}/{row}{Path(split.manifest.path[row]).suffix}")
        link = folder / "train" / name / f"{row}{Path(split.manifest.path[row]).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(split.manifest.root / split.manifest.path[row])
    pairs = [names for names in split.classes.members if len(names) == 2]
    lines = ["class_a,class_b", *(",".join(names) for names in pairs)]
    (folder / "equivalent_classes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return planted


def measure(folder: Path, split: Split, planted: set[str]) -> Losses:
    run = read_run(folder)
    assert run.classes.members == split.classes.members, "a class has lost its last photograph"
    spec = read_run_model(run)
    outputs = infer_photos(
        [load_network(spec, member, CPU) for member in spec.members],
        [split.manifest.files()[row] for row in split.held_out], size_px=spec.members[0].size_px,
        inference=run.config.inference, data=run.config.data, precision=run.config.training.precision,
    )  # fmt: skip
    log_probs_FNG = np.stack([log_softmax(output.logits.astype(np.float64), axis=1) for output in outputs])
    places = (np.arange(len(split.held_out)), split.manifest.labels(split.classes)[split.held_out])
    mean_NG = logsumexp(log_probs_FNG, axis=0) - np.log(len(outputs))
    oof = predict_out_of_fold(folder, run.manifest.root, CPU, NoProgress())
    label_of = dict(zip(run.manifest.image_id, run.manifest.labels(run.classes).tolist(), strict=True))
    right = [place for place, image_id in enumerate(oof.image_id) if image_id not in planted]
    labels = [label_of[oof.image_id[place]] for place in right]
    doubted = doubted_photos(run.relabel)
    return Losses(
        single_N=(-log_probs_FNG[:, *places].mean(axis=0)).tolist(),
        mean_N=(-mean_NG[places]).tolist(),
        out_of_fold=float(-log_softmax(oof.logits.astype(np.float64), axis=1)[right, labels].mean()),
        num_doubted=len(doubted),
        num_found=len(doubted & planted),
    )


def train_arms(
    split: Split, config: Config, work: Path, kind: str, rate: float, seed: int, policies: Sequence[str]
) -> tuple[dict[str, Losses], int]:
    """The losses of each way, trained where they are not in WORK yet, and the number of turned labels."""
    folder = work / f"{kind} {rate:g} seed {seed}"
    stored = folder / "losses.json"
    planted = plant(split, folder / "data", kind, rate, seed)
    known: dict[str, Any] = json.loads(stored.read_text()) if stored.is_file() else {}
    for arm in ("off", *policies):
        if arm in known:
            continue
        out, options = folder / arm, {"folds": "all", "device": "cpu", "resume": True}
        if arm == "off":
            hectocar.train(folder / "data", out, config, **options)
        else:
            if not (folder / f"{arm}-round1").exists():
                shutil.copytree(folder / "off", folder / f"{arm}-round1")
            hectocar.train(folder / "data", out, config, relabel=1, relabel_by=arm, **options)
        known[arm] = measure(out, split, planted).__dict__
        stored.write_text(json.dumps(known))
        say(f"{folder.name} {arm}: {np.mean(known[arm]['mean_N']):.4f}")
    return {arm: Losses(**known[arm]) for arm in ("off", *policies)}, len(planted)


def bootstrap_error(difference_N: NDArray[np.float64]) -> float:
    rows = np.random.default_rng(2025).integers(len(difference_N), size=(NUM_BOOTSTRAPS, len(difference_N)))
    return float(difference_N[rows].mean(axis=1).std(ddof=1))


def table_rows(kind: str, rate: float, seeds: Sequence[dict[str, Losses]], num_planted: int) -> list[list[str]]:
    rows = []
    for arm in seeds[0]:
        cells = [kind, f"{rate:.0%}", arm]
        for name in ("single_N", "mean_N"):
            own_N, off_N = (np.mean([getattr(losses[key], name) for losses in seeds], axis=0) for key in (arm, "off"))
            cells += [f"{own_N.mean():.4f}", f"{(own_N - off_N).mean():+.4f} ± {bootstrap_error(own_N - off_N):.4f}"]
        change = np.mean([losses[arm].out_of_fold - losses["off"].out_of_fold for losses in seeds])
        doubted, found = (np.mean([getattr(losses[arm], name) for losses in seeds]) for name in ("num_doubted", "num_found"))
        rows.append([*cells, f"{change:+.4f}", f"{found:.1f} of {doubted:.1f}", str(num_planted)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--classes", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    parser.add_argument("--kinds", nargs="+", choices=("random", "confusable"), default=["random", "confusable"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--set", nargs="+", default=[], dest="settings")
    args = parser.parse_args()
    split = split_photos(args.data, args.classes)
    say(f"{len(split.train)} photographs to train on, {len(split.held_out)} held out, {split.classes.num_trained} classes")
    header = ["noise", "rate", "way", "one network", "less off", "mean of folds", "less off", "out of fold less off"]
    table = [[*header, "turned among doubted", "turned"]]
    for kind in args.kinds:
        for rate in args.rates:
            seeds, num_planted = [], 0
            for seed in args.seeds:
                own = {"training.seed": seed, "data.num_folds": args.folds, "network.weights": args.weights}
                config = hectocar.load_config(args.preset, None, args.settings, own)
                losses, num_planted = train_arms(split, config, args.work, kind, rate, seed, args.policies)
                seeds.append(losses)
            table += table_rows(kind, rate, seeds, num_planted)
    print_table(table)


if __name__ == "__main__":
    main()
