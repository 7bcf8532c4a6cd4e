"""Fits the weights of a blend.

Shapes: M models, N rows, C classes, R rows of a chunk. Both losses are convex in the weights: an optimum is the global one.
"""

from functools import partial
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.calibration import optimise
from hectocar.calibration.blend import Blend, LogProbTables, Mean, Tables, check_tables
from hectocar.scoring.arrays import Floats, Ints, check_labels, log_softmax

TINY_WEIGHT = 1e-4
_MAX_ROUNDS = 100


def fit_blend(log_probs_MNC: Tables, label_N: ArrayLike, *, mean: Mean | None, weight_N: ArrayLike | None = None) -> Blend:
    """The weights, and with None also the mean, of lowest weighted mean loss.

    Never worse than a single model or equal weights. Weights below 1e-4 are set to 0 unless that costs more than 1e-6.
    """
    tables = check_tables(log_probs_MNC)
    label, share = check_labels(label_N, tables[0]), optimise.check_row_weights(weight_N, len(tables[0]))
    fit = _WeightFit(LogProbTables(tables), label, share)
    fits = [fit.at_mean(found) for found in ((mean,) if mean else get_args(Mean))]
    _, weights, best = min(fits, key=lambda entry: entry[0])
    return Blend(optimise.to_floats(weights), best)


def compute_geometric_loss(
    tables: LogProbTables, label_N: Ints, share_N: Floats, weights_M: Floats, *, with_hessian: bool = True
) -> tuple[float, Floats, Floats]:
    """Weighted mean loss of the geometric mean, its gradient and Hessian by the weights.

    d log p_y / d w_m = log p_my - sum_c p_c log p_mc; the Hessian is the covariance of the logs under p.
    """
    num_models = len(weights_M)
    loss, gradient, hessian = 0.0, np.zeros(num_models), np.zeros((num_models, num_models))
    for rows, log_probs_MRC in tables.iter_chunks():
        share_R = share_N[rows]
        log_probs_RC = log_softmax(np.tensordot(weights_M, log_probs_MRC, axes=1))
        picked = np.arange(log_probs_MRC.shape[1]), label_N[rows]
        loss -= float(share_R @ log_probs_RC[picked])
        probs_RC = np.exp(log_probs_RC)
        mean_MR = np.einsum("mrc,rc->mr", log_probs_MRC, probs_RC)
        gradient -= (log_probs_MRC[:, picked[0], picked[1]] - mean_MR) @ share_R
        if with_hessian:
            flat = log_probs_MRC.reshape(num_models, -1)
            hessian -= (mean_MR * share_R) @ mean_MR.T
            hessian += (flat * (probs_RC * share_R[:, None]).ravel()) @ flat.T
    return loss, gradient, hessian


class _WeightFit:
    """Fits the weights of one mean or the other."""

    def __init__(self, tables: LogProbTables, label_N: Ints, share_N: Floats) -> None:
        self._tables, self._label_N, self._share_N = tables, label_N, share_N
        label_log_probs_MN = tables.label_log_probs(label_N)
        self._label_probs_MN = np.exp(label_log_probs_MN)
        self._alone_M = -label_log_probs_MN @ share_N
        self._num_models = len(self._alone_M)
        self._equal_M = np.full(self._num_models, 1.0 / self._num_models)
        self._arithmetic_M = optimise.minimise_on_simplex(self._evaluate_arithmetic, self._equal_M)

    def _evaluate_arithmetic(self, weights_M: Floats) -> tuple[float, Floats, Floats]:
        """Only the labels' probabilities matter, because the mean of normalised rows is normalised."""
        mixed_N = weights_M @ self._label_probs_MN
        factor_MN = self._label_probs_MN / mixed_N
        loss = -float(self._share_N @ np.log(mixed_N))
        return loss, -factor_MN @ self._share_N, (factor_MN * self._share_N) @ factor_MN.T

    def at_mean(self, mean: Mean) -> tuple[float, Floats, Mean]:
        """Loss, weights and the mean itself."""

        def loss_of(weights: Floats) -> float:
            if mean == "arithmetic":
                return self._evaluate_arithmetic(weights)[0]
            used = np.flatnonzero(weights)
            return self._evaluate(used, weights[used], with_hessian=False)[0]

        weights = self._arithmetic_M
        if mean == "geometric":
            weights = self._grow(min([self._arithmetic_M, self._equal_M], key=loss_of))
        loss = loss_of(weights)
        if loss > self._alone_M.min():  # by rounding
            weights = np.eye(self._num_models)[self._alone_M.argmin()]
            loss = float(self._alone_M.min())
        pruned = np.where(weights < TINY_WEIGHT, 0.0, weights)
        pruned /= pruned.sum()
        # A weight of 1e-5 can carry rows that every other model gets wrong: that is worth keeping.
        pruned_loss = loss_of(pruned) if (pruned != weights).any() else loss
        return (pruned_loss, pruned, mean) if pruned_loss <= loss + 1e-6 else (loss, weights, mean)

    def _evaluate(self, models: NDArray[np.intp], weights: Floats, with_hessian: bool = True) -> tuple[float, Floats, Floats]:
        return compute_geometric_loss(
            self._tables.select(models), self._label_N, self._share_N, weights, with_hessian=with_hessian
        )

    def _grow(self, weights_M: Floats) -> Floats:
        """Descends over the models in use, takes in those whose gradient promises a gain, until there are none.

        Most optima use a few of many models; the others then cost one gradient, not a Hessian per step.
        """
        weights, everyone = weights_M, np.arange(self._num_models)
        for _ in range(_MAX_ROUNDS):
            _, gradient, _ = self._evaluate(everyone, weights, with_hessian=False)
            models = np.flatnonzero((weights > 0.0) | (weights @ gradient - gradient > optimise.SIMPLEX_GAP))
            if weights @ gradient - gradient.min() <= optimise.SIMPLEX_GAP:
                return weights
            found = optimise.minimise_on_simplex(partial(self._evaluate, models), weights[models])
            if np.array_equal(found, weights[models]):
                return weights
            weights = np.zeros(self._num_models)
            weights[models] = found
        raise RuntimeError(f"the weights did not converge in {_MAX_ROUNDS} rounds")


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
    label, share = check_labels(label_N, tables[0]), optimise.check_row_weights(weight_N, len(tables[0]))
    label_probs_MN = np.exp(LogProbTables(tables).label_log_probs(label))
    sum_N, chosen, losses = np.zeros(len(label)), [], []
    for num_chosen in range(1, num_rounds + 1):
        loss_M = -np.log((sum_N + label_probs_MN) / num_chosen) @ share
        chosen.append(int(loss_M.argmin()))
        losses.append(loss_M.min())
        sum_N += label_probs_MN[chosen[-1]]
    best = int(np.argmin(losses)) + 1
    counts = np.bincount(chosen[:best], minlength=len(tables))
    return Blend(optimise.to_floats(counts / best), "arithmetic")
