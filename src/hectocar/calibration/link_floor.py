"""The last link: a share of the prior where a photograph is unlike any seen, and the temperature under it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.doubts import DOUBT_NAMES, measure_doubts
from hectocar.calibration.floor import Floor, mix_prior
from hectocar.calibration.link import Link, Side, safe_log
from hectocar.calibration.temperature import Temperature
from hectocar.scoring.arrays import Floats, log_softmax

if TYPE_CHECKING:
    from hectocar.calibration.evidence import ChainState, Gain
    from hectocar.calibration.fit_links import ChainFitter


@dataclass(frozen=True)
class FloorLink(Link):
    """The answer is that of the folds' mean. How doubtful a photograph is, each network says by itself, as it was fitted on one
    network per photograph: a mean of networks has views that agree more than those of any. The prior's share is the mean of
    their shares, the temperature the geometric mean of theirs: on average what was fitted."""

    temperature: Temperature
    """By doubts. Fitted together with the floor: without it, wrong labels and odd photographs make it too hot."""
    floor: Floor
    kind: Literal["floor"] = "floor"
    title: ClassVar[str] = "floor, and temperature under it"
    is_each_levels_own: ClassVar[bool] = True
    asks_closeness: ClassVar[bool] = True
    asks_networks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, slopes in (("temperature", self.temperature.slopes), ("floor", self.floor.slopes)):
            if len(slopes) != len(DOUBT_NAMES):
                raise ValueError(f"{name} has {len(slopes)} slopes; allowed: {len(DOUBT_NAMES)}, one a doubt")

    def apply(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        return safe_log(self.to_probs(log_probs_NG, side))

    def to_probs(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        asked = [self.ask(table, network) for table, network in side.networks or [(log_probs_NG, side)]]
        log_temperature_N = np.mean([np.log(temperature_N) for temperature_N, _ in asked], axis=0)
        share_N = np.mean([share_N for _, share_N in asked], axis=0)
        log_probs = log_softmax(np.asarray(log_probs_NG, dtype=np.float64) / np.exp(log_temperature_N)[:, None])
        return mix_prior(np.exp(log_probs), share_N, side.prior_G)

    def ask(self, log_probs_NG: NDArray[Any], side: Side) -> tuple[Floats, Floats]:
        """(N,) temperature and (N,) share of the prior that one network of each model asks for."""
        before = measure_doubts(log_probs_NG, side)
        temperature_N = self.temperature.temperatures(before, len(before))
        after = measure_doubts(self.temperature.apply(log_probs_NG, before), side)
        return temperature_N, self.floor.shares(after)

    @classmethod
    def fit(cls, fitter: "ChainFitter", states: "Sequence[ChainState]") -> "list[FloorLink]":
        from hectocar.calibration.fit_floor import FloorFitter

        return FloorFitter(fitter).choose(states)[0]

    @classmethod
    def measure(cls, fitter: "ChainFitter", after: "Sequence[ChainState]", before: "Sequence[ChainState]") -> "Gain":
        """Of the loss that it is fitted for: a share of unusable photographs among the real ones."""
        assert fitter.insurance is not None
        return fitter.insurance.gain
