"""Laws of mining: the confused come first, the closest fill up, and what changed is counted."""

import numpy as np
import torch

from hectocar.config.schema import NetworkConfig
from hectocar.network.carnet import CarNet
from hectocar.training.mining import mine_pairs

LABELS = np.repeat(np.arange(4), 5)


def logits_for(confused: dict[int, int]) -> np.ndarray:
    """Sure of the own class, but undecided between two where a class is named."""
    logits = np.full((20, 4), -9.0, dtype=np.float32)
    logits[np.arange(20), LABELS] = 3.0
    for label, other in confused.items():
        logits[label == LABELS, other] = 3.0
    return logits


def test_confused_pairs_come_first_and_changes_are_counted() -> None:
    """The pair that shares probability is found whichever of the two gives it; the old pair is retired."""
    mined = mine_pairs(logits_for({3: 1}), LABELS, None, [(0, 1)], 300)
    assert mined.pairs == [(1, 3)]
    assert (mined.num_new, mined.num_retired) == (1, 1)
    assert mine_pairs(logits_for({3: 1}), LABELS, None, [(1, 3)], 300).num_new == 0


def test_close_centres_fill_the_list_up() -> None:
    """After the confused pairs the nearest centres follow, up to the limit, none twice."""
    closeness = np.eye(4, dtype=np.float32)
    closeness[0, 2] = closeness[2, 0] = 0.9
    closeness[1, 3] = closeness[3, 1] = 0.8
    mined = mine_pairs(logits_for({3: 1}), LABELS, closeness, [], 2)
    assert mined.pairs == [(1, 3), (0, 2)]
    everything = mine_pairs(logits_for({}), LABELS, closeness, [], 300).pairs
    assert len(everything) == len(set(everything)) == 6


def test_closeness_is_the_largest_cosine_between_active_centres() -> None:
    """Parity with a loop over all pairs of sub-centers, retired ones left out."""
    network = CarNet(NetworkConfig(backbone="test_efficientnet", weights="none", num_subcenters=2, drop_path_max=0.0), 3)
    network.head.active_CK[1, 0] = False
    closeness = network.head.compute_closeness()
    assert closeness is not None
    centers = torch.nn.functional.normalize(network.head.centers.detach()).view(3, 2, -1)
    for g in range(3):
        for h in range(3):
            slow = max(
                float(centers[g, i] @ centers[h, j])
                for i in range(2)
                for j in range(2)
                if network.head.active_CK[g, i] and network.head.active_CK[h, j]
            )
            assert abs(slow - closeness[g, h]) < 1e-5
    softmax = NetworkConfig(backbone="test_efficientnet", weights="none", head="softmax", drop_path_max=0.0)
    assert CarNet(softmax, 3).head.compute_closeness() is None
