"""Fits the finish on out-of-fold answers, link by link, and estimates each link on folds that it was not fitted on.

Every link is fitted once per outer fold on the other folds (the nested estimate) and once on all (what is delivered, and the
in-sample estimate). A link stays where its nested gain is more than its standard error. Photographs seen in two conditions
count as one in every standard error.
Shapes: N rows (a photograph under a condition), U unusable rows, G trained classes, R models, V views.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.scoring.blend import Blend, fit_blend, select_greedily
from hectocar.scoring.calibrate import Temperature, VectorScaling, choose_shrinkage, fit_temperature, fit_vector_scaling
from hectocar.scoring.finish import Known, Level, doubt_features, measure_closeness
from hectocar.scoring.finish_evidence import (
    Evidence,
    Floats,
    Gain,
    Ints,
    LinkRow,
    State,
    arithmetic_mean,
    measure_gain,
    safe_log,
    take_rows,
    thin_rows,
)
from hectocar.scoring.floor import Floor, fit_floor, fit_temperature_under, foreign_cost_per_row
from hectocar.scoring.metrics import log_softmax
from hectocar.scoring.neighbours import NeighbourModel, fit_neighbours

SHRINKAGES = (10.0, 30.0, 100.0, 300.0)
SHRINKAGE_ROWS = 4000
"""The penalty is by row, so what suits a part of the rows suits them all."""
KS = (5, 10, 20, 50, 100)
FOREIGN_SHARES = (0.003, 0.01, 0.03, 0.1)
"""Shares of unusable photographs that the floor is fitted for: the smallest that keeps each kind affordable is taken."""
AFFORDABLE = 1.42
"""Cost of the worst kind, in losses of the prior, that the fit aims at; the promise is 1.5."""
FLOOR_ROUNDS = 2
"""Floor and temperature are fitted in turn; a third round changes the loss by less than 1e-4."""


Fit = Callable[[State], Any]
Apply = Callable[[Any, NDArray[np.float32], Evidence], NDArray[Any]]


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
    foreign_cost: dict[str, float]
    """Mean cost of each kind of unusable photograph, in losses of the prior, by a floor that has not seen the kind."""
    foreign_cost_before: dict[str, float]
    """The same without a floor."""
    total: dict[str, Gain]
    """By condition: the whole chain against the plain mean."""


@dataclass(frozen=True)
class Choice:
    """What is decided about a chain; None is not decided yet."""

    power: float | None
    """Of the mean over views; None fits it."""
    looks: tuple[int, ...] | None = None
    neighbours: bool | None = None
    mix_power: float | None = None
    vector: bool | None = None
    shrinkage: float | None = None
    foreign_share: float | None = None
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
        mean, mean_foreign = arithmetic_mean(log_probs), arithmetic_mean(foreign)
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

    def pays(self, states: list[State], before: list[State]) -> bool:
        """Whether the nested gain over all conditions is more than its standard error, photograph by photograph."""
        change = self.losses(states)[0] - self.losses(before)[0]
        _, place = np.unique(self.evidence.photo_N, return_inverse=True)
        per_photo = np.bincount(place, weights=change) / np.bincount(place)
        return bool(-per_photo.mean() > per_photo.std(ddof=1) / np.sqrt(len(per_photo)))

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

    def lay_floor(self, states: list[State], foreign_share: float | None) -> tuple[list[Any], list[State]]:
        """Mixes in the prior where a photograph is unlike those seen; models are (foreign share, temperature, floor)."""

        # One share for all: else the nested estimate would be that of another floor than the one that is delivered.
        share = foreign_share or self.fit_floor(states[-1], states[-1].foreign_train, None)[0]

        def fit(state: State) -> tuple[float, Temperature, Floor]:
            return self.fit_floor(state, state.foreign_train, share)

        def apply(fitted: Any, table: NDArray[np.float32], side: Evidence) -> NDArray[Any]:
            _, temperature, floor = fitted
            log_probs = temperature.apply(table, self._doubts(table, side))
            return safe_log(floor.apply(np.exp(log_probs), self._doubts(log_probs, side), self.prior_G))

        return self.advance(states, fit, apply)

    def fit_floor(self, state: State, foreign_rows: Ints, foreign_share: float | None) -> tuple[float, Temperature, Floor]:
        """Floor and temperature for a share of unusable photographs, or for the smallest that makes each kind affordable."""
        side = take_rows(self.foreign, foreign_rows)
        for share in FOREIGN_SHARES if foreign_share is None else (foreign_share,):
            temperature, floor = self._fit_floor_for(state, foreign_rows, share)
            foreign = state.foreign[foreign_rows]
            log_probs = temperature.apply(foreign, self._doubts(foreign, side))
            probs = floor.apply(np.exp(log_probs), self._doubts(log_probs, side), self.prior_G)
            cost_U = foreign_cost_per_row(probs, self.prior_G) / self.prior_loss
            if max(cost_U[side.part_N == part].mean() for part in np.unique(side.part_N)) <= AFFORDABLE:
                break
        return share, temperature, floor

    def _fit_floor_for(self, state: State, foreign_rows: Ints, foreign_share: float) -> tuple[Temperature, Floor]:
        rows = thin_rows(state.train)
        side, foreign_side = take_rows(self.evidence, rows), take_rows(self.foreign, foreign_rows)
        real, foreign = state.real[rows], state.foreign[foreign_rows]
        before, foreign_before = self._doubts(real, side), self._doubts(foreign, foreign_side)
        log_probs, foreign_log_probs = log_softmax(real), log_softmax(foreign)
        for _ in range(FLOOR_ROUNDS):
            doubts = self._doubts(log_probs, side)
            floor = fit_floor(
                np.exp(log_probs), side.label_N, doubts, np.exp(foreign_log_probs),
                self._doubts(foreign_log_probs, foreign_side), self.prior_G, foreign_share=foreign_share,
            )  # fmt: skip
            temperature = fit_temperature_under(real, side.label_N, before, floor.shares(doubts), self.prior_G)
            log_probs, foreign_log_probs = temperature.apply(real, before), temperature.apply(foreign, foreign_before)
        return temperature, floor

    def _doubts(self, log_probs: NDArray[Any], side: Evidence) -> Floats:
        tables = (side.neighbour_cosines, side.unseen_cosines)
        closeness = np.hstack([np.mean([measure_closeness(table) for table in part], axis=0) for part in tables])
        return doubt_features(log_probs, side.log_probs, Known(np.empty(0), closeness, side.looks), self.brightness)

    @property
    def prior_loss(self) -> float:
        """Loss of the prior on photographs whose classes come as in training."""
        shares = self.prior_G[self.prior_G > 0.0]
        return float(-(shares * np.log(shares)).sum())

    def foreign_costs(self, state: State, foreign_share: float) -> dict[str, float]:
        """By kind, in losses of the prior: what it costs under a floor that was fitted without that kind."""
        costs = {}
        for place, kind in enumerate(self.foreign.parts):
            others = state.foreign_train[self.foreign.part_N[state.foreign_train] != place]
            _, temperature, floor = self.fit_floor(state, others, foreign_share)
            rows = np.flatnonzero(self.foreign.part_N == place)
            side, foreign = take_rows(self.foreign, rows), state.foreign[rows]
            log_probs = temperature.apply(foreign, self._doubts(foreign, side))
            probs = floor.apply(np.exp(log_probs), self._doubts(log_probs, side), self.prior_G)
            costs[kind] = float(foreign_cost_per_row(probs, self.prior_G).mean() / self.prior_loss)
        return costs

    def costs_by_kind(self, foreign_UG: NDArray[np.float32]) -> dict[str, float]:
        """By kind, in losses of the prior: what these log probabilities cost."""
        cost_U = foreign_cost_per_row(np.exp(foreign_UG.astype(np.float64)), self.prior_G) / self.prior_loss
        return {kind: float(cost_U[self.foreign.part_N == place].mean()) for place, kind in enumerate(self.foreign.parts)}
