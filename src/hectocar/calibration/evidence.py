"""What a finish is fitted on, and what is said about a link of it.

Shapes: N rows (a photograph under a condition), G trained classes, R models, V views, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.scoring.metrics import paired_bootstrap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MAX_FIT_ROWS = 4000
"""Rows that a few dozen weights are fitted on: of a blend, of a floor. More rows take an hour and change little."""


@dataclass(frozen=True)
class Evidence:
    """Out-of-fold answers; rows of several conditions lie one below the other."""

    log_probs: tuple[NDArray[np.float32], ...]
    """R x V tables (N, G), models outside."""
    neighbour_labels: tuple[Ints, ...]
    """R tables (N, k): classes of the nearest photographs in the space of the fold's own network; -1 for none."""
    neighbour_cosines: tuple[NDArray[np.float32], ...]
    unseen_cosines: tuple[NDArray[np.float32], ...]
    """R tables (N, 10): cosines of the nearest photographs that the network was not trained on."""
    looks: NDArray[np.float32]
    label_N: Ints
    """For unusable rows it means nothing."""
    fold_N: Ints
    photo_N: Ints
    """The same number for the same photograph under another condition."""
    part_N: Ints
    """Place in ``parts``."""
    parts: tuple[str, ...]
    """Conditions, or kinds of unusable photographs."""
    suspect_N: NDArray[np.bool_] | None = None
    """Photographs whose label or content an audit doubts; None means none."""

    def take(self, sources: Sequence[int]) -> "Evidence":
        """With some of the tables only."""
        return _replace(self, log_probs=tuple(self.log_probs[place] for place in sources))


def _replace(evidence: Evidence, **changes: Any) -> Evidence:
    return Evidence(**{**evidence.__dict__, **changes})


@dataclass(frozen=True)
class Gain:
    """Nested loss minus that of the link before, negative is better, with its standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True)
class LinkRow:
    """A link of the chain, or a way to blend: its losses by condition, and what it changed."""

    name: str
    nested: dict[str, float]
    in_sample: dict[str, float]
    gains: dict[str, Gain] = field(default_factory=dict)
    """By condition, against the link before."""
    kept: bool = True


@dataclass
class State:
    """The chain so far, fitted on some rows."""

    number: int
    train: Ints
    held: Ints
    real: NDArray[np.float32]
    foreign: NDArray[np.float32]
    foreign_train: Ints


def measure_gain(loss_N: Floats, before_N: Floats, rows: NDArray[np.bool_]) -> Gain:
    """Of some rows, by a paired bootstrap."""
    difference = paired_bootstrap(loss_N[rows], before_N[rows], num_resamples=2000)
    return Gain(difference.mean, difference.standard_error)


def take_rows(evidence: Evidence, rows: Ints) -> Evidence:
    """Some rows of everything."""
    return _replace(
        evidence,
        log_probs=tuple(table[rows] for table in evidence.log_probs),
        neighbour_labels=tuple(table[rows] for table in evidence.neighbour_labels),
        neighbour_cosines=tuple(table[rows] for table in evidence.neighbour_cosines),
        unseen_cosines=tuple(table[rows] for table in evidence.unseen_cosines),
        looks=evidence.looks[rows],
        label_N=evidence.label_N[rows],
        fold_N=evidence.fold_N[rows],
        photo_N=evidence.photo_N[rows],
        part_N=evidence.part_N[rows],
        suspect_N=None if evidence.suspect_N is None else evidence.suspect_N[rows],
    )


def thin_rows(rows: Ints, most: int = MAX_FIT_ROWS) -> Ints:
    """At most so many of the rows, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
