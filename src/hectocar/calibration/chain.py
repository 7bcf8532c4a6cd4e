"""The finish: what turns the answers of networks, views and neighbours into honest probabilities. Fitted in finish_fit.py.

Shapes: N photographs, G trained classes, K looks. Sources are (N, G) log probabilities, one per model and view, models
outside: model 0 view 0, model 0 view 1, ... A model is a run; the answers of its folds are averaged before they come here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.calibration.blend import Blend
from hectocar.calibration.floor import Floor, mix_prior
from hectocar.calibration.neighbours import NeighbourModel
from hectocar.calibration.temperature import Temperature, VectorScaling
from hectocar.errors import ArtifactError
from hectocar.scoring.metrics import log_softmax

Floats = NDArray[np.float64]
DOUBT_NAMES = (
    *("confidence", "agreement", "entropy", "disagreement"),
    *("nearest", "crowd", "nearest_unseen", "crowd_unseen"),
    *("brightness", "sharpness"),
)
"""What the floor looks at: log odds of the best class, log odds that the sources give it on average, entropy (nats),
Jensen-Shannon divergence of the sources (nats), cosine of the nearest neighbour, mean cosine of the ten nearest, the same two
among the photographs that the network has not seen, distance from the training brightness, log sharpness."""
NUM_CROWD, NUM_LOOKS = 10, 2
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
    """One choice of views, and what was fitted for it. A part that did not earn its place is None."""

    views: tuple[str, ...]
    cost: float
    """Work of a photograph, in plain views of one network."""
    expected: Expected
    blend: Blend | None
    """None is the plain mean of the models, in the one view that such a level has."""
    temperature: Temperature | None
    temperature_looks: tuple[int, ...]
    """Columns of the looks that the temperature follows."""
    mix: Blend | None
    """Networks and neighbours."""
    mix_temperature: Temperature | None
    vector: VectorScaling | None
    floor_temperature: Temperature | None
    """By doubts. Fitted together with the floor: without it, wrong labels and odd photographs make it too hot."""
    floor: Floor | None

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) < len(self.views):
            raise ValueError(f"views are {', '.join(self.views) or 'none'}; allowed: one or more, each once")
        if not self.cost > 0.0:
            raise ValueError(f"cost is {self.cost}; allowed: above 0")
        looks = self.temperature_looks
        if looks and self.temperature is None:
            raise ValueError("temperature_looks are given without a temperature")
        if len(set(looks)) < len(looks) or not all(0 <= column < NUM_LOOKS for column in looks):
            raise ValueError(f"temperature_looks are {list(looks)}; allowed: different columns, 0 to {NUM_LOOKS - 1}")
        if (self.floor is None) != (self.floor_temperature is None):
            raise ValueError("a floor has a temperature of its own, and none stands without the other")
        if (self.mix is None) != (self.mix_temperature is None) or (self.mix and len(self.mix.weights) != 2):
            raise ValueError("neighbours are mixed in by two weights and a temperature, or not at all")
        features = {"temperature": len(looks), "mix_temperature": 0, "floor_temperature": len(DOUBT_NAMES)}
        for name, wanted in (features | {"floor": len(DOUBT_NAMES)}).items():
            part = getattr(self, name)
            if part is not None and len(part.slopes) != wanted:
                raise ValueError(f"{name} has {len(part.slopes)} slopes; allowed: {wanted}, one a feature")

    @property
    def asks_neighbours(self) -> bool:
        """Whether votes or closeness matter to the answer."""
        return self.mix is not None or self.floor is not None

    def apply(
        self, answers: Sequence[Sequence[Answer]], looks_NK: NDArray[Any], prior_G: ArrayLike, brightness: float
    ) -> Floats:
        """(N, G) probabilities; rows sum to 1.

        The answer is that of the folds' mean. How doubtful a photograph is, each fold says by itself, as it was fitted on one
        network per photograph: a mean of networks has views that agree more than those of any. The prior's share is the
        mean of their shares, the temperature the geometric mean of theirs: on average what was fitted.

        Args:
            answers: By model and fold, in this level's views.
            looks_NK: What the photographs look like.
            prior_G: Share of each class in training.
            brightness: Mean luma of the training photographs.
        """
        log_probs = self.answer(join_models([average_answers(folds) for folds in answers]), looks_NK)
        if self.floor is None or self.floor_temperature is None:
            return np.exp(log_probs)
        verdicts = [self._doubt(answer, looks_NK, brightness) for answer in pair_folds(answers)]
        log_temperature_N = np.mean([np.log(temperature_N) for temperature_N, _ in verdicts], axis=0)
        share_N = np.mean([share_N for _, share_N in verdicts], axis=0)
        log_probs = log_softmax(log_probs / np.exp(log_temperature_N)[:, None])
        return mix_prior(np.exp(log_probs), share_N, prior_G)

    def _doubt(self, answer: Answer, looks_NK: NDArray[Any], brightness: float) -> tuple[Floats, Floats]:
        """(N,) temperature and (N,) share of the prior that one network of each model asks for."""
        assert self.floor is not None
        assert self.floor_temperature is not None
        log_probs = self.answer(answer, looks_NK)
        before = doubt_features(log_probs, answer, looks_NK, brightness)
        temperature_N = self.floor_temperature.temperatures(before, len(before))
        after = doubt_features(log_softmax(log_probs / temperature_N[:, None]), answer, looks_NK, brightness)
        return temperature_N, self.floor.shares(after)

    def answer(self, answer: Answer, looks_NK: NDArray[Any]) -> Floats:
        """(N, G) log probabilities before the floor and its temperature."""
        log_probs = arithmetic_mean(answer.sources) if self.blend is None else self.blend.apply(answer.sources)
        if self.temperature is not None:
            log_probs = self.temperature.apply(
                log_probs, looks_NK[:, list(self.temperature_looks)] if self.temperature_looks else None
            )
        if self.mix is not None:
            log_probs = self.mix.apply([log_probs, safe_log(answer.votes)])
        if self.mix_temperature is not None:
            log_probs = self.mix_temperature.apply(log_probs)
        return log_probs if self.vector is None else self.vector.apply(log_probs)


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
        fitting = [level for level in self.levels if len(level.views) <= num_views]
        return fitting[-1] if fitting else self.levels[0]

    def check(self, num_models: int, num_classes: int, where: str) -> None:
        """Raises ArtifactError where it was not fitted for these models and classes."""
        for level in self.levels:
            if level.blend is None and len(level.views) != 1:
                raise ArtifactError(f"{where}: finish: a level has {len(level.views)} views and no blend; allowed: 1 view")
            if level.blend is not None and len(level.blend.weights) != num_models * len(level.views):
                raise ArtifactError(
                    f"{where}: finish: a level has {len(level.blend.weights)} weights; allowed: {num_models} models x "
                    f"{len(level.views)} views"
                )
            if level.vector is not None and len(level.vector.bias) != num_classes:
                raise ArtifactError(f"{where}: finish: {len(level.vector.bias)} biases; allowed: {num_classes}, one a class")


def _check_floor(level: Level, where: str) -> None:
    if (level.floor is None) != (level.floor_temperature is None):
        raise ArtifactError(f"{where}: finish: a floor has a temperature of its own, and none stands without the other")
    for part in (level.floor, level.floor_temperature):
        if part is not None and len(part.slopes) != len(DOUBT_NAMES):
            raise ArtifactError(f"{where}: finish: the floor follows {len(part.slopes)} doubts; allowed: {len(DOUBT_NAMES)}")


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


def doubt_features(log_probs_NG: ArrayLike, answer: Answer, looks_NK: NDArray[Any], brightness: float) -> Floats:
    """(N, 10) signs that a photograph is unlike any seen, see ``DOUBT_NAMES``.

    Args:
        log_probs_NG: The chain so far.
        answer: Of one network of each model: the sources of a mean of folds disagree less.
        looks_NK: What the photographs look like.
        brightness: Mean luma of the training photographs.
    """
    log_probs = np.asarray(log_probs_NG, dtype=np.float64)
    rows, best = np.arange(len(log_probs)), log_probs.argmax(axis=1)
    own, mean_NG, entropy_N = np.zeros(len(rows)), np.zeros_like(log_probs), np.zeros(len(rows))
    for source in answer.sources:
        probs = np.exp(np.asarray(source, dtype=np.float64))
        own += probs[rows, best] / len(answer.sources)
        mean_NG += probs / len(answer.sources)
        entropy_N += _entropy(probs) / len(answer.sources)
    looks = looks_NK.astype(np.float64)
    columns = [
        _log_odds(np.exp(log_probs[rows, best])),
        _log_odds(own),
        _entropy(np.exp(log_probs)),
        _entropy(mean_NG) - entropy_N,
        *answer.closeness.T,
        np.abs(looks[:, 0] - brightness),
        np.log(np.maximum(looks[:, 1], 1e-3)),
    ]
    return np.stack(columns, axis=1)


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


def _entropy(probs_NG: Floats) -> Floats:
    result: Floats = -(probs_NG * np.log(np.maximum(probs_NG, _MIN_PROB))).sum(axis=1)
    return result


def _log_odds(prob_N: Floats) -> Floats:
    clipped = np.clip(prob_N, 1e-6, 1.0 - 1e-6)
    result: Floats = np.log(clipped) - np.log1p(-clipped)
    return result


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


def _figure(value: float | None, error: float | None) -> str:
    return "-" if value is None else f"{value:.4f} ± {error:.4f}"
