"""The first link: the views and models, blended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

from hectocar.calibration.blend import Blend
from hectocar.calibration.evidence import ChainState, thin_rows
from hectocar.calibration.fit_blend import fit_blend
from hectocar.calibration.link import Link, Side
from hectocar.scoring.arrays import Floats

if TYPE_CHECKING:
    from hectocar.calibration.fit_links import ChainFitter


@dataclass(frozen=True)
class ViewBlend(Link):
    """Fitted weights over all sources, in place of the plain view alone."""

    blend: Blend
    kind: Literal["views"] = "views"
    title: ClassVar[str] = "views, fitted weights"

    def apply(self, log_probs_NG: NDArray[Any], side: Side) -> Floats:
        return self.blend.apply(side.answer.sources)

    def check(self, num_models: int, num_views: int) -> None:
        if len(self.blend.weights) != num_models * num_views:
            raise ValueError(f"{len(self.blend.weights)} weights; allowed: {num_models} models x {num_views} views")

    @classmethod
    def fit(cls, fitter: "ChainFitter", states: Sequence[ChainState]) -> "list[ViewBlend]":
        evidence, links = fitter.evidence, []
        for state in states:
            rows = thin_rows(state.train)
            tables = [table[rows] for table in evidence.log_probs]
            links.append(cls(fit_blend(tables, evidence.label_N[rows], mean=fitter.decided.views_mean)))
        return links
