"""What links are fitted with: states that see some of the rows, and how a chain is judged on rows that it has not seen.

Every link is fitted once per outer fold on the other folds (the nested estimate) and once on all (what is delivered, and the
in-sample estimate). Photographs seen in two conditions count as one in every standard error.
Shapes: N rows (a photograph under a condition), U unusable rows, G trained classes, R models, V views, P photographs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.blend import Mean
from hectocar.calibration.evidence import (
    ChainState,
    Evidence,
    Gain,
    Insurance,
    LinkRow,
    estimate,
    measure_gain,
    pays,
    take_rows,
)
from hectocar.calibration.fit_neighbours import fit_neighbours
from hectocar.calibration.link import Answer, Link, Side, arithmetic_mean, measure_closeness
from hectocar.calibration.neighbours import NeighbourModel
from hectocar.scoring.arrays import Floats, Ints


@dataclass(frozen=True)
class Decided:
    """What the largest level leaves to smaller ones; None is not decided yet."""

    views_mean: Mean | None = None
    """Of the blend of views; None takes the better one."""
    neighbours_mean: Mean | None = None
    """Likewise, of networks and neighbours."""
    kept: dict[str, bool] = field(default_factory=dict)
    """By the title of a link, whether it stays."""
    vote_models: tuple[NeighbourModel, ...] | None = None
    """One per state: they do not depend on the views."""


class ChainFitter:
    """Fits chains on one body of evidence."""

    def __init__(
        self, evidence: Evidence, unusable: Evidence, prior_G: NDArray[np.float64], num_models: int, brightness: float,
        decided: Decided | None = None,
    ) -> None:  # fmt: skip
        self.evidence, self.unusable, self.prior_G = evidence, unusable, prior_G
        self.num_models, self.brightness, self.decided = num_models, brightness, decided or Decided()
        self.folds = [int(fold) for fold in np.unique(evidence.fold_N)]
        self._vote_models = self.decided.vote_models
        self.insurance: Insurance | None = None
        """What the floor brings, once it was fitted."""

    def start(self, log_probs: Sequence[NDArray[Any]], unusable: Sequence[NDArray[Any]]) -> list[ChainState]:
        """States before the first link: one per outer fold, and one fitted and judged on everything."""
        mean, mean_unusable = (arithmetic_mean(tables).astype(np.float32) for tables in (log_probs, unusable))
        fold_N, fold_U = self.evidence.fold_N, self.unusable.fold_N
        states = [
            ChainState(
                number=number,
                train=np.flatnonzero(fold_N != fold),
                held=np.flatnonzero(fold_N == fold),
                real=mean,
                unusable=mean_unusable,
                unusable_train=np.flatnonzero(fold_U != fold),
            )
            for number, fold in enumerate(self.folds)
        ]
        everyone = np.arange(len(fold_N))
        return [*states, ChainState(len(states), everyone, everyone, mean, mean_unusable, np.arange(len(fold_U)))]

    def advance(self, states: Sequence[ChainState], links: Sequence[Link]) -> list[ChainState]:
        """The states after a link: each by its own."""
        return [
            replace(
                state,
                real=link.apply(state.real, self.side(state, link)).astype(np.float32),
                unusable=link.apply(state.unusable, self.side(state, link, unusable=True)).astype(np.float32),
            )
            for state, link in zip(states, links, strict=True)
        ]

    def side(self, state: ChainState, link: Link | type[Link], *, unusable: bool = False, rows: Ints | None = None) -> Side:
        """What a link may look at: one network of each model, and the neighbours' votes as this state learnt them."""
        evidence = self.unusable if unusable else self.evidence
        evidence = evidence if rows is None else take_rows(evidence, rows)
        closeness = votes = np.empty((len(evidence.label_N), 0))
        if link.asks_closeness:
            tables = (evidence.neighbour_cosines, evidence.unseen_cosines)
            closeness = np.hstack([np.mean([measure_closeness(table) for table in part], axis=0) for part in tables])
        if link.asks_votes and self._vote_models is not None:
            model, pairs = (
                self._vote_models[state.number],
                zip(evidence.neighbour_labels, evidence.neighbour_cosines, strict=True),
            )
            votes = np.mean([model.apply(labels, cosines, self.prior_G) for labels, cosines in pairs], axis=0)
        return Side(Answer(evidence.log_probs, votes, closeness), evidence.looks, self.prior_G, self.brightness)

    def learn_votes(self, states: Sequence[ChainState]) -> tuple[NeighbourModel, ...]:
        """By state, the k, temperature and smoothing that predict its rows best from their neighbours alone."""
        if self._vote_models is None:
            self._vote_models = tuple(self._fit_votes(state.train) for state in states)
        return self._vote_models

    def _fit_votes(self, rows: Ints) -> NeighbourModel:
        labels = np.concatenate([table[rows] for table in self.evidence.neighbour_labels])
        cosines = np.concatenate([table[rows] for table in self.evidence.neighbour_cosines])
        return fit_neighbours(labels, cosines, np.tile(self.evidence.label_N[rows], self.num_models), self.prior_G)

    def losses(self, states: Sequence[ChainState]) -> tuple[Floats, Floats]:
        """Nested and in-sample loss of each row."""
        rows, label_N = np.arange(len(self.evidence.label_N)), self.evidence.label_N
        nested = np.empty(len(rows))
        for state in states[:-1]:
            nested[state.held] = -state.real[state.held, label_N[state.held]]
        return nested, -states[-1].real[rows, label_N].astype(np.float64)

    def nested_table(self, states: Sequence[ChainState]) -> NDArray[np.float32]:
        """Each row by the state that was not fitted on it."""
        table = np.empty_like(states[0].real)
        for state in states[:-1]:
            table[state.held] = state.real[state.held]
        return table

    def measure(self, states: Sequence[ChainState], before: Sequence[ChainState]) -> Gain:
        """Nested loss minus that of the states before, photograph by photograph whatever the conditions."""
        change = self.losses(states)[0] - self.losses(before)[0]
        _, place = np.unique(self.evidence.photo_N, return_inverse=True)
        return estimate(np.bincount(place, weights=change) / np.bincount(place))

    def try_link(
        self, kind: type[Link], states: Sequence[ChainState]
    ) -> tuple[list[Link] | None, Sequence[ChainState], LinkRow]:
        """Fits a link and keeps it where it pays, or as the largest level decided: its links (None if left out), the states
        from here on, and its row."""
        before = self.losses(states)[0]
        decided = None if kind.is_each_levels_own else self.decided.kept.get(kind.title)
        if decided is False:
            return None, states, self.describe(kind.title, states, before, kept=False)
        links: list[Link] = list(kind.fit(self, states))
        after = self.advance(states, links)
        kept = decided or pays(kind.measure(self, after, states))
        row = self.describe(kind.title, after, before, kept=kept)
        return (links, after, row) if kept else (None, states, row)

    def describe(self, name: str, states: Sequence[ChainState], before: Floats | None, kept: bool = True) -> LinkRow:
        """A row of the table, with gains by condition over the loss before."""
        nested, in_sample = self.losses(states)
        gains = {}
        for place, condition in enumerate(self.evidence.conditions):
            if before is not None:
                gains[condition] = measure_gain(nested, before, self.evidence.condition_N == place)
        return LinkRow(name, self._by_condition(nested), self._by_condition(in_sample), gains, kept)

    def _by_condition(self, loss_N: Floats) -> dict[str, float]:
        conditions = enumerate(self.evidence.conditions)
        return {name: float(loss_N[self.evidence.condition_N == place].mean()) for place, name in conditions}
