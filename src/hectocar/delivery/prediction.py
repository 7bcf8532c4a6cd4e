"""What a classifier answers: the best classes of a photograph, and the probabilities of many."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one photograph, best first."""

    names: tuple[str, ...]
    """Equivalent names are joined by `` = ``."""
    probs: tuple[float, ...]
    problem: str = ""
    """Why the photograph could not be read; its classes are then those that are most frequent."""

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def prob(self) -> float:
        return self.probs[0]


@dataclass(frozen=True)
class ProbabilityTable:
    """One row per photograph, in the order asked for."""

    probs_NG: NDArray[np.float64]
    """Over trained classes; a photograph that cannot be read has the class prior."""
    problems: dict[int, str]
    """Rows of the photographs that cannot be read, and why."""
