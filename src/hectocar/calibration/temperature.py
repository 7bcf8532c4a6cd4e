"""Calibration of logits: one temperature, a temperature that depends on the row, and a scale and bias for each class.

Shapes: N rows, C classes, K features. Temperature scaling is Guo et al. 2017 (arXiv 1706.04599), section 4.2; vector
scaling is the same section's, with an L2 penalty towards the identity, because 42 rows of a class cannot carry 2 parameters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hectocar.calibration import optimise as fitting
from hectocar.scoring.metrics import Floats, Ints, _checked_labels, _checked_matrix, cross_entropy_per_row, log_softmax, softmax

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
FEATURE_LIMIT = 3.0
_LOW, _HIGH = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
_SLOPE_LIMIT = 10.0
LOG_SCALE_LIMIT, BIAS_LIMIT = 5.0, 50.0
"""Far outside what any shrinkage in use reaches: they keep exp() finite while the line search probes."""


@dataclass(frozen=True)
class Temperature:
    """T = exp(log_base + slopes . clip((features - means) / scales, -3, 3)), bounded to [0.05, 20]."""

    log_base: float
    slopes: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        # Half a millionth of slack: exp(log(x)) need not give x back.
        if not _LOW - 1e-6 <= self.log_base <= _HIGH + 1e-6:
            raise ValueError(f"log_base is {self.log_base}; allowed: {_LOW:.3f} to {_HIGH:.3f}")
        fitting.check_standardiser(self.slopes, self.means, self.scales)

    def temperatures(self, features_NK: ArrayLike | None, num_rows: int) -> Floats:
        """(N,) The temperature of each row.

        Raises:
            ValueError: features are missing, not wanted, or of another shape.
        """
        if not self.slopes:
            if features_NK is not None:
                raise ValueError("features_NK is given; allowed: None, the temperature was fitted without features")
            return np.full(num_rows, math.exp(min(max(self.log_base, _LOW), _HIGH)))
        if features_NK is None:
            raise ValueError(f"features_NK is None; allowed: ({num_rows}, {len(self.slopes)})")
        features = fitting.check_features(features_NK, num_rows, len(self.slopes))
        standard_NK = fitting.standardise(features, self.means, self.scales, FEATURE_LIMIT)
        result: Floats = np.exp(np.clip(self.log_base + standard_NK @ np.asarray(self.slopes), _LOW, _HIGH))
        return result

    def apply(self, logits_NC: ArrayLike, features_NK: ArrayLike | None = None) -> Floats:
        """(N, C) Log-probabilities of the logits divided by each row's temperature."""
        logits = _checked_matrix(logits_NC, "logits_NC")
        return log_softmax(logits / self.temperatures(features_NK, len(logits))[:, None])


def fit_temperature(
    logits_NC: ArrayLike,
    label_N: ArrayLike,
    features_NK: ArrayLike | None = None,
    *,
    weight_N: ArrayLike | None = None,
    ridge: float = 1e-3,
) -> Temperature:
    """The temperature of lowest weighted mean loss plus `ridge` times the sum of squared slopes.

    Without features the loss is convex in 1 / T, so the minimum is the global one.
    """
    logits = _checked_matrix(logits_NC, "logits_NC")
    label, share = _checked_labels(label_N, logits), fitting.check_row_weights(weight_N, len(logits))
    check_at_least_zero(ridge, "ridge")
    if features_NK is None:
        standard_NK, means, scales = np.zeros((len(logits), 0)), np.zeros(0), np.ones(0)
    else:
        features = fitting.check_features(features_NK, len(logits))
        means, scales = fitting.compute_standardiser(features, share)
        standard_NK = fitting.standardise(features, means, scales, FEATURE_LIMIT)
    behind_NC = logits - logits[np.arange(len(label)), label][:, None]
    bounds = [(_LOW, _HIGH)] + [(-_SLOPE_LIMIT, _SLOPE_LIMIT)] * len(means)
    # The base is fitted first: from T = 1 a row far from its optimum could drag the slopes into the clipped region.
    alone = fitting.minimise(
        lambda x: _temperature_loss(x, behind_NC, standard_NK[:, :0], share, ridge), np.zeros(1), bounds[:1]
    )
    start = np.concatenate([alone, np.zeros(len(means))])
    found = fitting.minimise(lambda x: _temperature_loss(x, behind_NC, standard_NK, share, ridge), start, bounds)
    return Temperature(float(found[0]), *map(fitting.to_floats, (found[1:], means, scales)))


def _temperature_loss(
    point: Floats, behind_NC: Floats, standard_NK: Floats, share_N: Floats, ridge: float
) -> tuple[float, Floats]:
    """Loss and gradient by (log_base, slopes); behind_NC is each logit minus the label's, whose loss is a logsumexp."""
    raw_N = point[0] + standard_NK @ point[1:]
    scaled_NC = behind_NC / np.exp(np.clip(raw_N, _LOW, _HIGH))[:, None]
    highest_N1 = scaled_NC.max(axis=1, keepdims=True)
    exp_NC = np.exp(scaled_NC - highest_N1)
    sum_N = exp_NC.sum(axis=1)
    loss = share_N @ (np.log(sum_N) + highest_N1[:, 0])
    by_raw_N = -np.einsum("nc,nc->n", exp_NC, scaled_NC) / sum_N * ((raw_N >= _LOW) & (raw_N <= _HIGH)) * share_N
    by_slopes = by_raw_N @ standard_NK + 2.0 * ridge * point[1:]
    return float(loss + ridge * point[1:] @ point[1:]), np.concatenate([[by_raw_N.sum()], by_slopes])


