"""Is a probability of 0.8 right in 8 cases of 10? Reliability of the top label, its error, and where losses come from.

Shapes: N rows, C classes, B bins that are not empty.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hectocar.scoring.arrays import Floats, Ints, check_labels, check_vector, normalise_rows
from hectocar.scoring.metrics import standard_error


@dataclass(frozen=True, eq=False)
class Reliability:
    """Rows put into bins of equal width by the probability of their top label; empty bins are left out."""

    low_B: Floats
    high_B: Floats
    confidence_B: Floats
    """Mean probability of the top label."""
    accuracy_B: Floats
    """Share of rows whose top label is right."""
    count_B: Ints

    @property
    def ece(self) -> float:
        """Expected calibration error: |accuracy - confidence|, averaged over the rows of all bins (Guo et al. 2017)."""
        return float(self.count_B @ np.abs(self.accuracy_B - self.confidence_B) / self.count_B.sum())


def compute_reliability(probs_NC: ArrayLike, label_N: ArrayLike, num_bins: int = 15) -> Reliability:
    """Reliability in `num_bins` bins of equal width over [0, 1]; an edge belongs to the bin above it, 1 to the last."""
    probs = normalise_rows(probs_NC)
    label = check_labels(label_N, probs)
    confidence_N = probs.max(axis=1)
    bin_N, used, count = _bins(confidence_N, num_bins)
    return Reliability(
        low_B=used / num_bins,
        high_B=(used + 1) / num_bins,
        confidence_B=np.bincount(bin_N, confidence_N) / count,
        accuracy_B=np.bincount(bin_N, probs.argmax(axis=1) == label) / count,
        count_B=count,
    )


def expected_ece_of_chance(probs_NC: ArrayLike, num_bins: int = 15, num_draws: int = 200, seed: int = 0) -> float:
    """Mean ECE if every top label were right with exactly its probability: what sampling alone causes.

    An ECE near this figure is no evidence of miscalibration (Vaicenavicius et al. 2019, arXiv 1902.06977).
    """
    if num_draws < 1:
        raise ValueError(f"num_draws is {num_draws}; allowed: 1 or more")
    confidence_N = normalise_rows(probs_NC).max(axis=1)
    bin_N, _, _ = _bins(confidence_N, num_bins)
    generator = np.random.default_rng(seed)
    total = 0.0
    for _ in range(num_draws):
        surplus_N = (generator.random(len(bin_N)) < confidence_N) - confidence_N
        total += float(np.abs(np.bincount(bin_N, surplus_N)).sum()) / len(bin_N)
    return total / num_draws


def _bins(confidence_N: Floats, num_bins: int) -> tuple[Ints, Ints, Ints]:
    """Each row's index among the bins that are not empty, those bins' numbers, and their rows."""
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; allowed: 1 or more")
    number_N = np.minimum((confidence_N * num_bins).astype(np.int64), num_bins - 1)
    used, bin_N, count = np.unique(number_N, return_inverse=True, return_counts=True)
    return bin_N.astype(np.int64), used, count.astype(np.int64)


@dataclass(frozen=True)
class DecileRow:
    """The loss of one group of rows, from its lowest to its highest value."""

    low: float
    high: float
    count: int
    mean: float
    standard_error: float


def loss_by_decile(loss_N: ArrayLike, value_N: ArrayLike, num_groups: int = 10) -> list[DecileRow]:
    """Mean loss in groups of equal size (one row more or less) in order of `value_N`; equal values keep their order.

    Raises:
        ValueError: fewer than two rows for a group, which has no standard error then.
    """
    loss, value = check_vector(loss_N, "loss_N"), check_vector(value_N, "value_N")
    if loss.shape != value.shape:
        raise ValueError(f"loss_N has {len(loss)} rows and value_N {len(value)}; they must be the same rows")
    if not 1 <= num_groups <= len(loss) // 2:
        raise ValueError(f"num_groups is {num_groups}; allowed: 1 to half the number of rows, {len(loss) // 2}")
    groups = np.array_split(np.argsort(value, kind="stable"), num_groups)
    return [
        DecileRow(
            low=float(value[rows[0]]),
            high=float(value[rows[-1]]),
            count=len(rows),
            mean=float(loss[rows].mean()),
            standard_error=standard_error(loss[rows]),
        )
        for rows in groups
    ]
