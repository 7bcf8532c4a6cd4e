"""Label noise by sub-centers: a class's clean photographs gather at one centre, the wrong ones at the others.

Deng et al. 2020, "Sub-center ArcFace", section 3.3: keep the dominant sub-center, drop what is far from it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.network.arcface import SubcenterArcFace

MAX_SHARE = 0.5
"""No class loses more than this share of its photographs."""


@dataclass(frozen=True)
class NoisyRows:
    """What to drop, and the centre that each class keeps."""

    place_N: NDArray[np.int64]
    """Places among the embeddings given."""
    dominant_C: NDArray[np.int64]


@torch.no_grad()
def find_noisy_rows(
    head: SubcenterArcFace, embed_ND: NDArray[np.float32], label_N: NDArray[np.int64], max_degrees: float
) -> NoisyRows:
    """Finds the photographs whose embedding stands more than ``max_degrees`` from their class's dominant sub-center.

    The dominant sub-center is the one that most photographs of the class are nearest to.
    """
    dominant_C = np.zeros(head.num_classes, dtype=np.int64)
    places = []
    for label in np.unique(label_N):
        own_N = np.flatnonzero(label_N == label)
        embed = torch.from_numpy(embed_ND[own_N]).to(head.centers.device)
        cosine_NK = head.compute_cosine(embed)[:, label].cpu().numpy()
        dominant_C[label] = np.bincount(cosine_NK.argmax(axis=1), minlength=head.num_subcenters).argmax()
        cosine_N = cosine_NK[:, dominant_C[label]]
        order = np.argsort(cosine_N, kind="stable")[: int(MAX_SHARE * len(own_N))]
        places.append(own_N[order[cosine_N[order] < np.cos(np.deg2rad(max_degrees))]])
    return NoisyRows(np.sort(np.concatenate(places)), dominant_C)
