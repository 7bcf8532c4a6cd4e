"""Training in rounds: each round's out-of-fold predictions decide what doubtful photographs teach in the next training.

RUN-round1, RUN-round2, ... are ordinary runs with a table each, decisions.csv, which a person may edit before the next one
begins; RUN is the last training and an ordinary run, too. Nothing of this touches what is held out: there every
photograph keeps its given class and its fold, so that the losses of all rounds can be compared.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from hectocar.auditing.suspect_findings import rank_suspects
from hectocar.codec import read_sealed, write_sealed
from hectocar.config.schema import Config
from hectocar.dataset.decisions import (
    DECISIONS_FILE,
    DROP,
    KEEP,
    RELABEL,
    SOFTEN,
    TEACHINGS,
    Decision,
    read_audit,
    read_decisions,
    write_decisions,
)
from hectocar.dataset.run_inputs import Run
from hectocar.dataset.teaching import count_decisions, doubted_photos, plan_teaching
from hectocar.disk.locks import hold_lock
from hectocar.disk.outputs import identify
from hectocar.disk.writing import make_folder
from hectocar.errors import ConfigError
from hectocar.finishing.out_of_fold import OutOfFold, predict_out_of_fold
from hectocar.progress import Progress
from hectocar.scoring.metrics import cross_entropy_from_logits, top_k_accuracy
from hectocar.training.run import check_start, start_run, train_folds

Policy = Literal["drop", "relabel", "soften"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
DEFAULT_POLICY: Policy = "drop"
"""It cannot teach a wrong class. In a small form none of the three was better than nothing (docs/experiments.md)."""
ROUND_FILE = "decisions.json"
MIN_SCORE = 0.5
"""From here on a label is more probably wrong than right."""
MIN_SOFT_SCORE = 0.05
"""Below it a softened target would move by no more than label smoothing moves it."""
MAX_SHARE = 0.5
"""No class loses more than this share of its photographs in a round."""
MAX_RATE = 0.2
"""Networks that would call a larger share of all labels wrong are too poor to judge: of 80 photographs with 4 planted errors,
some at 49 % top-1 doubted 29, each with a score of 1."""


@dataclass(frozen=True)
class RoundFacts:
    """What stands in decisions.json: what the machine wrote into decisions.csv, by which a person's rows are known."""

    policy: str
    rows: tuple[Decision, ...]


@dataclass(frozen=True)
class Round:
    """One training on all folds, by its out-of-fold predictions."""

    folder: Path
    taught: str
    """What its photographs taught."""
    log_loss: float
    """On given labels."""
    trusted_log_loss: float
    """Without the photographs that the last table doubts."""
    top1: float
    num_doubted: int


def train_in_rounds(
    out: Path, data_folder: Path, config: Config, *, num_rounds: int, policy: Policy, resume: bool, device: torch.device,
    progress: Progress,
) -> tuple[dict[int, dict[str, Any]], list[Round]]:  # fmt: skip
    """Trains all folds, decides by what they say about the photographs that they held out, and trains again.

    Args:
        out: Gets the last run; those before it stand beside it.
        data_folder: As for training.
        config: The whole configuration.
        num_rounds: How often it is decided, 1 or more: one training more than that.
        policy: ``drop`` leaves doubtful photographs out of training; ``relabel`` gives them the class that the networks are
            confident of, and leaves the others out; ``soften`` mixes the given and the likely class by the probability
            that the label is wrong.
        resume: Go on with what stands there.
        device: Where to train.
        progress: Receives bars and lines.

    Returns:
        The best epoch of each fold of the last run, and a row for each training.

    Raises:
        HectocarError: As ``start_run``, ``train_folds`` and ``settle_round``.
    """
    base = out if out.name not in ("", "..") else out.resolve()
    places = [base.with_name(f"{base.name}-round{number + 1}") for number in range(num_rounds)]
    for place in (*places, out):
        check_start(place, data_folder, config, resume=resume)
    if identify(out) == "run" and not (places[-1] / ROUND_FILE).is_file():
        raise ConfigError(
            f"--resume: {out} was begun, but not with the decisions of {places[-1]}, which are not there; give --relabel as "
            "then, or go on without --relabel: what was decided stands in the run itself"
        )
    runs: list[Run] = []
    decisions: tuple[Decision, ...] = ()
    settled: tuple[Decision, ...] = ()
    for number, place in enumerate((*places, out), start=1):
        progress.note(f"training {number} of {num_rounds + 1}: {place}")
        run = start_run(place, data_folder, config, progress, resume=resume, device=device, relabel=decisions)
        if runs:
            _take_equal_folds(runs[-1], run)
        results = train_folds(run, range(config.data.num_folds), device, progress)
        runs.append(run)
        if place != out:
            decisions, settled = settle_round(run, policy, settled, device, progress)
    return results, measure_rounds(runs, device, progress)


def _take_equal_folds(before: Run, run: Run) -> None:
    """Where nothing was decided, training again would end in the same bits: the folds are copied."""
    for fold in range(run.config.data.num_folds):
        target = run.fold_folder(fold)
        if run.inputs_digest(fold) == before.inputs_digest(fold):
            with hold_lock(target):
                if not target.exists():
                    make_folder(target, partial(shutil.copytree, before.fold_folder(fold), dirs_exist_ok=True))


