"""Laws of the drift: equal sets do not differ, effects have the size they were made with, and missing values are counted."""

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from hectocar.auditing.drift import MAX_COHENS_D, QuantityDrift, compare_quantities, two_sample_auc
from hectocar.errors import DataError

Floats = NDArray[np.float64]


def compare(ref: Floats, target: Floats) -> QuantityDrift:
    return compare_quantities(["brightness"], {"brightness": ref}, {"brightness": target})[0]


def draw(count: int, seed: int, mean: float = 0.0, spread: float = 1.0) -> Floats:
    return np.random.default_rng(seed).normal(mean, spread, count)


@pytest.mark.parametrize("count", [2, 15, 60, 4000])
def test_two_samples_of_one_set_do_not_drift(count: int) -> None:
    """Whatever their size and however skewed, equal sets are called equal, though small ones have large d by chance."""
    for seed in range(30):
        ref, target = draw(count, seed), draw(count, seed + 1000)
        assert compare(ref, target).verdict == "none"
        assert compare(np.exp(2.0 * ref), np.exp(2.0 * target)).verdict == "none"
    same = compare(ref, ref)
    assert (same.cohens_d, same.ks_distance, same.superiority, same.verdict) == (0.0, 0.0, 0.5, "none")


@pytest.mark.parametrize(("shift", "verdict"), [(0.08, "none"), (0.35, "small"), (0.65, "medium"), (-1.2, "large")])
def test_effects_are_measured_as_made(shift: float, verdict: str) -> None:
    """For normal values d apart every statistic has its known value: d, Phi(d / sqrt 2) and 2 Phi(|d| / 2) - 1."""
    drift = compare(draw(20_000, 1, 5.0, 3.0), draw(10_000, 2, 5.0 + 3.0 * shift, 3.0))
    assert drift.cohens_d == pytest.approx(shift, abs=4.0 * drift.cohens_d_se)
    assert drift.superiority == pytest.approx(0.5 * (1.0 + math.erf(shift / 2.0)), abs=0.015)
    assert drift.ks_distance == pytest.approx(math.erf(abs(shift) / math.sqrt(8.0)), abs=0.02)
    assert drift.verdict == verdict
    assert drift.target_median - drift.ref_median == pytest.approx(3.0 * shift, abs=0.15)
    assert drift.target_mean - drift.ref_mean == pytest.approx(3.0 * shift, abs=0.15)


def test_the_standard_error_of_d_is_its_spread() -> None:
    """Over repeated samples d scatters by the standard error that is given."""
    drifts = [compare(draw(80, seed), draw(50, seed + 5000, 0.7)) for seed in range(250)]
    assert np.std([drift.cohens_d for drift in drifts]) == pytest.approx(drifts[0].cohens_d_se, rel=0.2)


def test_sides_exchange_and_units_do_not_matter() -> None:
    """Exchanging the sets turns the signs; gain and offset, of any sign of the offset, change no effect."""
    ref, target = draw(300, 1), draw(200, 2, 0.8)
    there, back, scaled = compare(ref, target), compare(target, ref), compare(1000.0 * ref - 7.0, 1000.0 * target - 7.0)
    assert back.cohens_d == pytest.approx(-there.cohens_d)
    assert back.superiority == pytest.approx(1.0 - there.superiority)
    assert back.ks_distance == pytest.approx(there.ks_distance)
    assert (scaled.cohens_d, scaled.superiority) == (pytest.approx(there.cohens_d), pytest.approx(there.superiority))


def test_a_change_of_spread_alone_is_a_drift() -> None:
    """Means that agree do not hide that one set varies three times as much."""
    drift = compare(draw(3000, 1), draw(3000, 2, 0.0, 3.0))
    assert abs(drift.cohens_d) < 0.1
    assert drift.verdict in ("medium", "large")


def test_constants_have_a_finite_effect() -> None:
    """A set of one JPEG quality against a set of another: d stands at its limit, never at infinity; equal ones at 0."""
    drift = compare(np.full(50, 86.0), np.full(50, 92.0))
    assert (drift.cohens_d, drift.superiority, drift.ks_distance, drift.verdict) == (MAX_COHENS_D, 1.0, 1.0, "large")
    assert compare(np.full(50, 92.0), np.full(50, 86.0)).cohens_d == -MAX_COHENS_D
    equal = compare(np.full(50, 0.1), np.full(70, 0.1))
    assert (equal.cohens_d, equal.superiority, equal.verdict) == (0.0, 0.5, "none")


