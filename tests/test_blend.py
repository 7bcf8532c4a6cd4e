"""Blends against slow loops, against finite differences, and against every simpler choice of weights."""

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

from hectocar.calibration import blend as room
from hectocar.calibration.blend import Blend, LogProbTables, Mean
from hectocar.calibration.fit_blend import compute_geometric_loss, fit_blend, select_greedily
from hectocar.codec import decode, encode
from hectocar.errors import ArtifactError
from hectocar.scoring.arrays import log_softmax
from hectocar.scoring.metrics import cross_entropy_per_row

Array = NDArray[np.float64]
MEANS: tuple[Mean, ...] = ("arithmetic", "geometric")


def models(num_models: int = 4, num_rows: int = 120, num_classes: int = 6, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Models of different skill and sureness that err together in part."""
    generator = np.random.default_rng(seed)
    label_N = generator.integers(0, num_classes, size=num_rows)
    shared_NC = generator.normal(size=(num_rows, num_classes))
    skill_M = generator.uniform(0.5, 2.5, size=num_models)
    tables = []
    for skill in skill_M:
        logits_NC = shared_NC + generator.normal(size=(num_rows, num_classes)) + skill * np.eye(num_classes)[label_N]
        tables.append(log_softmax(logits_NC * generator.uniform(0.5, 3.0)))
    return np.stack(tables), label_N


def simplex(num_models: int, seed: int) -> Array:
    return np.random.default_rng(seed).dirichlet(np.ones(num_models))


def make(weights: Array, mean: Mean) -> Blend:
    return Blend(tuple(weights.tolist()), mean)


def loss_of(model: Blend, log_probs_MNC: Array, label_N: NDArray[np.int64]) -> float:
    return float(cross_entropy_per_row(model.apply(log_probs_MNC), label_N).mean())


@pytest.mark.parametrize("mean", MEANS)
def test_the_mean_equals_a_slow_loop(mean: Mean) -> None:
    """Sums of probabilities, or products of their powers, each divided by its row's sum."""
    log_probs_MNC, _ = models(3, 7, 4)
    weights = simplex(3, 1)
    found_NC = make(weights, mean).apply(log_probs_MNC)
    for row in range(7):
        values = []
        for column in range(4):
            probs = [math.exp(log_probs_MNC[m, row, column]) for m in range(3)]
            if mean == "geometric":
                values.append(math.prod(p**w for p, w in zip(probs, weights, strict=True)))
            else:
                values.append(sum(w * p for p, w in zip(probs, weights, strict=True)))
        np.testing.assert_allclose(np.exp(found_NC[row]), np.array(values) / sum(values), rtol=1e-10)


@given(st.sampled_from(MEANS), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_blend_does_not_know_the_order_of_models_rows_or_classes(mean: Mean, seed: int) -> None:
    """And its rows are probabilities."""
    log_probs_MNC, _ = models(3, 9, 5, seed)
    weights, generator = simplex(3, seed), np.random.default_rng(seed)
    m, n, c = generator.permutation(3), generator.permutation(9), generator.permutation(5)
    plain_NC = make(weights, mean).apply(log_probs_MNC)
    turned_NC = make(weights[m], mean).apply([table[n][:, c] for table in log_probs_MNC[m]])
    np.testing.assert_allclose(turned_NC, plain_NC[n][:, c], atol=1e-12)
    np.testing.assert_allclose(np.exp(plain_NC).sum(axis=1), 1.0, rtol=1e-12)
    assert (plain_NC <= 0.0).all()


@pytest.mark.parametrize("mean", MEANS)
def test_one_model_alone_stays_what_it_is(mean: Mean) -> None:
    """Also beside others of weight 0, whose NaN nobody reads, and beside a copy of itself."""
    log_probs_MNC, _ = models(2, 20)
    one = log_probs_MNC[0]
    for weights, tables in (((1.0,), [one]), ((1.0, 0.0), [one, one * np.nan]), ((0.3, 0.7), [one, one])):
        np.testing.assert_allclose(Blend(weights, mean).apply(tables), one, atol=1e-10)


@pytest.mark.parametrize("mean", MEANS)
def test_probabilities_of_zero_stay_finite(mean: Mean) -> None:
    """exp(+-800) leaves float64; the log of 0 counts as -100, below the evaluator's clip."""
    tables = np.log(np.array([[[1.0, 1e-300, 1e-12]], [[0.5, 0.5, 1e-12]]]))
    tables[0, 0, 1] = -np.inf
    with np.errstate(all="raise", under="ignore"):
        found_NC = Blend((0.5, 0.5), mean).apply(tables)
        fitted = fit_blend(tables, [1], mean=mean)
    assert np.isfinite(found_NC).all()
    assert fitted.weights == (0.0, 1.0)


@pytest.mark.parametrize("mean", MEANS)
def test_rows_that_sum_to_1_005_weigh_no_more(mean: Mean) -> None:
    """Rounding to float16 leaves such rows; each is divided by its sum before it is blended."""
    log_probs_MNC, label_N = models(3, 30)
    off_MNC = log_probs_MNC + np.random.default_rng(0).uniform(-0.005, 0.005, size=(3, 30, 1))
    weights = simplex(3, 2)
    np.testing.assert_allclose(make(weights, mean).apply(off_MNC), make(weights, mean).apply(log_probs_MNC), atol=1e-12)
    off, exact = (fit_blend(tables, label_N, mean=mean).weights for tables in (off_MNC, log_probs_MNC))
    np.testing.assert_allclose(off, exact, atol=1e-9)


def test_chunks_and_float32_do_not_change_a_blend(monkeypatch: pytest.MonkeyPatch) -> None:
    log_probs_MNC, label_N = models(3, 50)
    narrow = [table.astype(np.float32) for table in log_probs_MNC]
    blend = make(simplex(3, 0), "geometric")
    whole, fitted = blend.apply(narrow), fit_blend(narrow, label_N, mean="geometric")
    np.testing.assert_allclose(whole, blend.apply(log_probs_MNC), atol=1e-5)
    monkeypatch.setattr(room, "_CELLS", 3 * 6 * 7)
    np.testing.assert_allclose(blend.apply(narrow), whole, atol=1e-14)
    np.testing.assert_allclose(fit_blend(narrow, label_N, mean="geometric").weights, fitted.weights, atol=1e-6)


def geometric_loss(log_probs_MNC: Array, label_N: NDArray[np.int64], weights: Array) -> tuple[float, Array, Array]:
    tables = LogProbTables(list(log_probs_MNC))
    return compute_geometric_loss(tables, label_N, np.full(len(label_N), 1.0 / len(label_N)), weights)


def arithmetic_loss(log_probs_MNC: Array, label_N: NDArray[np.int64], weights: Array) -> tuple[float, Array]:
    label_probs_MN = np.exp(log_probs_MNC[:, np.arange(len(label_N)), label_N])
    mixed_N = weights @ label_probs_MN
    return -float(np.log(mixed_N).mean()), -(label_probs_MN / mixed_N).mean(axis=1)


def test_gradient_and_hessian_are_those_of_finite_differences() -> None:
    log_probs_MNC, label_N = models(3, 30)
    weights, weight_N = np.array([0.2, 0.5, 0.3]), np.random.default_rng(0).random(30)
    tables, share_N = LogProbTables(list(log_probs_MNC)), weight_N / weight_N.sum()
    _, gradient, hessian = compute_geometric_loss(tables, label_N, share_N, weights)
    numeric = optimize.approx_fprime(weights, lambda w: compute_geometric_loss(tables, label_N, share_N, w)[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)
    steps = 1e-5 * np.eye(3)
    numeric = [(compute_geometric_loss(tables, label_N, share_N, weights + d)[1] - gradient) / 1e-5 for d in steps]
    np.testing.assert_allclose(hessian, numeric, atol=1e-3)


@pytest.mark.parametrize("mean", [*MEANS, None])
@pytest.mark.parametrize("seed", range(3))
def test_a_fitted_blend_is_never_worse_than_a_simpler_one(mean: Mean | None, seed: int) -> None:
    """In-sample it beats each model alone, equal weights and 20 random weights of its own mean."""
    log_probs_MNC, label_N = models(5, seed=seed)
    fitted = fit_blend(log_probs_MNC, label_N, mean=mean)
    weights = np.array(fitted.weights)
    assert weights.min() >= 0.0
    assert abs(weights.sum() - 1.0) <= 1e-12
    pruned = np.where(weights < 1e-4, 0.0, weights)
    if (pruned != weights).any():  # kept only for what they bring
        cost = loss_of(make(pruned / pruned.sum(), fitted.mean), log_probs_MNC, label_N)
        assert cost > loss_of(fitted, log_probs_MNC, label_N) + 1e-6
    others = [*np.eye(5), np.full(5, 0.2), *(simplex(5, s) for s in range(20))]
    best = min(loss_of(make(other, fitted.mean), log_probs_MNC, label_N) for other in others)
    assert loss_of(fitted, log_probs_MNC, label_N) <= best + 1e-6


@pytest.mark.parametrize("mean", MEANS)
def test_convex_fits_reach_the_global_minimum(mean: Mean) -> None:
    """No start of another optimiser ends lower, and the gradient bounds what is left by 1e-6."""
    log_probs_MNC, label_N = models(6, seed=4)
    weights = np.array(fit_blend(log_probs_MNC, label_N, mean=mean).weights)
    compute = geometric_loss if mean == "geometric" else arithmetic_loss
    loss, gradient = compute(log_probs_MNC, label_N, weights)[:2]
    assert weights @ gradient - gradient.min() <= 1e-6
    for seed in range(3):
        other = optimize.minimize(
            lambda w: compute(log_probs_MNC, label_N, np.maximum(w, 1e-12))[:2],
            simplex(6, seed),
            jac=True,
            method="SLSQP",
            bounds=[(0.0, 1.0)] * 6,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0},
            options={"ftol": 1e-12},
        )
        assert loss <= other.fun + 1e-6


def test_a_free_mean_is_the_better_one() -> None:
    for seed in range(6):
        log_probs_MNC, label_N = models(4, seed=seed)
        free = fit_blend(log_probs_MNC, label_N, mean=None)
        losses = {mean: loss_of(fit_blend(log_probs_MNC, label_N, mean=mean), log_probs_MNC, label_N) for mean in MEANS}
        assert loss_of(free, log_probs_MNC, label_N) == min(losses.values())
        assert free.mean == min(MEANS, key=lambda mean: losses[mean])


def test_a_planted_mixture_is_recovered() -> None:
    """Labels drawn from 0.7 a + 0.3 b, beside a model that knows nothing: the fit says so."""
    generator = np.random.default_rng(0)
    tables = log_softmax(generator.normal(scale=2.0, size=(3 * 5000, 5))).reshape(3, 5000, 5)
    truth_NC = np.tensordot([0.7, 0.3, 0.0], np.exp(tables), axes=1)
    label_N = (truth_NC.cumsum(axis=1) < generator.random((5000, 1))).sum(axis=1).clip(max=4)
    weights = fit_blend(tables, label_N, mean="arithmetic").weights
    assert weights == pytest.approx((0.7, 0.3, 0.0), abs=0.04)


@pytest.mark.parametrize("mean", MEANS)
def test_models_and_rows_given_twice_change_nothing(mean: Mean) -> None:
    """Copies share their model's weight, and a weight of two is the row twice."""
    log_probs_MNC, label_N = models(3, 60)
    plain = loss_of(fit_blend(log_probs_MNC, label_N, mean=mean), log_probs_MNC, label_N)
    doubled = np.concatenate([log_probs_MNC, log_probs_MNC])
    assert loss_of(fit_blend(doubled, label_N, mean=mean), doubled, label_N) == pytest.approx(plain, abs=1e-6)
    weight_N = np.tile([0, 1, 2], 20)
    index = np.repeat(np.arange(60), weight_N)
    weighted = fit_blend(log_probs_MNC, label_N, mean=mean, weight_N=weight_N)
    repeated = fit_blend(log_probs_MNC[:, index], label_N[index], mean=mean)
    np.testing.assert_allclose(weighted.weights, repeated.weights, atol=1e-3)


def test_a_tiny_weight_that_saves_a_row_is_kept() -> None:
    """One row in 20,000 that only the second model knows is worth a weight of 5e-5; without it that row costs 30."""
    tables = np.zeros((2, 20_000, 2))
    tables[0] = np.log([1.0 - 1e-13, 1e-13])
    tables[1] = np.log([0.5, 0.5])
    label_N = np.zeros(20_000, dtype=np.int64)
    label_N[0] = 1
    weights = fit_blend(tables, label_N, mean="arithmetic").weights
    assert 5e-5 < weights[1] < 2e-4
    tables[0] = np.log([1.0 - 1e-3, 1e-3])
    assert fit_blend(tables, label_N, mean="arithmetic").weights == (1.0, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_selection_is_the_baseline(seed: int) -> None:
    """Its weights are counts; it is at least as good as the best model and no better than the convex optimum."""
    log_probs_MNC, label_N = models(6, seed=seed)
    greedy = select_greedily(log_probs_MNC, label_N, num_rounds=30)
    loss = loss_of(greedy, log_probs_MNC, label_N)
    assert loss >= loss_of(fit_blend(log_probs_MNC, label_N, mean="arithmetic"), log_probs_MNC, label_N) - 1e-6
    assert loss <= min(cross_entropy_per_row(table, label_N).mean() for table in log_probs_MNC)
    assert any(np.allclose(np.array(greedy.weights) * k, np.round(np.array(greedy.weights) * k)) for k in range(1, 31))


def test_greedy_selection_equals_a_slow_loop() -> None:
    log_probs_MNC, label_N = models(3, 40, seed=2)
    probs_MN = np.exp(log_probs_MNC[:, np.arange(40), label_N])
    chosen: list[int] = []
    history: list[tuple[float, list[int]]] = []
    for _ in range(10):
        losses = [-np.log(probs_MN[[*chosen, m]].mean(axis=0)).mean() for m in range(3)]
        chosen = [*chosen, int(np.argmin(losses))]
        history.append((min(losses), chosen))
    _, best = min(history, key=lambda entry: entry[0])
    expected = [best.count(m) / len(best) for m in range(3)]
    assert select_greedily(log_probs_MNC, label_N, num_rounds=10).weights == pytest.approx(expected)
    assert select_greedily(log_probs_MNC, label_N, num_rounds=1).weights == tuple(np.eye(3)[history[0][1][0]])


def test_json_gives_identical_predictions() -> None:
    log_probs_MNC, label_N = models()
    for mean in (None, "arithmetic"):
        fitted = fit_blend(log_probs_MNC, label_N, mean=mean)
        again = decode(Blend, json.loads(json.dumps(encode(fitted), allow_nan=False)), "model.json")
        assert again == fitted
        np.testing.assert_array_equal(again.apply(log_probs_MNC), fitted.apply(log_probs_MNC))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("x", "the content is 'x'; expected a mapping with weights, mean"),
        ({"weights": [1.0]}, "mean is missing"),
        ({"weights": [], "mean": "arithmetic"}, "allowed: one or more"),
        ({"weights": [0.5, 0.4], "mean": "arithmetic"}, "that sum to 1"),
        ({"weights": [1.5, -0.5], "mean": "arithmetic"}, "0 or more each"),
        ({"weights": [math.nan], "mean": "arithmetic"}, "weights.0 is nan; expected a finite number"),
        ({"weights": [1.0], "mean": 0.0}, "mean is 0.0; allowed: 'arithmetic', 'geometric'"),
        ({"weights": [1.0], "mean": "harmonic"}, "mean is 'harmonic'; allowed: 'arithmetic', 'geometric'; nearest: arithmetic"),
    ],
)
def test_bad_json_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        decode(Blend, data, "model.json")


HALF: Any = np.log(np.full((2, 3), 1 / 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Blend((1.0,), "arithmetic").apply([HALF, HALF]), "there are 2 tables .* allowed: 1, one per weight"),
        (lambda: Blend((0.5, 0.5), "arithmetic").apply([HALF, HALF[:1]]), r"\(1, 3\), \(2, 3\); allowed: .* one shape"),
        (lambda: fit_blend([], [0], mean="arithmetic"), "tables of shape nothing; allowed: floats, all of one shape"),
        (lambda: fit_blend(np.zeros((1, 2, 3), dtype=int), [0, 1], mean="arithmetic"), "allowed: floats"),
        (lambda: fit_blend([HALF[0]], [0], mean="arithmetic"), r"shape \(3,\); allowed: .* \(rows, classes\)"),
        (
            lambda: fit_blend([HALF, HALF + 1.0], [0, 1], mean="arithmetic"),
            r"row 0 of model 1 sums to 2.7.* allowed: log-probabilities",
        ),
        (lambda: fit_blend([HALF * np.nan], [0, 1], mean="arithmetic"), "row 0 of model 0 sums to nan"),
        (lambda: fit_blend([HALF], [0, 3], mean="arithmetic"), r"label_N\[1\] is 3; allowed: 0 to 2"),
        (
            lambda: fit_blend([HALF], [0, 1], mean="arithmetic", weight_N=[1.0, -1.0]),
            r"weight_N .* allowed: \(2,\) finite numbers",
        ),
        (lambda: select_greedily([HALF], [0, 1], num_rounds=0), "num_rounds is 0; allowed: 1 or more"),
    ],
)
def test_wrong_arguments_are_refused_with_the_allowed_range(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
