"""Which views are hopeless, told by a part of the photographs, so that the rest is not asked about them.

Shapes: V views, N photographs of a part, G trained classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.evidence import Gain, estimate
from hectocar.calibration.fit_temperature import fit_temperature
from hectocar.scoring.arrays import Ints
from hectocar.scoring.metrics import cross_entropy_per_row

MENDABLE = 0.3
"""Nats that a view may lose to the best one and still earn a weight beside it (docs/experiments.md, 2026-11-27)."""
NUM_ERRORS = 3.0
"""Standard errors by which it must lose more than that."""


@dataclass(frozen=True)
class ScreenedView:
    """How a view did on one part."""

    name: str
    part: str
    num_photos: int
    loss: float
    """At the view's own best temperature: what that mends does not count."""
    above_best: Gain
    """Photograph by photograph, over the view of the lowest loss."""

    @property
    def is_hopeless(self) -> bool:
        return self.above_best.mean - NUM_ERRORS * self.above_best.standard_error > MENDABLE


def screen_views(names: Sequence[str], log_probs_VNG: Sequence[NDArray[Any]], label_N: Ints, part: str) -> list[ScreenedView]:
    """Judges each view by its loss above that of the best.

    Args:
        names: V.
        log_probs_VNG: Of one run's networks about the photographs of a part.
        label_N: Their classes.
        part: Names it: run and condition.
    """
    loss_VN = np.stack(
        [cross_entropy_per_row(fit_temperature(table, label_N).apply(table), label_N) for table in log_probs_VNG]
    )
    best_N = loss_VN[loss_VN.mean(axis=1).argmin()]
    return [
        ScreenedView(name, part, len(label_N), float(loss_N.mean()), estimate(loss_N - best_N))
        for name, loss_N in zip(names, loss_VN, strict=True)
    ]


def find_hopeless(screened: Sequence[ScreenedView]) -> set[str]:
    """Names of the views that are hopeless on every part: for every network, and shifted as well as clean."""
    return {row.name for row in screened} - {row.name for row in screened if not row.is_hopeless}
