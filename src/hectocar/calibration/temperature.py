"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599, section 4.2): one for all rows, or one that follows features.

Shapes: N rows, C classes, K features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.calibration.link import Link, Side
from hectocar.scoring.arrays import Floats, check_matrix, log_softmax

if TYPE_CHECKING:
    from hectocar.calibration.evidence import ChainState
    from hectocar.calibration.fit_links import ChainFitter

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
FEATURE_LIMIT = 3.0
LOW, HIGH = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)


@dataclass(frozen=True)
class Temperature:
    """T = exp(log_base + slopes . clip((features - means) / scales, -3, 3)), bounded to [0.05, 20]."""

    log_base: float
    slopes: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        # Half a millionth of slack: exp(log(x)) need not give x back.
        if not LOW - 1e-6 <= self.log_base <= HIGH + 1e-6:
            raise ValueError(f"log_base is {self.log_base}; allowed: {LOW:.3f} to {HIGH:.3f}")
        check_standardiser(self.slopes, self.means, self.scales)

    def temperatures(self, features_NK: ArrayLike | None, num_rows: int) -> Floats:
        """(N,) The temperature of each row.

        Raises:
            ValueError: features are missing, not wanted, or of another shape.
        """
        if not self.slopes:
            if features_NK is not None:
                raise ValueError("features_NK is given; allowed: None, the temperature was fitted without features")
            return np.full(num_rows, math.exp(min(max(self.log_base, LOW), HIGH)))
        if features_NK is None:
            raise ValueError(f"features_NK is None; allowed: ({num_rows}, {len(self.slopes)})")
        features = check_features(features_NK, num_rows, len(self.slopes))
        standard_NK = standardise(features, self.means, self.scales, FEATURE_LIMIT)
        result: Floats = np.exp(np.clip(self.log_base + standard_NK @ np.asarray(self.slopes), LOW, HIGH))
        return result

    def apply(self, logits_NC: ArrayLike, features_NK: ArrayLike | None = None) -> Floats:
        """(N, C) Log-probabilities of the logits divided by each row's temperature."""
        logits = check_matrix(logits_NC, "logits_NC")
        return log_softmax(logits / self.temperatures(features_NK, len(logits))[:, None])


@dataclass(frozen=True)
class TemperatureLink(Link):
    """Divides by one temperature."""

    temperature: Temperature
    kind: Literal["temperature"] = "temperature"
    title: ClassVar[str] = "temperature"

    def __post_init__(self) -> None:
        if self.temperature.slopes:
            raise ValueError(f"temperature has {len(self.temperature.slopes)} slopes; allowed: none")

    def apply(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        return self.temperature.apply(log_probs_NG)

    @classmethod
    def fit(cls, fitter: "ChainFitter", states: "Sequence[ChainState]") -> "list[TemperatureLink]":
        from hectocar.calibration.fit_temperature import fit_temperature

        label_N = fitter.evidence.label_N
        return [cls(fit_temperature(state.real[state.train], label_N[state.train])) for state in states]


def check_features(features_NK: ArrayLike, num_rows: int, num_features: int | None = None, name: str = "features_NK") -> Floats:
    """A finite table with these many rows and, where given, columns."""
    features = check_matrix(features_NK, name)
    if len(features) != num_rows or num_features not in (None, features.shape[1]):
        wanted = "K" if num_features is None else num_features
        raise ValueError(f"{name} has shape {features.shape}; allowed: ({num_rows}, {wanted})")
    return features


def standardise(features_NK: Floats, means: ArrayLike, scales: ArrayLike, limit: float) -> Floats:
    """(feature - mean) / scale, clipped to [-limit, limit]: a row unlike all rows of the fit is not extrapolated to."""
    result: Floats = np.clip((features_NK - np.asarray(means)) / np.asarray(scales), -limit, limit)
    return result


def check_standardiser(slopes: tuple[float, ...], means: tuple[float, ...], scales: tuple[float, ...]) -> None:
    """Raises ValueError unless there is a mean and a scale above 0 for each slope."""
    if not len(slopes) == len(means) == len(scales):
        raise ValueError(f"{len(slopes)} slopes, {len(means)} means and {len(scales)} scales; allowed: as many of each")
    if any(scale <= 0.0 for scale in scales):
        raise ValueError(f"the smallest of scales is {min(scales)}; allowed: above 0")
