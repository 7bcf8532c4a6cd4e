"""What a link of the chain is, and what it may look at: the answers of networks, views and neighbours.

Shapes: N photographs, G trained classes, K looks. Sources are (N, G) log probabilities, one per model and view, models
outside: model 0 view 0, model 0 view 1, ... A model is a run; the answers of its folds are averaged before they are joined.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.scoring.arrays import Floats, log_softmax

if TYPE_CHECKING:
    from hectocar.calibration.evidence import ChainState, Gain
    from hectocar.calibration.fit_links import ChainFitter

NUM_CROWD = 10
_MIN_PROB = 1e-12


@dataclass(frozen=True)
class Answer:
    """What is said about N photographs: by one network, by one of each model, or by the mean of several."""

    sources: tuple[NDArray[Any], ...]
    """(N, G) log probabilities, one table per model and view."""
    votes: NDArray[np.float64]
    """(N, G) of the neighbours."""
    closeness: NDArray[np.float64]
    """(N, 4) ``measure_closeness`` of all neighbours and of those that the network has not seen."""


@dataclass(frozen=True)
class Side:
    """What a link may look at beside the chain so far."""

    answer: Answer
    looks_NK: NDArray[Any]
    """What the photographs look like."""
    prior_G: NDArray[np.float64]
    """Share of each class in training."""
    brightness: float
    """Mean luma (0 to 255) of the training photographs."""
    networks: tuple[tuple[Floats, "Side"], ...] = ()
    """What one network of each model at a time says so far; empty where the answer is that of one network itself."""


class Link(ABC):
    """One step from log probabilities to better ones. A link is a frozen dataclass in a file of its own, with a field ``kind``
    that names it in bundle.json, and an entry in ``chain.LINKS``; what serves is the very object that was fitted."""

    title: ClassVar[str]
    """Its row in the report."""
    is_each_levels_own: ClassVar[bool] = False
    """Whether it is decided anew for every number of views, instead of once for the largest."""
    asks_votes: ClassVar[bool] = False
    """Whether the neighbours' votes matter to it."""
    asks_closeness: ClassVar[bool] = False
    """Whether it matters how close the neighbours are."""
    asks_networks: ClassVar[bool] = False
    """Whether it wants to know what each network says by itself: ``Side.networks``."""

    @abstractmethod
    def apply(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        """(N, G) log probabilities after the link."""

    def to_probs(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        """(N, G) probabilities where the chain ends in this link."""
        return np.exp(self.apply(log_probs_NG, side))

    def check(self, num_models: int, num_views: int) -> None:  # noqa: B027 - most links do not depend on them
        """Raises ValueError where it was not fitted for so many models and views."""

    @classmethod
    @abstractmethod
    def fit(cls, fitter: "ChainFitter", states: "Sequence[ChainState]") -> list[Self]:
        """One link per state, each fitted on the rows that its state may see."""

    @classmethod
    def measure(cls, fitter: "ChainFitter", after: "Sequence[ChainState]", before: "Sequence[ChainState]") -> "Gain":
        """What the one rule judges: the nested change of the loss of real photographs."""
        return fitter.measure(after, before)


def average_answers(folds: Sequence[Answer]) -> Answer:
    """The mean of the networks of one model."""
    return Answer(
        tuple(average_folds(tables) for tables in zip(*(answer.sources for answer in folds), strict=True)),
        np.mean([answer.votes for answer in folds], axis=0),
        np.mean([answer.closeness for answer in folds], axis=0),
    )


def join_models(answers: Sequence[Answer]) -> Answer:
    """One answer of each model, as one: that is what is fitted."""
    return Answer(
        tuple(table for answer in answers for table in answer.sources),
        np.mean([answer.votes for answer in answers], axis=0),
        np.mean([answer.closeness for answer in answers], axis=0),
    )


def pair_folds(answers: Sequence[Sequence[Answer]]) -> list[Answer]:
    """One network of each model at a time, as a photograph out of fold has them; a model of fewer folds begins again."""
    count = max(len(folds) for folds in answers)
    return [join_models([folds[number % len(folds)] for folds in answers]) for number in range(count)]


def measure_closeness(cosine_Nk: ArrayLike) -> NDArray[np.float64]:
    """(N, 2) cosine of the nearest neighbour, and mean of the ten nearest; -1 where there is none.

    Args:
        cosine_Nk: Falling along each row, -inf for none.
    """
    cosines = np.asarray(cosine_Nk, dtype=np.float64)[:, :NUM_CROWD]
    found = np.isfinite(cosines)
    total_N = np.where(found, cosines, 0.0).sum(axis=1)
    mean_N = np.where(found[:, 0], total_N / np.maximum(found.sum(axis=1), 1), -1.0)
    return np.stack([np.maximum(cosines[:, 0], -1.0), mean_N], axis=1)


def normalize_logits(logits_NG: ArrayLike) -> NDArray[np.float32]:
    """Log probabilities in float32: what sources are kept as."""
    return log_softmax(logits_NG).astype(np.float32)


def average_folds(log_probs: Sequence[NDArray[Any]]) -> Floats:
    """Log probabilities of the geometric mean of the folds, which beats the arithmetic on log loss."""
    if len(log_probs) == 1:
        return np.asarray(log_probs[0], dtype=np.float64)
    return log_softmax(np.mean([np.asarray(part, dtype=np.float64) for part in log_probs], axis=0))


def arithmetic_mean(log_probs: Sequence[NDArray[Any]]) -> Floats:
    """Log of the mean of the probabilities."""
    if len(log_probs) == 1:
        return np.asarray(log_probs[0], dtype=np.float64)
    mean = np.exp(np.asarray(log_probs[0], dtype=np.float64))
    for table in log_probs[1:]:
        mean += np.exp(np.asarray(table, dtype=np.float64))
    return safe_log(mean / len(log_probs))


def safe_log(probs: NDArray[Any]) -> Floats:
    """Logarithm of probabilities, finite at 0."""
    result: Floats = np.log(np.maximum(np.asarray(probs, dtype=np.float64), _MIN_PROB))
    return result
