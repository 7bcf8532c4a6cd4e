"""Our weights on disk: tensors and a JSON state in one safetensors file."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hectocar.codec import SEAL, decode, encode, show
from hectocar.disk.artifacts import compute_digest, parse_json
from hectocar.disk.writing import replace_file
from hectocar.errors import ArtifactError, HectocarError

State = TypeVar("State")
STATE_KEY = "hectocar"
_ADVICE = "copy the file again, or make it again"


def save_tensors(path: Path, tensors: dict[str, Tensor], state: Any) -> None:
    """Writes tensors and a state (a dataclass or a mapping) into one safetensors file, atomically.

    The state is sealed with a digest of both: a value that was changed is found out, whatever it was changed to.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    tree = encode(state)
    text = json.dumps({**tree, SEAL: _digest(tree, stored)}, ensure_ascii=False, allow_nan=False)
    num_bytes = sum(tensor.nbytes for tensor in stored.values())
    # One key: safetensors writes several in an order that changes from run to run.
    replace_file(path, lambda target: save_file(stored, target, metadata={STATE_KEY: text}), num_bytes=num_bytes)


def _digest(tree: Any, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(compute_digest(tree).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state(path: Path, kind: type[State]) -> State:
    """The state in the header of what ``save_tensors`` wrote; the tensors are not looked at.

    Raises:
        ArtifactError: Missing, damaged, not ours, or with values that are wrong.
    """
    with _open_tensors(path) as file:
        return decode(kind, _read_header(path, file)[0], str(path), advice=_ADVICE)


@overload
def load_tensors_with_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]: ...
@overload
def load_tensors_with_state(
    path: Path, kind: type[State], check: Callable[[dict[str, Tensor], State], object] = ...
) -> tuple[dict[str, Tensor], State]: ...
def load_tensors_with_state(
    path: Path, kind: type[Any] | None = None, check: Callable[[dict[str, Tensor], Any], object] = lambda tensors, state: None
) -> tuple[dict[str, Tensor], Any]:
    """Reads what ``save_tensors`` wrote, to the bit.

    Args:
        path: The file.
        kind: Dataclass of the state; without one the plain values come back.
        check: Raises where tensors and state do not fit: what can be named is named before the digest is compared.

    Raises:
        ArtifactError: Missing, damaged, not ours, or changed since it was written.
    """
    with _open_tensors(path) as file:
        tree, seal = _read_header(path, file)
        state = tree if kind is None else decode(kind, tree, str(path), advice=_ADVICE)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    check(tensors, state)
    if seal != _digest(tree, tensors):
        raise ArtifactError(f"{path}: its content was changed after it was written ({SEAL} differs); {_ADVICE}")
    return tensors, state


@contextmanager
def _open_tensors(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except HectocarError:
        raise
    except Exception as error:  # safetensors and torch raise many types on foreign bytes
        raise ArtifactError(f"{path}: damaged, or not written by hectocar ({str(error)[:120]}); {_ADVICE}") from error


def _read_header(path: Path, file: Any) -> tuple[dict[str, Any], Any]:
    """The state's tree, and its seal."""
    try:
        tree = parse_json((file.metadata() or {})[STATE_KEY])
        if not isinstance(tree, dict):
            raise ValueError(f"it is {show(tree)}; expected a mapping")
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{path}: damaged, or not written by hectocar (its state: {error}); {_ADVICE}") from error
    return {key: value for key, value in tree.items() if key != SEAL}, tree.get(SEAL)


def check_finite_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises ArtifactError that names the first tensor with NaN or infinity in it."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(f"{path}: the tensor {name!r} holds NaN or infinity; {_ADVICE}")


def load_state_exactly(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Fills a module; names, shapes and types must agree, and every number be finite.

    Raises:
        ArtifactError: They do not.
    """
    wanted = module.state_dict()
    for key in sorted(wanted.keys() ^ tensors.keys()):
        side = "missing" if key in wanted else "unknown"
        raise ArtifactError(f"{path}: its weights do not fit this network ({key!r} is {side}); {_ADVICE}")
    for key, tensor in tensors.items():
        found, expected = (f"{list(t.shape)} {t.dtype}".replace("torch.", "") for t in (tensor, wanted[key]))
        if found != expected:
            raise ArtifactError(
                f"{path}: its weights do not fit this network ({key!r} is {found}; expected {expected}); {_ADVICE}"
            )
    check_finite_tensors(tensors, path)
    module.load_state_dict(tensors)
