"""What a finish is fitted on, and what is said about a link of it.

Shapes: N rows (a photograph under a condition), G trained classes, R models, V views, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hectocar.scoring.arrays import Floats, Ints
from hectocar.scoring.metrics import paired_bootstrap, standard_error

MAX_FIT_ROWS = 4000
"""Rows that a few dozen weights are fitted on: of a blend, of a floor. More rows take an hour and change little."""
_ROUNDING = 1e-6
"""States are float32: a link that changes nothing may seem to gain 1e-9."""


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
    condition_N: Ints
    """Place in ``conditions``."""
    conditions: tuple[str, ...]
    """Of unusable photographs, the kinds."""
    suspect_N: NDArray[np.bool_] | None = None
    """Photographs whose label or content an audit doubts; None means none."""

    def take(self, places: Sequence[int]) -> "Evidence":
        """With some of the tables only."""
        return replace(self, log_probs=tuple(self.log_probs[place] for place in places))


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


@dataclass(frozen=True)
class Insurance:
    """A floor, judged by the loss that it is fitted for: a share of unusable photographs among the real ones."""

    share: float
    gain: Gain
    """Of that loss: real photographs nested, each kind of unusable ones by a floor that has not seen it."""
    unseen_cost: dict[str, float]
    """Mean cost of each kind in losses of the prior, by a floor that has not seen it."""
    worst: float
    """The dearest of them, without a floor where it is left out."""


@dataclass(frozen=True)
class ChainState:
    """The chain so far, fitted on some rows."""

    number: int
    train: Ints
    """Rows that it may be fitted on."""
    held: Ints
    """Rows that it is judged by: all, in the last state."""
    real: NDArray[np.float32]
    """(N, G) log probabilities."""
    unusable: NDArray[np.float32]
    """(U, G) of the unusable photographs."""
    unusable_train: Ints


def measure_gain(loss_N: Floats, before_N: Floats, rows: NDArray[np.bool_]) -> Gain:
    """Of some rows, by a paired bootstrap."""
    difference = paired_bootstrap(loss_N[rows], before_N[rows], num_resamples=2000)
    return Gain(difference.mean, difference.standard_error)


def take_rows(evidence: Evidence, rows: Ints) -> Evidence:
    """Some rows of everything."""
    return replace(
        evidence,
        log_probs=tuple(table[rows] for table in evidence.log_probs),
        neighbour_labels=tuple(table[rows] for table in evidence.neighbour_labels),
        neighbour_cosines=tuple(table[rows] for table in evidence.neighbour_cosines),
        unseen_cosines=tuple(table[rows] for table in evidence.unseen_cosines),
        looks=evidence.looks[rows],
        label_N=evidence.label_N[rows],
        fold_N=evidence.fold_N[rows],
        photo_N=evidence.photo_N[rows],
        condition_N=evidence.condition_N[rows],
        suspect_N=None if evidence.suspect_N is None else evidence.suspect_N[rows],
    )


def thin_rows(rows: Ints, most: int = MAX_FIT_ROWS) -> Ints:
    """At most so many of the rows, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def estimate(change_P: Floats) -> Gain:
    """Mean change of the loss of some photographs."""
    return Gain(float(change_P.mean()), standard_error(change_P))


def pays(gain: Gain) -> bool:
    """The one rule for every link: a loss falls by more than its standard error, and not by rounding alone."""
    return -gain.mean > max(gain.standard_error, _ROUNDING)
