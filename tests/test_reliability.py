"""Reliability against a slow loop and against labels drawn from the probabilities themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hectocar.scoring.arrays import softmax
from hectocar.scoring.metrics import standard_error
from hectocar.scoring.reliability import compute_reliability, expected_ece_of_chance, loss_by_decile


def drawn(num_rows: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities and labels drawn from them: calibrated by construction."""
    generator = np.random.default_rng(seed)
    probs_NC = softmax(generator.normal(scale=2.0, size=(num_rows, 4)))
    return probs_NC, (probs_NC.cumsum(axis=1) < generator.random((num_rows, 1))).sum(axis=1).clip(max=3)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_bins_equal_a_slow_loop(num_rows: int, num_bins: int, seed: int) -> None:
    """Every row is in exactly one bin, between its edges, and empty bins are dropped."""
    probs_NC, label_N = drawn(num_rows, seed)
    found = compute_reliability(probs_NC, label_N, num_bins)
    error, position = 0.0, 0
    for number in range(num_bins):
        rows = [row for row in range(num_rows) if min(int(probs_NC[row].max() * num_bins), num_bins - 1) == number]
        if not rows:
            continue
        confidence = np.mean([probs_NC[row].max() for row in rows])
        accuracy = np.mean([probs_NC[row].argmax() == label_N[row] for row in rows])
        assert found.low_B[position] == pytest.approx(number / num_bins)
        assert found.high_B[position] == pytest.approx((number + 1) / num_bins)
        assert found.count_B[position] == len(rows)
        assert found.confidence_B[position] == pytest.approx(confidence)
        assert found.accuracy_B[position] == pytest.approx(accuracy)
        error += len(rows) / num_rows * abs(accuracy - confidence)
        position += 1
    assert position == len(found.count_B)
    assert found.ece == pytest.approx(error)


def test_certainty_belongs_to_the_last_bin() -> None:
    """A probability of exactly 1 opens no sixteenth bin, and float32 rows that sum to 1.0000001 are divided first."""
    found = compute_reliability(np.array([[1.0, 0.0], [1.0000001, 0.0]], dtype=np.float32), [0, 1])
    assert found.count_B.tolist() == [2]
    assert (found.low_B[0], found.high_B[0], found.accuracy_B[0], found.ece) == (14 / 15, 1.0, 0.5, 0.5)


def test_a_calibrated_model_has_the_ece_of_chance_and_a_sure_one_has_not() -> None:
    """Sampling alone makes an ECE above 0, smaller with more rows; overconfidence makes more than that."""
    probs_NC, label_N = drawn(3000)
    chance = expected_ece_of_chance(probs_NC)
    assert compute_reliability(probs_NC, label_N).ece == pytest.approx(chance, rel=0.6)
    sharp_NC = probs_NC**2 / (probs_NC**2).sum(axis=1, keepdims=True)
    assert compute_reliability(sharp_NC, label_N).ece > 4 * expected_ece_of_chance(sharp_NC)
    assert expected_ece_of_chance(probs_NC[:300]) == pytest.approx(chance * np.sqrt(10), rel=0.2)


def test_the_ece_of_chance_by_hand_and_by_seed() -> None:
    """One row of 0.75 is off by 0.25 three times in four and by 0.75 once: 0.375 on average."""
    assert expected_ece_of_chance([[0.75, 0.25]], num_draws=20_000) == pytest.approx(0.375, abs=0.01)
    assert expected_ece_of_chance([[1.0, 0.0]]) == 0.0
    probs_NC, _ = drawn(50)
    assert expected_ece_of_chance(probs_NC, seed=1) == expected_ece_of_chance(probs_NC, seed=1)
    assert expected_ece_of_chance(probs_NC, seed=1) != expected_ece_of_chance(probs_NC, seed=2)


@given(st.integers(2, 80), st.data())
@settings(max_examples=40, deadline=None)
def test_groups_split_the_rows_in_order_of_value(num_rows: int, data: st.DataObject) -> None:
    """Sizes differ by one at most, values never step back, and the groups' means average to the whole."""
    num_groups = data.draw(st.integers(1, num_rows // 2))
    generator = np.random.default_rng(num_rows)
    loss_N, value_N = generator.exponential(size=num_rows), generator.integers(0, 5, size=num_rows)
    groups = loss_by_decile(loss_N, value_N, num_groups)
    counts = [group.count for group in groups]
    assert len(groups) == num_groups
    assert sum(counts) == num_rows
    assert max(counts) - min(counts) <= 1
    edges = [edge for group in groups for edge in (group.low, group.high)]
    assert edges == sorted(edges)
    assert sum(group.mean * group.count for group in groups) == pytest.approx(loss_N.sum())


def test_equal_values_keep_their_order_and_fill_every_group() -> None:
    loss_N = np.arange(20.0)
    groups = loss_by_decile(loss_N, np.zeros(20))
    assert [group.mean for group in groups] == [0.5 + 2 * index for index in range(10)]
    many = loss_by_decile(np.arange(1000.0), np.arange(1000) % 2, num_groups=2)
    assert [group.mean for group in many] == [499.0, 500.0]
    assert [group.mean for group in loss_by_decile(np.arange(1000.0), np.arange(1000) % 2)][:2] == [99.0, 299.0]
    assert groups[3].standard_error == pytest.approx(standard_error(loss_N[6:8]))


GOOD: Any = [[0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compute_reliability(GOOD, [0, 2]), r"label_N\[1\] is 2; allowed: 0 to 1"),
        (lambda: compute_reliability(GOOD, [0, 1], num_bins=0), "num_bins is 0; allowed: 1 or more"),
        (lambda: compute_reliability([0.5], [0]), r"shape \(1,\); allowed: \(rows, columns\)"),
        (lambda: expected_ece_of_chance(GOOD, num_draws=0), "num_draws is 0; allowed: 1 or more"),
        (lambda: loss_by_decile([1.0, 2.0], [1.0, 2.0, 3.0]), "2 rows and value_N 3"),
        (lambda: loss_by_decile([1.0, 2.0], [1.0, 2.0]), "num_groups is 10; allowed: 1 to half the number of rows, 1"),
    ],
)
def test_wrong_arguments_are_refused_with_the_allowed_range(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
