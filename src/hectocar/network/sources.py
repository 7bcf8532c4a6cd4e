"""Where a backbone's weights come from: one class per source, and the list of them."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hectocar.errors import ArtifactError, ConfigError

# timm's own order: the average of the weights where a training stored it, else the weights.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "network", "backbone")
# What trainings store beside tensors and what is only data when it is unpickled.
_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdUS"},
]


class BackboneSource(Protocol):
    """Gives the tensors of a model, named as timm or their own training named them."""

    @property
    def title(self) -> str:
        """What messages call it."""

    @classmethod
    def open(cls, weights: str) -> "BackboneSource | None":
        """The source that this value of ``network.weights`` means, or None where it means another one."""

    def fetch(self, name: str) -> Mapping[str, Tensor] | None:
        """The tensors for a timm model name; None leaves the backbone at its random start.

        Raises:
            ConfigError: The source cannot have this model.
            ArtifactError: The weights cannot be had; the message says what to do.
        """


def find_source(weights: str) -> BackboneSource:
    """The source that ``network.weights`` means; what is no word is the path of a file."""
    return next(source for kind in SOURCES if (source := kind.open(weights)) is not None)


@dataclass(frozen=True)
class RandomStart:
    """``none``: random weights, because somebody asked for them."""

    title: str = "a random start"

    @classmethod
    def open(cls, weights: str) -> "RandomStart | None":
        return cls() if weights == "none" else None

    def fetch(self, name: str) -> None:
        return None


@dataclass(frozen=True)
class Hub:
    """``hub``: timm fetches them."""

    title: str = "timm's hub"

    @classmethod
    def open(cls, weights: str) -> "Hub | None":
        return cls() if weights == "hub" else None

    def fetch(self, name: str) -> Mapping[str, Tensor]:
        if not timm.models.is_model_pretrained(name):
            raise ConfigError(
                f"network.backbone {name!r} has no weights in timm's hub; set network.weights to a file or to none"
            )
        try:
            # Whole, with its own classifier: only so does timm itself insist on every weight. Its random start draws nothing
            # from the generator that the rest of our network starts from.
            with torch.random.fork_rng(devices=[]):
                whole: nn.Module = timm.create_model(name, pretrained=True)
        except Exception as error:  # hub, network and cache errors come in many types
            what = "do not fill it" if "loading state_dict" in str(error) else "could not be fetched from timm's hub"
            raise ArtifactError(
                f"the weights of {name} {what} ({type(error).__name__}: {' '.join(str(error).split())[:160]}). "
                "Either give a local file (--weights FILE, safetensors with timm key names), fetch them once on a machine "
                "with a network, or say --weights none to start from random weights"
            ) from error
        return whole.state_dict()


@dataclass(frozen=True)
class LocalFile:
    """The path of a safetensors or PyTorch file of the model's own weights."""

    title: str

    @classmethod
    def open(cls, weights: str) -> "LocalFile":
        return cls(weights)

    def fetch(self, name: str) -> Mapping[str, Tensor]:
        return load_tensors(Path(self.title))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads safetensors, or a PyTorch file with weights_only (no code of the file is run), whatever the suffix.

    Raises:
        ArtifactError: Missing, damaged or without a dictionary of tensors.
    """
    if not path.is_file():
        raise ArtifactError(f"network.weights: {path} does not exist; allowed: a file, 'hub' or 'none'")
    try:
        if _is_safetensors(path):
            return load_file(path)
        with torch.serialization.safe_globals(_HARMLESS), path.open("rb") as file:  # given a path, torch goes by its suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError, EOFError, MemoryError) as error:
        reason = str(error)[:160] or "it is empty or ends too early"
        raise ArtifactError(f"network.weights: {path} is not a readable weight file ({reason}); copy it again") from error
    except Exception as error:  # pickle.UnpicklingError: content that weights_only refuses
        raise ArtifactError(
            f"network.weights: {path} holds more than tensors and is not loaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:160]}); save the model's state_dict() alone, best as safetensors"
        ) from error
    tensors = _unwrap(content)
    if not tensors:
        raise ArtifactError(f"network.weights: {path} holds no dictionary of tensors; save the model's state_dict()")
    return tensors


def _is_safetensors(path: Path) -> bool:
    """By its first bytes, the length of a JSON header and its brace: a suffix may lie."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size


def _unwrap(content: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of whatever they are wrapped in; empty where there are none."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = inner
    return {}


SOURCES: list[type[BackboneSource]] = [RandomStart, Hub, LocalFile]
"""In the order in which they are asked; a file is what nothing else is."""
