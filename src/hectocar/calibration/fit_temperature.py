"""Fits a temperature: of log probabilities as they are, or under a floor that takes its share afterwards.

Shapes: N rows, C classes, K features.
"""

import numpy as np
from numpy.typing import ArrayLike

from hectocar.calibration import optimise
from hectocar.calibration import temperature as standard
from hectocar.calibration.floor import check_prior
from hectocar.calibration.temperature import FEATURE_LIMIT, HIGH, LOW, Temperature
from hectocar.scoring.arrays import Floats, check_labels, check_matrix, softmax
from hectocar.scoring.metrics import CLIP


def fit_temperature(logits_NC: ArrayLike, label_N: ArrayLike, *, weight_N: ArrayLike | None = None) -> Temperature:
    """The one temperature of lowest weighted mean loss, which is convex in 1 / T: the minimum is the global one."""
    logits = check_matrix(logits_NC, "logits_NC")
    label, share = check_labels(label_N, logits), optimise.check_row_weights(weight_N, len(logits))
    behind_NC = logits - logits[np.arange(len(label)), label][:, None]
    found = optimise.minimise(lambda x: _compute_loss(x, behind_NC, share), np.zeros(1), [(LOW, HIGH)])
    return Temperature(float(found[0]), (), (), ())


def _compute_loss(point: Floats, behind_NC: Floats, share_N: Floats) -> tuple[float, Floats]:
    """Loss and gradient by log T; behind_NC is each logit minus the label's, whose loss is a logsumexp."""
    scaled_NC = behind_NC / np.exp(point[0])
    highest_N1 = scaled_NC.max(axis=1, keepdims=True)
    exp_NC = np.exp(scaled_NC - highest_N1)
    sum_N = exp_NC.sum(axis=1)
    slope_N = -np.einsum("nc,nc->n", exp_NC, scaled_NC) / sum_N * share_N
    return float(share_N @ (np.log(sum_N) + highest_N1[:, 0])), np.array([slope_N.sum()])


def fit_temperature_under(
    log_probs_NC: ArrayLike, label_N: ArrayLike, features_NK: ArrayLike, share_N: ArrayLike, prior_C: ArrayLike,
    *, ridge: float = 1e-3,
) -> Temperature:  # fmt: skip
    """The temperature, by features, of lowest mean loss of (1 - share) * softmax(log_probs / T) + share * prior.

    Args:
        log_probs_NC: before the floor.
        features_NK: K may be 0.
        share_N: of the prior, in [0, 1).
        ridge: times the sum of squared slopes.
    """
    log_probs = np.asarray(log_probs_NC, dtype=np.float64)
    label, num_rows = check_labels(label_N, log_probs), len(log_probs)
    prior, share = check_prior(prior_C, log_probs.shape[1]), np.asarray(share_N, dtype=np.float64)
    features = np.asarray(features_NK, dtype=np.float64).reshape(num_rows, -1)
    means, scales = optimise.compute_standardiser(features, np.full(num_rows, 1.0 / num_rows))
    standard_NK = standard.standardise(features, means, scales, FEATURE_LIMIT)
    rows = np.arange(num_rows)

    def compute_loss(point: Floats) -> tuple[float, Floats]:
        slopes = point[1:]
        scaled_NC = log_probs * np.exp(-(point[0] + standard_NK @ slopes))[:, None]
        probs_NC = softmax(scaled_NC)
        own_N = (1.0 - share) * probs_NC[rows, label]
        mixed_N = np.maximum(own_N + share * prior[label], CLIP)
        by_raw_N = own_N / mixed_N * (scaled_NC[rows, label] - (probs_NC * scaled_NC).sum(axis=1)) / num_rows
        loss = float(-np.log(mixed_N).mean() + ridge * slopes @ slopes)
        return loss, np.concatenate([[by_raw_N.sum()], by_raw_N @ standard_NK + 2.0 * ridge * slopes])

    found = optimise.minimise(compute_loss, np.zeros(1 + len(means)), [(-1.0, 1.0)] * (1 + len(means)))
    return Temperature(float(found[0]), *map(optimise.to_floats, (found[1:], means, scales)))
