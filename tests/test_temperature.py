"""Calibration against planted temperatures, finite differences, and its own limits."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize

from hectocar.calibration import fit_temperature as fits
from hectocar.calibration import optimise
from hectocar.calibration.fit_temperature import fit_temperature, fit_temperature_under
from hectocar.calibration.temperature import Temperature
from hectocar.codec import decode, encode
from hectocar.errors import ArtifactError
from hectocar.scoring.arrays import softmax
from hectocar.scoring.metrics import cross_entropy_from_logits, cross_entropy_per_row

Array = NDArray[np.float64]


def calibrated(num_rows: int = 600, num_classes: int = 5, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Logits whose softmax is the truth: labels are drawn from it."""
    generator = np.random.default_rng(seed)
    logits_NC = generator.normal(scale=2.0, size=(num_rows, num_classes))
    draws_N1 = generator.random((num_rows, 1))
    return logits_NC, (softmax(logits_NC).cumsum(axis=1) < draws_N1).sum(axis=1).clip(max=num_classes - 1)


@given(st.floats(-2.9, 2.9), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_a_temperature_keeps_the_order_of_each_row(log_base: float, seed: int) -> None:
    """Dividing by a number above 0 changes how sure a row is, not what it prefers."""
    logits_NC, _ = calibrated(20, seed=seed)
    features_NK = np.random.default_rng(seed).normal(size=(20, 2)) * 5
    model = Temperature(log_base, (0.5, -1.0), (0.0, 0.1), (1.0, 2.0))
    log_probs_NC = model.apply(logits_NC, features_NK)
    np.testing.assert_array_equal(log_probs_NC.argsort(axis=1), logits_NC.argsort(axis=1))
    np.testing.assert_allclose(np.exp(log_probs_NC).sum(axis=1), 1.0, rtol=1e-12)
    assert (log_probs_NC <= 0.0).all()


@given(st.floats(0.2, 5.0))
@settings(max_examples=20, deadline=None)
def test_the_fit_finds_the_factor_by_which_logits_were_multiplied(factor: float) -> None:
    """Multiplied logits have a multiplied temperature and the same probabilities."""
    logits_NC, label_N = calibrated()
    plain, scaled = fit_temperature(logits_NC, label_N), fit_temperature(logits_NC * factor, label_N)
    assert math.exp(scaled.log_base - plain.log_base) == pytest.approx(factor, rel=1e-6)
    assert math.exp(plain.log_base) == pytest.approx(1.0, abs=0.15)
    np.testing.assert_allclose(scaled.apply(logits_NC * factor), plain.apply(logits_NC), atol=1e-6)


def test_no_temperature_on_a_fine_grid_is_better() -> None:
    logits_NC, label_N = calibrated(seed=3)
    best = fit_temperature(logits_NC, label_N)
    loss = cross_entropy_per_row(best.apply(logits_NC), label_N).mean()
    assert loss <= min(cross_entropy_from_logits(logits_NC, label_N, t) for t in np.geomspace(0.05, 20.0, 400)) + 1e-12


def test_a_temperature_never_leaves_its_bounds() -> None:
    """Rows that are all right ask for T = 0, rows that are all wrong for infinity: the bounds answer."""
    logits_NC, _ = calibrated(50)
    assert fit_temperature(logits_NC, logits_NC.argmax(axis=1)).temperatures(None, 2) == pytest.approx([0.05, 0.05])
    assert fit_temperature(logits_NC, logits_NC.argmin(axis=1)).temperatures(None, 2) == pytest.approx([20.0, 20.0])
    wild = Temperature(2.0, (9.0,), (0.0,), (1.0,))
    assert wild.temperatures([[-1e9], [0.0], [1e9]], 3) == pytest.approx([0.05, math.exp(2.0), 20.0])


def without_a_floor(logits_NC: Array, label_N: NDArray[np.int64], features_NK: Array, **ridge: float) -> Temperature:
    """By features, where the floor takes nothing."""
    num_rows, num_classes = logits_NC.shape
    return fit_temperature_under(
        logits_NC, label_N, features_NK, np.zeros(num_rows), np.full(num_classes, 1 / num_classes), **ridge
    )


def test_a_conditional_temperature_recovers_a_planted_slope() -> None:
    """Logits made too sure by exp(0.5 x) need the temperature exp(0.5 x); a constant feature changes nothing."""
    logits_NC, label_N = calibrated(6000)
    feature_N = np.random.default_rng(1).normal(7.0, 2.0, size=6000).clip(1.5, 12.5)
    standard_N = (feature_N - feature_N.mean()) / feature_N.std()
    features_NK = np.stack([feature_N, np.full(6000, 0.1)], axis=1)
    made_sure = logits_NC * np.exp(0.3 + 0.5 * standard_N)[:, None]
    model = without_a_floor(made_sure, label_N, features_NK)
    assert model.log_base == pytest.approx(0.3, abs=0.05)
    assert model.slopes == (pytest.approx(0.5, abs=0.05), pytest.approx(0.0, abs=1e-6))
    assert model.scales == (pytest.approx(feature_N.std()), 1.0)
    base = fit_temperature(made_sure, label_N)
    gain = cross_entropy_per_row(base.apply(made_sure), label_N) - cross_entropy_per_row(
        model.apply(made_sure, features_NK), label_N
    )
    assert gain.mean() > 0.02


def test_a_huge_ridge_takes_the_slopes_away() -> None:
    logits_NC, label_N = calibrated()
    features_NK = logits_NC.max(axis=1, keepdims=True)
    model = without_a_floor(logits_NC, label_N, features_NK, ridge=1e6)
    assert model.slopes[0] == pytest.approx(0.0, abs=1e-6)
    assert model.log_base == pytest.approx(fit_temperature(logits_NC, label_N).log_base, abs=1e-6)


def test_a_weight_of_two_is_the_row_twice() -> None:
    """And the scale of the weights means nothing."""
    logits_NC, label_N = calibrated(80)
    weight_N = np.random.default_rng(0).integers(0, 3, size=80)
    index = np.repeat(np.arange(80), weight_N)
    weighted = fit_temperature(logits_NC, label_N, weight_N=5.0 * weight_N)
    repeated = fit_temperature(logits_NC[index], label_N[index])
    np.testing.assert_allclose(weighted.apply(logits_NC), repeated.apply(logits_NC), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_finite_differences(seed: int) -> None:
    logits_NC, label_N = calibrated(40, seed=seed)
    generator = np.random.default_rng(seed)
    share_N = optimise.check_row_weights(generator.random(40), 40)
    behind_NC, point = logits_NC - logits_NC[np.arange(40), label_N][:, None], generator.normal(size=1) * 0.4
    numeric = optimize.approx_fprime(point, lambda x: fits._compute_loss(x, behind_NC, share_N)[0], 1e-7)
    np.testing.assert_allclose(fits._compute_loss(point, behind_NC, share_N)[1], numeric, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_json_gives_identical_predictions(dtype: type) -> None:
    logits_NC, label_N = calibrated(60)
    logits, features_NK = logits_NC.astype(dtype), logits_NC[:, :2].astype(dtype)
    for temperature, known in (
        (fit_temperature(logits, label_N), None),
        (without_a_floor(logits, label_N, features_NK), features_NK),
    ):
        again = decode(Temperature, json.loads(json.dumps(encode(temperature), allow_nan=False)), "model.json")
        assert again == temperature
        np.testing.assert_array_equal(again.apply(logits, known), temperature.apply(logits, known))


GOOD_TEMPERATURE = {"log_base": 0.0, "slopes": [1.0], "means": [0.0], "scales": [1.0]}


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (Temperature, None, "the content is None; expected a mapping with log_base, slopes"),
        (Temperature, {}, "log_base is missing"),
        (Temperature, {**GOOD_TEMPERATURE, "extra": 1}, "unknown key extra; nearest: means"),
        (Temperature, {**GOOD_TEMPERATURE, "log_base": math.nan}, "log_base is nan; expected a finite number"),
        (Temperature, {**GOOD_TEMPERATURE, "log_base": True}, "log_base is True"),
        (Temperature, {**GOOD_TEMPERATURE, "log_base": 10**400}, "log_base is inf; expected a finite number"),
        (Temperature, {**GOOD_TEMPERATURE, "log_base": 3.5}, "log_base is 3.5; allowed: -2.996 to 2.996"),
        (Temperature, {**GOOD_TEMPERATURE, "slopes": 1.0}, "slopes is 1.0; expected a list"),
        (Temperature, {**GOOD_TEMPERATURE, "slopes": ["1"]}, "slopes.0 is '1'; expected a number"),
        (Temperature, {**GOOD_TEMPERATURE, "means": []}, "1 slopes, 0 means and 1 scales"),
        (Temperature, {**GOOD_TEMPERATURE, "scales": [0.0]}, "smallest of scales is 0.0; allowed: above 0"),
    ],
)
def test_bad_json_is_refused(kind: Any, data: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        decode(kind, data, "model.json")


LOGITS: Any = [[1.0, 0.0], [0.0, 2.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_temperature(LOGITS, [0, 2]), r"label_N\[1\] is 2"),
        (lambda: fit_temperature(LOGITS, [0, 1], weight_N=[1.0]), r"weight_N has shape \(1,\); allowed: \(2,\)"),
        (lambda: fit_temperature(LOGITS, [0, 1], weight_N=[0.0, 0.0]), "not all 0"),
        (lambda: Temperature(0.0, (), (), ()).apply(LOGITS, [[1.0], [1.0]]), "features_NK is given; allowed: None"),
        (lambda: Temperature(0.0, (1.0,), (0.0,), (1.0,)).apply(LOGITS), r"features_NK is None; allowed: \(2, 1\)"),
        (lambda: Temperature(0.0, (1.0,), (0.0,), (1.0,)).apply(LOGITS, LOGITS), r"\(2, 2\); allowed: \(2, 1\)"),
    ],
)
def test_wrong_arguments_are_refused_with_the_allowed_range(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
