"""The trained networks of a run or bundle, and what they have in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hectocar.calibration.chain import Finish
from hectocar.config.schema import InferenceConfig, NetworkConfig
from hectocar.dataset.classes import ClassList
from hectocar.dataset.provenance import Provenance

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ModelSpec:
    """What the networks of one run have in common."""

    name: str
    network: NetworkConfig
    inference: InferenceConfig
    precision: Precision
    provenance: Provenance


@dataclass(frozen=True)
class Member:
    """One trained network of the ensemble."""

    file: str
    """Path of its weights below the bundle's (or run's) folder."""
    sha256: str
    fold: int
    size_px: int
    """Side of the square that it was validated with."""
    log_loss: float
    """On its held-out photographs."""
    top1: float
    model: int = 0
    """Place in ``BundleSpec.models``."""
    bank: str = ""
    """Path of the embeddings of the training photographs, and their labels; empty without neighbours."""
    bank_sha256: str = ""

    def __post_init__(self) -> None:
        if not 32 <= self.size_px <= 2048:
            raise ValueError(f"size_px is {self.size_px}; allowed: 32 to 2048")
        if self.log_loss < 0.0 or not 0.0 <= self.top1 <= 1.0:
            raise ValueError(f"log_loss is {self.log_loss}, top1 {self.top1}; allowed: 0 or more, 0 to 1")
        if min(self.fold, self.model) < 0:
            raise ValueError(f"fold is {self.fold}, model {self.model}; allowed: 0 or more")


@dataclass(frozen=True)
class BundleSpec:
    """What bundle.json says."""

    folder: Path
    classes: ClassList
    models: tuple[ModelSpec, ...]
    max_megapixels: float
    prior: tuple[float, ...]
    """Share of each trained class among the training photographs: the answer for a photograph that cannot be read."""
    frequency: tuple[float, ...]
    """The same for each name, equivalent names apart: sums to 1."""
    members: tuple[Member, ...]
    finish: Finish | None = None
    """How the members' answers become probabilities; None means their geometric mean."""
