"""Fits the finish on out-of-fold answers, link by link, and estimates each link on folds that it was not fitted on.

Every link is fitted once per outer fold on the other folds (the nested estimate) and once on all (what is delivered, and the
in-sample estimate). A link stays where its nested gain is more than its standard error, see ``pays``. Photographs seen in two
conditions count as one in every standard error. The floor is in finish_floor.py.
Shapes: N rows (a photograph under a condition), U unusable rows, G trained classes, R models, V views, P photographs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.blend import Blend, fit_blend, select_greedily
from hectocar.calibration.chain import Level, arithmetic_mean, safe_log
from hectocar.calibration.evidence import Evidence, Floats, Gain, Ints, LinkRow, State, measure_gain, take_rows, thin_rows
from hectocar.calibration.neighbours import NeighbourModel, fit_neighbours
from hectocar.calibration.temperature import Temperature, VectorScaling, choose_shrinkage, fit_temperature, fit_vector_scaling
from hectocar.scoring.metrics import standard_error

SHRINKAGES = (10.0, 30.0, 100.0, 300.0)
SHRINKAGE_ROWS = 4000
"""The penalty is by row, so what suits a part of the rows suits them all."""
KS = (5, 10, 20, 50, 100)
_ROUNDING = 1e-6
"""States are float32: a link that changes nothing may seem to gain 1e-9."""
Fit = Callable[[State], Any]
Apply = Callable[[Any, NDArray[np.float32], Evidence], NDArray[Any]]


@dataclass(frozen=True)
class Insurance:
    """A floor, judged by the loss that it is fitted for: a share of unusable photographs among the real ones."""

    share: float
    gain: Gain
    """Of that loss: real photographs nested, each kind of unusable ones by a floor that has not seen it."""
    unseen_cost: dict[str, float]
    """Mean cost of each kind in losses of the prior, by a floor that has not seen it."""
    worst: float
    """The dearest of them, without a floor where it is left out."""


@dataclass(frozen=True)
class ChainFit:
    """What came out of fitting one level."""

    level: Level
    rows: list[LinkRow]
    nested_NG: NDArray[np.float32]
    """Nested log probabilities of each row."""
    neighbours: NeighbourModel
    choice: "Choice"
    """What smaller levels take over."""
    insurance: Insurance
    """What the floor brings where some photographs are unusable."""
    foreign_cost_before: dict[str, float]
    """Mean cost of each kind of unusable photograph, in losses of the prior, without a floor."""
    total: dict[str, Gain]
    """By condition: the whole chain against its start."""


@dataclass(frozen=True)
class Choice:
    """What is decided about a chain; None is not decided yet."""

    power: float | None
    """Of the mean over views; None fits it."""
    views: bool | None = None
    temperature: bool | None = None
    looks: tuple[int, ...] | None = None
    neighbours: bool | None = None
    mix_power: float | None = None
    vector: bool | None = None
    shrinkage: float | None = None
    vote_models: tuple[NeighbourModel, ...] | None = None
    """One per state: they do not depend on the views."""


class ChainFitter:
    """Fits chains on one body of evidence."""

    def __init__(
        self, evidence: Evidence, foreign: Evidence, prior_G: NDArray[np.float64], num_models: int, brightness: float
    ) -> None:
        self.evidence, self.foreign, self.prior_G = evidence, foreign, prior_G
        self.num_models, self.brightness = num_models, brightness
        self.folds = [int(fold) for fold in np.unique(evidence.fold_N)]

    # --- the parts that a link needs -------------------------------------------------------------------------------

    def start(self, log_probs: Sequence[NDArray[Any]], foreign: Sequence[NDArray[Any]]) -> list[State]:
        """States before the first link: one per outer fold, and one fitted and judged on everything."""
        mean, mean_foreign = (arithmetic_mean(tables).astype(np.float32) for tables in (log_probs, foreign))
        fold_N, fold_U = self.evidence.fold_N, self.foreign.fold_N
        states = [
            State(
                number=number,
                train=np.flatnonzero(fold_N != fold),
                held=np.flatnonzero(fold_N == fold),
                real=mean,
                foreign=mean_foreign,
                foreign_train=np.flatnonzero(fold_U != fold),
            )
            for number, fold in enumerate(self.folds)
        ]
        everyone = np.arange(len(fold_N))
        return [*states, State(len(states), everyone, everyone, mean, mean_foreign, np.arange(len(fold_U)))]

    def advance(self, states: list[State], fit: Fit, apply: Apply) -> tuple[list[Any], list[State]]:
        """Fits a link in each state and applies it."""
        models, after = [], []
        for state in states:
            model = fit(state)
            real = apply(model, state.real, self.evidence).astype(np.float32)
            foreign = apply(model, state.foreign, self.foreign).astype(np.float32)
            models.append(model)
            after.append(State(state.number, state.train, state.held, real, foreign, state.foreign_train))
        return models, after

    def losses(self, states: list[State]) -> tuple[Floats, Floats]:
        """Nested and in-sample loss of each row."""
        rows, label_N = np.arange(len(self.evidence.label_N)), self.evidence.label_N
        nested = np.empty(len(rows))
        for state in states[:-1]:
            nested[state.held] = -state.real[state.held, label_N[state.held]]
        return nested, -states[-1].real[rows, label_N].astype(np.float64)

    def nested_table(self, states: list[State]) -> NDArray[np.float32]:
        """Each row by the state that was not fitted on it."""
        table = np.empty_like(states[0].real)
        for state in states[:-1]:
            table[state.held] = state.real[state.held]
        return table

    def describe(self, name: str, states: list[State], before: Floats | None, kept: bool = True) -> LinkRow:
        """A row of the table, with gains by condition over the loss before."""
        nested, in_sample = self.losses(states)
        gains = {}
        for place, part in enumerate(self.evidence.parts):
            rows = self.evidence.part_N == place
            if before is not None:
                gains[part] = measure_gain(nested, before, rows)
        return LinkRow(name, self._by_part(nested), self._by_part(in_sample), gains, kept)

    def _by_part(self, loss_N: Floats) -> dict[str, float]:
        return {part: float(loss_N[self.evidence.part_N == place].mean()) for place, part in enumerate(self.evidence.parts)}

    def change_per_photo(self, states: list[State], before: list[State]) -> Floats:
        """(P,) nested loss minus that of the states before, averaged over the conditions of a photograph."""
        change = self.losses(states)[0] - self.losses(before)[0]
        _, place = np.unique(self.evidence.photo_N, return_inverse=True)
        per_photo: Floats = np.bincount(place, weights=change) / np.bincount(place)
        return per_photo

    def pays(self, states: list[State], before: list[State]) -> bool:
        """The one rule for every link: its nested gain is more than its standard error, photograph by photograph."""
        return pays(estimate(self.change_per_photo(states, before)))

    def votes(self, model: NeighbourModel, evidence: Evidence) -> Floats:
        """(N, G) votes of the neighbours, averaged over the models."""
        pairs = zip(evidence.neighbour_labels, evidence.neighbour_cosines, strict=True)
        result: Floats = np.mean([model.apply(labels, cosines, self.prior_G) for labels, cosines in pairs], axis=0)
        return result

    # --- the links --------------------------------------------------------------------------------------------------

    def blend_views(self, states: list[State], power: float | None) -> tuple[list[Any], list[State]]:
        """Weights over all sources, a power mean."""

        def fit(state: State) -> Blend:
            rows = thin_rows(state.train)
            return fit_blend([table[rows] for table in self.evidence.log_probs], self.evidence.label_N[rows], power=power)

        return self.advance(states, fit, lambda blend, _, side: blend.apply(side.log_probs))

    def blend_greedily(self, states: list[State]) -> tuple[list[Any], list[State]]:
        """The baseline: greedy ensemble selection."""

        def fit(state: State) -> Blend:
            rows = thin_rows(state.train)
            return select_greedily([table[rows] for table in self.evidence.log_probs], self.evidence.label_N[rows])

        return self.advance(states, fit, lambda blend, _, side: blend.apply(side.log_probs))

    def set_temperature(self, states: list[State], looks: Sequence[int] = ()) -> tuple[list[Any], list[State]]:
        """One temperature, or one by some of the looks."""
        columns = list(looks)

        def fit(state: State) -> Temperature:
            features = self.evidence.looks[state.train][:, columns] if columns else None
            return fit_temperature(state.real[state.train], self.evidence.label_N[state.train], features)

        return self.advance(
            states, fit, lambda model, table, side: model.apply(table, side.looks[:, columns] if columns else None)
        )

    def mix_neighbours(self, states: list[State], choice: Choice) -> tuple[list[Any], list[State]]:
        """Neighbours' votes, mixed in by a power mean, and the temperature after it."""
        label_N = self.evidence.label_N

        def fit(state: State) -> tuple[NeighbourModel, Blend, Temperature]:
            model = choice.vote_models[state.number] if choice.vote_models else self.fit_votes(state.train)
            rows = thin_rows(state.train)
            tables: list[NDArray[Any]] = [state.real[rows], safe_log(self.votes(model, take_rows(self.evidence, rows)))]
            mix = fit_blend(tables, label_N[rows], power=choice.mix_power)
            return model, mix, fit_temperature(mix.apply(tables), label_N[rows])

        def apply(fitted: Any, table: NDArray[np.float32], side: Evidence) -> NDArray[Any]:
            model, mix, temperature = fitted
            return temperature.apply(mix.apply([table, safe_log(self.votes(model, side))]))  # type: ignore[no-any-return]

        return self.advance(states, fit, apply)

    def fit_votes(self, rows: Ints) -> NeighbourModel:
        """k, temperature and smoothing that predict the rows best from their neighbours alone."""
        labels = np.concatenate([table[rows] for table in self.evidence.neighbour_labels])
        cosines = np.concatenate([table[rows] for table in self.evidence.neighbour_cosines])
        label_Q = np.tile(self.evidence.label_N[rows], self.num_models)
        return fit_neighbours(labels, cosines, label_Q, self.prior_G, ks=KS)

    def scale_classes(self, states: list[State], shrinkage: float | None = None) -> tuple[list[Any], list[State]]:
        """A scale and a bias per class, shrunk by as much as the other folds call for; models are (shrinkage, scaling)."""
        label_N, fold_N = self.evidence.label_N, self.evidence.fold_N

        def fit(state: State) -> tuple[float, VectorScaling]:
            chosen = shrinkage
            if chosen is None:
                rows = thin_rows(state.train, SHRINKAGE_ROWS)
                inner_N = fold_N[rows] if len(np.unique(fold_N[rows])) > 1 else self.evidence.photo_N[rows] % 2
                chosen = choose_shrinkage(state.real[rows], label_N[rows], inner_N, SHRINKAGES)
            return chosen, fit_vector_scaling(state.real[state.train], label_N[state.train], shrinkage=chosen)

        return self.advance(states, fit, lambda model, table, _: model[1].apply(table))


def estimate(change_P: Floats) -> Gain:
    """Mean change of the loss of some photographs."""
    return Gain(float(change_P.mean()), standard_error(change_P))


def pays(gain: Gain) -> bool:
    """Whether a loss falls by more than its standard error, and not by rounding alone."""
    return -gain.mean > max(gain.standard_error, _ROUNDING)
