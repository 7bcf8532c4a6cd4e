"""Fits the vote of neighbours: how many, how sharply by cosine, and how much of the prior.

Shapes: Q queries, k neighbours, C classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from hectocar.calibration.neighbours import (
    NeighbourModel,
    check_count,
    check_ints,
    check_neighbours,
    check_shares,
    compute_gaps,
)
from hectocar.scoring.arrays import Floats

KS = (5, 10, 20, 50, 100)
_START_TEMPERATURES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""The loss may have several valleys along the temperature: the descent starts from the best of these, see `_fit_one`."""
_START_SMOOTHINGS = (0.5, 0.1, 0.01, 0.001)
_BOUNDS = ((float(np.log(1e-3)), float(np.log(10.0))), (-14.0, 14.0))
"""Of log temperature and logit smoothing. Neighbours that are never wrong would otherwise walk to 0 and 0."""
_MISSING_GAP = -1e6
"""For a missing neighbour: finite, so that 0 weight times gap is 0, and exp(-1e6 / 10) is exactly 0 within the bounds."""


def fit_neighbours(
    label_Qk: ArrayLike,
    cosine_Qk: ArrayLike,
    query_label_Q: ArrayLike,
    prior_C: ArrayLike,
    *,
    ks: Sequence[int] = KS,
    weight_Q: ArrayLike | None = None,
) -> NeighbourModel:
    """The number of neighbours, temperature and smoothing with the lowest (weighted) mean log loss of the queries' labels.

    Queries of several folds may be stacked, for the tables hold labels, not rows of a bank. Numbers of `ks` above the width of
    the tables are passed over; of equal losses the first of `ks` stays.

    Args:
        weight_Q: Weight of each query, 0 or more; all 1 if left out.

    Raises:
        ValueError: as `neighbour_probs`; a prior of 0 for a class that a query has; no usable number in `ks`.
    """
    prior = check_shares(prior_C)
    label, cosine = check_neighbours(label_Qk, cosine_Qk, len(prior))
    truth = check_ints(query_label_Q, "query_label_Q", len(label))
    if truth.min() < 0 or truth.max() >= len(prior):
        raise ValueError(f"query_label_Q goes from {truth.min()} to {truth.max()}; allowed: 0 to {len(prior) - 1}")
    if not (prior[truth] > 0.0).all():
        raise ValueError("prior_C is 0 for a class of query_label_Q; allowed: above 0, or its log loss is infinite")
    for k in ks:
        check_count("ks", k)
    usable = [int(k) for k in ks if k <= label.shape[1]]
    if not usable:
        raise ValueError(f"ks is {tuple(ks)}; allowed: a number from 1 to the number of neighbours, {label.shape[1]}")
    weight = _checked_weights(weight_Q, len(label))
    # A query without neighbours has the prior whatever the parameters are: it moves no optimum.
    found = label[:, 0] >= 0
    if not found.any() or not weight[found].sum() > 0.0:
        raise ValueError("no query with a weight has a neighbour; allowed: at least one")
    gap_Qk, hit_Qk = compute_gaps(cosine[found], _MISSING_GAP), label[found] == truth[found, None]
    weight_F = weight[found] / weight[found].sum()
    fits = [_fit_one(gap_Qk[:, :k], hit_Qk[:, :k], prior[truth[found]], weight_F) for k in usable]
    best = int(np.argmin([loss for loss, _, _ in fits]))
    return NeighbourModel(usable[best], *fits[best][1:])


def _fit_one(gap_Qk: Floats, hit_Qk: NDArray[np.bool_], prior_Q: Floats, weight_Q: Floats) -> tuple[float, float, float]:
    """Loss, temperature and smoothing at the optimum for the neighbours given. Only the true class's share is ever computed."""
    hit_Qk = hit_Qk.astype(np.float64)

    def loss_and_slope(parameters: Floats) -> tuple[float, Floats]:
        smoothing = expit(parameters[1])
        scaled_Qk = gap_Qk * np.exp(-parameters[0])
        power_Qk = np.exp(scaled_Qk)
        total_Q = power_Qk.sum(axis=1)
        share_Q = np.einsum("qk,qk->q", power_Qk, hit_Qk) / total_Q
        own_Q = (1.0 - smoothing) * share_Q + smoothing * prior_Q
        scaled_Qk *= power_Qk  # minus the derivative of a power by the log of the temperature
        share_slope_Q = (share_Q * scaled_Qk.sum(axis=1) - np.einsum("qk,qk->q", scaled_Qk, hit_Qk)) / total_Q
        pull_Q = weight_Q / own_Q
        by_temperature = -(1.0 - smoothing) * (pull_Q @ share_slope_Q)
        by_smoothing = -smoothing * (1.0 - smoothing) * (pull_Q @ (prior_Q - share_Q))
        return float(-(weight_Q @ np.log(own_Q))), np.array([by_temperature, by_smoothing])

    starts = [np.array([np.log(t), logit(s)]) for t in _START_TEMPERATURES for s in _START_SMOOTHINGS]
    start = starts[int(np.argmin([loss_and_slope(point)[0] for point in starts]))]
    fit = minimize(
        loss_and_slope,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=_BOUNDS,
        options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 500},
    )
    return float(fit.fun), float(np.exp(fit.x[0])), float(expit(fit.x[1]))


def _checked_weights(weight_Q: ArrayLike | None, count: int) -> Floats:
    weight = np.ones(count) if weight_Q is None else np.asarray(weight_Q, dtype=np.float64)
    if weight.shape != (count,) or not ((weight >= 0.0) & (weight < np.inf)).all():
        raise ValueError(f"weight_Q has shape {weight.shape}; allowed: ({count},) finite numbers, 0 or more")
    return weight
