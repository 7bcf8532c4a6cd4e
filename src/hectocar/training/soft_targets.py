"""Two classes in one photograph's target.

Legend: B batch, 2 and 4 labels per photograph: its own and that of the one mixed into it, and then their second classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hectocar.dataset.teaching import SoftTargets


def soften_batch(
    soft: SoftTargets, rows_B2: NDArray[np.int64], images_BCHW: Tensor, label_B2: Tensor, share_B2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A part of each label's share goes to the second class in the target of its photograph.

    Returns:
        The images as they are, labels (B, 4) and shares (B, 4), rows summing to 1.
    """
    other_B2 = torch.from_numpy(soft.other_N[rows_B2]).to(label_B2.device)
    moved_B2 = torch.from_numpy(soft.share_N[rows_B2]).to(share_B2) * share_B2
    return images_BCHW, torch.cat([label_B2, other_B2], dim=1), torch.cat([share_B2 - moved_B2, moved_B2], dim=1)
