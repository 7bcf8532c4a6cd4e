"""Sub-center ArcFace and its control, a linear softmax head.

Deng et al. 2019, "ArcFace" (eq. 3); Deng et al. 2020, "Sub-center ArcFace" (eq. 3: the largest of K cosines per class).
Legend: B batch, D embedding, C classes, K sub-centers.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F


def add_angular_margin(cosine: Tensor, margin_rad: float | Tensor) -> Tensor:
    """cos(theta + m) where theta + m <= pi, and a straight line of matching sign below, so that it always falls with theta.

    The gradient is finite everywhere: d(arccos) explodes at |cosine| = 1, so the sine comes from a square root that is
    held above zero instead; and rounding that takes a cosine past 1 is cut off first. A tensor is a margin per class.
    """
    if isinstance(margin_rad, Tensor):
        cos_margin, sin_margin = margin_rad.cos(), margin_rad.sin()
    else:
        cos_margin, sin_margin = math.cos(margin_rad), math.sin(margin_rad)  # type: ignore[assignment]
    sine = (1.0 - cosine * cosine).clamp(min=1e-7).sqrt()
    shifted = cosine * cos_margin - sine * sin_margin
    past_pi = cosine <= -cos_margin
    return torch.where(past_pi, cosine - margin_rad * sin_margin, shifted)


class SubcenterArcFace(nn.Module):
    """logits = s * cosine, the label's angle enlarged by the margin; a class's cosine is that of its nearest sub-center."""

    active_CK: Tensor
    """(C, K) which sub-centers still count; there is none where K is 1."""

    def __init__(self, embed_dim: int, num_classes: int, num_subcenters: int = 3, scale: float = 30.0) -> None:
        super().__init__()
        for name, value in (("embed_dim", embed_dim), ("num_classes", num_classes), ("num_subcenters", num_subcenters)):
            if value < 1:
                raise ValueError(f"{name} is {value}; allowed: 1 or more")
        self.num_classes, self.num_subcenters, self.scale = num_classes, num_subcenters, scale
        self.centers = nn.Parameter(torch.empty(num_classes * num_subcenters, embed_dim))
        nn.init.xavier_uniform_(self.centers)
        self.margin_factor_C: Tensor | None = None
        """(C,) factor of each class's margin; None is 1 for all. A matter of the training set, so not among the weights."""
        if num_subcenters > 1:
            self.register_buffer("active_CK", torch.ones(num_classes, num_subcenters, dtype=torch.bool))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.num_subcenters > 1:  # weights written before sub-centers could be retired: all are active
            state_dict.setdefault(f"{prefix}active_CK", torch.ones_like(self.active_CK))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def compute_cosine(self, embed_BD: Tensor) -> Tensor:
        """Float32 cosines (B, C, K) between embeddings and all sub-centers."""
        with torch.autocast(embed_BD.device.type, enabled=False):
            cosine = F.linear(F.normalize(embed_BD.float()), F.normalize(self.centers.float()))
            cosine = cosine.view(-1, self.num_classes, self.num_subcenters)
            # -2 lies below every cosine: a retired sub-center is never the largest.
            return cosine.masked_fill(~self.active_CK, -2.0) if self.num_subcenters > 1 else cosine

    def keep_one_center(self, dominant_C: Tensor) -> None:
        """Retires all sub-centers but one per class: K = 1 from here on, with nothing else changed."""
        if self.num_subcenters > 1:
            self.active_CK.zero_().scatter_(1, dominant_C[:, None], True)

    def forward(self, embed_BD: Tensor, label_BM: Tensor | None = None, margin_rad: float = 0.0) -> Tensor:
        """Float32 logits (B, C).

        Args:
            embed_BD: Embeddings of any length.
            label_BM: (B, M) labels that get the margin: one column, or two for a mixed photograph, which may be equal.
                None: no margin (inference).
            margin_rad: Angle added to each label's angle.
        """
        cosine_BC = self.compute_cosine(embed_BD).amax(dim=2).clamp(-1.0, 1.0)
        if label_BM is not None and margin_rad != 0.0:
            with torch.autocast(embed_BD.device.type, enabled=False):
                # A mask, not gather and scatter: with two equal labels their backward would count the gradient twice.
                own_BC = torch.zeros_like(cosine_BC, dtype=torch.bool).scatter(1, label_BM, True)
                margin = margin_rad if self.margin_factor_C is None else margin_rad * self.margin_factor_C
                cosine_BC = torch.where(own_BC, add_angular_margin(cosine_BC, margin), cosine_BC)
        return cosine_BC * self.scale


@torch.no_grad()
def find_dominant_centers(
    head: SubcenterArcFace, embed_ND: NDArray[np.float32], label_N: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The sub-center that most photographs of each class are nearest to (Deng et al. 2020, section 3.3).

    Returns:
        (C,) its number for each class, 0 where the class has no photograph; (N,) each photograph's cosine to its class's.
    """
    dominant_C = np.zeros(head.num_classes, dtype=np.int64)
    cosine_N = np.empty(len(label_N), dtype=np.float32)
    for label in np.unique(label_N):
        rows = np.flatnonzero(label_N == label)
        embed = torch.from_numpy(embed_ND[rows]).to(head.centers.device)
        cosine_NK = head.compute_cosine(embed)[:, label].cpu().numpy()
        dominant_C[label] = np.bincount(cosine_NK.argmax(axis=1), minlength=head.num_subcenters).argmax()
        cosine_N[rows] = cosine_NK[:, dominant_C[label]]
    return dominant_C, cosine_N


class SoftmaxHead(nn.Module):
    """A linear layer in float32: the control that ArcFace is measured against."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, embed_BD: Tensor, label_BM: Tensor | None = None, margin_rad: float = 0.0) -> Tensor:
        """Float32 logits (B, C); there is no margin to apply.

        Raises:
            ValueError: A margin other than 0 was asked for.
        """
        if margin_rad != 0.0:
            raise ValueError(f"margin_rad is {margin_rad}; allowed with a softmax head: 0")
        with torch.autocast(embed_BD.device.type, enabled=False):
            logits: Tensor = self.linear(embed_BD.float())
        return logits
