"""One prediction out of several: weighted power means of probabilities, from the geometric to the arithmetic mean and past it.

Shapes: M models, N rows, C classes, R rows of a chunk. Log-probabilities go in and come out; those below -100 (far under the
evaluator's clip at -34.5) count as -100, which keeps every power finite, and every row is normalised exactly. The inputs
may be float32 and are turned into float64 a few rows at a time, so that 40 tables of 12,000 rows need no third copy.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from hectocar.calibration import optimise as fitting
from hectocar.calibration.log_prob_tables import Sources, Tables, check_tables
from hectocar.scoring.metrics import Floats, Ints, _checked_labels, log_softmax

LOWEST_POWER, HIGHEST_POWER = -1.0, 2.0
FITTED_POWERS = (-1.0, 1.5)
TINY_WEIGHT = 1e-4
_GEOMETRIC = 1e-6
"""Below this power the mean is the geometric one within rounding."""
_POWER_TOLERANCE = 0.01
_MAX_ROUNDS = 100


@dataclass(frozen=True)
class Blend:
    """p_c proportional to (sum_m w_m p_mc^power)^(1 / power); power 1 is the arithmetic mean, 0 the geometric."""

    weights: tuple[float, ...]
    power: float

    def __post_init__(self) -> None:
        if not self.weights or not min(self.weights) >= 0.0 or not abs(math.fsum(self.weights) - 1.0) <= 1e-9:
            raise ValueError(f"weights are {self.weights}; allowed: one or more, 0 or more each, that sum to 1")
        check_power(self.power)

    def apply(self, log_probs_MNC: Tables) -> Floats:
        """(N, C) Log-probabilities of the blend; models of weight 0 are not read beyond their shape.

        Raises:
            ValueError: not as many models as weights, shapes that differ, NaN, a row that does not sum to 1.
        """
        tables = check_tables(log_probs_MNC)
        if len(tables) != len(self.weights):
            raise ValueError(
                f"there are {len(tables)} tables of log-probabilities; allowed: {len(self.weights)}, one per weight"
            )
        used = [index for index, weight in enumerate(self.weights) if weight > 0.0]
        sources, weights = Sources([tables[index] for index in used]), np.asarray(self.weights)[used]
        result = np.empty((sources.num_rows, sources.num_classes))
        for rows, log_probs_MRC in sources.iter_chunks():
            result[rows] = _mix(log_probs_MRC, weights, self.power)
        return result


def check_power(power: float) -> None:
    """Raises ValueError."""
    if not LOWEST_POWER <= power <= HIGHEST_POWER:
        raise ValueError(f"power is {power}; allowed: {LOWEST_POWER:g} to {HIGHEST_POWER:g}")


def _mix(log_probs_MRC: Floats, weights_M: Floats, power: float) -> Floats:
    """(R, C) Log-probabilities of the power mean. Changes log_probs_MRC."""
    if abs(power) < _GEOMETRIC:
        return log_softmax(np.tensordot(weights_M, log_probs_MRC, axes=1))
    log_probs_MRC *= power
    log_probs_MRC += np.log(weights_M)[:, None, None]
    highest_RC = log_probs_MRC.max(axis=0)
    log_probs_MRC -= highest_RC
    return log_softmax((highest_RC + np.log(np.exp(log_probs_MRC, out=log_probs_MRC).sum(axis=0))) / power)


def compute_blend_loss(
    log_probs_MNC: Tables,
    label_N: ArrayLike,
    weights_M: ArrayLike,
    power: float,
    *,
    weight_N: ArrayLike | None = None,
) -> tuple[float, Floats]:
    """Weighted mean loss of a blend, and its gradient by the weights.

    With S_c = sum_m w_m p_mc^q, d log p_y / d w_m = (p_my^q / S_y - sum_c p_c p_mc^q / S_c) / q; geometric:
    log p_my - sum_c p_c log p_mc.
    """
    check_power(power)
    tables = check_tables(log_probs_MNC)
    label, share = _checked_labels(label_N, tables[0]), fitting.check_row_weights(weight_N, len(tables[0]))
    weights = np.asarray(weights_M, dtype=np.float64)
    if weights.shape != (len(tables),) or not weights.min() >= 0.0 or not weights.sum() > 0.0:
        raise ValueError(f"weights_M has shape {weights.shape}; allowed: ({len(tables)},) of 0 or more, not all 0")
    loss, gradient, _ = _evaluate(Sources(tables), label, share, weights, power, with_hessian=False)
    return loss, gradient


def _evaluate(
    sources: Sources, label_N: Ints, share_N: Floats, weights_M: Floats, power: float, with_hessian: bool = True
) -> tuple[float, Floats, Floats]:
    num_models = len(weights_M)
    loss, gradient, hessian = 0.0, np.zeros(num_models), np.zeros((num_models, num_models))
    geometric = abs(power) < _GEOMETRIC
    root = 1.0 if geometric else 1.0 / power
    for rows, factor_MRC in sources.iter_chunks():
        num_rows, share_R = factor_MRC.shape[1], share_N[rows]
        if geometric:
            log_probs_RC = log_softmax(np.tensordot(weights_M, factor_MRC, axes=1))
        else:  # the factors become p_mc^q / S_c, within exp(+-200) thanks to LOWEST_LOG
            factor_MRC *= power
            np.exp(factor_MRC, out=factor_MRC)
            sum_RC = np.tensordot(weights_M, factor_MRC, axes=1)
            log_probs_RC = log_softmax(np.log(sum_RC) * root)
            factor_MRC /= sum_RC
        picked = np.arange(num_rows), label_N[rows]
        loss -= float(share_R @ log_probs_RC[picked])
        at_label_MR = factor_MRC[:, picked[0], picked[1]]
        probs_RC = np.exp(log_probs_RC)
        mean_MR = np.einsum("mrc,rc->mr", factor_MRC, probs_RC)
        gradient -= root * (at_label_MR - mean_MR) @ share_R
        if not with_hessian:
            continue
        hessian -= (1.0 if geometric else root * root) * (mean_MR * share_R) @ mean_MR.T
        if not geometric:
            hessian += root * (at_label_MR * share_R) @ at_label_MR.T
        if geometric or root != 1.0:
            flat = factor_MRC.reshape(num_models, -1)
            second = (flat * (probs_RC * share_R[:, None]).ravel()) @ flat.T
            hessian += second if geometric else root * (root - 1.0) * second
    return loss, gradient, hessian


def fit_blend(
    log_probs_MNC: Tables,
    label_N: ArrayLike,
    *,
    power: float | None,
    weight_N: ArrayLike | None = None,
) -> Blend:
    """The weights, and with power None also the power in [-1, 1.5], of lowest weighted mean loss.

    The loss is convex in the weights for powers 1 and 0, whose optimum is therefore the global one; elsewhere the descent
    starts at the better of the arithmetic optimum and equal weights. Never worse than a single model or equal weights.
    Weights below 1e-4 are set to 0 unless that costs more than 1e-6.
    """
    if power is not None:
        check_power(power)
    tables = check_tables(log_probs_MNC)
    label, share = _checked_labels(label_N, tables[0]), fitting.check_row_weights(weight_N, len(tables[0]))
    fit = _WeightFit(Sources(tables), label, share)
    if power is None:
        fits = [fit.at_power(1.0), fit.at_power(0.0)]

        def profile(candidate: float) -> float:
            best_weights = min(fits, key=lambda entry: entry[0])[1]
            fits.append(fit.at_power(float(candidate), best_weights))
            return fits[-1][0]

        optimize.minimize_scalar(profile, bounds=FITTED_POWERS, method="bounded", options={"xatol": _POWER_TOLERANCE})
        _, weights, power = min(fits, key=lambda entry: entry[0])
    else:
        _, weights, power = fit.at_power(float(power))
    return Blend(fitting.to_floats(weights), power)


class _WeightFit:
    """Fits the weights at one power after another."""

    def __init__(self, sources: Sources, label_N: Ints, share_N: Floats) -> None:
        self._sources, self._label_N, self._share_N = sources, label_N, share_N
        label_log_probs_MN = sources.label_log_probs(label_N)
        self._label_probs_MN = np.exp(label_log_probs_MN)
        self._alone_M = -label_log_probs_MN @ share_N
        self._num_models = len(self._alone_M)
        self._equal_M = np.full(self._num_models, 1.0 / self._num_models)
        self._arithmetic_M = fitting.minimise_on_simplex(self._evaluate_arithmetic, self._equal_M)

    def _evaluate_arithmetic(self, weights_M: Floats) -> tuple[float, Floats, Floats]:
        """Only the labels' probabilities matter, because the mean of normalised rows is normalised."""
        mixed_N = weights_M @ self._label_probs_MN
        factor_MN = self._label_probs_MN / mixed_N
        loss = -float(self._share_N @ np.log(mixed_N))
        return loss, -factor_MN @ self._share_N, (factor_MN * self._share_N) @ factor_MN.T

    def at_power(self, power: float, start_M: Floats | None = None) -> tuple[float, Floats, float]:
        """Loss, weights and the power itself."""

        def loss_of(weights: Floats) -> float:
            if power == 1.0:
                return self._evaluate_arithmetic(weights)[0]
            used = np.flatnonzero(weights)
            return self._evaluate(used, power, weights[used], with_hessian=False)[0]

        if power == 1.0:
            weights = self._arithmetic_M
        else:
            starts = [self._arithmetic_M, self._equal_M] if start_M is None else [start_M]
            weights = self._grow(min(starts, key=loss_of), power)
        loss = loss_of(weights)
        if loss > self._alone_M.min():  # can happen to a loss that is not convex
            weights = np.eye(self._num_models)[self._alone_M.argmin()]
            loss = float(self._alone_M.min())
        pruned = np.where(weights < TINY_WEIGHT, 0.0, weights)
        pruned /= pruned.sum()
        # A weight of 1e-5 can carry rows that every other model gets wrong, and at negative powers veto: that is worth keeping.
        pruned_loss = loss_of(pruned) if (pruned != weights).any() else loss
        return (pruned_loss, pruned, power) if pruned_loss <= loss + 1e-6 else (loss, weights, power)

    def _evaluate(
        self, models: NDArray[np.intp], power: float, weights: Floats, with_hessian: bool = True
    ) -> tuple[float, Floats, Floats]:
        return _evaluate(self._sources.select(models), self._label_N, self._share_N, weights, power, with_hessian)

    def _grow(self, weights_M: Floats, power: float) -> Floats:
        """Descends over the models in use, takes in those whose gradient promises a gain, until there are none.

        Most optima use a few of many models; the others then cost one gradient, not a Hessian per step.
        """
        weights, everyone = weights_M, np.arange(self._num_models)
        for _ in range(_MAX_ROUNDS):
            _, gradient, _ = self._evaluate(everyone, power, weights, with_hessian=False)
            models = np.flatnonzero((weights > 0.0) | (weights @ gradient - gradient > fitting.SIMPLEX_GAP))
            if weights @ gradient - gradient.min() <= fitting.SIMPLEX_GAP:
                return weights
            found = fitting.minimise_on_simplex(partial(self._evaluate, models, power), weights[models])
            if np.array_equal(found, weights[models]):
                return weights
            weights = np.zeros(self._num_models)
            weights[models] = found
        raise RuntimeError(f"the weights at power {power:g} did not converge in {_MAX_ROUNDS} rounds")


