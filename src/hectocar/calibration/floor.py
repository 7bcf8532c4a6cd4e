"""A floor under the probabilities: a share of the prior, larger for photographs that look as if they show no known class.

Shapes: N photographs, C or G trained classes, K features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hectocar.calibration.link import Link, Side, safe_log
from hectocar.calibration.temperature import Temperature, check_features, check_standardiser, standardise
from hectocar.scoring.arrays import Floats, log_softmax, normalise_rows

if TYPE_CHECKING:
    from hectocar.calibration.evidence import ChainState, Gain
    from hectocar.calibration.fit_links import ChainFitter

DOUBT_NAMES = (
    *("confidence", "agreement", "entropy", "disagreement"),
    *("nearest", "crowd", "nearest_unseen", "crowd_unseen"),
    *("brightness", "sharpness"),
)
"""Log odds of the best class, log odds that the sources give it on average, entropy (nats), Jensen-Shannon divergence of the
sources (nats), cosine of the nearest neighbour, mean cosine of the ten nearest, the same two among the photographs that the
network has not seen, distance from the training brightness, log sharpness."""
_MIN_PROB = 1e-12
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
        check_standardiser(self.slopes, self.means, self.scales)

    def shares(self, features_NK: ArrayLike) -> Floats:
        """(N,) The prior's share in each row, in [0, 0.999]."""
        features = check_features(features_NK, len(np.atleast_1d(features_NK)), len(self.slopes))
        standard_NK = standardise(features, self.means, self.scales, FEATURE_LIMIT)
        shares: Floats = HIGHEST_SHARE * special.expit(self.intercept + standard_NK @ np.asarray(self.slopes))
        return shares

    def apply(self, probs_NC: ArrayLike, features_NK: ArrayLike, prior_C: ArrayLike) -> Floats:
        """(N, C) Probabilities (1 - share) * probs + share * prior; the rows of probs are divided by their sums first."""
        check_features(features_NK, len(np.atleast_2d(probs_NC)), len(self.slopes))
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


def measure_doubts(log_probs_NG: ArrayLike, side: Side) -> Floats:
    """(N, 10) signs that a photograph is unlike any seen, see ``DOUBT_NAMES``.

    Args:
        log_probs_NG: The chain so far.
        side: Of one network of each model: the sources of a mean of folds disagree less.
    """
    answer, log_probs = side.answer, np.asarray(log_probs_NG, dtype=np.float64)
    rows, best = np.arange(len(log_probs)), log_probs.argmax(axis=1)
    own, mean_NG, entropy_N = np.zeros(len(rows)), np.zeros_like(log_probs), np.zeros(len(rows))
    for source in answer.sources:
        probs = np.exp(np.asarray(source, dtype=np.float64))
        own += probs[rows, best] / len(answer.sources)
        mean_NG += probs / len(answer.sources)
        entropy_N += _entropy(probs) / len(answer.sources)
    looks = side.looks_NK.astype(np.float64)
    columns = [
        _log_odds(np.exp(log_probs[rows, best])),
        _log_odds(own),
        _entropy(np.exp(log_probs)),
        _entropy(mean_NG) - entropy_N,
        *answer.closeness.T,
        np.abs(looks[:, 0] - side.brightness),
        np.log(np.maximum(looks[:, 1], 1e-3)),
    ]
    return np.stack(columns, axis=1)


def _entropy(probs_NG: Floats) -> Floats:
    result: Floats = -(probs_NG * np.log(np.maximum(probs_NG, _MIN_PROB))).sum(axis=1)
    return result


def _log_odds(prob_N: Floats) -> Floats:
    clipped = np.clip(prob_N, 1e-6, 1.0 - 1e-6)
    result: Floats = np.log(clipped) - np.log1p(-clipped)
    return result


@dataclass(frozen=True)
class FloorLink(Link):
    """The answer is that of the folds' mean. How doubtful a photograph is, each network says by itself, as it was fitted on one
    network per photograph: a mean of networks has views that agree more than those of any. The prior's share is the mean of
    their shares, the temperature the geometric mean of theirs: on average what was fitted."""

    temperature: Temperature
    """By doubts. Fitted together with the floor: without it, wrong labels and odd photographs make it too hot."""
    floor: Floor
    kind: Literal["floor"] = "floor"
    title: ClassVar[str] = "floor, and temperature under it"
    is_each_levels_own: ClassVar[bool] = True
    asks_closeness: ClassVar[bool] = True
    asks_networks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, slopes in (("temperature", self.temperature.slopes), ("floor", self.floor.slopes)):
            if len(slopes) != len(DOUBT_NAMES):
                raise ValueError(f"{name} has {len(slopes)} slopes; allowed: {len(DOUBT_NAMES)}, one a doubt")

    def apply(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        return safe_log(self.to_probs(log_probs_NG, side))

    def to_probs(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        asked = [self.ask(table, network) for table, network in side.networks or [(log_probs_NG, side)]]
        log_temperature_N = np.mean([np.log(temperature_N) for temperature_N, _ in asked], axis=0)
        share_N = np.mean([share_N for _, share_N in asked], axis=0)
        log_probs = log_softmax(np.asarray(log_probs_NG, dtype=np.float64) / np.exp(log_temperature_N)[:, None])
        return mix_prior(np.exp(log_probs), share_N, side.prior_G)

    def ask(self, log_probs_NG: NDArray[Any], side: Side) -> tuple[Floats, Floats]:
        """(N,) temperature and (N,) share of the prior that one network of each model asks for."""
        before = measure_doubts(log_probs_NG, side)
        temperature_N = self.temperature.temperatures(before, len(before))
        after = measure_doubts(self.temperature.apply(log_probs_NG, before), side)
        return temperature_N, self.floor.shares(after)

    @classmethod
    def fit(cls, fitter: "ChainFitter", states: "Sequence[ChainState]") -> "list[FloorLink]":
        from hectocar.calibration.fit_floor import FloorFitter

        return FloorFitter(fitter).choose(states)[0]

    @classmethod
    def measure(cls, fitter: "ChainFitter", after: "Sequence[ChainState]", before: "Sequence[ChainState]") -> "Gain":
        """Of the loss that it is fitted for: a share of unusable photographs among the real ones."""
        assert fitter.insurance is not None
        return fitter.insurance.gain
