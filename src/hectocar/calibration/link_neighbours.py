"""The third link: what the nearest training photographs say, mixed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

from hectocar.calibration.blend import Blend
from hectocar.calibration.evidence import ChainState, thin_rows
from hectocar.calibration.fit_blend import fit_blend
from hectocar.calibration.fit_temperature import fit_temperature
from hectocar.calibration.link import Link, Side, safe_log
from hectocar.calibration.temperature import Temperature
from hectocar.scoring.arrays import Floats

if TYPE_CHECKING:
    from hectocar.calibration.fit_links import ChainFitter


@dataclass(frozen=True)
class NeighbourLink(Link):
    """Networks and neighbours by two weights, and the temperature after it."""

    mix: Blend
    temperature: Temperature
    kind: Literal["neighbours"] = "neighbours"
    title: ClassVar[str] = "neighbours"
    asks_votes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.mix.weights) != 2 or self.temperature.slopes:
            raise ValueError("neighbours are mixed in by two weights and a temperature without slopes")

    def apply(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        return self.temperature.apply(self.mix.apply([log_probs_NG, safe_log(side.answer.votes)]))

    @classmethod
    def fit(cls, fitter: "ChainFitter", states: Sequence[ChainState]) -> "list[NeighbourLink]":
        fitter.learn_votes(states)
        links = []
        for state in states:
            rows = thin_rows(state.train)
            label_N = fitter.evidence.label_N[rows]
            tables: list[NDArray[Any]] = [state.real[rows], safe_log(fitter.side(state, cls, rows=rows).answer.votes)]
            mix = fit_blend(tables, label_N, mean=fitter.decided.neighbours_mean)
            links.append(cls(mix, fit_temperature(mix.apply(tables), label_N)))
        return links
