"""What made a run and its weights, as bundles carry it on; what serves needs nothing else of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

from hectocar.disk.artifacts import compute_digest


@dataclass(frozen=True)
class Source:
    """A file that the configuration names: where it lies plays no part, its bytes do."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """What made a run, and the digests that bind its files."""

    made: str
    environment: dict[str, str]
    manifest_digest: str
    split_digest: str
    sources: dict[str, Source]
    """By the key of the configuration that names the file."""
    files: dict[str, str]
    """SHA-256 of each file of the run."""


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """Validation of the weights in best.safetensors, and what binds them to the run: the state in the file's header."""

    epoch: int
    weights: str
    """``raw``, ``ema``, or how they were averaged."""
    size_px: int
    log_loss: float
    top1: float
    top5: float
    shifted_log_loss: float | None = None
    shifted_top1: float | None = None
    inputs_digest: str
    num_chunks: dict[str, int]

    def __post_init__(self) -> None:
        if not 32 <= self.size_px <= 2048:
            raise ValueError(f"size_px is {self.size_px}; allowed: 32 to 2048")
        if self.epoch < 1:
            raise ValueError(f"epoch is {self.epoch}; allowed: 1 or more")
        for name in ("log_loss", "shifted_log_loss"):
            if (getattr(self, name) or 0.0) < 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 or more")
        for name in ("top1", "top5", "shifted_top1"):
            if not 0.0 <= (getattr(self, name) or 0.0) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")


BINDING = ("inputs_digest", "num_chunks")
"""The fields of a ``FoldResult`` that are no validation."""


def join_parts(inputs_digest: str, num_chunks: Mapping[str, int]) -> str:
    """The digest of a fold's inputs and of the parts that its batches are split into.

    BatchNorm sees the parts, and how many there are follows from the memory of the machine: they are decided when a fold
    begins, stand in its checkpoints, and belong to what its weights depend on. Whole batches change nothing.
    """
    split = {size: number for size, number in num_chunks.items() if number != 1}
    return compute_digest([inputs_digest, split]) if split else inputs_digest
