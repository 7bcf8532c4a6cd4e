"""Which photographs look the same at 32 x 32 px: copies that were stored or compressed again, found without opening a file.

On cars196 (6,654 photographs) 48 pairs of other pixels differ by at most 3 levels in every cell, all of them copies; the next
pair differs by 5. What was resized, cropped, brightened or mirrored an audit finds. Legend: N photographs, H and W 32.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hectocar.dataset.groups import connect_places

MAX_LEVELS = 3
"""Of 255, in every cell of the thumbnail."""
MIN_CONTRAST = 8.0
"""Standard deviation in levels. Flatter pictures (blank, night, fog) are alike without being copies."""
_BLOCKS = 4
_NEIGHBOURS = 16
"""Nearest ones that are compared: enough to connect a picture's copies, and a bound where thousands are alike."""
_ROWS = 1024


def group_looks(thumbs_NHW: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N,) the lowest place among those that look like each photograph, directly or in a chain; 33,000 take a second."""
    flat = thumbs_NHW.reshape(len(thumbs_NHW), 32 * 32)
    first_of: dict[bytes, int] = {}
    group = np.array([first_of.setdefault(row.tobytes(), place) for place, row in enumerate(flat)], dtype=np.int64)
    contrast_N = np.array([float(row.std()) for row in flat])
    group[contrast_N < MIN_CONTRAST] = np.flatnonzero(contrast_N < MIN_CONTRAST)
    places = np.flatnonzero((group == np.arange(len(flat))) & (contrast_N >= MIN_CONTRAST))
    first, second = (places[side] for side in _find_alike(flat[places]))
    same = np.arange(len(flat))
    return connect_places(len(flat), np.concatenate([same, first]), np.concatenate([group, second]))


def _find_alike(flat: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows that differ by at most MAX_LEVELS in every cell. Means of blocks differ by no more than their cells."""
    if len(flat) < 2:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    side = 32 // _BLOCKS
    means = flat.reshape(len(flat), _BLOCKS, side, _BLOCKS, side).mean(axis=(2, 4)).reshape(len(flat), -1)
    count = min(1 + _NEIGHBOURS, len(flat))
    _, near = cKDTree(means).query(means, k=count, p=np.inf, distance_upper_bound=MAX_LEVELS + 0.01)
    first, column = np.nonzero((near < len(flat)) & (near != np.arange(len(flat))[:, None]))
    second = near[first, column].astype(np.int64)
    alike = [
        (np.abs(flat[first[k : k + _ROWS]].astype(np.int16) - flat[second[k : k + _ROWS]]) <= MAX_LEVELS).all(axis=1)
        for k in range(0, len(first), _ROWS)
    ]
    kept = np.concatenate(alike) if alike else np.zeros(0, dtype=bool)
    return first[kept].astype(np.int64), second[kept]
