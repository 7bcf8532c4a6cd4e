"""Features of a row as temperature and floor follow them: standardised, clipped, weighed by slopes.

Shapes: N rows, K features.
"""

import numpy as np
from numpy.typing import ArrayLike

from hectocar.scoring.arrays import Floats, check_matrix


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
