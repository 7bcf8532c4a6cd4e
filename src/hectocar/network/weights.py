"""Our weights on disk: tensors and a JSON state in one safetensors file."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hectocar.artifacts import replace_file
from hectocar.errors import ArtifactError

STATE_KEY = "hectocar"


def save_tensors(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Writes tensors and a JSON state into one safetensors file, atomically."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {STATE_KEY: json.dumps(state, ensure_ascii=False)}
    num_bytes = sum(tensor.nbytes for tensor in stored.values())
    replace_file(path, lambda target: save_file(stored, target, metadata=header), num_bytes=num_bytes)


def load_tensors_with_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what ``save_tensors`` wrote.

    Raises:
        ArtifactError: Missing, damaged, or not ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = json.loads(header[STATE_KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118 - not a mapping
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file") from error
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ArtifactError(f"{path}: damaged, or not written by hectocar ({str(error)[:120]})") from error


def load_state_exactly(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Fills a module; names and shapes must agree.

    Raises:
        ArtifactError: They do not.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ArtifactError(f"{path}: its weights do not fit this network ({str(error)[:200]})") from error
