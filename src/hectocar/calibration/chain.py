"""The finish: the chain of links that turns the answers of networks, views and neighbours into honest probabilities.

Shapes: N photographs, G trained classes, K looks. What serves is the very chain that was fitted (fit_chain.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.calibration.blend import ViewBlend
from hectocar.calibration.floor import FloorLink
from hectocar.calibration.link import Answer, Link, Side, arithmetic_mean, average_answers, join_models, pair_folds
from hectocar.calibration.neighbours import NeighbourLink, NeighbourModel
from hectocar.calibration.temperature import TemperatureLink
from hectocar.errors import ArtifactError
from hectocar.scoring.arrays import Floats

LINKS: tuple[type[Link], ...] = (ViewBlend, TemperatureLink, NeighbourLink, FloorLink)
"""In the order in which they are applied. A new link is a file of its own and an entry here."""
if TYPE_CHECKING:
    AnyLink = Link
else:
    AnyLink = reduce(or_, LINKS)  # the codec reads each back by its kind


@dataclass(frozen=True)
class Expected:
    """Nested estimates: fitted on the other folds, one network per photograph."""

    clean: float
    clean_error: float
    """Standard error."""
    shifted: float | None
    shifted_error: float | None
    num_suspects: int = 0
    """Photographs among them whose label or content an audit doubts."""
    clean_trusted: float | None = None
    """Without the suspects; None where there are none."""
    clean_trusted_error: float | None = None
    shifted_trusted: float | None = None
    shifted_trusted_error: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.__dict__.items():
            if (value or 0.0) < 0.0:
                raise ValueError(f"{name} is {value}; allowed: 0 or more")
        if (self.shifted is None) != (self.shifted_error is None):
            raise ValueError("shifted and shifted_error stand together, or neither does")

    def describe(self) -> tuple[str, str]:
        """Clean and shifted with their errors, for the screen."""
        return _figure(self.clean, self.clean_error), _figure(self.shifted, self.shifted_error)

    def describe_trusted(self) -> tuple[str, str]:
        """The same without the suspects."""
        clean = _figure(self.clean_trusted, self.clean_trusted_error)
        return clean, _figure(self.shifted_trusted, self.shifted_trusted_error)


@dataclass(frozen=True)
class Level:
    """One choice of views, and the links that earned their place."""

    views: tuple[str, ...]
    cost: float
    """Work of a photograph, in plain views of one network."""
    expected: Expected
    links: tuple[AnyLink, ...]

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) < len(self.views):
            raise ValueError(f"views are {', '.join(self.views) or 'none'}; allowed: one or more, each once")
        if not self.cost > 0.0:
            raise ValueError(f"cost is {self.cost}; allowed: above 0")
        places = [LINKS.index(type(link)) for link in self.links]
        if places != sorted(set(places)):
            titles = ", ".join(link.title for link in self.links)
            raise ValueError(f"links are {titles}; allowed: each once, in the chain's order")

    @property
    def asks_neighbours(self) -> bool:
        """Whether votes or closeness matter to the answer."""
        return any(link.asks_votes or link.asks_closeness for link in self.links)

    def find(self, kind: type[Link]) -> Link | None:
        """The link of a kind, where it was kept."""
        return next((link for link in self.links if isinstance(link, kind)), None)

    def apply(
        self, answers: Sequence[Sequence[Answer]], looks_NK: NDArray[Any], prior_G: ArrayLike, brightness: float
    ) -> Floats:
        """(N, G) probabilities; rows sum to 1.

        Args:
            answers: By model and fold, in this level's views.
            looks_NK: What the photographs look like.
            prior_G: Share of each class in training.
            brightness: Mean luma of the training photographs.
        """
        prior = np.asarray(prior_G, dtype=np.float64)
        whole, *networks = [
            Side(answer, looks_NK, prior, brightness)
            for answer in [join_models([average_answers(folds) for folds in answers]), *pair_folds(answers)]
        ]
        if not any(link.asks_networks for link in self.links):
            networks = []
        log_probs, tables = arithmetic_mean(whole.answer.sources), [arithmetic_mean(side.answer.sources) for side in networks]
        for link in self.links[:-1]:
            log_probs = link.apply(log_probs, replace(whole, networks=tuple(zip(tables, networks, strict=True))))
            tables = [link.apply(table, side) for table, side in zip(tables, networks, strict=True)]
        if not self.links:
            return np.exp(log_probs)
        return self.links[-1].to_probs(log_probs, replace(whole, networks=tuple(zip(tables, networks, strict=True))))


@dataclass(frozen=True)
class Finish:
    """Everything that was fitted on out-of-fold predictions: levels by their number of views, the fewest first."""

    levels: tuple[Level, ...]
    neighbours: NeighbourModel
    brightness: float
    """Mean luma (0 to 255) of the training photographs, up to which bright views brighten."""

    def __post_init__(self) -> None:
        counts = [len(level.views) for level in self.levels]
        if not counts or counts != sorted(set(counts)):
            raise ValueError(f"levels have {counts} views; allowed: one level or more, rising in views")
        if not 0.0 <= self.brightness <= 255.0:
            raise ValueError(f"brightness is {self.brightness}; allowed: 0 to 255")

    def choose(self, num_views: int | None) -> Level:
        """The level with so many views at most; None takes the largest."""
        if num_views is None:
            return self.levels[-1]
        small_enough = [level for level in self.levels if len(level.views) <= num_views]
        return small_enough[-1] if small_enough else self.levels[0]

    def check(self, num_models: int, where: str) -> None:
        """Raises ArtifactError where it was not fitted for these models."""
        for level in self.levels:
            if len(level.views) != 1 and level.find(ViewBlend) is None:
                raise ArtifactError(f"{where}: finish: a level has {len(level.views)} views and no blend; allowed: 1 view")
            for link in level.links:
                try:
                    link.check(num_models, len(level.views))
                except ValueError as error:
                    raise ArtifactError(f"{where}: finish: a level has {error}") from error


def _figure(value: float | None, error: float | None) -> str:
    return "-" if value is None else f"{value:.4f} ± {error:.4f}"
