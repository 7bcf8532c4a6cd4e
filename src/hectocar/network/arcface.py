"""Sub-center ArcFace.

Deng et al. 2019, "ArcFace" (eq. 3); Deng et al. 2020, "Sub-center ArcFace" (eq. 3: the largest of K cosines per class).
Legend: B batch, D embedding, C classes, K sub-centers.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hectocar.config.schema import NetworkConfig
from hectocar.network.heads import DominantCenters, Head


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


class SubcenterArcFace(Head):
    """logits = s * cosine, the label's angle enlarged by the margin; a class's cosine is that of its nearest sub-center."""

    has_margin = True
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

    def compute_cosine(self, embed_BD: Tensor) -> Tensor:
        """Float32 cosines (B, C, K) between embeddings and all sub-centers."""
        with torch.autocast(embed_BD.device.type, enabled=False):
            cosine = F.linear(F.normalize(embed_BD.float()), F.normalize(self.centers.float()))
            cosine = cosine.view(-1, self.num_classes, self.num_subcenters)
            # -2 lies below every cosine: a retired sub-center is never the largest.
            return cosine.masked_fill(~self.active_CK, -2.0) if self.num_subcenters > 1 else cosine

    @torch.no_grad()
    def compute_closeness(self) -> NDArray[np.float32]:
        """(C, C) largest cosine between the active sub-centers of two classes."""
        cosine_NCK = self.compute_cosine(self.centers)  # a centre is an embedding, too
        own_CKC = cosine_NCK.amax(dim=2).view(self.num_classes, self.num_subcenters, self.num_classes)
        if self.num_subcenters > 1:
            own_CKC = own_CKC.masked_fill(~self.active_CK[:, :, None], -2.0)
        closeness: NDArray[np.float32] = own_CKC.amax(dim=1).cpu().numpy()
        return closeness

    @torch.no_grad()
    def find_dominant_centers(self, embed_ND: NDArray[np.float32], label_N: NDArray[np.int64]) -> DominantCenters:
        """The sub-center that most photographs of each class are nearest to (Deng et al. 2020, section 3.3)."""
        center_C = np.zeros(self.num_classes, dtype=np.int64)
        cosine_N = np.empty(len(label_N), dtype=np.float32)
        for label in np.unique(label_N):
            rows = np.flatnonzero(label_N == label)
            embed = torch.from_numpy(embed_ND[rows]).to(self.centers.device)
            cosine_NK = self.compute_cosine(embed)[:, label].cpu().numpy()
            center_C[label] = np.bincount(cosine_NK.argmax(axis=1), minlength=self.num_subcenters).argmax()
            cosine_N[rows] = cosine_NK[:, center_C[label]]
        return DominantCenters(center_C, cosine_N)

    def keep_centers(self, center_C: NDArray[np.int64]) -> None:
        """K = 1 from here on, with nothing else changed."""
        if self.num_subcenters > 1:
            chosen_C1 = torch.from_numpy(center_C).to(self.centers.device)[:, None]
            self.active_CK.zero_().scatter_(1, chosen_C1, True)

    def scale_margins(self, factor_C: NDArray[np.float32]) -> None:
        self.margin_factor_C = torch.from_numpy(factor_C).to(self.centers.device)

    def forward(self, embed_BD: Tensor, label_BM: Tensor | None = None, margin_rad: float | Tensor = 0.0) -> Tensor:
        """See ``Head``."""
        cosine_BC = self.compute_cosine(embed_BD).amax(dim=2).clamp(-1.0, 1.0)
        if label_BM is not None and (isinstance(margin_rad, Tensor) or margin_rad != 0.0):
            with torch.autocast(embed_BD.device.type, enabled=False):
                # A mask, not gather and scatter: with two equal labels their backward would count the gradient twice.
                own_BC = torch.zeros_like(cosine_BC, dtype=torch.bool).scatter(1, label_BM, True)
                margin = margin_rad if self.margin_factor_C is None else margin_rad * self.margin_factor_C
                cosine_BC = torch.where(own_BC, add_angular_margin(cosine_BC, margin), cosine_BC)
        return cosine_BC * self.scale


def build_head(config: NetworkConfig, embed_dim: int, num_classes: int) -> Head:
    """As configured."""
    return SubcenterArcFace(embed_dim, num_classes, config.num_subcenters, config.scale)
