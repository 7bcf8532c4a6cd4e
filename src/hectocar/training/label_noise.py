"""Label noise by sub-centers: a class's clean photographs gather at one centre, the wrong ones at the others.

Deng et al. 2020, "Sub-center ArcFace", section 3.3: keep the dominant sub-center, drop what is far from it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hectocar.network.arcface import SubcenterArcFace, find_dominant_centers

MAX_SHARE = 0.5
"""No class loses more than this share of its photographs."""


@dataclass(frozen=True)
class NoisyRows:
    """What to drop, and the centre that each class keeps."""

    place_N: NDArray[np.int64]
    """Places among the embeddings given."""
    dominant_C: NDArray[np.int64]


def find_noisy_rows(
    head: SubcenterArcFace, embed_ND: NDArray[np.float32], label_N: NDArray[np.int64], max_degrees: float
) -> NoisyRows:
    """Finds the photographs whose embedding stands more than ``max_degrees`` from their class's dominant sub-center."""
    dominant_C, cosine_N = find_dominant_centers(head, embed_ND, label_N)
    places = []
    for label in np.unique(label_N):
        own_N = np.flatnonzero(label_N == label)
        farthest_N = own_N[np.argsort(cosine_N[own_N], kind="stable")[: int(MAX_SHARE * len(own_N))]]
        places.append(farthest_N[cosine_N[farthest_N] < np.cos(np.deg2rad(max_degrees))])
    return NoisyRows(np.sort(np.concatenate(places)), dominant_C)
