"""The last link of the chain: floor and temperature, fitted for a share of unusable photographs among the real ones.

No labelled set tells that share, nor what will be unusable tomorrow. So each kind of unusable photograph is judged by a floor
that has not seen it. The floor is an insurance: it stays by the same rule as every link, on the loss that it is fitted for,
(1 - share) real + share unusable. The smallest share is taken at which it stays and every unseen kind is affordable.
Shapes: N rows (a photograph under a condition), U unusable rows, G trained classes, P photographs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hectocar.calibration.evidence import ChainState, Gain, Insurance, estimate, pays, thin_rows
from hectocar.calibration.fit_temperature import fit_temperature_under
from hectocar.calibration.floor import FloorLink, measure_doubts
from hectocar.calibration.floor_loss import fit_floor, unusable_cost_per_row
from hectocar.scoring.arrays import Floats, Ints, log_softmax
from hectocar.scoring.metrics import standard_error

if TYPE_CHECKING:
    from hectocar.calibration.fit_links import ChainFitter

UNUSABLE_SHARES = (0.003, 0.01, 0.03, 0.1)
"""Shares of unusable photographs that a floor may be fitted for."""
AFFORDABLE = 1.5
"""Cost of an unseen kind, in losses of the prior, that it may reach with its standard error."""
FLOOR_ROUNDS = 2
"""Floor and temperature are fitted in turn; a third round changes the loss by less than 1e-4."""


class FloorFitter:
    """Fits floors under the chain of a ``ChainFitter``."""

    def __init__(self, fitter: "ChainFitter") -> None:
        self.fitter, self.unusable, self.prior_G = fitter, fitter.unusable, fitter.prior_G
        shares = self.prior_G[self.prior_G > 0.0]
        self.prior_loss = float(-(shares * np.log(shares)).sum())
        """Of the prior on photographs whose classes come as in training."""

    def lay(self, states: Sequence[ChainState], share: float) -> tuple[list[FloorLink], list[ChainState]]:
        """Mixes in the prior where a photograph is unlike those seen. One share for all states: else the nested estimate would
        be that of another floor than the one that is delivered."""
        links = [self.fit(state, state.unusable_train, share) for state in states]
        return links, self.fitter.advance(states, links)

    def choose(self, states: Sequence[ChainState]) -> tuple[list[FloorLink], Insurance]:
        """The floor of the smallest share that pays and makes every unseen kind affordable; else of the largest that pays.

        Where every kind is affordable without a floor, a larger share would insure against nothing.
        """
        chosen: tuple[list[FloorLink], Insurance] | None = None
        for share in UNUSABLE_SHARES[: 1 if self.affordable(self.costs(states[-1])) else None]:
            unseen_U = self.unseen_costs(states[-1], share)
            links, after = self.lay(states, share)
            insurance = self.insure(after, states, share, unseen_U)
            if chosen is None or pays(insurance.gain):
                chosen = links, insurance
            if pays(insurance.gain) and self.affordable(unseen_U):
                break
        assert chosen is not None
        self.fitter.insurance = chosen[1]
        return chosen

    def affordable(self, cost_U: Floats) -> bool:
        """Whether each kind stays within the bar, its standard error included."""
        kinds = [cost_U[self.unusable.condition_N == place] / self.prior_loss for place in range(len(self.unusable.conditions))]
        return all(cost.mean() + standard_error(cost) <= AFFORDABLE for cost in kinds)

    def unseen_costs(self, state: ChainState, share: float) -> Floats:
        """(U,) cost of each unusable photograph, in nats."""
        cost_U = np.empty(len(self.unusable.condition_N))
        for place in range(len(self.unusable.conditions)):
            rows = np.flatnonzero(self.unusable.condition_N == place)
            others = np.setdiff1d(state.unusable_train, rows)
            link = self.fit(state, others if len(others) else state.unusable_train, share)
            side = self.fitter.side(state, link, unusable=True, rows=rows)
            cost_U[rows] = unusable_cost_per_row(link.to_probs(state.unusable[rows], side), self.prior_G)
        return cost_U

    def insure(self, states: Sequence[ChainState], before: Sequence[ChainState], share: float, unseen_U: Floats) -> Insurance:
        """What the floor changes in the loss that it is fitted for."""
        real = self.fitter.measure(states, before)
        change_U = unseen_U - self.costs(before[-1])
        _, place = np.unique(self.unusable.photo_N, return_inverse=True)
        unusable = estimate(np.bincount(place, weights=change_U) / np.bincount(place))
        mean = (1.0 - share) * real.mean + share * unusable.mean
        error = float(np.hypot((1.0 - share) * real.standard_error, share * unusable.standard_error))
        gain, unseen = Gain(mean, error), self.by_kind(unseen_U)
        worst = max((unseen if pays(gain) else self.by_kind(self.costs(before[-1]))).values())
        return Insurance(share, gain, unseen, worst)

    def costs(self, state: ChainState) -> Floats:
        """(U,) cost of each unusable photograph as a state answers it, in nats."""
        return unusable_cost_per_row(np.exp(state.unusable.astype(np.float64)), self.prior_G)

    def by_kind(self, cost_U: Floats) -> dict[str, float]:
        """Mean cost in losses of the prior."""
        kinds = enumerate(self.unusable.conditions)
        return {kind: float(cost_U[self.unusable.condition_N == place].mean() / self.prior_loss) for place, kind in kinds}

    def fit(self, state: ChainState, unusable_rows: Ints, share: float) -> FloorLink:
        """Floor and temperature on the rows that a state is fitted on, and on some unusable ones."""
        rows = thin_rows(state.train)
        label_N, side = self.fitter.evidence.label_N[rows], self.fitter.side(state, FloorLink, rows=rows)
        unusable_side = self.fitter.side(state, FloorLink, unusable=True, rows=unusable_rows)
        real, unusable = state.real[rows], state.unusable[unusable_rows]
        before, unusable_before = measure_doubts(real, side), measure_doubts(unusable, unusable_side)
        log_probs, unusable_log_probs = log_softmax(real), log_softmax(unusable)
        for _ in range(FLOOR_ROUNDS):
            doubts = measure_doubts(log_probs, side)
            floor = fit_floor(
                np.exp(log_probs), label_N, doubts, np.exp(unusable_log_probs),
                measure_doubts(unusable_log_probs, unusable_side), self.prior_G, unusable_share=share,
            )  # fmt: skip
            temperature = fit_temperature_under(real, label_N, before, floor.shares(doubts), self.prior_G)
            log_probs, unusable_log_probs = temperature.apply(real, before), temperature.apply(unusable, unusable_before)
        return FloorLink(temperature, floor)
