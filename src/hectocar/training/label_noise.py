"""Label noise by sub-centers: a class's clean photographs gather at one centre, the wrong ones at the others.

Deng et al. 2020, "Sub-center ArcFace", section 3.3: keep the dominant sub-center, drop what is far from it.
"""

import numpy as np
from numpy.typing import NDArray

from hectocar.network.heads import DominantCenters

MAX_SHARE = 0.5
"""No class loses more than this share of its photographs."""


def find_noisy_places(dominant: DominantCenters, label_N: NDArray[np.int64], max_degrees: float) -> NDArray[np.int64]:
    """Places of the photographs whose embedding stands more than ``max_degrees`` from their class's dominant centre."""
    cosine_N = dominant.cosine_N
    places = []
    for label in np.unique(label_N):
        own_N = np.flatnonzero(label_N == label)
        farthest_N = own_N[np.argsort(cosine_N[own_N], kind="stable")[: int(MAX_SHARE * len(own_N))]]
        places.append(farthest_N[cosine_N[farthest_N] < np.cos(np.deg2rad(max_degrees))])
    return np.sort(np.concatenate(places))
