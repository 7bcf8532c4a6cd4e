"""Fits a floor: its loss on real rows and on unusable ones.

Shapes: N real rows, U unusable rows (no class of ours), C classes, K features. An unusable row's label is drawn from the prior,
so its expected loss is -sum_c prior_c log p_c, least where the prediction is the prior itself. A sure prediction pays up to
34.5 there, the evaluator's clip.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hectocar.calibration import optimise
from hectocar.calibration import temperature as standard
from hectocar.calibration.floor import FEATURE_LIMIT, HIGHEST_SHARE, Floor, check_prior
from hectocar.calibration.optimise import check_at_least_zero
from hectocar.scoring.arrays import Floats, check_labels, normalise_rows
from hectocar.scoring.metrics import CLIP

_PARAMETER_LIMIT = 20.0
"""sigmoid(-20) is 2e-9, a floor that costs nothing; without a limit a fit without unusable rows would never end."""


def unusable_cost_per_row(probs_UC: ArrayLike, prior_C: ArrayLike) -> Floats:
    """(U,) Expected loss -sum_c prior_c log p_c of rows whose label follows the prior, clipped as the evaluator clips."""
    probs = normalise_rows(probs_UC)
    prior = check_prior(prior_C, probs.shape[1])
    return -np.log(np.clip(probs, CLIP, 1.0 - CLIP)) @ prior


@dataclass(frozen=True)
class _FloorProblem:
    """Everything that the loss needs, checked and standardised once."""

    label_probs_N: Floats
    label_prior_N: Floats
    standard_NK: Floats
    share_N: Floats
    unusable_probs_UC: Floats
    unusable_standard_UK: Floats
    prior_C: Floats
    unusable_share: float
    ridge: float

    def compute_loss(self, point: Floats) -> tuple[float, Floats]:
        """Loss and gradient by (intercept, slopes)."""
        slopes = point[1:]
        share_N, by_raw_N = _share_and_slope(point[0] + self.standard_NK @ slopes)
        mixed_N = np.maximum((1.0 - share_N) * self.label_probs_N + share_N * self.label_prior_N, CLIP)
        real_loss = -self.share_N @ np.log(mixed_N)
        pull_N = -(1.0 - self.unusable_share) * self.share_N * (self.label_prior_N - self.label_probs_N) / mixed_N * by_raw_N

        share_U, by_raw_U = _share_and_slope(point[0] + self.unusable_standard_UK @ slopes)
        mixed_UC = np.maximum(self.unusable_probs_UC + share_U[:, None] * (self.prior_C - self.unusable_probs_UC), CLIP)
        unusable_loss = -(np.log(mixed_UC) @ self.prior_C).mean()
        by_share_U = -((self.prior_C - self.unusable_probs_UC) / mixed_UC) @ self.prior_C
        pull_U = self.unusable_share / len(share_U) * by_share_U * by_raw_U

        loss = (1.0 - self.unusable_share) * real_loss + self.unusable_share * unusable_loss + self.ridge * slopes @ slopes
        by_slopes = pull_N @ self.standard_NK + pull_U @ self.unusable_standard_UK + 2.0 * self.ridge * slopes
        return float(loss), np.concatenate([[pull_N.sum() + pull_U.sum()], by_slopes])


def _share_and_slope(raw_N: Floats) -> tuple[Floats, Floats]:
    sigmoid = special.expit(raw_N)
    return HIGHEST_SHARE * sigmoid, HIGHEST_SHARE * sigmoid * special.expit(-raw_N)


def fit_floor(
    probs_NC: ArrayLike,
    label_N: ArrayLike,
    features_NK: ArrayLike,
    unusable_probs_UC: ArrayLike,
    unusable_features_UK: ArrayLike,
    prior_C: ArrayLike,
    *,
    unusable_share: float,
    weight_N: ArrayLike | None = None,
    ridge: float = 1e-3,
) -> Floor:
    """The floor of lowest expected loss where `unusable_share` of the rows to come are unusable.

    Args:
        features_NK: standardised by real and unusable rows together.
        unusable_share: in [0, 1]; an assumption, as no labelled set tells it.
        weight_N: of the real rows; the unusable ones count equally.
        ridge: times the sum of squared slopes.
    """
    problem, means, scales = _build_problem(
        (normalise_rows(probs_NC), label_N, features_NK, weight_N),
        (normalise_rows(unusable_probs_UC), unusable_features_UK),
        prior_C,
        unusable_share,
        ridge,
    )
    start = np.zeros(1 + len(means))
    start[0] = np.clip(special.logit(unusable_share), -_PARAMETER_LIMIT / 2, _PARAMETER_LIMIT / 2)
    found = optimise.minimise(problem.compute_loss, start, [(-_PARAMETER_LIMIT, _PARAMETER_LIMIT)] * len(start))
    return Floor(float(found[0]), *map(optimise.to_floats, (found[1:], means, scales)))


def _build_problem(
    real: tuple[Floats, ArrayLike, ArrayLike, ArrayLike | None],
    unusable: tuple[Floats, ArrayLike],
    prior_C: ArrayLike,
    unusable_share: float,
    ridge: float,
) -> tuple[_FloorProblem, Floats, Floats]:
    (probs, label_N, features_NK, weight_N), (unusable_probs, unusable_features_UK) = real, unusable
    if not (math.isfinite(unusable_share) and 0.0 <= unusable_share <= 1.0):
        raise ValueError(f"unusable_share is {unusable_share}; allowed: 0 to 1")
    check_at_least_zero(ridge, "ridge")
    label, share = check_labels(label_N, probs), optimise.check_row_weights(weight_N, len(probs))
    if unusable_probs.shape[1] != probs.shape[1]:
        raise ValueError(f"unusable_probs_UC has shape {unusable_probs.shape}; allowed: (rows, {probs.shape[1]})")
    prior = check_prior(prior_C, probs.shape[1])
    features = standard.check_features(features_NK, len(probs))
    unusable_features = standard.check_features(
        unusable_features_UK, len(unusable_probs), features.shape[1], "unusable_features_UK"
    )
    both = np.concatenate([features, unusable_features])
    mass = np.concatenate([share * len(share), np.ones(len(unusable_features))])
    means, scales = optimise.compute_standardiser(both, mass / mass.sum())
    standard_rows = standard.standardise(both, means, scales, FEATURE_LIMIT)
    problem = _FloorProblem(
        label_probs_N=probs[np.arange(len(label)), label],
        label_prior_N=prior[label],
        standard_NK=standard_rows[: len(probs)],
        share_N=share,
        unusable_probs_UC=unusable_probs,
        unusable_standard_UK=standard_rows[len(probs) :],
        prior_C=prior,
        unusable_share=unusable_share,
        ridge=ridge,
    )
    return problem, means, scales
