"""The figures of a benchmark as bench.json holds them, and what is concluded from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000
_PEAKS = (
    ("H200", 989.0), ("H100 PCIe", 756.0), ("H100 NVL", 835.0), ("H100", 989.0), ("A100", 312.0), ("L40S", 362.0),
    ("L4", 121.0), ("RTX 4090", 165.2), ("A10G", 70.0), ("A10", 125.0), ("T4", 65.0),
)  # fmt: skip
"""Dense TFLOP/s in 16 bits, from the makers' data sheets; the first name that the device's own contains counts."""


@dataclass(frozen=True)
class Contestant:
    """One that took part, or why not."""

    name: str
    num_workers: int
    """Threads or processes that it was given."""
    problem: str = ""
    """Why there are no figures; empty where there are."""
    first_seconds: float = 0.0
    """Its first round, outside of the figures: compilation, start of workers, caches. Imports came before it."""
    seconds: tuple[float, ...] = ()
    """Of every round, in order."""


@dataclass(frozen=True)
class Comparison:
    """A case at one size, with one backbone."""

    case: str
    size_px: int
    """0 where it plays no part."""
    backbone: str
    """Empty where it plays no part."""
    precision: str
    num_images: int
    """Photographs of a round."""
    contestants: tuple[Contestant, ...]
    """Ours first."""
    order: tuple[tuple[str, ...], ...]
    """Who came when, round by round."""
    macs: int = 0
    """Multiplications of a forward pass per photograph; 0 where no network is asked."""
    largest_difference: float | None = None
    """Between the probabilities of the two, where both gave some."""

    @property
    def title(self) -> str:
        """``step 160 px mobilenetv2_100``."""
        return " ".join(
            [self.case, *([f"{self.size_px} px"] if self.size_px else []), *([self.backbone] if self.backbone else [])]
        )

    @property
    def ours(self) -> Contestant:
        return self.contestants[0]


@dataclass(frozen=True)
class Bench:
    """A whole run of ``hectocar bench``: raw samples, and on what they were taken."""

    made: str
    machine: dict[str, str]
    packages: dict[str, str]
    photographs: str
    """What was read, in words."""
    batch_size: int
    num_workers: int
    """Threads or processes of everybody."""
    seed: int
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast, paired by round."""

    median: float
    low: float
    high: float


def median_rate(num_images: int, seconds: Sequence[float]) -> float:
    """Images per second of the middle round."""
    return num_images / float(np.median(seconds))


def compare_rounds(theirs: Sequence[float], ours: Sequence[float], seed: int = 0) -> Ratio:
    """How many times as fast ours is: the median over rounds of their time by ours, with a 95 % interval.

    What slows a whole round down (other programs, a clock) slows both and leaves the ratio. The interval is that of the median
    under resampling of rounds (percentile bootstrap, Efron 1979).

    Raises:
        ValueError: No rounds, or not as many of one as of the other.
    """
    if not theirs or len(theirs) != len(ours):
        raise ValueError(f"{len(theirs)} rounds of theirs and {len(ours)} of ours; allowed: as many of both, at least 1")
    ratios = np.asarray(theirs, dtype=np.float64) / np.asarray(ours, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(ratios), (NUM_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high))


def draw_order(names: Sequence[str], num_rounds: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """Who comes when: every round another order, the same for the same seed."""
    rng = np.random.default_rng(seed)
    return tuple(tuple(names[int(place)] for place in rng.permutation(len(names))) for _ in range(num_rounds))


def find_peak_tflops(device_name: str, precision: str) -> float | None:
    """Dense peak of a device in 16 bits; None where none is known."""
    if precision == "float32":
        return None
    return next((peak for name, peak in _PEAKS if name in device_name), None)


def training_tflops(macs: int, images_per_second: float) -> float:
    """Of a training step: a forward pass costs 2 x MACs, its gradients twice as much (Kaplan et al. 2020, section 2.1)."""
    return 6.0 * macs * images_per_second / 1e12
