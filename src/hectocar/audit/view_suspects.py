"""Photographs without a whole upright car: none at all, a part of one, or one on its side or head.

Nobody labels such photographs. The detectors are taught with what the data set's own photographs become when they are cut
or turned, in the space of a frozen pretrained network, and no photograph is judged by a detector that it has taught.
Legend: N photographs, M sampled ones, E taught examples, D embedding, P principal components, K kinds, B batch, H W px.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.floating]
Embed = Callable[[NDArray[np.uint8]], Floats]
"""uint8 (B, H, W, 3) -> (B, D) in the space of ``embed_ND``."""

NO_CAR, PART_ONLY, ROTATED = "no_car", "part_only", "rotated"
NUM_TAUGHT_CONTENT, NUM_TAUGHT_TURNED = 600, 600
"""Sampled photographs that are cut or turned at most; more cost time and find no more."""
PART_AREA, WHOLE_AREA = (0.04, 0.15), (0.6, 1.0)
"""Share of the photograph that a close-up and an ordinary crop show."""
EDGE_STRIPS = ((0.0, 0.0, 0.22, 0.28), (0.78, 0.0, 1.0, 0.28), (0.0, 0.0, 1.0, 0.14), (0.0, 0.9, 1.0, 1.0))
"""Left, top, right, bottom, as shares: upper corners, sky and road, where a car is unlikely."""
NUM_TEXTURES = 150
OUTLIER_WEIGHT = 0.5
_NUM_FOLDS, _NUM_COMPONENTS, _INVERSE_PENALTY = 5, 192, 0.02
_NUM_REFERENCES, _CHUNK_ROWS = 5000, 1024
_NORMAL, _PART, _EMPTY = 0, 1, 2


@dataclass(frozen=True)
class ViewSuspects:
    """All photographs, the most suspicious first."""

    row: NDArray[np.int64]
    """(N,) row of ``embed_ND``, each once."""
    kind: tuple[str, ...]
    score: NDArray[np.float64]
    """(N,) in [0, 1], falling; 1: surely no ordinary view."""
    reason: tuple[str, ...]


@dataclass(frozen=True)
class _Examples:
    """Embeddings of made pictures, what they are, and the place in the sample that each was made from (-1: none)."""

    embed_ED: Floats
    target_E: NDArray[np.int64]
    place_E: NDArray[np.int64]


def rank_content_suspects(
    embed_ND: Floats, sample_rows_M: NDArray[np.int64], sample_images_MHWC: NDArray[np.uint8], embed: Embed, *, seed: int
) -> ViewSuspects:
    """One ranked list of photographs that show no car or only a part of one.

    Taught with crops of 4 to 15 % of the area (part), strips of the photographs' edges and generic textures (no car), and
    light, blurred crops (normal: a close-up is not known by its lack of detail). How unlike all others a photograph is
    (cosine to its nearest ones) is added.

    Args:
        embed_ND: Of the whole photographs, from a frozen pretrained network.
        sample_rows_M: Rows of the photographs whose pixels are given; 500 are enough.
        sample_images_MHWC: Their pixels, square, as the network sees them.
        embed: The same network.
        seed: Of crops, textures and folds.

    Raises:
        ValueError: Arrays that do not fit each other, or too few photographs.
    """
    raise NotImplementedError


def rank_rotated(
    embed_ND: Floats, sample_rows_M: NDArray[np.int64], sample_images_MHWC: NDArray[np.uint8], embed: Embed, *, seed: int
) -> ViewSuspects:
    """All photographs by their probability not to stand upright (Gidaris et al. 2018: predict the turn of a photograph).

    Turning is done on the square pictures: stretched to a square, a photograph that was turned on the disk looks the same.
    Arguments and errors as in ``rank_content_suspects``.
    """
    raise NotImplementedError