def test_missing_values_are_counted_and_left_out() -> None:
    """NaN of unreadable photographs changes nothing but its count; too few values are unknown, not equal."""
    ref, target = draw(100, 1), draw(100, 2, 1.0)
    plain = compare(ref, target)
    holed = compare(np.concatenate([ref, [np.nan] * 7]), np.concatenate([[np.nan, np.inf], target]))
    assert (holed.num_ref, holed.num_target, holed.num_ref_missing, holed.num_target_missing) == (100, 100, 7, 2)
    assert (holed.cohens_d, holed.ks_distance, holed.verdict) == (plain.cohens_d, plain.ks_distance, plain.verdict)
    unknown = compare(ref, np.array([np.nan, 3.0]))
    assert (unknown.verdict, unknown.num_target) == ("unknown", 1)
    assert math.isnan(unknown.cohens_d)


def test_the_order_of_names_is_kept_and_a_missing_one_is_named() -> None:
    """One row per name, in the order asked for; a side without a quantity is refused."""
    values = {name: draw(20, 1) for name in ("width_px", "aspect", "contrast")}
    assert [drift.name for drift in compare_quantities(["contrast", "aspect"], values, values)] == ["contrast", "aspect"]
    with pytest.raises(DataError, match="the target set has no sharpness; allowed: width_px"):
        compare_quantities(["aspect", "sharpness"], values | {"sharpness": draw(3, 1)}, values)


def features(count: int, dim: int, seed: int, shift: float = 0.0) -> Floats:
    matrix = np.random.default_rng(seed).normal(size=(count, dim))
    matrix[:, 0] += shift
    return matrix


@pytest.mark.parametrize(("num_ref", "num_target", "dim"), [(60, 60, 32), (400, 150, 100)])
def test_equal_sets_cannot_be_told_apart(num_ref: int, num_target: int, dim: int) -> None:
    """With nothing to find, AUC scatters about 0.5 by its standard error, also with more features than photographs help."""
    tests = [
        two_sample_auc(features(num_ref, dim, seed), features(num_target, dim, seed + 900), seed=seed) for seed in range(20)
    ]
    error = np.mean([test.auc_se for test in tests])
    assert np.mean([test.auc for test in tests]) == pytest.approx(0.5, abs=4.0 * error / math.sqrt(20))
    assert np.std([test.auc for test in tests]) == pytest.approx(error, rel=0.5)
    assert sum(test.differs for test in tests) <= 3


def test_a_shift_is_found_at_its_size_and_more_of_it_better() -> None:
    """One feature of few d apart gives Phi(d / sqrt 2), the best there is, within three errors; a split pair gives 1."""
    aucs = []
    for d in (0.5, 1.0, 2.0):
        test = two_sample_auc(features(900, 5, 1), features(900, 5, 2, d), seed=0)
        assert test.differs
        assert test.auc == pytest.approx(0.5 * (1.0 + math.erf(d / 2.0)), abs=3.0 * test.auc_se)
        aucs.append(test.auc)
    assert aucs == sorted(aucs)
    assert two_sample_auc(features(50, 5, 1), features(50, 5, 2, 40.0), seed=0).auc == 1.0


def test_the_test_is_repeatable_symmetric_and_blind_to_units() -> None:
    """The seed decides all chance; scale of features and a constant one do not count; nor does, nearly, which set is which."""
    ref, target = features(200, 6, 1), features(200, 6, 2, 0.8)
    test = two_sample_auc(ref, target, seed=3)
    assert two_sample_auc(ref, target, seed=3) == test
    scaled = [np.hstack([side * 1e3 + 5.0, np.full((200, 1), 4.0)]) for side in (ref, target)]
    assert two_sample_auc(*scaled, seed=3).auc == pytest.approx(test.auc, abs=1e-3)
    assert two_sample_auc(target, ref, seed=3).auc == pytest.approx(test.auc, abs=test.auc_se)


def test_large_sets_are_subsampled() -> None:
    """33 000 embeddings against 8000 take the time of 4000 a side, and the drift is found in a feature of many."""
    ref, target = (np.random.default_rng(k).normal(size=(n, 200)).astype(np.float32) for k, n in enumerate((33_000, 8000)))
    target[:, 7] += 0.5
    start = time.process_time()
    test = two_sample_auc(ref, target, seed=0)
    assert time.process_time() - start < 30
    assert (test.num_ref, test.num_target, test.num_features) == (4000, 4000, 200)
    assert test.auc == pytest.approx(0.638, abs=0.03)


def test_features_that_cannot_be_compared_are_refused() -> None:
    """Shapes, numbers and counts are checked once, and the message says what is allowed."""
    good = features(40, 3, 1)
    for ref, target, reason in (
        (good, features(40, 4, 1), "one D"),
        (good[0], good, "one D"),
        (good, features(9, 3, 1), "2 or more photographs of each set"),
        (np.where(good > 2.0, np.nan, good), np.full((40, 3), np.nan), "finite numbers"),
    ):
        with pytest.raises(DataError, match=reason):
            two_sample_auc(ref, target, seed=0)
    with pytest.raises(DataError, match="2 or more folds"):
        two_sample_auc(good, good, seed=0, num_folds=1)
