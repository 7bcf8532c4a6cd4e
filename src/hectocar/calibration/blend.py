"""One prediction out of several: the weighted geometric or arithmetic mean of probabilities.

Shapes: M models, N rows, C classes, R rows of a chunk. Log-probabilities go in and come out. Those below -100 (far under the
evaluator's clip at -34.5) count as -100, which keeps them finite in every product, and every row is normalised exactly. The
tables may be float32 and are never copied whole: 40 of 12,000 rows and 196 classes would take 750 MB in float64.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.calibration.link import Link, Side
from hectocar.scoring.arrays import Floats, Ints, log_softmax

if TYPE_CHECKING:
    from hectocar.calibration.evidence import ChainState
    from hectocar.calibration.fit_links import ChainFitter

Mean = Literal["arithmetic", "geometric"]
Tables = Sequence[ArrayLike] | NDArray[Any]
"""M tables of (N, C) log-probabilities: a list, or one array (M, N, C)."""

LOWEST_LOG = -100.0
SUM_TOLERANCE = 0.01
"""How far a row may sum from 1: log-probabilities kept in float16 are off by 0.002, logits by far more."""
_CELLS = 2_000_000
"""Numbers in a chunk of all models: 16 MB in float64."""


def check_tables(log_probs_MNC: Tables) -> list[NDArray[Any]]:
    """The tables as they are, not copied. Raises ValueError unless they are of one shape, (rows, classes)."""
    tables = [np.asarray(table) for table in log_probs_MNC]
    shapes = sorted({table.shape for table in tables})
    if len(shapes) != 1 or len(shapes[0]) != 2 or 0 in shapes[0] or any(table.dtype.kind != "f" for table in tables):
        found = ", ".join(map(str, shapes)) or "nothing"
        raise ValueError(f"log_probs_MNC has tables of shape {found}; allowed: floats, all of one shape (rows, classes)")
    return tables


class LogProbTables:
    """Tables of log-probabilities, checked once, handed out in float64 and normalised, a few rows of every model at a time."""

    def __init__(self, tables: list[NDArray[Any]], log_sum_MN: Floats | None = None) -> None:
        self._tables = tables
        self.num_rows, self.num_classes = tables[0].shape
        self._step = max(1, min(1_024, _CELLS // (len(tables) * self.num_classes)))
        self._log_sum_MN = self._measure_sums() if log_sum_MN is None else log_sum_MN

    def _measure_sums(self) -> Floats:
        sums = np.empty((len(self._tables), self.num_rows))
        for model, table in enumerate(self._tables):
            for start in range(0, self.num_rows, self._step):
                rows = slice(start, start + self._step)
                with np.errstate(over="ignore"):
                    sums[model, rows] = np.exp(np.maximum(table[rows], LOWEST_LOG, dtype=np.float64)).sum(axis=1)
            wrong = ~(np.abs(sums[model] - 1.0) <= SUM_TOLERANCE)
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"row {row} of model {model} sums to {sums[model, row]}; allowed: log-probabilities, whose "
                    f"exponentials sum to 1 within {SUM_TOLERANCE:g}"
                )
        result: Floats = np.log(sums)
        return result

    def select(self, models: NDArray[np.intp]) -> "LogProbTables":
        """Some of the models, not measured again."""
        return LogProbTables([self._tables[model] for model in models], self._log_sum_MN[models])

    def iter_chunks(self) -> Iterator[tuple[slice, Floats]]:
        """Slices of rows with their (M, R, C) log-probabilities; the array is reused for the next chunk."""
        buffer = np.empty((len(self._tables), self._step, self.num_classes))
        for start in range(0, self.num_rows, self._step):
            rows = slice(start, min(start + self._step, self.num_rows))
            chunk_MRC = buffer[:, : rows.stop - start]
            for model, table in enumerate(self._tables):
                np.maximum(table[rows], LOWEST_LOG, out=chunk_MRC[model])
            chunk_MRC -= self._log_sum_MN[:, rows, None]
            yield rows, chunk_MRC

    def label_log_probs(self, label_N: Ints) -> Floats:
        """(M, N) Log-probability that each model gives to each label."""
        picked = [np.maximum(table[np.arange(self.num_rows), label_N], LOWEST_LOG, dtype=np.float64) for table in self._tables]
        result: Floats = np.stack(picked) - self._log_sum_MN
        return result


@dataclass(frozen=True)
class Blend:
    """p_c = sum_m w_m p_mc (arithmetic), or proportional to prod_m p_mc^w_m (geometric)."""

    weights: tuple[float, ...]
    mean: Mean

    def __post_init__(self) -> None:
        if not self.weights or not min(self.weights) >= 0.0 or not abs(math.fsum(self.weights) - 1.0) <= 1e-9:
            raise ValueError(f"weights are {self.weights}; allowed: one or more, 0 or more each, that sum to 1")

    def apply(self, log_probs_MNC: Tables) -> Floats:
        """(N, C) Log-probabilities of the blend; models of weight 0 are not read beyond their shape.

        Raises:
            ValueError: not as many models as weights, shapes that differ, NaN, a row that does not sum to 1.
        """
        tables = check_tables(log_probs_MNC)
        if len(tables) != len(self.weights):
            raise ValueError(
                f"there are {len(tables)} tables of log-probabilities; allowed: {len(self.weights)}, one per weight"
            )
        used = [index for index, weight in enumerate(self.weights) if weight > 0.0]
        chosen, weights = LogProbTables([tables[index] for index in used]), np.asarray(self.weights)[used]
        result = np.empty((chosen.num_rows, chosen.num_classes))
        for rows, log_probs_MRC in chosen.iter_chunks():
            result[rows] = _mix(log_probs_MRC, weights, self.mean)
        return result


def _mix(log_probs_MRC: Floats, weights_M: NDArray[Any], mean: Mean) -> Floats:
    """(R, C) Log-probabilities of the mean. Changes log_probs_MRC."""
    if mean == "geometric":
        return log_softmax(np.tensordot(weights_M, log_probs_MRC, axes=1))
    log_probs_MRC += np.log(weights_M)[:, None, None]
    highest_RC = log_probs_MRC.max(axis=0)
    log_probs_MRC -= highest_RC
    return log_softmax(highest_RC + np.log(np.exp(log_probs_MRC, out=log_probs_MRC).sum(axis=0)))


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
    def fit(cls, fitter: "ChainFitter", states: "Sequence[ChainState]") -> "list[ViewBlend]":
        from hectocar.calibration.evidence import thin_rows
        from hectocar.calibration.fit_blend import fit_blend

        evidence, links = fitter.evidence, []
        for state in states:
            rows = thin_rows(state.train)
            tables = [table[rows] for table in evidence.log_probs]
            links.append(cls(fit_blend(tables, evidence.label_N[rows], mean=fitter.decided.views_mean)))
        return links
