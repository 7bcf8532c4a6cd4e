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

from hectocar.calibration import optimise as fitting
from hectocar.calibration import temperature as calibrate
from hectocar.calibration.temperature import Temperature, VectorScaling, choose_shrinkage, fit_temperature, fit_vector_scaling
from hectocar.codec import decode, encode
from hectocar.errors import ArtifactError
from hectocar.scoring.metrics import cross_entropy_from_logits, cross_entropy_per_row, log_softmax, softmax

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


def test_a_conditional_temperature_recovers_a_planted_slope() -> None:
    """Logits made too sure by exp(0.5 x) need the temperature exp(0.5 x); a constant feature changes nothing."""
    logits_NC, label_N = calibrated(6000)
    feature_N = np.random.default_rng(1).normal(7.0, 2.0, size=6000).clip(1.5, 12.5)
    standard_N = (feature_N - feature_N.mean()) / feature_N.std()
    features_NK = np.stack([feature_N, np.full(6000, 0.1)], axis=1)
    made_sure = logits_NC * np.exp(0.3 + 0.5 * standard_N)[:, None]
    model = fit_temperature(made_sure, label_N, features_NK)
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
    model = fit_temperature(logits_NC, label_N, features_NK, ridge=1e6)
    assert model.slopes[0] == pytest.approx(0.0, abs=1e-6)
    assert model.log_base == pytest.approx(fit_temperature(logits_NC, label_N).log_base, abs=1e-6)


