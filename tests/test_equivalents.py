"""What each policy for merged classes costs under each reading, against laws that hold for any predictions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hectocar.scoring.equivalents import effect_rows, equivalent_effect
from hectocar.scoring.metrics import log_loss_grouped
from hectocar.scoring.submission import write_equivalent_mass

MEMBERS, NUM_COLUMNS = [[0, 3], [1], [2, 4, 5]], 6
GROUP = [0, 1, 2, 0, 2, 2]
seeds = st.integers(0, 2**32 - 1)


def draw(seed: int, num_rows: int = 40) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Confident or doubtful predictions, and labels in which the names of a class are not equally frequent."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(NUM_COLUMNS))
    return rng.dirichlet(np.full(3, 0.7), size=num_rows), rng.choice(NUM_COLUMNS, size=num_rows, p=weights)


def test_an_effect_computed_by_hand() -> None:
    """One row of a merged class and one of a plain class."""
    effects = equivalent_effect([[0.6, 0.4, 0.0], [0.2, 0.8, 0.0]], [3, 1], MEMBERS, NUM_COLUMNS, [1, 5, 0, 3, 0, 0])
    plain = -math.log(0.8)
    expected = {
        "whole": (-math.log(1e-15), -math.log(0.6), -math.log(0.6)),
        "split": (-math.log(0.3), -math.log(0.6), -math.log(0.3)),
        "frequency": (-math.log(0.45), -math.log(0.6), -math.log(0.45)),
    }
    assert list(effects) == list(expected)
    for policy, losses in expected.items():
        effect = effects[policy]  # type: ignore[index]
        assert effect.merged is not None
        assert (effect.policy, effect.every.num_rows, effect.merged.num_rows) == (policy, 2, 1)
        assert (effect.merged.strict, effect.merged.summed, effect.merged.maximum) == pytest.approx(losses)
        every = [(loss + plain) / 2 for loss in losses]
        assert (effect.every.strict, effect.every.summed, effect.every.maximum) == pytest.approx(every)


@given(seeds)
def test_laws_of_the_policies(seed: int) -> None:
    """Summed is the same for all; whole makes maximum equal it; a split costs at most the log of its parts."""
    probs, label = draw(seed)
    effects = equivalent_effect(probs, label, MEMBERS, NUM_COLUMNS, np.bincount(label, minlength=NUM_COLUMNS))
    for effect in effects.values():
        assert effect.every.summed == pytest.approx(effects["whole"].every.summed, rel=1e-9)
        assert effect.every.summed <= effect.every.maximum + 1e-12 <= effect.every.strict + 2e-12
    whole, split, frequency = effects["whole"].every, effects["split"].every, effects["frequency"].every
    assert whole.summed == whole.maximum
    assert split.strict == pytest.approx(split.maximum, rel=1e-9)
    assert split.strict <= split.summed + math.log(3) + 1e-9
    assert frequency.strict <= min(whole.strict, split.strict) + 1e-9


@given(seeds, seeds)
def test_frequency_of_the_labels_is_the_best_fixed_split_under_strict(seed: int, other: int) -> None:
    """Gibbs' inequality: no other deal between the names, the same for every photograph, costs less."""
    probs, label = draw(seed)
    probs = 0.99 * probs + 0.01 / 3  # the evaluator's clip would favour the tiny
    best = equivalent_effect(probs, label, MEMBERS, NUM_COLUMNS, np.bincount(label, minlength=NUM_COLUMNS))["frequency"]
    deal = np.random.default_rng(other).dirichlet(np.ones(NUM_COLUMNS))
    assert best.every.strict <= equivalent_effect(probs, label, MEMBERS, NUM_COLUMNS, deal)["frequency"].every.strict + 1e-12


def test_losses_are_those_of_the_written_columns_and_rows_are_counted() -> None:
    """The merged part is the mean over the rows whose label has an equivalent, the rest is untouched by the policy."""
    probs, label = draw(4)
    effects = equivalent_effect(probs, label, MEMBERS, NUM_COLUMNS)
    assert list(effects) == ["whole", "split"]
    for policy, effect in effects.items():
        written = write_equivalent_mass(probs, MEMBERS, NUM_COLUMNS, policy=policy)
        merged = label != 1
        assert effect.merged is not None
        assert effect.every.strict == pytest.approx(log_loss_grouped(written, label, GROUP, "strict"))
        assert effect.merged.strict == pytest.approx(log_loss_grouped(written[merged], label[merged], GROUP, "strict"))
        assert effect.merged.num_rows == merged.sum()


def test_without_a_merged_label_there_is_no_merged_part() -> None:
    effects = equivalent_effect([[0.5, 0.25, 0.25]], [1], MEMBERS, NUM_COLUMNS)
    assert {effect.merged for effect in effects.values()} == {None}
    header, *rows = effect_rows(effects)
    assert {len(row) for row in rows} == {len(header)}
    assert rows[0] == ["whole", "1", "1.38629", "1.38629", "1.38629", "0", "-", "-", "-"]


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"label_N\[0\] is 6; allowed: 0 to 5"):
        equivalent_effect([[0.5, 0.25, 0.25]], [6], MEMBERS, NUM_COLUMNS)
