"""What the fits of this room share: row weights, standard features and the minimisers.

Shapes: N rows, K features.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from hectocar.scoring.arrays import Floats

Objective = Callable[[Floats], tuple[float, Floats]]
SimplexObjective = Callable[[Floats], tuple[float, Floats, Floats]]
"""Loss, gradient and Hessian at weights that are 0 or more and sum to 1."""
SIMPLEX_GAP = 1e-8
"""w . gradient - min(gradient), at which weights are final: a convex loss is at most this far above its minimum."""
_MAX_ITERATIONS = 5_000
_MAX_NEWTON_STEPS = 200
_ROUNDING = 1e-10
"""A power of 1e-5 multiplies the rounding of a loss by 1e5, and the last steps promise less: refused, they would creep on."""


def check_row_weights(weight_N: ArrayLike | None, num_rows: int) -> Floats:
    """Weights divided by their sum, equal ones where None is given: a fit does not change when all are doubled."""
    if weight_N is None:
        return np.full(num_rows, 1.0 / num_rows)
    weight = np.asarray(weight_N, dtype=np.float64)
    if weight.shape != (num_rows,) or not np.isfinite(weight).all() or weight.min() < 0.0 or weight.sum() <= 0.0:
        raise ValueError(f"weight_N has shape {weight.shape}; allowed: ({num_rows},) finite numbers, 0 or more, not all 0")
    share: Floats = weight / weight.sum()
    return share


def compute_standardiser(features_NK: Floats, share_N: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and standard deviation of each feature; the deviation of a constant feature is 1."""
    used = features_NK[share_N > 0.0]
    means = share_N @ features_NK
    scales = np.sqrt(share_N @ (features_NK - means) ** 2)
    # Rounding leaves a constant 0.1 with a deviation of 1e-17, which would blow the noise up to a feature.
    constant = np.ptp(used, axis=0) <= 1e-12 * np.abs(used).max(axis=0)
    return means, np.where(constant, 1.0, scales)


def minimise(objective: Objective, start: Floats, bounds: list[tuple[float, float]]) -> Floats:
    """L-BFGS-B to the limit of float64.

    Args:
        objective: value and gradient at a point.

    Raises:
        RuntimeError: no convergence.
    """
    options = {"maxiter": _MAX_ITERATIONS, "maxfun": 2 * _MAX_ITERATIONS, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}
    result = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    # Status 2 is a line search that finds nothing lower any more: at this tolerance, the rounding of the loss itself.
    if result.status == 1 or not np.isfinite(result.fun):
        raise RuntimeError(f"the fit did not converge in {_MAX_ITERATIONS} iterations ({result.message})")
    point: Floats = np.asarray(result.x, dtype=np.float64)
    return point


def minimise_on_simplex(evaluate: SimplexObjective, weights: Floats) -> Floats:
    """Newton's method on the simplex with a line search, to `SIMPLEX_GAP` or to where rounding hides any gain.

    Raises:
        RuntimeError: no convergence.
    """
    loss, gradient, hessian = evaluate(weights)
    for _ in range(_MAX_NEWTON_STEPS):
        level = weights @ gradient
        if level - gradient.min() <= SIMPLEX_GAP:
            return weights
        target = _newton_target(weights, gradient - level, hessian)
        if gradient @ (target - weights) >= 0.0:  # only rounding does this: go towards the most promising weight instead
            target = np.eye(len(weights))[gradient.argmin()]
        gain = gradient @ (target - weights)
        step = 1.0
        while step > 1e-10:
            trial = (1.0 - step) * weights + step * target
            trial_loss, trial_gradient, trial_hessian = evaluate(trial)
            if trial_loss <= loss + 1e-4 * step * gain + _ROUNDING * abs(loss):
                break
            step *= 0.5
        else:
            return weights
        weights, loss, gradient, hessian = trial, trial_loss, trial_gradient, trial_hessian
    raise RuntimeError(f"the weights did not converge in {_MAX_NEWTON_STEPS} steps")


def _newton_target(weights: Floats, slope: Floats, hessian: Floats) -> Floats:
    """The simplex's point of least slope . d + d' H d / 2, as non-negative least squares with the sum as a heavy row.

    `slope` is the gradient minus its weighted mean, which vanishes on all models in use at the optimum, so that there the heavy
    row pulls at nothing and the fixed point is exact. Negative curvature is turned round, flat directions get a little.
    """
    values, vectors = np.linalg.eigh(hessian)
    roots = np.sqrt(np.maximum(np.abs(values), 1e-10 * np.abs(values).max() + 1e-12))
    matrix = roots[:, None] * vectors.T
    aim = matrix @ weights - (vectors.T @ slope) / roots
    heavy = 1e3 * roots.max()
    target, _ = optimize.nnls(
        np.vstack([matrix, np.full(len(weights), heavy)]), np.append(aim, heavy), maxiter=100 * len(weights)
    )
    result: Floats = target / target.sum()
    return result


def to_floats(values: Floats) -> tuple[float, ...]:
    """Plain floats, which json.dumps writes so that they come back exactly."""
    return tuple(map(float, values))


def check_at_least_zero(value: float, name: str) -> None:
    """Raises ValueError."""
    if not (math.isfinite(value) and value >= 0.0):
        raise ValueError(f"{name} is {value}; allowed: a finite number, 0 or more")
