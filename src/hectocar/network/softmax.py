"""A linear head: the control that ArcFace is measured against."""

import torch
from torch import Tensor, nn

from hectocar.config.schema import NetworkConfig
from hectocar.network.heads import Head


class SoftmaxHead(Head):
    """A linear layer in float32."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, embed_BD: Tensor, label_BM: Tensor | None = None, margin_rad: float | Tensor = 0.0) -> Tensor:
        """Float32 logits (B, C); there is no margin to apply.

        Raises:
            ValueError: A margin other than 0 was asked for.
        """
        if not isinstance(margin_rad, Tensor) and margin_rad != 0.0:
            raise ValueError(f"margin_rad is {margin_rad}; allowed with a softmax head: 0")
        with torch.autocast(embed_BD.device.type, enabled=False):
            logits: Tensor = self.linear(embed_BD.float())
        return logits


def build_head(config: NetworkConfig, embed_dim: int, num_classes: int) -> Head:
    """As configured."""
    return SoftmaxHead(embed_dim, num_classes)
