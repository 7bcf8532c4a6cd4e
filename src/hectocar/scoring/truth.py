"""Scoring a submission against known answers, under every reading of the contest's equivalent classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.dataset.classes import join_equivalent
from hectocar.dataset.photo_list import ID_COLUMN
from hectocar.errors import ArtifactError, DataError
from hectocar.scoring.metrics import log_loss_grouped, top_k_accuracy
from hectocar.scoring.submission import Submission, check_values
from hectocar.tables import check_unique, name_problems, normalize_name, read_named_columns, with_nearest


@dataclass(frozen=True)
class Truth:
    """The true class of each photograph and, where known, the part of the test set that it belongs to."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    split: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ScoreReport:
    """Scores of a submission, or of one split of it."""

    strict: float
    """Log loss in the label's own column."""
    summed: float
    """Log loss with the columns of equivalent classes added."""
    maximum: float
    """Log loss with the larger of the columns of equivalent classes."""
    top1: float
    """Share of rows whose largest column is the label's class or an equivalent one."""
    top5: float
    """Share of rows with such a column among the five largest (of all, where there are fewer)."""
    num_rows: int
    by_split: dict[str, "ScoreReport"] = field(default_factory=dict)
    """The same for each split, by name; empty where the answers name none."""

    def parts(self) -> dict[str, "ScoreReport"]:
        """The whole and each split by the name that tables give them."""
        return {"all": self, **{f"split {name}": part for name, part in self.by_split.items()}}

    def table(self) -> list[str]:
        """A header and a line of text for the whole and for each split."""
        parts = self.parts()
        width = max(map(len, parts))
        lines = [f"{'':<{width}}  {'rows':>7}  {'strict':>9}  {'summed':>9}  {'maximum':>9}  {'top-1':>7}  {'top-5':>7}"]
        for name, part in parts.items():
            losses = f"{part.strict:>9.5f}  {part.summed:>9.5f}  {part.maximum:>9.5f}"
            lines.append(f"{name:<{width}}  {part.num_rows:>7}  {losses}  {part.top1:>7.2%}  {part.top5:>7.2%}")
        return lines


def read_truth(path: str | Path) -> Truth:
    """Read a table `ID,label` with an optional column `split`.

    Raises:
        DataError: a column missing, an id twice, an empty cell, not UTF-8.
    """
    rows = read_named_columns(path, "answers", (ID_COLUMN, "label"), optional=("split",))
    ids = [cells[ID_COLUMN] for _, cells in rows]
    check_unique(ids, ID_COLUMN, [line for line, _ in rows], path, DataError)
    labels = tuple(cells["label"] for _, cells in rows)
    split = tuple(cells["split"] for _, cells in rows) if "split" in rows[0][1] else None
    return Truth(tuple(ids), labels, split)


@dataclass(frozen=True)
class MatchedTable:
    """A submission's probabilities in the order of the truth. N answers, C class columns of the submission."""

    probs_NC: NDArray[np.float64]
    label_N: NDArray[np.int64]
    """The column of each row's label."""
    group_C: NDArray[np.int64]
    """A group id per column; columns of equivalent classes share one."""


def match_truth(submission: Submission, truth: Truth, pairs: Sequence[tuple[str, str]] = ()) -> MatchedTable:
    """Join a submission and the answers by id and name; their rows may stand in any order.

    Raises:
        ArtifactError: the ids are not those of the answers, or a value that the evaluator would refuse.
        DataError: a label that is no class column, or only half of an equivalent pair among the columns.
    """
    problems = name_problems("ids", submission.ids, truth.ids, "the answers")
    if problems:
        raise ArtifactError("the submission does not belong to these answers: " + "; ".join(problems))
    check_values(submission)
    group_C = np.array(join_equivalent(submission.columns, pairs), dtype=np.int64)
    column_of = {normalize_name(name): index for index, name in enumerate(submission.columns)}
    unknown = sorted({name for name in truth.labels if normalize_name(name) not in column_of})
    if unknown:
        raise DataError(
            f"answers: {len(unknown)} labels are no class column of the submission: "
            f"{with_nearest(unknown, submission.columns)}; allowed: its {len(submission.columns)} class names"
        )
    row_of = {normalize_name(name): row for row, name in enumerate(submission.ids)}
    probs_NC = submission.probs[[row_of[normalize_name(name)] for name in truth.ids]]
    label_N = np.array([column_of[normalize_name(name)] for name in truth.labels], dtype=np.int64)
    return MatchedTable(probs_NC, label_N, group_C)


def score_submission(submission: Submission, truth: Truth, pairs: Sequence[tuple[str, str]] = ()) -> ScoreReport:
    """Score a submission; raises as `match_truth` does."""
    table = match_truth(submission, truth, pairs)
    probs, label_N, group_C = table.probs_NC, table.label_N, table.group_C
    by_split = {}
    if truth.split is not None:
        split_N = np.array(truth.split)
        for name in sorted(set(truth.split)):
            rows = split_N == name
            by_split[name] = _score(probs[rows], label_N[rows], group_C, {})
    return _score(probs, label_N, group_C, by_split)


def _score(
    probs_NC: NDArray[np.float64], label_N: NDArray[np.int64], group_C: NDArray[np.int64], by_split: dict[str, ScoreReport]
) -> ScoreReport:
    return ScoreReport(
        strict=log_loss_grouped(probs_NC, label_N, group_C, "strict"),
        summed=log_loss_grouped(probs_NC, label_N, group_C, "sum"),
        maximum=log_loss_grouped(probs_NC, label_N, group_C, "max"),
        top1=top_k_accuracy(probs_NC, label_N, 1, group_C),
        top5=top_k_accuracy(probs_NC, label_N, min(5, probs_NC.shape[1]), group_C),
        num_rows=len(label_N),
        by_split=by_split,
    )
