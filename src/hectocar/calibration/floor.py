"""A floor under the probabilities: a share of the prior, larger for rows that look as if they show no known class.

Shapes: N rows, C classes, K features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hectocar.calibration import features as standard
from hectocar.scoring.arrays import Floats, normalise_rows

HIGHEST_SHARE = 0.999
FEATURE_LIMIT = 4.0


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
        standard.check_standardiser(self.slopes, self.means, self.scales)

    def shares(self, features_NK: ArrayLike) -> Floats:
        """(N,) The prior's share in each row, in [0, 0.999]."""
        features = standard.check_features(features_NK, len(np.atleast_1d(features_NK)), len(self.slopes))
        standard_NK = standard.standardise(features, self.means, self.scales, FEATURE_LIMIT)
        shares: Floats = HIGHEST_SHARE * special.expit(self.intercept + standard_NK @ np.asarray(self.slopes))
        return shares

    def apply(self, probs_NC: ArrayLike, features_NK: ArrayLike, prior_C: ArrayLike) -> Floats:
        """(N, C) Probabilities (1 - share) * probs + share * prior; the rows of probs are divided by their sums first."""
        standard.check_features(features_NK, len(np.atleast_2d(probs_NC)), len(self.slopes))
        return mix_prior(probs_NC, self.shares(features_NK), prior_C)


def mix_prior(probs_NC: ArrayLike, share_N: ArrayLike, prior_C: ArrayLike) -> Floats:
    """(N, C) (1 - share) * probs + share * prior, row by row; the rows of probs are divided by their sums first."""
    probs = normalise_rows(probs_NC)
    prior, share_N1 = check_prior(prior_C, probs.shape[1]), np.asarray(share_N, dtype=np.float64)[:, None]
    result: Floats = (1.0 - share_N1) * probs + share_N1 * prior
    return result


def check_prior(prior_C: ArrayLike, num_classes: int) -> Floats:
    """The prior, divided by its sum to take rounding out of it."""
    prior = np.asarray(prior_C, dtype=np.float64)
    if prior.shape != (num_classes,) or not np.isfinite(prior).all() or prior.min() < 0.0 or abs(prior.sum() - 1.0) > 1e-6:
        raise ValueError(f"prior_C has shape {prior.shape}; allowed: ({num_classes},) probabilities that sum to 1")
    result: Floats = prior / prior.sum()
    return result
