"""The floor on planted unusable rows, by finite differences, and at its ends."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from hectocar.calibration import floor_loss
from hectocar.calibration.fit_temperature import fit_temperature, fit_temperature_under
from hectocar.calibration.floor import Floor
from hectocar.calibration.floor_loss import fit_floor, unusable_cost_per_row
from hectocar.codec import decode, encode
from hectocar.errors import ArtifactError
from hectocar.scoring.arrays import softmax
from hectocar.scoring.metrics import log_loss, log_loss_per_row

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Planted:
    """Real rows are right nine times in ten, unusable rows are just as sure of nothing, and the first feature tells them."""

    probs_NC: Array
    label_N: NDArray[np.int64]
    features_NK: Array
    unusable_probs_UC: Array
    unusable_features_UK: Array
    prior_C: Array

    def fit(self, unusable_share: float = 0.1, **options: Any) -> Floor:
        return fit_floor(
            self.probs_NC,
            self.label_N,
            self.features_NK,
            self.unusable_probs_UC,
            self.unusable_features_UK,
            self.prior_C,
            unusable_share=unusable_share,
            **options,
        )


def plant(distance: float = 8.0, num_rows: int = 600, num_unusable: int = 300, num_classes: int = 8) -> Planted:
    generator = np.random.default_rng(0)
    label_N = generator.integers(0, num_classes, size=num_rows)
    shown_N = np.where(generator.random(num_rows) < 0.9, label_N, generator.integers(0, num_classes, size=num_rows))
    sure = 10.0 * np.eye(num_classes)
    features_NK = generator.normal(size=(num_rows, 2))
    unusable_features_UK = generator.normal(size=(num_unusable, 2)) - [distance, 0.0]
    prior_C = np.arange(1.0, num_classes + 1)
    return Planted(
        softmax(sure[shown_N] + generator.normal(size=(num_rows, num_classes))),
        label_N,
        features_NK,
        softmax(sure[generator.integers(0, num_classes, size=num_unusable)]),
        unusable_features_UK,
        prior_C / prior_C.sum(),
    )


def test_where_a_feature_tells_the_floor_is_nearly_free() -> None:
    """Foreign rows fall under 1.5 times the prior's own loss, real rows lose less than 0.02."""
    planted = plant()
    model = planted.fit()
    prior_loss = -planted.prior_C @ np.log(planted.prior_C)
    before = unusable_cost_per_row(planted.unusable_probs_UC, planted.prior_C).mean()
    floored_UC = model.apply(planted.unusable_probs_UC, planted.unusable_features_UK, planted.prior_C)
    floored_NC = model.apply(planted.probs_NC, planted.features_NK, planted.prior_C)
    assert before > 4 * prior_loss
    assert unusable_cost_per_row(floored_UC, planted.prior_C).mean() < 1.5 * prior_loss
    assert log_loss(floored_NC, planted.label_N) < log_loss(planted.probs_NC, planted.label_N) + 0.02
    assert model.slopes[0] < 0.0
    assert abs(model.slopes[1]) < 0.3 * abs(model.slopes[0])


