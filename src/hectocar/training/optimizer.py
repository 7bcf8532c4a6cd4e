"""AdamW with two learning rates and decay on matrices only."""

import torch
from torch import Tensor, nn

from hectocar.config import TrainingConfig
from hectocar.network.carnet import CarNet


def build_optimizer(network: CarNet, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over four groups: backbone and head, decayed and not.

    "Head" is everything that is not the pretrained backbone: pooling, norms, neck, centres. Vectors and scalars
    (biases, norm weights, GeM's exponent) are not decayed.
    """
    backbone = {id(parameter) for parameter in network.backbone.parameters()}
    groups: list[dict[str, object]] = []
    for part, in_backbone in (("backbone", True), ("head", False)):
        for decayed in (True, False):
            parameters = [
                parameter
                for parameter in network.parameters()
                if (id(parameter) in backbone) == in_backbone and (parameter.ndim >= 2) == decayed
            ]
            decay = training.weight_decay if decayed else 0.0
            groups.append({"params": parameters, "weight_decay": decay, "part": part})
    return torch.optim.AdamW(groups, lr=0.0, betas=training.betas, fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, backbone_rate: float, head_rate: float) -> None:
    """Writes the rates of this step into the groups."""
    for group in optimizer.param_groups:
        group["lr"] = backbone_rate if group["part"] == "backbone" else head_rate


def clip_gradients(network: nn.Module, clip_norm: float) -> Tensor:
    """Scales the gradient down to ``clip_norm`` (0: leaves it) and returns its norm before, a scalar on the device."""
    limit = clip_norm if clip_norm > 0.0 else float("inf")
    return nn.utils.clip_grad_norm_(network.parameters(), limit)
