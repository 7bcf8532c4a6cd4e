"""AdamW with its learning rates, and the gradients of a step: whole or accumulated, plain or sharpness-aware."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from timm.optim._param_groups import param_groups_layer_decay
from torch import Tensor, nn

from hectocar.config.schema import TrainingConfig
from hectocar.network.carnet import CarNet


def build_optimizer(network: CarNet, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over four groups: backbone and head, decayed and not.

    "Head" is everything that is not the pretrained backbone: pooling, norms, neck, centres. Vectors and scalars
    (biases, norm weights, GeM's exponent) are not decayed. With ``layer_decay`` below 1 the backbone has two groups per
    layer as timm counts them, its last layer at the full rate (Bao et al. 2022, BEiT, section 3.1).
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
            groups.append({"params": parameters, "weight_decay": decay, "part": part, "lr_scale": 1.0})
    if training.layer_decay < 1.0:
        layers = param_groups_layer_decay(network.backbone, training.weight_decay, layer_decay=training.layer_decay)
        groups[:2] = [{**layer, "part": "backbone"} for layer in layers]
    return torch.optim.AdamW(groups, lr=0.0, betas=training.betas, fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, backbone_rate: float, head_rate: float) -> None:
    """Writes the rates of this step into the groups."""
    for group in optimizer.param_groups:
        group["lr"] = (backbone_rate if group["part"] == "backbone" else head_rate) * group["lr_scale"]


def accumulate_gradients(
    compute_loss: Callable[..., Tensor], tensors: tuple[Tensor, ...], num_chunks: int, scale: Callable[[Tensor], Tensor]
) -> Tensor:
    """Adds the gradients of a batch's mean loss, chunk by chunk, so that only one chunk's activations are in memory.

    Args:
        compute_loss: Mean loss of the tensors' first dimension.
        tensors: The batch.
        num_chunks: 1 takes it whole. More give the same gradient but for layers that look across the batch (BatchNorm).
        scale: Of the loss before ``backward``: the float16 scaler's.

    Returns:
        The batch's mean loss, detached.
    """
    num_images = len(tensors[0])
    num_chunks = max(1, min(num_chunks, num_images // 2))  # BatchNorm has no statistics of a single photograph
    total = torch.zeros((), dtype=torch.float64, device=tensors[0].device)
    for chunk in zip(*(tensor.tensor_split(num_chunks) for tensor in tensors), strict=True):
        loss = compute_loss(*chunk)
        share = len(chunk[0]) / num_images
        scale(loss * share if share < 1.0 else loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach().double() * share
    return total


@contextmanager
def step_uphill(network: nn.Module, radius: float) -> Iterator[None]:
    """Sharpness-aware minimisation (Foret et al. 2021, eq. 2): inside, the weights stand ``radius`` along the gradient.

    The gradients are cleared on entry; those gathered inside are the ones to descend along.
    """
    parameters: list[Tensor] = [parameter for parameter in network.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    length = radius / (torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) + 1e-12)
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.addcmul_(gradient, length)
    network.zero_grad()
    statistics = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in statistics]
    for module in statistics:
        module.momentum = 0.0  # the running statistics have seen this batch already, at the true weights
    try:
        yield
    finally:
        for module, momentum in zip(statistics, momenta, strict=True):
            module.momentum = momentum
        with torch.no_grad():
            torch._foreach_copy_(parameters, before)


def clip_gradients(network: nn.Module, clip_norm: float) -> Tensor:
    """Scales the gradient down to ``clip_norm`` (0: leaves it) and returns its norm before, a scalar on the device."""
    limit = clip_norm if clip_norm > 0.0 else float("inf")
    return nn.utils.clip_grad_norm_(network.parameters(), limit)
