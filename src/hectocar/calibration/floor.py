"""A floor under the probabilities: a share of the prior, larger for rows that look as if they show no known class.

Shapes: N real rows, U foreign rows (no class of ours), C classes, K features. A foreign row's label is drawn from the prior,
so its expected loss is -sum_c prior_c log p_c, least where the prediction is the prior itself. A sure prediction pays up to
34.5 there, the evaluator's clip.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hectocar.calibration import optimise as fitting
from hectocar.calibration.temperature import FEATURE_LIMIT as TEMPERATURE_LIMIT
from hectocar.calibration.temperature import Temperature, check_at_least_zero
from hectocar.scoring.metrics import CLIP, Floats, _checked_labels, _normalised, softmax

HIGHEST_SHARE = 0.999
FEATURE_LIMIT = 4.0
_PARAMETER_LIMIT = 20.0
"""sigmoid(-20) is 2e-9, a floor that costs nothing; without a limit a fit without foreign rows would never end."""


@dataclass(frozen=True)
class Floor:
    """share = 0.999 sigmoid(intercept + slopes . clip((features - means) / scales, -4, 4))."""

    intercept: float
    slopes: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.slopes:
            raise ValueError("there are no slopes; allowed: one or more")
        fitting.check_standardiser(self.slopes, self.means, self.scales)

    def shares(self, features_NK: ArrayLike) -> Floats:
        """(N,) The prior's share in each row, in [0, 0.999]."""
        features = fitting.check_features(features_NK, len(np.atleast_1d(features_NK)), len(self.slopes))
        standard_NK = fitting.standardise(features, self.means, self.scales, FEATURE_LIMIT)
        shares: Floats = HIGHEST_SHARE * special.expit(self.intercept + standard_NK @ np.asarray(self.slopes))
        return shares

    def apply(self, probs_NC: ArrayLike, features_NK: ArrayLike, prior_C: ArrayLike) -> Floats:
        """(N, C) Probabilities (1 - share) * probs + share * prior; the rows of probs are divided by their sums first."""
        fitting.check_features(features_NK, len(np.atleast_2d(probs_NC)), len(self.slopes))
        return mix_prior(probs_NC, self.shares(features_NK), prior_C)


def mix_prior(probs_NC: ArrayLike, share_N: ArrayLike, prior_C: ArrayLike) -> Floats:
    """(N, C) (1 - share) * probs + share * prior, row by row; the rows of probs are divided by their sums first."""
    probs = _normalised(probs_NC)
    prior, share_N1 = check_prior(prior_C, probs.shape[1]), np.asarray(share_N, dtype=np.float64)[:, None]
    result: Floats = (1.0 - share_N1) * probs + share_N1 * prior
    return result


def foreign_cost_per_row(probs_UC: ArrayLike, prior_C: ArrayLike) -> Floats:
    """(U,) Expected loss -sum_c prior_c log p_c of rows whose label follows the prior, clipped as the evaluator clips."""
    probs = _normalised(probs_UC)
    prior = check_prior(prior_C, probs.shape[1])
    return -np.log(np.clip(probs, CLIP, 1.0 - CLIP)) @ prior


def check_prior(prior_C: ArrayLike, num_classes: int) -> Floats:
    """The prior, divided by its sum to take rounding out of it."""
    prior = np.asarray(prior_C, dtype=np.float64)
    if prior.shape != (num_classes,) or not np.isfinite(prior).all() or prior.min() < 0.0 or abs(prior.sum() - 1.0) > 1e-6:
        raise ValueError(f"prior_C has shape {prior.shape}; allowed: ({num_classes},) probabilities that sum to 1")
    result: Floats = prior / prior.sum()
    return result


@dataclass(frozen=True)
class _FloorProblem:
    """Everything that the loss needs, checked and standardised once."""

    label_probs_N: Floats
    label_prior_N: Floats
    standard_NK: Floats
    share_N: Floats
    foreign_probs_UC: Floats
    foreign_standard_UK: Floats
    prior_C: Floats
    foreign_share: float
    ridge: float

    def compute_loss(self, point: Floats) -> tuple[float, Floats]:
        """Loss and gradient by (intercept, slopes)."""
        slopes = point[1:]
        share_N, by_raw_N = _share_and_slope(point[0] + self.standard_NK @ slopes)
        mixed_N = np.maximum((1.0 - share_N) * self.label_probs_N + share_N * self.label_prior_N, CLIP)
        real_loss = -self.share_N @ np.log(mixed_N)
        pull_N = -(1.0 - self.foreign_share) * self.share_N * (self.label_prior_N - self.label_probs_N) / mixed_N * by_raw_N

        share_U, by_raw_U = _share_and_slope(point[0] + self.foreign_standard_UK @ slopes)
        mixed_UC = np.maximum(self.foreign_probs_UC + share_U[:, None] * (self.prior_C - self.foreign_probs_UC), CLIP)
        foreign_loss = -(np.log(mixed_UC) @ self.prior_C).mean()
        by_share_U = -((self.prior_C - self.foreign_probs_UC) / mixed_UC) @ self.prior_C
        pull_U = self.foreign_share / len(share_U) * by_share_U * by_raw_U

        loss = (1.0 - self.foreign_share) * real_loss + self.foreign_share * foreign_loss + self.ridge * slopes @ slopes
        by_slopes = pull_N @ self.standard_NK + pull_U @ self.foreign_standard_UK + 2.0 * self.ridge * slopes
        return float(loss), np.concatenate([[pull_N.sum() + pull_U.sum()], by_slopes])


