"""What each photograph teaches: its own class, another, both in part, or nothing. What it is judged by stays its own class.

A run that was begun with such a table holds it as relabel.csv, in the columns of decisions.csv. A photograph that the
networks doubt must not make their validation better by what was decided about it, so the table is about training alone:
manifest, folds and held-out labels are those of a run without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hectocar.dataset.classes import ClassList
from hectocar.dataset.decisions import DROP, KEEP, RELABEL, SOFTEN, Decision, judge_photos
from hectocar.dataset.manifest import Manifest

RELABEL_FILE = "relabel.csv"


@dataclass(frozen=True)
class SoftTargets:
    """The second class in the target of each of N photographs, its own one where the target is whole."""

    other_N: NDArray[np.int64]
    share_N: NDArray[np.float64]
    """Of ``other_N``, 0 to 1."""


@dataclass(frozen=True)
class Teaching:
    """By row of the manifest."""

    label_N: NDArray[np.int64]
    is_shown_N: NDArray[np.bool_]
    soft: SoftTargets | None
    """None where no target is mixed."""


def plan_teaching(manifest: Manifest, classes: ClassList, decisions: Sequence[Decision], where: str = RELABEL_FILE) -> Teaching:
    """Puts a table into rows; drop wins over relabel, and relabel over soften.

    Raises:
        DataError: As ``judge_photos``.
    """
    verdicts = judge_photos(decisions, manifest.image_id, classes.names, where)
    index, label_N = classes.trained_index(), manifest.labels(classes)
    row_of = {image_id: row for row, image_id in enumerate(manifest.image_id)}
    is_shown_N = np.ones(len(label_N), dtype=np.bool_)
    is_shown_N[[row_of[image_id] for image_id in verdicts.dropped]] = False
    for image_id, name in verdicts.labels.items():
        label_N[row_of[image_id]] = index[name]
    soft = SoftTargets(label_N.copy(), np.zeros(len(label_N)))
    for image_id, (name, share) in verdicts.softened.items():
        if image_id not in verdicts.labels:
            soft.other_N[row_of[image_id]], soft.share_N[row_of[image_id]] = index[name], share
    return Teaching(label_N, is_shown_N, soft if soft.share_N.any() else None)


def doubted_photos(decisions: Sequence[Decision]) -> frozenset[str]:
    """Photographs whose given label is more probably wrong than right, by these decisions."""
    sure = {DROP, RELABEL}
    return frozenset(row.file for row in decisions if row.decision in sure or (row.decision == SOFTEN and row.score >= 0.5))


def count_decisions(decisions: Sequence[Decision]) -> str:
    """``12 dropped, 3 relabelled``."""
    words = {DROP: "dropped", RELABEL: "relabelled", SOFTEN: "softened", KEEP: "kept by a person"}
    counts = {word: sum(row.decision == name for row in decisions) for name, word in words.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "as given"
