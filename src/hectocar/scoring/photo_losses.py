"""Where the loss of a submission comes from: every class and every photograph, the most expensive first.

Shapes: N photographs, C class columns, G classes. The columns of equivalent classes count as one class, their
probabilities added (the summed reading), for the loss as for the predicted class. Columns are brought into the order of
their names first and means are exact sums, so that no order of rows or columns in a file changes a single digit.
"""

import math
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hectocar.scoring.metrics import log_loss_per_row
from hectocar.scoring.submission import Submission
from hectocar.scoring.truth import Truth, match_truth
from hectocar.tables import normalize_name


@dataclass(frozen=True)
class ClassLoss:
    """What the photographs of one class cost."""

    name: str
    """The class's name; equivalent names are joined by ` = `."""
    num_rows: int
    loss_sum: float
    share: float
    """Part of the submission's whole loss."""
    num_right: int
    """Rows whose predicted class is this one."""
    wrong: str
    """The most frequent wrong answer; empty where there is none."""
    num_wrong: int
    """How often that answer was given."""

    @property
    def log_loss(self) -> float | None:
        """The mean; None for a class without rows."""
        return self.loss_sum / self.num_rows if self.num_rows else None

    @property
    def top1(self) -> float | None:
        """Share of right rows; None for a class without rows."""
        return self.num_right / self.num_rows if self.num_rows else None


@dataclass(frozen=True)
class PhotoLoss:
    """What one photograph losses."""

    image_id: str
    label: str
    """As the answers have it."""
    true_class: str
    """The label's class; equivalent names are joined by ` = `."""
    loss: float
    prob: float
    """Given to the true class."""
    predicted: str
    predicted_prob: float


@dataclass(frozen=True)
class PhotoLosses:
    """All classes by their sum of losses and all photographs by their loss, the largest first, equal ones by name."""

    classes: tuple[ClassLoss, ...]
    photos: tuple[PhotoLoss, ...]

    @property
    def loss_sum(self) -> float:
        return math.fsum(photo.loss for photo in self.photos)

    def class_table(self, top: int) -> list[str]:
        """Lines of text for the most costly classes."""
        rows = [["share", "rows", "log loss", "top-1", "class", "most frequent wrong answer"]]
        for cost in self.classes[:top]:
            wrong = f"{cost.num_wrong} x {cost.wrong}" if cost.wrong else "-"
            mean = "-" if cost.log_loss is None else f"{cost.log_loss:.5f}"
            top1 = "-" if cost.top1 is None else f"{cost.top1:.2%}"
            rows.append([f"{cost.share:.2%}", str(cost.num_rows), mean, top1, cost.name, wrong])
        return _aligned(rows, "rrrrll")

    def photo_table(self, top: int) -> list[str]:
        """Lines of text for the most expensive photographs."""
        rows = [["ID", "loss", "prob", "true class", "prob", "predicted"]]
        for cost in self.photos[:top]:
            probs = (f"{cost.prob:.2%}", f"{cost.predicted_prob:.2%}")
            rows.append([cost.image_id, f"{cost.loss:.5f}", probs[0], cost.true_class, probs[1], cost.predicted])
        return _aligned(rows, "lrrlrl")

    def describe_top(self, top: int) -> str:
        """How much of the loss the most expensive photographs carry."""
        shown = self.photos[:top]
        whole = self.loss_sum
        part = math.fsum(photo.loss for photo in shown) / whole if whole else 0.0
        return f"{len(shown):,} of {len(self.photos):,} photographs carry {part:.1%} of the loss"


def compute_photo_losses(submission: Submission, truth: Truth, pairs: Sequence[tuple[str, str]] = ()) -> PhotoLosses:
    """The cost of every class column, those without a photograph too, and of every photograph.

    Raises:
        ArtifactError: the ids are not those of the answers, or a value that the evaluator would refuse.
        DataError: a label that is no class column, or only half of an equivalent pair among the columns.
    """
    table = match_truth(submission, truth, pairs)
    names, class_C = _name_classes(submission.columns, table.group_C)
    probs_NG = _join_columns(table.probs_NC, submission.columns, class_C)
    label_N, best_N = class_C[table.label_N], probs_NG.argmax(axis=1)
    loss_N = log_loss_per_row(probs_NG, label_N)
    every = np.arange(len(label_N))
    prob_N, best_prob_N = probs_NG[every, label_N], probs_NG[every, best_N]
    photos = [
        PhotoLoss(
            image_id=truth.ids[row],
            label=truth.labels[row],
            true_class=names[label_N[row]],
            loss=float(loss_N[row]),
            prob=float(prob_N[row]),
            predicted=names[best_N[row]],
            predicted_prob=float(best_prob_N[row]),
        )
        for row in every
    ]
    photos.sort(key=lambda photo: (-photo.loss, photo.image_id))
    classes = _cost_classes(names, label_N, best_N, loss_N)
    return PhotoLosses(tuple(classes), tuple(photos))


def _name_classes(columns: Sequence[str], group_C: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """The classes' names in code-point order, and the class of each column."""
    members: dict[int, list[str]] = defaultdict(list)
    for name, group in zip(columns, group_C.tolist(), strict=True):
        members[group].append(name)
    name_of = {group: " = ".join(sorted(names, key=normalize_name)) for group, names in members.items()}
    ordered = sorted(name_of, key=lambda group: normalize_name(name_of[group]))
    place_of = {group: place for place, group in enumerate(ordered)}
    return [name_of[group] for group in ordered], np.array([place_of[group] for group in group_C.tolist()], dtype=np.int64)


def _join_columns(probs_NC: NDArray[np.float64], columns: Sequence[str], class_C: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, G) Probabilities that sum to 1; the members of a class stand side by side and are added in the order of names."""
    order = sorted(range(len(columns)), key=lambda column: (class_C[column], normalize_name(columns[column])))
    sorted_NC = np.ascontiguousarray(probs_NC[:, order])
    starts = np.flatnonzero(np.diff(class_C[order], prepend=-1))
    probs_NG = np.add.reduceat(sorted_NC, starts, axis=1)
    result: NDArray[np.float64] = probs_NG / probs_NG.sum(axis=1, keepdims=True)
    return result


def _cost_classes(
    names: Sequence[str], label_N: NDArray[np.int64], best_N: NDArray[np.int64], loss_N: NDArray[np.float64]
) -> list[ClassLoss]:
    whole = math.fsum(loss_N)
    losses = []
    for label, name in enumerate(names):
        rows = label_N == label
        part = math.fsum(loss_N[rows])
        answers_G = np.bincount(best_N[rows], minlength=len(names))
        num_right, answers_G[label] = int(answers_G[label]), 0
        wrong = int(answers_G.argmax())  # of equal counts the first by name
        losses.append(
            ClassLoss(
                name=name,
                num_rows=int(rows.sum()),
                loss_sum=part,
                share=part / whole if whole else 0.0,
                num_right=num_right,
                wrong=names[wrong] if answers_G[wrong] else "",
                num_wrong=int(answers_G[wrong]),
            )
        )
    return sorted(losses, key=lambda cost: (-cost.loss_sum, normalize_name(cost.name)))


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Lines with each column to its side, l or r; a Korean letter is two columns wide."""
    clean = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*clean, strict=True)]
    lines = []
    for row in clean:
        gaps = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [gap + cell if side == "r" else cell + gap for cell, gap, side in zip(row, gaps, sides, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _printable(text: str) -> str:
    """A name from a stranger's table cannot steer the terminal or break the line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in normalize_name(text))


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
