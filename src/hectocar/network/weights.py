"""Weights on disk: ours (tensors and a JSON state in one safetensors file) and pretrained ones for a backbone.

A backbone starts from timm's hub, from a local file, or from random numbers when asked to; never silently so.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hectocar.artifacts import replace_file
from hectocar.errors import ArtifactError, ConfigError
from hectocar.tables import nearest_names

STATE_KEY = "hectocar"
_HEAD_WORDS = ("classifier", "head", "fc", "last_linear", "head_dist")


def create_backbone(name: str, weights: str, drop_path_max: float) -> nn.Module:
    """Builds a timm backbone without classifier or pooling and fills it.

    Args:
        name: timm model name, with or without a pretrained tag.
        weights: ``hub``, ``none``, or the path of a safetensors or PyTorch file with timm key names.
        drop_path_max: stochastic depth of the deepest block.

    Raises:
        ConfigError: timm does not know the name.
        ArtifactError: The weights are missing or do not fit; the message says what to do.
    """
    if not timm.is_model(name):
        near = nearest_names(name.split(".")[0], timm.list_models())
        raise ConfigError(f"network.backbone is {name!r}, which timm {timm.__version__} does not have; nearest: {near}")
    backbone = _build_backbone(name, weights, drop_path_max)
    if weights not in ("hub", "none"):
        load_backbone(backbone, Path(weights), name)
    return backbone


def _build_backbone(name: str, weights: str, drop_path_max: float) -> nn.Module:
    settings: dict[str, Any] = {"num_classes": 0, "global_pool": ""}
    # Not every model knows these: a transformer needs the first to take other sizes than its own, a convolutional network
    # takes all sizes anyway; and a backbone without stochastic depth has none to switch off.
    optional: dict[str, Any] = {"dynamic_img_size": True, "drop_path_rate": drop_path_max}
    while True:
        try:
            if weights == "hub":
                return _from_hub(name, settings | optional)
            return timm.create_model(name, pretrained=False, **settings, **optional)
        except TypeError as error:
            unknown = [key for key in optional if key in str(error)]
            if not unknown or (unknown == ["drop_path_rate"] and drop_path_max > 0.0):
                raise ConfigError(f"network.backbone {name!r} cannot be built with {settings | optional}: {error}") from error
            del optional[unknown[0]]
        except RuntimeError as error:
            raise ConfigError(f"network.backbone {name!r} cannot be built: {error}") from error


def _from_hub(name: str, settings: dict[str, Any]) -> nn.Module:
    if not timm.models.is_model_pretrained(name):
        raise ConfigError(f"network.backbone {name!r} has no weights in timm's hub; set network.weights to a file or to none")
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=True, **settings)
    except (TypeError, AttributeError):
        raise
    except Exception as error:  # hub, network and cache errors come in many types
        raise ArtifactError(
            f"the weights of {name} could not be fetched from timm's hub ({type(error).__name__}: {str(error)[:120]}). "
            "Either give a local file (--weights FILE, safetensors with timm key names), fetch them once on a machine "
            "with a network, or say --weights none to start from random weights"
        ) from error
    return backbone


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads safetensors, or a PyTorch file with weights_only (no code of the file is run).

    Raises:
        ArtifactError: Missing, damaged or not a plain dictionary of tensors.
    """
    if not path.is_file():
        raise ArtifactError(f"network.weights: {path} does not exist; allowed: a file, 'hub' or 'none'")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model", "state_dict_ema"):
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
                break
        return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError, EOFError) as error:
        reason = str(error)[:160] or "it is empty or ends too early"
        raise ArtifactError(f"network.weights: {path} is not a readable weight file ({reason}); copy it again") from error
    except Exception as error:  # pickle.UnpicklingError: content that weights_only refuses
        raise ArtifactError(
            f"network.weights: {path} holds more than tensors and is not loaded ({type(error).__name__})"
        ) from error


def load_backbone(backbone: nn.Module, path: Path, name: str) -> None:
    """Fills the backbone from a file; the file's own classifier is ignored, nothing else may differ.

    Raises:
        ArtifactError: Tensors are missing, left over, or of another shape.
    """
    found = {key.removeprefix("module."): value for key, value in load_tensors(path).items()}
    wanted = backbone.state_dict()
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in found and key not in optional]
    extra = [key for key in found if key not in wanted and key.split(".")[0] not in _HEAD_WORDS]
    shapes = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    if missing or extra or shapes:
        raise ArtifactError(
            f"network.weights: {path} does not fit {name}: {len(missing)} tensors missing {missing[:3]}, "
            f"{len(extra)} unknown {extra[:3]}, {len(shapes)} of another shape {shapes[:3]}. "
            "Is network.backbone the model that the file was made for?"
        )
    filled = {key: found[key].to(value.dtype) if key in found else value for key, value in wanted.items()}
    backbone.load_state_dict(filled)


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