def test_a_weight_of_two_is_the_row_twice() -> None:
    """And the scale of the weights means nothing; for vector scaling N counts rows, so twice the rows need twice the pull."""
    logits_NC, label_N = calibrated(80)
    features_NK = logits_NC[:, :1]
    weight_N = np.random.default_rng(0).integers(0, 3, size=80)
    index = np.repeat(np.arange(80), weight_N)
    weighted = fit_temperature(logits_NC, label_N, features_NK, weight_N=5.0 * weight_N)
    repeated = fit_temperature(logits_NC[index], label_N[index], features_NK[index])
    np.testing.assert_allclose(weighted.apply(logits_NC, features_NK), repeated.apply(logits_NC, features_NK), atol=1e-5)
    scaled = fit_vector_scaling(logits_NC, label_N, shrinkage=8.0, weight_N=weight_N)
    again = fit_vector_scaling(logits_NC[index], label_N[index], shrinkage=8.0 * len(index) / 80)
    np.testing.assert_allclose(scaled.apply(logits_NC), again.apply(logits_NC), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_finite_differences(seed: int) -> None:
    logits_NC, label_N = calibrated(40, seed=seed)
    generator = np.random.default_rng(seed)
    share_N = fitting.check_row_weights(generator.random(40), 40)
    standard_NK, behind_NC = generator.normal(size=(40, 2)), logits_NC - logits_NC[np.arange(40), label_N][:, None]
    log_probs_NC = log_softmax(logits_NC)
    objectives: list[tuple[Callable[[Array], tuple[float, Array]], Array]] = [
        (lambda x: calibrate._temperature_loss(x, behind_NC, standard_NK, share_N, 0.1), generator.normal(size=3) * 0.4),
        (lambda x: calibrate._vector_scaling_loss(x, log_probs_NC, label_N, share_N, 0.1), generator.normal(size=10)),
    ]
    for objective, point in objectives:
        numeric = optimize.approx_fprime(point, lambda x, f=objective: f(x)[0], 1e-7)  # type: ignore[misc]
        np.testing.assert_allclose(objective(point)[1], numeric, atol=2e-6)


def test_vector_scaling_is_the_identity_at_huge_shrinkage_and_better_in_sample_below() -> None:
    """Less shrinkage, less in-sample loss, never more than without scaling."""
    logits_NC, label_N = calibrated()
    bent_NC = log_softmax(logits_NC) * np.array([1.0, 1.5, 0.7, 1.0, 1.0]) + np.array([0.0, 1.0, 0.0, -1.0, 0.0])
    identity = fit_vector_scaling(bent_NC, label_N, shrinkage=1e12)
    np.testing.assert_allclose(identity.apply(bent_NC), log_softmax(bent_NC), atol=1e-7)
    losses = [
        cross_entropy_per_row(fit_vector_scaling(bent_NC, label_N, shrinkage=s).apply(bent_NC), label_N).mean()
        for s in (0.01, 1.0, 100.0)
    ]
    assert losses[0] < losses[1] < losses[2] < cross_entropy_from_logits(bent_NC, label_N)


def test_vector_scaling_ignores_a_constant_added_to_a_row() -> None:
    logits_NC, label_N = calibrated(100)
    model = fit_vector_scaling(logits_NC, label_N, shrinkage=1.0)
    moved_NC = logits_NC + np.random.default_rng(0).normal(size=(100, 1)) * 50
    np.testing.assert_allclose(model.apply(moved_NC), model.apply(logits_NC), atol=1e-10)
    np.testing.assert_allclose(np.exp(model.apply(logits_NC)).sum(axis=1), 1.0, rtol=1e-12)


def test_a_class_without_rows_keeps_finite_parameters() -> None:
    logits_NC, label_N = calibrated(100)
    model = fit_vector_scaling(logits_NC, np.minimum(label_N, 3), shrinkage=0.1)
    assert np.isfinite(model.apply(logits_NC)).all()
    assert model.bias[4] < 0.0


def test_shrinkage_is_chosen_by_rows_that_were_held_out() -> None:
    """Few rows without a bend ask for much shrinkage; many rows with a bend for little."""
    few_NC, few_label_N = calibrated(60)
    assert choose_shrinkage(few_NC, few_label_N, np.arange(60) % 3, [0.01, 1e6]) == 1e6
    many_NC, many_label_N = calibrated(1500)
    many_NC[:, 0] += 2.0
    assert choose_shrinkage(many_NC, many_label_N, np.arange(1500) % 3, [1e6, 0.01]) == 0.01


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_json_gives_identical_predictions(dtype: type) -> None:
    logits_NC, label_N = calibrated(60)
    logits, features_NK = logits_NC.astype(dtype), logits_NC[:, :2].astype(dtype)
    for temperature, features in (
        (fit_temperature(logits, label_N), None),
        (fit_temperature(logits, label_N, features_NK), True),
    ):
        again = decode(Temperature, json.loads(json.dumps(encode(temperature), allow_nan=False)), "model.json")
        assert again == temperature
        given_features = features_NK if features else None
        np.testing.assert_array_equal(again.apply(logits, given_features), temperature.apply(logits, given_features))
    scaling = fit_vector_scaling(logits, label_N, shrinkage=1.0)
    same = decode(VectorScaling, json.loads(json.dumps(encode(scaling), allow_nan=False)), "model.json")
    np.testing.assert_array_equal(same.apply(logits), scaling.apply(logits))


GOOD_TEMPERATURE = {"log_base": 0.0, "slopes": [1.0], "means": [0.0], "scales": [1.0]}
GOOD_SCALING = {"log_scale": [0.0, 0.1], "bias": [0.0, 1.0]}


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
        (VectorScaling, {**GOOD_SCALING, "bias": [0.0]}, "2 log_scale and 1 bias"),
        (VectorScaling, {"log_scale": [], "bias": []}, "0 log_scale and 0 bias"),
        (VectorScaling, {**GOOD_SCALING, "log_scale": [0.0, -6.0]}, "log_scale reaches -6.0; allowed: -5 to 5"),
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
        (lambda: fit_temperature(LOGITS, [0, 1], [[1.0]]), r"features_NK has shape \(1, 1\); allowed: \(2, K\)"),
        (lambda: fit_temperature(LOGITS, [0, 1], [[1.0], [math.nan]]), r"features_NK\[1, 0\] is nan"),
        (lambda: fit_temperature(LOGITS, [0, 1], weight_N=[1.0]), r"weight_N has shape \(1,\); allowed: \(2,\)"),
        (lambda: fit_temperature(LOGITS, [0, 1], weight_N=[0.0, 0.0]), "not all 0"),
        (lambda: fit_temperature(LOGITS, [0, 1], ridge=-1.0), "ridge is -1.0; allowed: a finite number, 0 or more"),
        (lambda: Temperature(0.0, (), (), ()).apply(LOGITS, [[1.0], [1.0]]), "features_NK is given; allowed: None"),
        (lambda: Temperature(0.0, (1.0,), (0.0,), (1.0,)).apply(LOGITS), r"features_NK is None; allowed: \(2, 1\)"),
        (lambda: Temperature(0.0, (1.0,), (0.0,), (1.0,)).apply(LOGITS, LOGITS), r"\(2, 2\); allowed: \(2, 1\)"),
        (lambda: VectorScaling((0.0,), (0.0,)).apply(LOGITS), r"logits_NC has shape \(2, 2\); allowed: \(rows, 1\)"),
        (lambda: fit_vector_scaling(LOGITS, [0, 1], shrinkage=0.0), "shrinkage is 0.0; allowed: a finite number above 0"),
        (lambda: choose_shrinkage(LOGITS, [0, 1], [0, 0], [1.0]), "allowed: .* with 2 or more folds"),
        (lambda: choose_shrinkage(LOGITS, [0, 1], [0, 1], []), "candidates is empty"),
    ],
)
def test_wrong_arguments_are_refused_with_the_allowed_range(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
