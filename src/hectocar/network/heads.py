"""What a head is: embeddings to logits, and what training asks of its class centres. One file per head.

``hectocar.config.schema.HEADS`` names the file of each; that file has a function ``build_head``. A head without centres answers
None where it is asked for them. Legend: B batch, N photographs, D embedding, C classes, M labels per photograph.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hectocar.config.schema import HEADS, NetworkConfig


@dataclass(frozen=True)
class DominantCenters:
    """The centre of each class that most of its photographs are nearest to."""

    center_C: NDArray[np.int64]
    """Its number; 0 where the class has no photograph."""
    cosine_N: NDArray[np.float32]
    """Each photograph's cosine to the one of its class."""


class Head(nn.Module, ABC):
    """Embeddings (B, D) of any length -> float32 logits (B, C)."""

    has_margin = False
    """Whether a margin other than 0 may be asked for."""

    @abstractmethod
    def forward(self, embed_BD: Tensor, label_BM: Tensor | None = None, margin_rad: float | Tensor = 0.0) -> Tensor:
        """Float32 logits (B, C).

        Args:
            embed_BD: Embeddings.
            label_BM: (B, M) labels that get the margin: one column, or two for a mixed photograph, which may be equal.
                None: no margin (inference).
            margin_rad: Angle added to each label's angle; always 0 for a head that has no margin. A compiled loss gives it as a
                tensor () so that another angle is no other graph.
        """

    def compute_closeness(self) -> NDArray[np.float32] | None:
        """(C, C) cosine between class centres: what similar cars are mined from."""
        return None

    def find_dominant_centers(self, embed_ND: NDArray[np.float32], label_N: NDArray[np.int64]) -> DominantCenters | None:
        """Where the photographs of each class gather: what label noise is told by."""
        return None

    def keep_centers(self, center_C: NDArray[np.int64]) -> None:
        """Retires all centres but one per class, with nothing else changed."""

    def scale_margins(self, factor_C: NDArray[np.float32]) -> None:
        """Multiplies each class's margin from here on. A matter of the training set, so not among the weights."""


def build_head(config: NetworkConfig, embed_dim: int, num_classes: int) -> Head:
    """The head that the configuration names."""
    head: Head = import_module(HEADS[config.head].module).build_head(config, embed_dim, num_classes)
    return head
