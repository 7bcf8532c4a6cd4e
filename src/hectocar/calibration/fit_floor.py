"""The last link of the chain: floor and temperature, fitted for a share of unusable photographs among the real ones.

No labelled set tells that share, nor what will be unusable tomorrow. So each kind of unusable photograph is judged by a floor
that has not seen it. The floor is an insurance: it stays by the same rule as every link, on the loss that it is fitted for,
(1 - share) real + share unusable. The smallest share is taken at which it stays and every unseen kind is affordable.
Shapes: N rows (a photograph under a condition), U unusable rows, G trained classes, P photographs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.chain import Answer, doubt_features, measure_closeness, safe_log
from hectocar.calibration.evidence import Evidence, Floats, Gain, Ints, State, take_rows, thin_rows
from hectocar.calibration.fit_links import ChainFitter, Insurance, estimate, pays
from hectocar.calibration.floor import Floor, fit_floor, fit_temperature_under, foreign_cost_per_row
from hectocar.calibration.temperature import Temperature
from hectocar.scoring.metrics import log_softmax, standard_error

FOREIGN_SHARES = (0.003, 0.01, 0.03, 0.1)
"""Shares of unusable photographs that a floor may be fitted for."""
AFFORDABLE = 1.5
"""Cost of an unseen kind, in losses of the prior, that it may reach with its standard error."""
FLOOR_ROUNDS = 2
"""Floor and temperature are fitted in turn; a third round changes the loss by less than 1e-4."""
FloorPair = tuple[Temperature, Floor]


class FloorFitter:
    """Fits floors under the chain of a ``ChainFitter``."""

    def __init__(self, fitter: ChainFitter) -> None:
        self.fitter, self.foreign, self.prior_G = fitter, fitter.foreign, fitter.prior_G
        shares = self.prior_G[self.prior_G > 0.0]
        self.prior_loss = float(-(shares * np.log(shares)).sum())
        """Of the prior on photographs whose classes come as in training."""

    def lay(self, states: list[State], share: float) -> tuple[list[FloorPair], list[State]]:
        """Mixes in the prior where a photograph is unlike those seen. One share for all states: else the nested estimate would
        be that of another floor than the one that is delivered."""

        def fit(state: State) -> FloorPair:
            return self.fit(state, state.foreign_train, share)

        return self.fitter.advance(states, fit, lambda pair, table, side: safe_log(self.apply(pair, table, side)))

    def apply(self, pair: FloorPair, table: NDArray[Any], side: Evidence) -> Floats:
        """Probabilities of rows after temperature and floor."""
        temperature, floor = pair
        log_probs = temperature.apply(table, self._doubts(table, side))
        return floor.apply(np.exp(log_probs), self._doubts(log_probs, side), self.prior_G)

    def choose(self, states: list[State]) -> tuple[list[FloorPair], list[State], Insurance]:
        """The floor of the smallest share that pays and makes every unseen kind affordable; else of the largest that pays.

        Where every kind is affordable without a floor, a larger share would insure against nothing.
        """
        chosen: tuple[list[FloorPair], list[State], Insurance] | None = None
        for share in FOREIGN_SHARES[: 1 if self.affordable(self.costs(states[-1])) else None]:
            unseen_U = self.unseen_costs(states[-1], share)
            pairs, after = self.lay(states, share)
            insurance = self.insure(after, states, share, unseen_U)
            if chosen is None or pays(insurance.gain):
                chosen = pairs, after, insurance
            if pays(insurance.gain) and self.affordable(unseen_U):
                break
        assert chosen is not None
        return chosen

    def affordable(self, cost_U: Floats) -> bool:
        """Whether each kind stays within the bar, its standard error included."""
        kinds = [cost_U[self.foreign.part_N == place] / self.prior_loss for place in range(len(self.foreign.parts))]
        return all(cost.mean() + standard_error(cost) <= AFFORDABLE for cost in kinds)

    def unseen_costs(self, state: State, share: float) -> Floats:
        """(U,) cost of each unusable photograph, in nats."""
        cost_U = np.empty(len(self.foreign.part_N))
        for place in range(len(self.foreign.parts)):
            rows = np.flatnonzero(self.foreign.part_N == place)
            others = np.setdiff1d(state.foreign_train, rows)
            pair = self.fit(state, others if len(others) else state.foreign_train, share)
            probs = self.apply(pair, state.foreign[rows], take_rows(self.foreign, rows))
            cost_U[rows] = foreign_cost_per_row(probs, self.prior_G)
        return cost_U

    def insure(self, states: list[State], before: list[State], share: float, unseen_U: Floats) -> Insurance:
        """What the floor changes in the loss that it is fitted for."""
        real = estimate(self.fitter.change_per_photo(states, before))
        change_U = unseen_U - self.costs(before[-1])
        _, place = np.unique(self.foreign.photo_N, return_inverse=True)
        foreign = estimate(np.bincount(place, weights=change_U) / np.bincount(place))
        mean = (1.0 - share) * real.mean + share * foreign.mean
        error = float(np.hypot((1.0 - share) * real.standard_error, share * foreign.standard_error))
        gain, unseen = Gain(mean, error), self.by_kind(unseen_U)
        worst = max((unseen if pays(gain) else self.by_kind(self.costs(before[-1]))).values())
        return Insurance(share, gain, unseen, worst)

    def costs(self, state: State) -> Floats:
        """(U,) cost of each unusable photograph as a state answers it, in nats."""
        return foreign_cost_per_row(np.exp(state.foreign.astype(np.float64)), self.prior_G)

    def by_kind(self, cost_U: Floats) -> dict[str, float]:
        """Mean cost in losses of the prior."""
        kinds = enumerate(self.foreign.parts)
        return {kind: float(cost_U[self.foreign.part_N == place].mean() / self.prior_loss) for place, kind in kinds}

    def fit(self, state: State, foreign_rows: Ints, share: float) -> FloorPair:
        """Floor and temperature on the rows that a state is fitted on, and on some unusable ones."""
        rows = thin_rows(state.train)
        side, foreign_side = take_rows(self.fitter.evidence, rows), take_rows(self.foreign, foreign_rows)
        real, foreign = state.real[rows], state.foreign[foreign_rows]
        before, foreign_before = self._doubts(real, side), self._doubts(foreign, foreign_side)
        log_probs, foreign_log_probs = log_softmax(real), log_softmax(foreign)
        for _ in range(FLOOR_ROUNDS):
            doubts = self._doubts(log_probs, side)
            floor = fit_floor(
                np.exp(log_probs), side.label_N, doubts, np.exp(foreign_log_probs),
                self._doubts(foreign_log_probs, foreign_side), self.prior_G, foreign_share=share,
            )  # fmt: skip
            temperature = fit_temperature_under(real, side.label_N, before, floor.shares(doubts), self.prior_G)
            log_probs, foreign_log_probs = temperature.apply(real, before), temperature.apply(foreign, foreign_before)
        return temperature, floor

    def _doubts(self, log_probs: NDArray[Any], side: Evidence) -> Floats:
        return doubt_features(log_probs, answer_of(side), side.looks, self.fitter.brightness)


def answer_of(side: Evidence) -> Answer:
    """What the networks of a photograph said, as ``doubt_features`` takes it; without votes."""
    tables = (side.neighbour_cosines, side.unseen_cosines)
    closeness = np.hstack([np.mean([measure_closeness(table) for table in part], axis=0) for part in tables])
    return Answer(side.log_probs, np.empty((len(closeness), 0)), closeness)