def select_greedily(
    log_probs_MNC: Tables,
    label_N: ArrayLike,
    *,
    num_rounds: int = 50,
    weight_N: ArrayLike | None = None,
) -> Blend:
    """Ensemble selection with replacement on the arithmetic mean (Caruana et al. 2004): the baseline for `fit_blend`.

    Each round adds the model that lowers the loss most, the first of equals; the best of all prefixes is kept.
    """
    if num_rounds < 1:
        raise ValueError(f"num_rounds is {num_rounds}; allowed: 1 or more")
    tables = check_tables(log_probs_MNC)
    label, share = _checked_labels(label_N, tables[0]), fitting.check_row_weights(weight_N, len(tables[0]))
    label_probs_MN = np.exp(Sources(tables).label_log_probs(label))
    sum_N, chosen, losses = np.zeros(len(label)), [], []
    for num_chosen in range(1, num_rounds + 1):
        loss_M = -np.log((sum_N + label_probs_MN) / num_chosen) @ share
        chosen.append(int(loss_M.argmin()))
        losses.append(loss_M.min())
        sum_N += label_probs_MN[chosen[-1]]
    best = int(np.argmin(losses)) + 1
    counts = np.bincount(chosen[:best], minlength=len(tables))
    return Blend(fitting.to_floats(counts / best), 1.0)
