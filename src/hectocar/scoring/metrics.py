"""Metrics of a probability table: log loss as the contest's evaluator takes it, accuracy, and the noise of a difference.

Shapes: N photographs, C classes. Everything is computed in float64, whatever comes in. Wrong shapes, NaN and labels out
of range are a programmer's mistake here and raise ValueError; the readers in this room turn a user's mistakes into
DataError or ArtifactError before they get this far.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.scoring.arrays import Floats, Ints, check_labels, check_matrix, check_vector, log_softmax, normalise_rows

Grouping = Literal["strict", "sum", "max"]

CLIP = 1e-15
"""The evaluator clips to [CLIP, 1 - CLIP]: one fully wrong row costs 34.5. scikit-learn's own default is 2.2e-16."""
_BOOTSTRAP_CELLS = 2_000_000
"""Rows drawn at a time in the bootstrap; 10,000 resamples of 8,258 rows at once would take 660 MB."""


def log_loss(probs_NC: ArrayLike, label_N: ArrayLike) -> float:
    """The evaluator's multi-class log loss: the mean of `log_loss_per_row`."""
    return float(log_loss_per_row(probs_NC, label_N).mean())


def log_loss_per_row(probs_NC: ArrayLike, label_N: ArrayLike) -> Floats:
    """Each row divided by its sum, clipped to [1e-15, 1 - 1e-15], minus the log of the label's probability.

    Raises:
        ValueError: wrong shapes, a label out of range, a negative or non-finite value, a row that sums to 0.
    """
    probs, label = normalise_rows(probs_NC), check_labels(label_N, probs_NC)
    return _minus_log(probs[np.arange(len(label)), label])


def log_loss_grouped(probs_NC: ArrayLike, label_N: ArrayLike, group_C: ArrayLike, how: Grouping) -> float:
    """Log loss where columns with the same group id are one class: the mean of `log_loss_grouped_per_row`."""
    return float(log_loss_grouped_per_row(probs_NC, label_N, group_C, how).mean())


def log_loss_grouped_per_row(probs_NC: ArrayLike, label_N: ArrayLike, group_C: ArrayLike, how: Grouping) -> Floats:
    """How the evaluator folds equivalent classes is not published, so all three readings are offered.

    Args:
        group_C: a group id per column; equal ids are the same class.
        how: `strict` takes the label's own column, `sum` adds the columns of its group, `max` takes their largest.
            The row is divided by its sum first and not again afterwards.
    """
    if how not in ("strict", "sum", "max"):
        raise ValueError(f"how is {how!r}; allowed: 'strict', 'sum', 'max'")
    probs, label = normalise_rows(probs_NC), check_labels(label_N, probs_NC)
    same_group_NC = _same_group(label, group_C, probs.shape[1])
    if how == "strict":
        return _minus_log(probs[np.arange(len(label)), label])
    inside_NC = np.where(same_group_NC, probs, 0.0)
    return _minus_log(inside_NC.sum(axis=1) if how == "sum" else inside_NC.max(axis=1))


def top_k_accuracy(scores_NC: ArrayLike, label_N: ArrayLike, k: int, group_C: ArrayLike | None = None) -> float:
    """Share of rows whose label is among the k highest scores; with groups, whose label's group has a column there.

    Equal scores rank by column, lowest first, so that k = 1 agrees with argmax.
    """
    scores = check_matrix(scores_NC, "scores_NC")
    label = check_labels(label_N, scores)
    num_columns = scores.shape[1]
    if not 1 <= k <= num_columns:
        raise ValueError(f"k is {k}; allowed: 1 to the number of columns, {num_columns}")
    group = np.arange(num_columns) if group_C is None else group_C
    # Only the group's best column can decide, and argmax of the masked row finds it: its rank is the group's rank.
    best_N = np.where(_same_group(label, group, num_columns), scores, -np.inf).argmax(axis=1)
    best_score_N1 = scores[np.arange(len(label)), best_N][:, None]
    tied_before_NC = (scores == best_score_N1) & (np.arange(num_columns) < best_N[:, None])
    rank_N = ((scores > best_score_N1) | tied_before_NC).sum(axis=1)
    return float((rank_N < k).mean())


def cross_entropy_per_row(logits_NC: ArrayLike, label_N: ArrayLike, temperature: float = 1.0) -> Floats:
    """Minus the log probability of each label, unclipped."""
    log_probs = log_softmax(logits_NC, temperature)
    label = check_labels(label_N, log_probs)
    return -log_probs[np.arange(len(label)), label]


def cross_entropy_from_logits(logits_NC: ArrayLike, label_N: ArrayLike, temperature: float = 1.0) -> float:
    """Mean over the rows of `cross_entropy_per_row`."""
    return float(cross_entropy_per_row(logits_NC, label_N, temperature).mean())


@dataclass(frozen=True)
class PairedDifference:
    """Mean of loss a minus loss b over the same rows (negative: a is better) and how far chance could move it."""

    mean: float
    standard_error: float
    low: float
    """2.5 % of the resampled means lie below."""
    high: float
    """97.5 % of the resampled means lie below."""


def paired_bootstrap(loss_a_N: ArrayLike, loss_b_N: ArrayLike, num_resamples: int = 10_000, seed: int = 0) -> PairedDifference:
    """Percentile bootstrap of the mean difference of two losses measured on the same rows.

    Rows are drawn together, so what makes a photograph hard for both cancels (Efron and Tibshirani 1993, chapter 13).
    """
    loss_a, loss_b = check_vector(loss_a_N, "loss_a_N"), check_vector(loss_b_N, "loss_b_N")
    if loss_a.shape != loss_b.shape:
        raise ValueError(f"loss_a_N has {len(loss_a)} rows and loss_b_N {len(loss_b)}; they must be the same rows")
    if num_resamples < 2:
        raise ValueError(f"num_resamples is {num_resamples}; allowed: 2 or more")
    difference_N = loss_a - loss_b
    num_rows = len(difference_N)
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    step = max(1, _BOOTSTRAP_CELLS // num_rows)
    for start in range(0, num_resamples, step):
        stop = min(start + step, num_resamples)
        rows = generator.integers(0, num_rows, size=(stop - start, num_rows))
        means[start:stop] = difference_N[rows].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return PairedDifference(float(difference_N.mean()), float(means.std(ddof=1)), float(low), float(high))


def standard_error(values: ArrayLike) -> float:
    """Standard error of the mean: sample standard deviation (n - 1) over the root of n."""
    checked = check_vector(values, "values")
    return float(checked.std(ddof=1) / np.sqrt(len(checked)))


def _minus_log(probs_N: Floats) -> Floats:
    result: Floats = -np.log(np.clip(probs_N, CLIP, 1.0 - CLIP))
    return result


def _same_group(label_N: Ints, group_C: ArrayLike, num_columns: int) -> NDArray[np.bool_]:
    group: NDArray[Any] = np.asarray(group_C)
    if group.shape != (num_columns,) or group.dtype.kind not in "iu":
        raise ValueError(f"group_C has shape {group.shape} and type {group.dtype}; allowed: ({num_columns},) integers")
    same: NDArray[np.bool_] = group[label_N][:, None] == group
    return same