def test_features_are_standardised_by_real_and_unusable_rows_together() -> None:
    planted = plant()
    both = np.concatenate([planted.features_NK, planted.unusable_features_UK])
    model = planted.fit()
    np.testing.assert_allclose(model.means, both.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(model.scales, both.std(axis=0), rtol=1e-9)


def test_rows_stay_probabilities_and_the_share_stays_below_one() -> None:
    planted = plant()
    model = planted.fit()
    features_NK = planted.features_NK * 1e6
    probs_NC = model.apply(planted.probs_NC.astype(np.float32), features_NK, planted.prior_C)
    np.testing.assert_allclose(probs_NC.sum(axis=1), 1.0, rtol=1e-12)
    assert probs_NC.min() >= 0.0
    assert probs_NC.max() <= 1.0
    shares_N = model.shares(features_NK)
    assert 0.0 <= shares_N.min() <= shares_N.max() <= 0.999


def test_no_unusable_rows_to_come_ask_for_no_floor_and_only_unusable_ones_for_the_prior() -> None:
    """Where real rows are calibrated, a share of 0 has nothing to gain from a floor."""
    planted = plant()
    right = fit_floor(
        np.full((40, 8), 0.01) + 0.92 * np.eye(8)[np.arange(40) % 8],
        np.arange(40) % 8,
        planted.features_NK[:40],
        planted.unusable_probs_UC,
        planted.unusable_features_UK,
        planted.prior_C,
        unusable_share=0.0,
    )
    assert right.shares(planted.features_NK).max() < 1e-3
    assert planted.fit(unusable_share=1.0).shares(planted.unusable_features_UK).min() > 0.9


def test_more_unusable_rows_raise_the_floor() -> None:
    planted = plant(distance=1.0)
    shares = [planted.fit(unusable_share=share).shares(planted.features_NK).mean() for share in (0.02, 0.1, 0.5)]
    assert shares[0] < shares[1] < shares[2]


def test_no_neighbouring_floor_is_better() -> None:
    """The fitted point is a minimum: the expected loss written out row by row is not lower in 30 directions around it."""
    planted = plant(distance=2.0)
    model = planted.fit(ridge=0.0)

    def expected_loss(point: Array) -> float:
        moved = Floor(float(point[0]), tuple(point[1:].tolist()), model.means, model.scales)
        real_NC = moved.apply(planted.probs_NC, planted.features_NK, planted.prior_C)
        unusable_UC = moved.apply(planted.unusable_probs_UC, planted.unusable_features_UK, planted.prior_C)
        unusable = -(np.log(unusable_UC) * planted.prior_C).sum(axis=1).mean()
        return float(0.9 * log_loss_per_row(real_NC, planted.label_N).mean() + 0.1 * unusable)

    point = np.array([model.intercept, *model.slopes])
    best = expected_loss(point)
    for step in np.random.default_rng(0).normal(size=(30, 3)) * 0.05:
        assert expected_loss(point + step) >= best


def test_the_gradient_is_that_of_finite_differences() -> None:
    planted = plant(distance=1.0, num_rows=50, num_unusable=30)
    problem, _, _ = floor_loss._build_problem(
        (planted.probs_NC, planted.label_N, planted.features_NK, np.arange(50.0)),
        (planted.unusable_probs_UC, planted.unusable_features_UK),
        planted.prior_C,
        0.3,
        0.1,
    )
    for point in np.random.default_rng(0).normal(size=(4, 3)):
        numeric = optimize.approx_fprime(point, lambda x: problem.compute_loss(x)[0], 1e-7)
        np.testing.assert_allclose(problem.compute_loss(point)[1], numeric, atol=2e-6)


def test_a_weight_of_two_is_the_row_twice() -> None:
    planted = plant(distance=2.0, num_rows=100, num_unusable=50)
    weight_N = np.tile([0, 1, 2, 1], 25)
    index = np.repeat(np.arange(100), weight_N)
    weighted = planted.fit(weight_N=weight_N)
    repeated = Planted(
        planted.probs_NC[index],
        planted.label_N[index],
        planted.features_NK[index],
        planted.unusable_probs_UC,
        planted.unusable_features_UK,
        planted.prior_C,
    ).fit()
    np.testing.assert_allclose(weighted.shares(planted.features_NK), repeated.shares(planted.features_NK), atol=1e-5)


def test_the_unusable_cost_is_the_mean_loss_of_labels_drawn_from_the_prior() -> None:
    """And the prior itself is the cheapest prediction."""
    prior_C = np.array([0.5, 0.25, 0.25])
    probs_UC = np.array([[0.1, 0.2, 0.7], [0.0, 0.0, 1.0], prior_C])
    by_label = [log_loss_per_row(probs_UC, [c, c, c]) for c in (0, 1, 1, 2)]
    expected = 0.5 * by_label[0] + 0.25 * by_label[1] + 0.25 * by_label[3]
    np.testing.assert_allclose(unusable_cost_per_row(probs_UC, prior_C), expected, rtol=1e-12)
    assert unusable_cost_per_row(probs_UC, prior_C).argmin() == 2


def test_json_gives_identical_predictions() -> None:
    planted = plant(num_rows=100)
    model = planted.fit()
    again = decode(Floor, json.loads(json.dumps(encode(model), allow_nan=False)), "model.json")
    np.testing.assert_array_equal(
        again.apply(planted.probs_NC, planted.features_NK, planted.prior_C),
        model.apply(planted.probs_NC, planted.features_NK, planted.prior_C),
    )


GOOD = {"intercept": 0.0, "slopes": [1.0], "means": [0.0], "scales": [1.0]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"the content is \[\]; expected a mapping with intercept, slopes, means, scales"),
        ({**GOOD, "intercept": math.inf}, "intercept is inf; expected a finite number"),
        ({**GOOD, "slopes": [], "means": [], "scales": []}, "no slopes; allowed: one or more"),
        ({**GOOD, "scales": [-1.0]}, "smallest of scales is -1.0"),
        ({**GOOD, "means": [None]}, "means.0 is None; expected a number"),
    ],
)
def test_bad_json_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        decode(Floor, data, "model.json")


