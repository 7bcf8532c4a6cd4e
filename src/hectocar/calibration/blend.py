"""One prediction out of several: the weighted geometric or arithmetic mean of probabilities.

Shapes: M models, N rows, C classes, R rows of a chunk. Log-probabilities go in and come out, see ``LogProbTables``.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.log_prob_tables import LogProbTables, Tables, check_tables
from hectocar.scoring.arrays import Floats, log_softmax

Mean = Literal["arithmetic", "geometric"]


@dataclass(frozen=True)
class Blend:
    """p_c = sum_m w_m p_mc (arithmetic), or proportional to prod_m p_mc^w_m (geometric)."""

    weights: tuple[float, ...]
    mean: Mean

    def __post_init__(self) -> None:
        if not self.weights or not min(self.weights) >= 0.0 or not abs(math.fsum(self.weights) - 1.0) <= 1e-9:
            raise ValueError(f"weights are {self.weights}; allowed: one or more, 0 or more each, that sum to 1")

    def apply(self, log_probs_MNC: Tables) -> Floats:
        """(N, C) Log-probabilities of the blend; models of weight 0 are not read beyond their shape.

        Raises:
            ValueError: not as many models as weights, shapes that differ, NaN, a row that does not sum to 1.
        """
        tables = check_tables(log_probs_MNC)
        if len(tables) != len(self.weights):
            raise ValueError(
                f"there are {len(tables)} tables of log-probabilities; allowed: {len(self.weights)}, one per weight"
            )
        used = [index for index, weight in enumerate(self.weights) if weight > 0.0]
        chosen, weights = LogProbTables([tables[index] for index in used]), np.asarray(self.weights)[used]
        result = np.empty((chosen.num_rows, chosen.num_classes))
        for rows, log_probs_MRC in chosen.iter_chunks():
            result[rows] = _mix(log_probs_MRC, weights, self.mean)
        return result


def _mix(log_probs_MRC: Floats, weights_M: NDArray[Any], mean: Mean) -> Floats:
    """(R, C) Log-probabilities of the mean. Changes log_probs_MRC."""
    if mean == "geometric":
        return log_softmax(np.tensordot(weights_M, log_probs_MRC, axes=1))
    log_probs_MRC += np.log(weights_M)[:, None, None]
    highest_RC = log_probs_MRC.max(axis=0)
    log_probs_MRC -= highest_RC
    return log_softmax(highest_RC + np.log(np.exp(log_probs_MRC, out=log_probs_MRC).sum(axis=0)))