def settle_round(
    run: Run, policy: Policy, settled: Sequence[Decision], device: torch.device, progress: Progress
) -> tuple[tuple[Decision, ...], tuple[Decision, ...]]:
    """The round's table, decided now or earlier, and the rows in it that are a person's.

    Args:
        run: With all folds trained.
        policy: What to do with doubtful photographs.
        settled: A person's rows in the tables of earlier rounds: they stand, and the machine says nothing about their files.
        device: Where to compute.
        progress: Receives a line.

    Raises:
        ConfigError: The table was made by another policy.
        DataError: A person's rows are mistaken.
    """
    table, sealed = run.folder / DECISIONS_FILE, run.folder / ROUND_FILE
    with hold_lock(table):
        if not sealed.is_file():
            oof = predict_out_of_fold(run.folder, run.manifest.root, device, progress)
            spoken_for = {row.file for row in settled} | find_judged(run.config)
            write_decisions(table, [*settled, *decide_labels(run, oof, policy, spoken_for, progress)])
            write_sealed(sealed, RoundFacts(policy, read_decisions(table, TEACHINGS)))
    facts = read_sealed(RoundFacts, sealed, f"remove it, and {table}, to decide again")
    if facts.policy != policy:
        raise ConfigError(f"--relabel-by is {policy}, and {table} was made by {facts.policy}; give that, or another --out")
    now = read_decisions(table, TEACHINGS)
    plan_teaching(run.manifest, run.classes, now, str(table))
    edits = find_edits(facts.rows, now)
    progress.note(f"{table}: {count_decisions(now)}" + (f"; {len(edits)} rows of it are a person's" if edits else ""))
    files = {row.file for row in edits}
    return now, (*edits, *(row for row in settled if row.file not in files))


def find_edits(written: Sequence[Decision], now: Sequence[Decision]) -> tuple[Decision, ...]:
    """Rows that a person has written or changed; one that was deleted keeps its photograph as it was given."""
    files = {row.file for row in now}
    removed = (Decision(row.file, row.kind, KEEP) for row in written if row.file not in files)
    return (*(row for row in now if row not in set(written)), *removed)


def find_judged(config: Config) -> frozenset[str]:
    """Photographs of which a person has judged the label in the audit that a run obeys.

    What the audit lists as a wrong label it keeps by itself, so that a kept row is a person's only where the table was edited.
    """
    if not config.data.audit:
        return frozenset()
    audit = read_audit(Path(config.data.audit))
    kinds = ("wrong_label", "unusable") if audit.edited else ()  # a row without a kind is read as unusable
    return frozenset(
        row.file for row in audit.decisions if row.decision in (DROP, RELABEL) or (row.decision == KEEP and row.kind in kinds)
    )


def decide_labels(
    run: Run, oof: OutOfFold, policy: Policy, spoken_for: frozenset[str] | set[str], progress: Progress
) -> list[Decision]:
    """What the policy does with the photographs whose given label the out-of-fold predictions doubt.

    Args:
        run: The run.
        oof: Of all its photographs.
        policy: See ``train_in_rounds``.
        spoken_for: Photographs about which a person has decided.
        progress: Receives a line where the networks are too poor to judge.
    """
    row_of = {image_id: row for row, image_id in enumerate(run.manifest.image_id)}
    label_N = run.manifest.labels(run.classes)[[row_of[image_id] for image_id in oof.image_id]]
    suspects = rank_suspects(oof, label_N, run.classes)
    if suspects.num_errors > MAX_RATE * len(label_N):
        progress.note(
            f"nothing is decided: the networks, right on {top_k_accuracy(oof.logits, label_N, 1):.0%}, would call "
            f"{suspects.num_errors} of {len(label_N)} labels wrong; allowed: {MAX_RATE:.0%}. Train longer, or audit the folder"
        )
        return []
    num_left_G = (MAX_SHARE * np.bincount(label_N, minlength=run.classes.num_trained)).astype(np.int64)
    rows = []
    columns = zip(
        suspects.row.tolist(), suspects.score.tolist(), suspects.suggested, suspects.is_confident, suspects.reason, strict=True
    )
    for row, score, suggested, is_confident, reason in columns:
        image_id, label = oof.image_id[row], label_N[row]
        if image_id in spoken_for or score < (MIN_SOFT_SCORE if policy == "soften" else MIN_SCORE):
            continue
        decision = {"drop": DROP, "soften": SOFTEN, "relabel": RELABEL if is_confident else DROP}[policy]
        if decision != SOFTEN:
            if num_left_G[label] == 0:
                continue
            num_left_G[label] -= 1
        name = run.classes.members[int(suggested)][0]
        rows.append(Decision(image_id, "wrong_label", decision, score=score, reason=reason, label=name))
    return rows


def measure_rounds(runs: Sequence[Run], device: torch.device, progress: Progress) -> list[Round]:
    """What each training's networks say about the photographs that they held out, by their given labels."""
    doubted, rounds = doubted_photos(runs[-1].relabel), []
    for run in runs:
        oof = predict_out_of_fold(run.folder, run.manifest.root, device, progress)
        label_of = dict(zip(run.manifest.image_id, run.manifest.labels(run.classes).tolist(), strict=True))
        label_N = np.array([label_of[image_id] for image_id in oof.image_id], dtype=np.int64)
        trusted_N = np.array([image_id not in doubted for image_id in oof.image_id])
        rounds.append(
            Round(
                folder=run.folder,
                taught=count_decisions(run.relabel),
                log_loss=cross_entropy_from_logits(oof.logits, label_N),
                trusted_log_loss=cross_entropy_from_logits(oof.logits[trusted_N], label_N[trusted_N]),
                top1=top_k_accuracy(oof.logits, label_N, 1),
                num_doubted=int(np.count_nonzero(~trusted_N)),
            )
        )
    return rounds
