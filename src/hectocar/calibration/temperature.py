"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599, section 4.2): one for all rows, or one that follows features.

Shapes: N rows, C classes, K features.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hectocar.calibration import features as standard
from hectocar.scoring.arrays import Floats, check_matrix, log_softmax

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
        standard.check_standardiser(self.slopes, self.means, self.scales)

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
        features = standard.check_features(features_NK, num_rows, len(self.slopes))
        standard_NK = standard.standardise(features, self.means, self.scales, FEATURE_LIMIT)
        result: Floats = np.exp(np.clip(self.log_base + standard_NK @ np.asarray(self.slopes), LOW, HIGH))
        return result

    def apply(self, logits_NC: ArrayLike, features_NK: ArrayLike | None = None) -> Floats:
        """(N, C) Log-probabilities of the logits divided by each row's temperature."""
        logits = check_matrix(logits_NC, "logits_NC")
        return log_softmax(logits / self.temperatures(features_NK, len(logits))[:, None])
