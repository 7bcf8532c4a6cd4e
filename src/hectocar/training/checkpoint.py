"""Checkpoints: one safetensors file each, tensors plus a JSON state in its header, replaced in one step.

One file, because a folder of several cannot be replaced atomically: a cut between two files would leave weights of one
step beside the optimizer of another.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hectocar.errors import ArtifactError
from hectocar.network.weights import load_state_exactly, load_tensors_with_state, save_tensors


@dataclass
class TrainingState:
    """Where a fold's training stands; with the tensors it is all that the next step depends on."""

    inputs_digest: str
    """Of configuration, manifest, folds and fold number."""
    epoch: int = 0
    """Epoch that is running, from 0; equal to ``training.epochs`` when all is done."""
    step: int = 0
    """Steps of that epoch that are done."""
    loss_sum: float = 0.0
    """Sum of the losses of those steps."""
    num_ema_updates: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the float16 loss scaler."""
    best: dict[str, Any] = field(default_factory=dict)
    """Result of the best epoch so far."""
    pairs: list[tuple[int, int]] = field(default_factory=list)
    """Similar classes that batches are drawn from."""
    dropped_rows: list[int] = field(default_factory=list)
    """Manifest rows that are no longer shown, because their labels look wrong."""
    num_chunks: dict[str, int] = field(default_factory=dict)
    """Parts that a batch of each size phase is split into; decided once, because BatchNorm sees the parts."""
    averaged: bool = False
    """Whether the averages over checkpoints have been tried."""
    seconds: float = 0.0
    """Training time so far, validation included."""


def save_checkpoint(
    path: Path, state: TrainingState, network: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> None:
    """Writes everything that training needs to go on as if nothing had happened."""
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in average.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in values.items()}
    save_tensors(path, tensors, asdict(state))


def load_checkpoint(
    path: Path, inputs_digest: str, network: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Fills network, average and optimizer, to the bit, and returns the state.

    Raises:
        ArtifactError: Damaged, or of other inputs.
    """
    tensors, raw = load_tensors_with_state(path)
    try:
        state = TrainingState(**raw)
        state.pairs = [(int(g), int(h)) for g, h in state.pairs]
    except TypeError as error:
        raise ArtifactError(f"{path}: not a training checkpoint ({error})") from error
    if state.inputs_digest != inputs_digest:
        raise ArtifactError(f"{path}: made from another configuration or other photographs; start a new run with another --out")
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
    for key, tensor in tensors.items():
        part, name = key.split("/", 1)
        parts[part][name] = tensor
    load_state_exactly(network, parts["network"], path)
    if average is not None:
        load_state_exactly(average, parts["average"], path)
    _load_optimizer(optimizer, parts["optimizer"])
    return state


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    # Not load_state_dict: it would keep the file's plain layout, and the fused step needs that of the parameters.
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        number, name = key.split("/", 1)
        parameter = parameters[int(number)]
        if tensor.shape == parameter.shape and name != "step":
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        else:
            tensor = tensor.to(parameter.device)
        optimizer.state[parameter][name] = tensor
