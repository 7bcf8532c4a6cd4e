"""Plots of the audit's page as plain data, in px: histograms and how large the classes are. Templates draw them."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import DROP, RELABEL, Decision

Floats = NDArray[np.float64]
Steps = tuple[tuple[float, float], ...]
"""(y of a bin's top, x of its right edge)."""
WIDTH_PX, HEIGHT_PX, MAX_BINS = 320, 110, 40


@dataclass(frozen=True)
class Histogram:
    """Shares per bin of the two sets; training is drawn filled and test as a line."""

    name: str
    means: tuple[float, float]
    """Of training and test."""
    train: Steps
    test: Steps
    ticks: tuple[tuple[float, float], ...]
    """(x, value)."""
    width: int = WIDTH_PX
    height: int = HEIGHT_PX


def bin_photos(name: str, means: tuple[float, float], train: Floats, test: Floats) -> Histogram:
    """The bins of one quantity; the outer half percent falls into the outer bins."""
    edges = choose_edges(train, test)
    low, high = float(edges[0]), float(edges[-1])
    shares = [np.histogram(np.clip(part, low, high), edges)[0] / max(1, len(part)) for part in (train, test)]
    top = max(float(share.max()) for share in shares) or 1.0
    ticks = nice_ticks(low, high, whole=_are_whole(train, test))
    places = tuple(((value - low) / (high - low) * WIDTH_PX, value) for value in ticks)
    return Histogram(name, means, _steps(shares[0] / top), _steps(shares[1] / top), places)


def choose_edges(train: Floats, test: Floats) -> Floats:
    """Edges of equal bins over the middle 99 %: the fewer photographs, the wider; whole numbers lie inside of a bin."""
    both = np.concatenate([train, test])
    low, high = (float(value) for value in np.percentile(both, (0.5, 99.5)))
    num_bins = int(np.clip(2 * math.sqrt(min(len(train), len(test))), 8, MAX_BINS))
    if _are_whole(train, test):
        low, high = (low - 2, high + 2) if high - low < 4 else (math.floor(low), math.ceil(high))
        step = max(1, math.ceil((high - low + 1) / num_bins))
        return np.arange(low - 0.5, high + step, step, dtype=np.float64)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, num_bins + 1)


def _are_whole(*parts: Floats) -> bool:
    return all(bool((part == np.round(part)).all()) for part in parts)


def _steps(heights: Floats) -> Steps:
    width = WIDTH_PX / len(heights)
    return tuple((HEIGHT_PX - float(height) * (HEIGHT_PX - 4), place * width) for place, height in enumerate(heights, start=1))


def nice_ticks(low: float, high: float, num_ticks: int = 5, *, whole: bool = False) -> list[float]:
    """About ``num_ticks`` round numbers inside of a range: 1, 2 or 5 times a power of ten apart, and whole if need be."""
    raw = (high - low) / num_ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * 0.999)
    step = max(1.0, step) if whole else step
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def count_classes(report: AuditReport, settled: dict[str, Decision]) -> list[tuple[str, int, int]]:
    """(name, photographs that the decisions keep, those that they drop or move away), the smallest class first."""
    before = Counter(name for name in report.class_name if name)
    after: Counter[str] = Counter()
    for image_id, name in zip(report.scan.image_id, report.class_name, strict=True):
        row = settled.get(image_id)
        if name and not (row and row.decision == DROP):
            after[row.label if row and row.decision == RELABEL else name] += 1
    names = sorted({*before, *after}, key=lambda name: (after[name], before[name], name))
    return [(name, after[name], max(0, before[name] - after[name])) for name in names]