@dataclass(frozen=True)
class VectorScaling:
    """Log-probabilities times exp(log_scale) plus bias, class by class, and normalised again."""

    log_scale: tuple[float, ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.log_scale or len(self.log_scale) != len(self.bias):
            raise ValueError(f"{len(self.log_scale)} log_scale and {len(self.bias)} bias; allowed: one of each per class")
        for name, values, limit in (("log_scale", self.log_scale, LOG_SCALE_LIMIT), ("bias", self.bias, BIAS_LIMIT)):
            if not max(map(abs, values)) <= limit:
                raise ValueError(f"{name} reaches {max(values, key=abs)}; allowed: {-limit:g} to {limit:g}")

    def apply(self, logits_NC: ArrayLike) -> Floats:
        """(N, C) Log-probabilities; the logits are normalised first, so that a constant added to a row changes nothing."""
        log_probs = log_softmax(logits_NC)
        if log_probs.shape[1] != len(self.bias):
            raise ValueError(f"logits_NC has shape {log_probs.shape}; allowed: (rows, {len(self.bias)})")
        return log_softmax(log_probs * np.exp(self.log_scale) + np.asarray(self.bias))


def fit_vector_scaling(
    logits_NC: ArrayLike, label_N: ArrayLike, *, shrinkage: float, weight_N: ArrayLike | None = None
) -> VectorScaling:
    """Lowest weighted mean loss plus shrinkage * (sum of log_scale^2 + sum of bias^2) / N; without end it is the identity."""
    log_probs = log_softmax(logits_NC)
    label, share = _checked_labels(label_N, log_probs), fitting.check_row_weights(weight_N, len(log_probs))
    if not (math.isfinite(shrinkage) and shrinkage > 0.0):
        raise ValueError(f"shrinkage is {shrinkage}; allowed: a finite number above 0")
    penalty, num_classes = shrinkage / len(log_probs), log_probs.shape[1]
    bounds = [(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)] * num_classes + [(-BIAS_LIMIT, BIAS_LIMIT)] * num_classes
    found = fitting.minimise(
        lambda x: _vector_scaling_loss(x, log_probs, label, share, penalty), np.zeros(2 * num_classes), bounds
    )
    return VectorScaling(fitting.to_floats(found[:num_classes]), fitting.to_floats(found[num_classes:]))


def _vector_scaling_loss(
    point: Floats, log_probs_NC: Floats, label_N: Ints, share_N: Floats, penalty: float
) -> tuple[float, Floats]:
    """Loss and gradient by (log_scale, bias)."""
    scale_C, bias_C = np.exp(point[: len(point) // 2]), point[len(point) // 2 :]
    logits_NC = log_probs_NC * scale_C + bias_C
    loss = share_N @ cross_entropy_per_row(logits_NC, label_N)
    error_NC = softmax(logits_NC)
    error_NC[np.arange(len(label_N)), label_N] -= 1.0
    error_NC *= share_N[:, None]
    by_log_scale = np.einsum("nc,nc->c", error_NC, log_probs_NC) * scale_C
    gradient = np.concatenate([by_log_scale, error_NC.sum(axis=0)]) + 2.0 * penalty * point
    return float(loss + penalty * point @ point), gradient


def choose_shrinkage(
    logits_NC: ArrayLike,
    label_N: ArrayLike,
    fold_N: ArrayLike,
    candidates: Sequence[float],
    *,
    weight_N: ArrayLike | None = None,
) -> float:
    """The candidate with the lowest weighted loss on rows whose fold took no part in the fit; the earlier one of equals."""
    logits = _checked_matrix(logits_NC, "logits_NC")
    label, share = _checked_labels(label_N, logits), fitting.check_row_weights(weight_N, len(logits))
    fold = np.asarray(fold_N)
    if fold.shape != (len(logits),) or len(np.unique(fold)) < 2:
        raise ValueError(f"fold_N has shape {fold.shape}; allowed: ({len(logits)},) with 2 or more folds")
    if not candidates:
        raise ValueError("candidates is empty; allowed: one shrinkage or more")
    losses = []
    for shrinkage in candidates:
        loss = 0.0
        for held_out in (fold == name for name in np.unique(fold)):
            rest = ~held_out
            scaling = fit_vector_scaling(logits[rest], label[rest], shrinkage=shrinkage, weight_N=share[rest])
            loss += float(share[held_out] @ cross_entropy_per_row(scaling.apply(logits[held_out]), label[held_out]))
        losses.append(loss)
    return float(candidates[int(np.argmin(losses))])


def check_at_least_zero(value: float, name: str) -> None:
    """Raises ValueError."""
    if not (math.isfinite(value) and value >= 0.0):
        raise ValueError(f"{name} is {value}; allowed: a finite number, 0 or more")
