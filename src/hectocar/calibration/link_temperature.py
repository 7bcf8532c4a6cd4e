"""The second link: one temperature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

from hectocar.calibration.evidence import ChainState
from hectocar.calibration.fit_temperature import fit_temperature
from hectocar.calibration.link import Link, Side
from hectocar.calibration.temperature import Temperature
from hectocar.scoring.arrays import Floats

if TYPE_CHECKING:
    from hectocar.calibration.fit_links import ChainFitter


@dataclass(frozen=True)
class TemperatureLink(Link):
    """Divides by one temperature."""

    temperature: Temperature
    kind: Literal["temperature"] = "temperature"
    title: ClassVar[str] = "temperature"

    def __post_init__(self) -> None:
        if self.temperature.slopes:
            raise ValueError(f"temperature has {len(self.temperature.slopes)} slopes; allowed: none")

    def apply(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        return self.temperature.apply(log_probs_NG)

    @classmethod
    def fit(cls, fitter: "ChainFitter", states: Sequence[ChainState]) -> "list[TemperatureLink]":
        label_N = fitter.evidence.label_N
        return [cls(fit_temperature(state.real[state.train], label_N[state.train])) for state in states]
