"""What the policies for merged classes cost under each reading of an evaluator that does not say how it folds them.

Shapes: N photographs, C contest columns, G trained classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.scoring.arrays import Floats
from hectocar.scoring.metrics import log_loss_grouped_per_row
from hectocar.scoring.submission import EQUIVALENT_POLICIES, EquivalentPolicy, write_equivalent_mass


@dataclass(frozen=True)
class ReadingLosses:
    """Mean log loss of the same rows under the three readings of the evaluator."""

    strict: float
    summed: float
    maximum: float
    num_rows: int


@dataclass(frozen=True)
class PolicyEffect:
    """What one policy costs."""

    policy: EquivalentPolicy
    every: ReadingLosses
    merged: ReadingLosses | None
    """Of the rows whose label belongs to a merged class; None where there is no such row."""


def equivalent_effect(
    probs_trained_NG: ArrayLike,
    label_column_N: ArrayLike,
    trained_members: Sequence[Sequence[int]],
    num_columns: int,
    frequency_C: ArrayLike | None = None,
) -> dict[EquivalentPolicy, PolicyEffect]:
    """Log loss of each policy of `write_equivalent_mass`, strict, summed and maximum.

    Args:
        probs_trained_NG: probabilities of the trained classes.
        label_column_N: the contest column of each row's label.
        trained_members: for each trained class the contest columns it stands for; every column exactly once.
        frequency_C: how often each contest column's name occurs in training; without it `frequency` is left out.

    Raises:
        ValueError: shapes, members, labels or frequencies that do not fit.
    """
    effects: dict[EquivalentPolicy, PolicyEffect] = {}
    for policy in EQUIVALENT_POLICIES:
        if policy == "frequency" and frequency_C is None:
            continue
        probs_NC = write_equivalent_mass(probs_trained_NG, trained_members, num_columns, policy=policy, frequency_C=frequency_C)
        effects[policy] = _measure(policy, probs_NC, label_column_N, trained_members)
    return effects


def effect_rows(effects: dict[EquivalentPolicy, PolicyEffect]) -> list[list[str]]:
    """A header row and a row per policy, for the screen."""
    names = ("strict", "summed", "maximum")
    rows = [["policy", "rows", *names, "merged rows", *(f"merged {name}" for name in names)]]
    for policy, effect in effects.items():
        merged = ["0", "-", "-", "-"] if effect.merged is None else _describe_losses(effect.merged)
        rows.append([policy, *_describe_losses(effect.every), *merged])
    return rows


def _describe_losses(losses: ReadingLosses) -> list[str]:
    return [str(losses.num_rows), *(f"{loss:.5f}" for loss in (losses.strict, losses.summed, losses.maximum))]


def _measure(
    policy: EquivalentPolicy, probs_NC: Floats, label_column_N: ArrayLike, trained_members: Sequence[Sequence[int]]
) -> PolicyEffect:
    group_C = np.zeros(probs_NC.shape[1], dtype=np.int64)
    for trained, members in enumerate(trained_members):
        group_C[list(members)] = trained
    strict_N = log_loss_grouped_per_row(probs_NC, label_column_N, group_C, "strict")
    summed_N = log_loss_grouped_per_row(probs_NC, label_column_N, group_C, "sum")
    maximum_N = log_loss_grouped_per_row(probs_NC, label_column_N, group_C, "max")
    is_merged_C = np.bincount(group_C)[group_C] > 1

    def mean(rows: NDArray[np.intp]) -> ReadingLosses:
        strict, summed, maximum = (float(loss_N[rows].mean()) for loss_N in (strict_N, summed_N, maximum_N))
        return ReadingLosses(strict, summed, maximum, len(rows))

    merged = np.flatnonzero(is_merged_C[np.asarray(label_column_N)])
    return PolicyEffect(policy, mean(np.arange(len(strict_N))), mean(merged) if len(merged) else None)
