"""What to write, and what was written."""

from dataclasses import dataclass
from pathlib import Path

from hectocar.errors import DataError
from hectocar.showroom.catalogue import MAX_CLASSES, MIN_CLASSES


@dataclass(frozen=True, kw_only=True)
class ShowroomSpec:
    """What to write; raises DataError for a value outside of its range."""

    num_classes: int = 24
    train_per_class: int = 30
    """Clean photos of each class; faults come on top."""
    test_per_class: int = 6
    seed: int = 2025
    long_edge_px: int = 224
    """Mean long edge; sizes vary by 20 % either way."""
    test_darkening: float = 0.35
    """Test photos are darker by this share, as the contest's were."""
    num_faults: int = 3
    """Of each kind of planted fault; 0 is clean data."""

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "num_classes": (MIN_CLASSES, MAX_CLASSES),
            "train_per_class": (2, 9999),
            "test_per_class": (1, 2000),
            "seed": (0, 2**32 - 1),
            "long_edge_px": (64, 1024),
            "test_darkening": (0.0, 0.9),
            "num_faults": (0, 500),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise DataError(f"ShowroomSpec.{name} is {value}; allowed: {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class ShowroomSummary:
    """What was written; `faults` counts the rows of truth/faults.csv by kind."""

    folder: Path
    num_train: int
    num_test: int
    num_classes: int
    faults: dict[str, int]