def _share_and_slope(raw_N: Floats) -> tuple[Floats, Floats]:
    sigmoid = special.expit(raw_N)
    return HIGHEST_SHARE * sigmoid, HIGHEST_SHARE * sigmoid * special.expit(-raw_N)


def fit_floor(
    probs_NC: ArrayLike,
    label_N: ArrayLike,
    features_NK: ArrayLike,
    foreign_probs_UC: ArrayLike,
    foreign_features_UK: ArrayLike,
    prior_C: ArrayLike,
    *,
    foreign_share: float,
    weight_N: ArrayLike | None = None,
    ridge: float = 1e-3,
) -> Floor:
    """The floor of lowest expected loss where `foreign_share` of the rows to come are foreign.

    Args:
        features_NK: standardised by real and foreign rows together.
        foreign_share: in [0, 1]; an assumption, as no labelled set tells it.
        weight_N: of the real rows; the foreign ones count equally.
        ridge: times the sum of squared slopes.
    """
    problem, means, scales = _build_problem(
        (_normalised(probs_NC), label_N, features_NK, weight_N),
        (_normalised(foreign_probs_UC), foreign_features_UK),
        prior_C,
        foreign_share,
        ridge,
    )
    start = np.zeros(1 + len(means))
    start[0] = np.clip(special.logit(foreign_share), -_PARAMETER_LIMIT / 2, _PARAMETER_LIMIT / 2)
    found = fitting.minimise(problem.compute_loss, start, [(-_PARAMETER_LIMIT, _PARAMETER_LIMIT)] * len(start))
    return Floor(float(found[0]), *map(fitting.to_floats, (found[1:], means, scales)))


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
    label, num_rows = _checked_labels(label_N, log_probs), len(log_probs)
    prior, share = check_prior(prior_C, log_probs.shape[1]), np.asarray(share_N, dtype=np.float64)
    features = np.asarray(features_NK, dtype=np.float64).reshape(num_rows, -1)
    means, scales = fitting.compute_standardiser(features, np.full(num_rows, 1.0 / num_rows))
    standard_NK = fitting.standardise(features, means, scales, TEMPERATURE_LIMIT)
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

    found = fitting.minimise(compute_loss, np.zeros(1 + len(means)), [(-1.0, 1.0)] * (1 + len(means)))
    return Temperature(float(found[0]), *map(fitting.to_floats, (found[1:], means, scales)))


def _build_problem(
    real: tuple[Floats, ArrayLike, ArrayLike, ArrayLike | None],
    foreign: tuple[Floats, ArrayLike],
    prior_C: ArrayLike,
    foreign_share: float,
    ridge: float,
) -> tuple[_FloorProblem, Floats, Floats]:
    (probs, label_N, features_NK, weight_N), (foreign_probs, foreign_features_UK) = real, foreign
    if not (math.isfinite(foreign_share) and 0.0 <= foreign_share <= 1.0):
        raise ValueError(f"foreign_share is {foreign_share}; allowed: 0 to 1")
    check_at_least_zero(ridge, "ridge")
    label, share = _checked_labels(label_N, probs), fitting.check_row_weights(weight_N, len(probs))
    if foreign_probs.shape[1] != probs.shape[1]:
        raise ValueError(f"foreign_probs_UC has shape {foreign_probs.shape}; allowed: (rows, {probs.shape[1]})")
    prior = check_prior(prior_C, probs.shape[1])
    features = fitting.check_features(features_NK, len(probs))
    foreign_features = fitting.check_features(foreign_features_UK, len(foreign_probs), features.shape[1], "foreign_features_UK")
    both = np.concatenate([features, foreign_features])
    mass = np.concatenate([share * len(share), np.ones(len(foreign_features))])
    means, scales = fitting.compute_standardiser(both, mass / mass.sum())
    standard = fitting.standardise(both, means, scales, FEATURE_LIMIT)
    problem = _FloorProblem(
        label_probs_N=probs[np.arange(len(label)), label],
        label_prior_N=prior[label],
        standard_NK=standard[: len(probs)],
        share_N=share,
        foreign_probs_UC=foreign_probs,
        foreign_standard_UK=standard[len(probs) :],
        prior_C=prior,
        foreign_share=foreign_share,
        ridge=ridge,
    )
    return problem, means, scales