PROBS: Any = [[0.5, 0.5], [0.2, 0.8]]
ONE: Any = Floor(0.0, (1.0,), (0.0,), (1.0,))


def fit(
    *, unusable: Any = PROBS, unusable_features: Any = ((1.0,), (2.0,)), prior: Any = (0.5, 0.5), share: float = 0.1
) -> Floor:
    return fit_floor(PROBS, [0, 1], [[1.0], [2.0]], unusable, unusable_features, prior, unusable_share=share)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(share=1.5), "unusable_share is 1.5; allowed: 0 to 1"),
        (lambda: fit(prior=[0.5, 0.6]), r"prior_C has shape \(2,\); allowed: \(2,\) probabilities that sum to 1"),
        (lambda: fit(prior=[1.0]), r"prior_C has shape \(1,\); allowed: \(2,\)"),
        (lambda: fit(unusable=[[1.0]]), r"unusable_probs_UC has shape \(1, 1\); allowed: \(rows, 2\)"),
        (lambda: fit(unusable_features=[[1.0, 1.0]] * 2), r"unusable_features_UK has shape \(2, 2\); allowed: \(2, 1\)"),
        (lambda: ONE.shares([[1.0, 2.0]]), r"features_NK has shape \(1, 2\); allowed: \(1, 1\)"),
        (lambda: ONE.apply(PROBS, [[1.0]], [0.5, 0.5]), r"features_NK has shape \(1, 1\); allowed: \(2, 1\)"),
        (lambda: ONE.apply(PROBS, [[1.0], [1.0]], [1.0]), r"prior_C has shape \(1,\)"),
        (lambda: unusable_cost_per_row([[0.0, 0.0]], [0.5, 0.5]), "row 0 of probs_NC sums to 0.0"),
    ],
)
def test_wrong_arguments_are_refused_with_the_allowed_range(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_temperature_without_a_floor_is_the_plain_one() -> None:
    """With no share of the prior anywhere, the temperature under a floor is that of temperature scaling."""
    generator = np.random.default_rng(1)
    logits = generator.normal(0.0, 2.0, (500, 6))
    label_N = np.array([generator.choice(6, p=row) for row in softmax(logits)])
    log_probs = np.log(softmax(2.0 * logits))
    plain = math.exp(fit_temperature(log_probs, label_N).log_base)
    found = fit_temperature_under(log_probs, label_N, np.zeros((500, 0)), np.zeros(500), np.full(6, 1 / 6))
    assert math.exp(found.log_base) == pytest.approx(plain, rel=1e-3)


def test_wrong_labels_no_longer_heat_the_rest() -> None:
    """With a tenth of the labels drawn at random, a share of the prior lets the temperature be that of the other rows."""
    generator = np.random.default_rng(2)
    logits = generator.normal(0.0, 4.0, (4000, 6))
    label_N = np.array([generator.choice(6, p=row) for row in softmax(logits)])
    wrong = generator.random(4000) < 0.1
    label_N[wrong] = generator.integers(0, 6, wrong.sum())
    log_probs, prior = np.log(softmax(logits)), np.full(6, 1 / 6)
    shares = (np.zeros(4000), np.full(4000, 0.1))
    alone, under = (fit_temperature_under(log_probs, label_N, np.zeros((4000, 0)), share, prior) for share in shares)
    assert math.exp(under.log_base) == pytest.approx(1.0, abs=0.1)
    assert math.exp(alone.log_base) > math.exp(under.log_base) + 0.2


def test_a_temperature_under_a_floor_finds_a_planted_slope() -> None:
    """Rows whose feature says that their logits were doubled get twice the temperature."""
    generator = np.random.default_rng(3)
    logits = generator.normal(0.0, 2.0, (4000, 6))
    label_N = np.array([generator.choice(6, p=row) for row in softmax(logits)])
    doubled = generator.random(4000) < 0.5
    log_probs = np.log(softmax(logits * np.where(doubled, 2.0, 1.0)[:, None]))
    found = fit_temperature_under(log_probs, label_N, doubled[:, None].astype(float), np.zeros(4000), np.full(6, 1 / 6))
    temperatures = found.temperatures(doubled[:, None].astype(float), 4000)
    assert np.median(temperatures[doubled]) == pytest.approx(2.0, rel=0.1)
    assert np.median(temperatures[~doubled]) == pytest.approx(1.0, rel=0.1)
