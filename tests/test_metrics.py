"""Metrics against scikit-learn, against slow loops, and at the edges where naive formulas break."""

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special
from sklearn import metrics as reference

from hectocar.scoring import arrays, metrics

Table = tuple[NDArray[np.float64], NDArray[np.int64]]


@st.composite
def tables(draw: st.DrawFn, num_columns: int | None = None) -> Table:
    """Non-negative rows, some with zeros and tiny values, never all zero, and a label for each."""
    rows = draw(st.integers(1, 6))
    columns = num_columns or draw(st.integers(2, 7))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probs = generator.dirichlet(np.full(columns, draw(st.sampled_from([0.01, 0.3, 5.0]))), size=rows)
    probs[generator.random(probs.shape) < 0.1] = 0.0
    probs[np.arange(rows), generator.integers(columns, size=rows)] += 0.05
    return probs * draw(st.sampled_from([1.0, 1e-3, 250.0])), generator.integers(columns, size=rows)


def evaluator_loss(probs_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> float:
    """The contest's three steps, the last one done by scikit-learn."""
    clipped = np.clip(probs_NC / probs_NC.sum(axis=1, keepdims=True), 1e-15, 1 - 1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn only warns where rows do not sum to 1: then the parity means nothing
        return float(reference.log_loss(label_N, clipped, labels=np.arange(probs_NC.shape[1])))


@given(tables())
@settings(deadline=None)
def test_log_loss_equals_scikit_learn_on_normalised_and_clipped_rows(table: Table) -> None:
    assert metrics.log_loss(*table) == pytest.approx(evaluator_loss(*table), rel=1e-12)


@given(tables(num_columns=5), st.lists(st.integers(-2, 2), min_size=5, max_size=5), st.sampled_from(["strict", "sum", "max"]))
def test_grouped_loss_equals_a_slow_loop(table: Table, group: list[int], how: Literal["strict", "sum", "max"]) -> None:
    probs_NC, label_N = table
    expected = []
    for row, label in zip(probs_NC.tolist(), label_N.tolist(), strict=True):
        mass = [value / sum(row) for value, member in zip(row, group, strict=True) if member == group[label]]
        chosen = {"strict": row[label] / sum(row), "sum": math.fsum(mass), "max": max(mass)}[how]
        expected.append(-math.log(min(max(chosen, 1e-15), 1 - 1e-15)))
    np.testing.assert_allclose(metrics.log_loss_grouped_per_row(probs_NC, label_N, group, how), expected, rtol=1e-9, atol=1e-14)


@given(tables(), st.sampled_from([1e-6, 3.0, 1e6]))
def test_a_row_may_be_scaled_without_changing_its_loss(table: Table, factor: float) -> None:
    scaled = metrics.log_loss_per_row(table[0] * factor, table[1])
    np.testing.assert_allclose(scaled, metrics.log_loss_per_row(*table), rtol=1e-9, atol=1e-14)


@given(tables())
def test_without_equivalent_classes_the_three_readings_agree_and_with_them_sum_is_best(table: Table) -> None:
    alone, together = np.arange(table[0].shape[1]), np.zeros(table[0].shape[1], dtype=int)
    losses = [metrics.log_loss_grouped(*table, alone, how) for how in ("strict", "sum", "max")]
    assert losses == [metrics.log_loss(*table)] * 3
    strict, summed, maximum = (metrics.log_loss_grouped_per_row(*table, together, how) for how in ("strict", "sum", "max"))
    assert (summed <= maximum).all()
    assert (maximum <= strict).all()


def test_grouped_loss_by_hand() -> None:
    probs_NC, group = [[0.1, 0.3, 0.6], [0.2, 0.2, 0.6]], [4, 4, 9]
    assert metrics.log_loss_grouped(probs_NC, [0, 2], group, "strict") == pytest.approx(-(math.log(0.1) + math.log(0.6)) / 2)
    assert metrics.log_loss_grouped(probs_NC, [0, 2], group, "sum") == pytest.approx(-(math.log(0.4) + math.log(0.6)) / 2)
    assert metrics.log_loss_grouped(probs_NC, [0, 2], group, "max") == pytest.approx(-(math.log(0.3) + math.log(0.6)) / 2)


def test_the_clip_bounds_the_worst_and_the_best_row() -> None:
    losses = metrics.log_loss_per_row([[1.0, 0.0], [1.0, 0.0]], [1, 0])
    assert losses.tolist() == [-math.log(1e-15), -math.log(1 - 1e-15)]


def test_half_precision_input_is_summed_in_float64() -> None:
    probs_NC = np.full((1, 4096), 1.0, dtype=np.float16)
    assert metrics.log_loss(probs_NC, [7]) == pytest.approx(math.log(4096), rel=1e-12)


@given(tables(), st.integers(1, 7))
@settings(deadline=None)
def test_top_k_equals_a_sort(table: Table, k: int) -> None:
    scores_NC, label_N = table
    if k > scores_NC.shape[1]:
        return
    best = np.argsort(-scores_NC, axis=1, kind="stable")[:, :k]
    assert metrics.top_k_accuracy(scores_NC, label_N, k) == pytest.approx((best == label_N[:, None]).any(axis=1).mean())


@pytest.mark.parametrize(("k", "expected"), [(1, 1 / 3), (2, 2 / 3), (3, 2 / 3), (4, 1.0)])
def test_top_k_counts_any_column_of_the_label_s_group(k: int, expected: float) -> None:
    """Columns 0 and 1 are one class: its label 1 is hit by column 0. Ranks of the three labels' groups: 0, 1 and 3."""
    scores_NC = [[9, 1, 2, 3], [5, 0, 9, 1], [9, 4, 3, 2]]
    assert metrics.top_k_accuracy(scores_NC, [1, 1, 3], k, [0, 0, 1, 2]) == pytest.approx(expected)


def test_equal_scores_rank_by_column_as_argmax_does() -> None:
    assert metrics.top_k_accuracy([[0.5, 0.5], [0.5, 0.5]], [0, 1], 1) == 0.5


@pytest.mark.parametrize("temperature", [0.05, 1.0, 7.0])
def test_softmax_and_cross_entropy_equal_scipy(temperature: float) -> None:
    generator = np.random.default_rng(3)
    logits_NC, label_N = generator.normal(scale=20.0, size=(50, 9)), generator.integers(9, size=50)
    expected = special.log_softmax(logits_NC / temperature, axis=1)
    np.testing.assert_allclose(arrays.log_softmax(logits_NC, temperature), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(arrays.softmax(logits_NC, temperature), np.exp(expected), rtol=1e-9)
    np.testing.assert_allclose(arrays.softmax(logits_NC, temperature).sum(axis=1), 1.0, rtol=1e-14)
    loss = metrics.cross_entropy_from_logits(logits_NC, label_N, temperature)
    assert loss == pytest.approx(-expected[np.arange(50), label_N].mean(), rel=1e-12)


def test_logits_far_apart_neither_overflow_nor_lose_the_small_loss() -> None:
    """exp(1e5) overflows and log(1 + 1e-44) is 0; the loss of a sure and right row must still be 1e-44."""
    losses = metrics.cross_entropy_per_row([[1e5, -1e5], [1e5, -1e5], [101.0, 0.0]], [0, 1, 0])
    assert losses.tolist() == [0.0, 2e5, pytest.approx(math.exp(-101.0), rel=1e-12)]
    assert arrays.softmax([[1e308, -1e308]], temperature=1e-300).tolist() == [[1.0, 0.0]]


def test_paired_bootstrap_sees_a_small_shift_that_unpaired_noise_would_hide() -> None:
    generator = np.random.default_rng(0)
    hard_N = generator.exponential(2.0, size=4000)
    loss_b = hard_N + 0.02 + generator.normal(scale=0.1, size=4000)
    result = metrics.paired_bootstrap(hard_N, loss_b, num_resamples=2000)
    difference = hard_N - loss_b
    assert result.mean == pytest.approx(difference.mean())
    assert result.standard_error == pytest.approx(metrics.standard_error(difference), rel=0.06)
    assert result.low < result.mean < result.high < 0.0
    assert result.high - result.low == pytest.approx(2 * 1.96 * result.standard_error, rel=0.06)
    assert metrics.standard_error(hard_N) > 10 * result.standard_error


def test_paired_bootstrap_is_reproducible_and_zero_against_itself() -> None:
    loss_N = np.random.default_rng(1).random(50)
    assert metrics.paired_bootstrap(loss_N, loss_N[::-1], 500, seed=4) == metrics.paired_bootstrap(loss_N, loss_N[::-1], 500, 4)
    assert metrics.paired_bootstrap(loss_N, loss_N[::-1], 500, 4) != metrics.paired_bootstrap(loss_N, loss_N[::-1], 500, 5)
    assert metrics.paired_bootstrap(loss_N, loss_N) == metrics.PairedDifference(0.0, 0.0, 0.0, 0.0)


def test_chunks_of_the_bootstrap_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loss_a, loss_b = np.random.default_rng(2).random((2, 40))
    whole = metrics.paired_bootstrap(loss_a, loss_b, 100)
    monkeypatch.setattr(metrics, "_BOOTSTRAP_CELLS", 40 * 10)
    assert metrics.paired_bootstrap(loss_a, loss_b, 100) == whole


def test_standard_error_by_hand() -> None:
    assert metrics.standard_error([1.0, 3.0]) == pytest.approx(math.sqrt(2.0) / math.sqrt(2.0))


GOOD: Any = [[0.5, 0.5], [0.2, 0.8]]
NAN = math.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.log_loss(GOOD, [0, 2]), r"label_N\[1\] is 2; allowed: 0 to 1"),
        (lambda: metrics.log_loss(GOOD, [-1, 0]), r"label_N\[0\] is -1; allowed: 0 to 1"),
        (lambda: metrics.log_loss(GOOD, [0]), r"shape \(1,\) .* allowed: \(2,\) integers"),
        (lambda: metrics.log_loss(GOOD, [0.0, 1.0]), "float64; allowed: .* integers"),
        (lambda: metrics.log_loss([0.5, 0.5], [0]), r"shape \(2,\); allowed: \(rows, columns\)"),
        (lambda: metrics.log_loss(np.zeros((0, 3)), []), r"shape \(0, 3\); allowed: \(rows, columns\), at least one"),
        (lambda: metrics.log_loss([[0.5, NAN]], [0]), r"probs_NC\[0, 1\] is nan; allowed: finite"),
        (lambda: metrics.log_loss([[0.5, math.inf]], [0]), r"probs_NC\[0, 1\] is inf; allowed: finite"),
        (lambda: metrics.log_loss([[1.5, -0.5]], [0]), r"probs_NC\[0, 1\] is -0.5; allowed: 0 or more"),
        (
            lambda: metrics.log_loss([[1.0, 0.0], [0.0, 0.0]], [0, 0]),
            "row 1 of probs_NC sums to 0.0; allowed: a finite sum above 0",
        ),
        (lambda: metrics.log_loss([[1e308, 1e308]], [0]), "row 0 of probs_NC sums to inf"),
        (lambda: metrics.log_loss_grouped(GOOD, [0, 1], [0], "sum"), r"group_C has shape \(1,\) .* allowed: \(2,\)"),
        (lambda: metrics.log_loss_grouped(GOOD, [0, 1], [0, 1], "mean"), "'mean'; allowed: 'strict', 'sum', 'max'"),  # type: ignore[arg-type]
        (lambda: metrics.top_k_accuracy(GOOD, [0, 1], 3), "k is 3; allowed: 1 to the number of columns, 2"),
        (lambda: metrics.top_k_accuracy(GOOD, [0, 1], 0), "k is 0; allowed: 1"),
        (lambda: arrays.softmax(GOOD, 0.0), "temperature is 0.0; allowed: a finite number above 0"),
        (lambda: arrays.softmax(GOOD, NAN), "temperature is nan"),
        (lambda: arrays.softmax([[math.inf, 0.0]]), r"logits_NC\[0, 0\] is inf"),
        (lambda: metrics.cross_entropy_from_logits(GOOD, [0, 5]), r"label_N\[1\] is 5; allowed: 0 to 1"),
        (lambda: metrics.paired_bootstrap([1.0, 2.0], [1.0, 2.0, 3.0]), "2 rows and loss_b_N 3"),
        (lambda: metrics.paired_bootstrap([1.0, 2.0], [1.0, NAN]), "loss_b_N has 1 values that are not finite"),
        (lambda: metrics.paired_bootstrap([1.0, 2.0], [1.0, 2.0], num_resamples=1), "num_resamples is 1; allowed: 2 or more"),
        (lambda: metrics.standard_error([1.0]), "allowed: one dimension of 2 or more"),
    ],
)
def test_wrong_arguments_are_refused_with_the_allowed_range(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
