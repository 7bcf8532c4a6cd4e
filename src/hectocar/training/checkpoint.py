"""Checkpoints: one safetensors file each, tensors plus a JSON state in its header, replaced in one step.

One file, because a folder of several cannot be replaced atomically: a cut between two files would leave weights of one
step beside the optimizer of another.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hectocar.codec import decode
from hectocar.dataset.provenance import FoldResult, join_parts
from hectocar.disk.artifacts import EventLog
from hectocar.errors import ArtifactError
from hectocar.network.weights import check_finite_tensors, load_state_exactly, load_tensors_with_state
from hectocar.training.writer import TensorWriter

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_ADVICE = "copy the file again, or remove the fold's folder to train it anew"


@dataclass
class TrainingState:
    """Where a fold's training stands; with the tensors it is all that the next step depends on."""

    inputs_digest: str
    """Of configuration, manifest, folds and fold number, joined with ``num_chunks`` (see ``photos.inputs.join_parts``)."""
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

    def __post_init__(self) -> None:
        for name in ("epoch", "step", "loss_sum", "num_ema_updates", "seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 or more")
        if any(number < 1 for number in self.num_chunks.values()):
            raise ValueError(f"num_chunks are {self.num_chunks}; allowed: 1 or more")
        if min([*self.dropped_rows, *(label for pair in self.pairs for label in pair)], default=0) < 0:
            raise ValueError("pairs or dropped_rows hold a number below 0; allowed: 0 or more")

    def bind(self, result: dict[str, Any]) -> FoldResult:
        """The header of a weight file: a validation, and what keeps the file from being taken for another fold's."""
        return FoldResult(**result, inputs_digest=self.inputs_digest, num_chunks=self.num_chunks)


@dataclass(frozen=True)
class EpochEvent:
    """What is read again of an epoch's line in events.jsonl."""

    epoch: int
    seconds: float

    def __post_init__(self) -> None:
        if self.epoch < 1 or self.seconds < 0.0:
            raise ValueError(f"epoch is {self.epoch}, seconds {self.seconds}; allowed: 1 or more, 0 or more")


def read_epochs(log: EventLog) -> list[EpochEvent]:
    """The epochs that a log tells of.

    Raises:
        ArtifactError: A line is no event, or a value in it is wrong.
    """
    names = [field.name for field in fields(EpochEvent)]
    return [
        decode(EpochEvent, {name: event[name] for name in names if name in event}, f"{log.path}: an epoch's event",
               advice="delete its line")
        for event in log.read() if event["kind"] == "epoch"
    ]  # fmt: skip


def save_checkpoint(
    writer: TensorWriter, path: Path, state: TrainingState, network: nn.Module, average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
) -> None:  # fmt: skip
    """Writes everything that training needs to go on as if nothing had happened."""
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in average.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in values.items()}
    writer.save(path, tensors, state)


def load_checkpoint(
    path: Path,
    inputs_digest: str,
    network: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> TrainingState:
    """Fills network, average, optimizer and scaler, to the bit, and returns the state.

    Raises:
        ArtifactError: Damaged, or of other inputs; the key or tensor that is wrong is named.
    """

    def fill(tensors: dict[str, Tensor], state: TrainingState) -> None:
        _check_state(state, inputs_digest, scaler, path)
        networks = {"network": network} if average is None else {"network": network, "average": average}
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in (*networks, "optimizer")}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            if part not in parts or not name:
                raise ArtifactError(f"{path}: unknown tensor {key!r}; allowed: {'/..., '.join(parts)}/...; {_ADVICE}")
            parts[part][name] = tensor
        for part, module in networks.items():
            load_state_exactly(module, parts[part], path)
        _load_optimizer(optimizer, parts["optimizer"], path)
        scaler.load_state_dict(state.scaler)

    return load_tensors_with_state(path, TrainingState, fill)[1]


def _check_state(state: TrainingState, inputs_digest: str, scaler: torch.amp.GradScaler, path: Path) -> None:
    if state.inputs_digest != join_parts(inputs_digest, state.num_chunks):
        raise ArtifactError(f"{path}: made from another configuration or other photographs; start a new run with another --out")
    if state.best:
        result = {**state.best, "inputs_digest": state.inputs_digest, "num_chunks": state.num_chunks}
        decode(FoldResult, result, f"{path}: best", advice=_ADVICE, whole=False)
    wanted = scaler.state_dict()
    wrong = [name for name in wanted.keys() | state.scaler.keys() if type(state.scaler.get(name)) is not type(wanted.get(name))]
    if wrong:
        raise ArtifactError(f"{path}: scaler.{sorted(wrong)[0]} is {state.scaler.get(sorted(wrong)[0])!r}; {_ADVICE}")


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path) -> None:
    # Not load_state_dict: it would keep the file's plain layout, and the fused step needs that of the parameters.
    check_finite_tensors({f"optimizer/{key}": tensor for key, tensor in tensors.items()}, path)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        number, _, name = key.partition("/")
        place = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else -1
        if not 0 <= place < len(parameters) or name not in _MOMENTS:
            allowed = f"0 to {len(parameters) - 1}, each with {', '.join(_MOMENTS)}"
            raise ArtifactError(f"{path}: unknown tensor 'optimizer/{key}'; allowed: {allowed}; {_ADVICE}")
        parameter = parameters[place]
        shape = () if name == "step" else tuple(parameter.shape)
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise ArtifactError(
                f"{path}: 'optimizer/{key}' is {list(tensor.shape)} {tensor.dtype}; expected {list(shape)} of floats; {_ADVICE}"
            )
        if name == "step":
            tensor = tensor.to(parameter.device)
        else:
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        optimizer.state[parameter][name] = tensor
