"""Class probabilities from the nearest photographs in embedding space: an exact cosine search and a vote of what it found.

Shapes: Q queries, B photographs of the bank, D values of an embedding, k neighbours, C classes; R rows of a slab.

The vote is weighted k-nearest neighbours as in Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination" (section 3.4): a neighbour weighs exp(cosine / temperature). Mixing in the class prior keeps the log loss finite
where no neighbour has the right class; Khandelwal et al. 2020, "Generalization through Memorization" (eq. 3) mix alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.calibration.blend import Blend
from hectocar.calibration.link import Link, Side, safe_log
from hectocar.calibration.temperature import Temperature
from hectocar.scoring.arrays import Floats, Ints

if TYPE_CHECKING:
    from hectocar.calibration.evidence import ChainState
    from hectocar.calibration.fit_links import ChainFitter

Floats32 = NDArray[np.float32]
_SLAB_ROWS = 256
"""Rows that selection and scaling treat at a time: 4 MiB at 4,096 columns stay in the cache from one step to the next."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest photographs of each query, nearest first."""

    index_Qk: Ints
    """Rows of the bank; -1 where there were fewer than k."""
    cosine_Qk: Floats32
    """-inf where there were fewer than k."""

    def take_labels(self, bank_label_B: ArrayLike) -> Ints:
        """(Q, k) labels of the neighbours, -1 where there is none: what the vote needs, whatever bank they came from."""
        label = np.asarray(bank_label_B)
        if label.ndim != 1 or label.dtype.kind not in "iu" or len(label) <= max(0, self.index_Qk.max()):
            raise ValueError(f"bank_label_B has shape {label.shape} and type {label.dtype}; allowed: an integer per bank row")
        if label.min() < 0:
            raise ValueError(f"bank_label_B[{int(label.argmin())}] is {label.min()}; allowed: 0 or more")
        return np.where(self.index_Qk < 0, -1, label[self.index_Qk]).astype(np.int64)


@dataclass(frozen=True)
class UnitBank:
    """A bank at length 1 in float32: what `find_neighbours` makes of its bank at every call, made once for many calls."""

    unit_BD: Floats32

    @classmethod
    def prepare(cls, bank_BD: ArrayLike) -> "UnitBank":
        """Takes what `find_neighbours` takes as a bank, and answers to the same bits. Raises ValueError."""
        bank = check_rows(bank_BD, "bank_BD")
        return cls(_to_unit(bank, "bank_BD", 0, len(bank)))

    def first(self, count: int) -> "UnitBank":
        """The first so many rows, not copied."""
        return UnitBank(self.unit_BD[:count])


def find_neighbours(
    query_QD: ArrayLike,
    bank_BD: ArrayLike | UnitBank,
    k: int,
    *,
    query_group_Q: ArrayLike | None = None,
    bank_group_B: ArrayLike | None = None,
    chunk_rows: int = 4096,
    bank_chunk_rows: int = 4096,
) -> Neighbours:
    """The k photographs of the bank with the largest cosine to each query; equal cosines in the order of the bank.

    Exact: every pair is multiplied, in float32. Chunk sizes and the number of threads move a cosine by some 1e-7, for BLAS adds
    up in another order; neighbours that are closer to each other than that, copies too, may then change places.

    Args:
        query_QD: float16, float32 or float64 of any length; a row of zeros has cosine 0 to everything.
        bank_BD: Likewise, or prepared. Both may be memory maps: they are read by chunks.
        query_group_Q: Integers. A bank row of the query's own group is none of its neighbours.
        chunk_rows: Queries at a time.
        bank_chunk_rows: Bank rows at a time. 4,096 of each take about 0.2 GiB above input and answer at D = 1,536.

    Raises:
        ValueError: wrong shapes or types, a value that is not finite, groups for one side only, k or a chunk below 1.
    """
    query, prepared = check_rows(query_QD, "query_QD"), isinstance(bank_BD, UnitBank)
    bank = check_rows(bank_BD.unit_BD if isinstance(bank_BD, UnitBank) else bank_BD, "bank_BD")
    if query.shape[1] != bank.shape[1]:
        raise ValueError(f"query_QD has {query.shape[1]} columns and bank_BD {bank.shape[1]}; allowed: the same number")
    for name, value in (("k", k), ("chunk_rows", chunk_rows), ("bank_chunk_rows", bank_chunk_rows)):
        check_count(name, value)
    if (query_group_Q is None) != (bank_group_B is None):
        raise ValueError("groups are given for one side only; allowed: query_group_Q and bank_group_B, or neither")
    groups = None
    if query_group_Q is not None and bank_group_B is not None:
        groups = (
            check_ints(query_group_Q, "query_group_Q", len(query)),
            check_ints(bank_group_B, "bank_group_B", len(bank)),
        )
    index_Qk, cosine_Qk = np.full((len(query), k), -1), np.full((len(query), k), -np.inf, dtype=np.float32)
    for start in range(0, len(query), chunk_rows):
        unit_QD = _to_unit(query, "query_QD", start, chunk_rows)
        for bank_start in range(0, len(bank), bank_chunk_rows):
            columns = slice(bank_start, bank_start + bank_chunk_rows)
            unit_BD = bank[columns] if prepared else _to_unit(bank, "bank_BD", bank_start, bank_chunk_rows)
            block_QB = unit_QD @ unit_BD.T
            for row in range(0, len(block_QB), _SLAB_ROWS):
                slab_RB = block_QB[row : row + _SLAB_ROWS]
                rows = slice(start + row, start + row + len(slab_RB))
                if groups:
                    np.copyto(slab_RB, np.float32(-np.inf), where=groups[0][rows, None] == groups[1][columns])
                _merge_slab(index_Qk[rows], cosine_Qk[rows], slab_RB, bank_start)
    return Neighbours(index_Qk, cosine_Qk)


def to_unit(embeddings_ND: NDArray[Any]) -> NDArray[np.float16]:
    """Rows of length 1, as banks keep them and as neighbours are asked for."""
    wide = embeddings_ND.astype(np.float32)
    unit: NDArray[np.float16] = (wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)).astype(np.float16)
    return unit


def neighbour_probs(
    label_Qk: ArrayLike, cosine_Qk: ArrayLike, prior_C: ArrayLike, *, k: int, temperature: float, smoothing: float
) -> Floats:
    """(Q, C) vote of the first k neighbours, mixed with the prior; every row sums to 1 within rounding.

    Args:
        label_Qk: Class of each neighbour, -1 for none.
        cosine_Qk: Falling along each row, -inf for none.
        prior_C: Share of each class. A query without any neighbour gets it unchanged.
        k: 1 to the width of the tables.
        temperature: A neighbour weighs exp(cosine / temperature).
        smoothing: Share of the prior in the mixture, 0 to 1.

    Raises:
        ValueError: wrong shapes, types or ranges.
    """
    model, prior = NeighbourModel(k, temperature, smoothing), check_shares(prior_C)
    label, cosine = check_neighbours(label_Qk, cosine_Qk, len(prior))
    if k > label.shape[1]:
        raise ValueError(f"k is {k}; allowed: 1 to the number of neighbours, {label.shape[1]}")
    label = label[:, :k]
    with np.errstate(over="ignore"):  # a tiny temperature leaves the nearest one
        weight_Qk = np.exp(compute_gaps(cosine[:, :k], -np.inf) / model.temperature)
    weight_Qk /= weight_Qk.sum(axis=1, keepdims=True)
    row, place = np.nonzero(label >= 0)
    cells = row * len(prior) + label[row, place]
    vote_QC = np.bincount(cells, weight_Qk[row, place], minlength=len(label) * len(prior)).reshape(len(label), len(prior))
    result: Floats = (1.0 - smoothing) * vote_QC + smoothing * prior
    result[label[:, 0] < 0] = prior
    return result


@dataclass(frozen=True)
class NeighbourModel:
    """What turns neighbours into probabilities, see `neighbour_probs`."""

    k: int
    temperature: float
    smoothing: float

    def __post_init__(self) -> None:
        check_count("k", self.k)
        if not _is_number(self.temperature) or not 0.0 < self.temperature < np.inf:
            raise ValueError(f"temperature is {self.temperature!r}; allowed: a finite number above 0")
        if not _is_number(self.smoothing) or not 0.0 <= self.smoothing <= 1.0:
            raise ValueError(f"smoothing is {self.smoothing!r}; allowed: 0 to 1")

    def apply(self, label_Qk: ArrayLike, cosine_Qk: ArrayLike, prior_C: ArrayLike) -> Floats:
        """(Q, C) probabilities; the tables must be at least `k` wide."""
        return neighbour_probs(label_Qk, cosine_Qk, prior_C, k=self.k, temperature=self.temperature, smoothing=self.smoothing)


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
    def fit(cls, fitter: "ChainFitter", states: "Sequence[ChainState]") -> "list[NeighbourLink]":
        from hectocar.calibration.evidence import thin_rows
        from hectocar.calibration.fit_blend import fit_blend
        from hectocar.calibration.fit_temperature import fit_temperature

        fitter.learn_votes(states)
        links = []
        for state in states:
            rows = thin_rows(state.train)
            label_N = fitter.evidence.label_N[rows]
            tables: list[NDArray[Any]] = [state.real[rows], safe_log(fitter.side(state, cls, rows=rows).answer.votes)]
            mix = fit_blend(tables, label_N, mean=fitter.decided.neighbours_mean)
            links.append(cls(mix, fit_temperature(mix.apply(tables), label_N)))
        return links


def _merge_slab(index_Rk: Ints, cosine_Rk: Floats32, slab_RB: Floats32, first_index: int) -> None:
    """Puts what a slab of cosines has to offer into the best k so far, in place.

    Only cosines above a row's k-th best are sorted, a few per row of the later chunks: what stays is one comparison per cosine.
    A slab of 4,096 columns takes 5 ms at first and 0.8 ms by the eighth at k = 50; argpartition alone takes 4.6 ms each time.
    """
    k, width = cosine_Rk.shape[1], slab_RB.shape[1]
    floor_R = cosine_Rk[:, -1].copy()
    if width > k and (unfilled := np.flatnonzero(np.isneginf(floor_R))).size:
        # The slab alone offers k, so its own k-th is a floor; one step below it, for of those that equal it some are needed.
        kth_R = np.partition(slab_RB[unfilled], width - k, axis=1)[:, width - k]
        floor_R[unfilled] = np.nextafter(kth_R, np.float32(-np.inf))
    row, column = np.divmod(np.flatnonzero(slab_RB > floor_R[:, None]), width)
    if not len(row):
        return
    # A row's candidates go behind its best k, in the order of the bank; M is the longest row. One stable sort along the rows
    # takes a tenth of the time of sorting all rows' candidates as one list, for the best k are sorted already.
    num_R = np.bincount(row, minlength=len(slab_RB))
    place = k + np.arange(len(row)) - (np.cumsum(num_R) - num_R)[row]
    both_RM = np.full((len(slab_RB), k + num_R.max()), -np.inf, dtype=np.float32)
    index_RM = np.full(both_RM.shape, -1)
    both_RM[:, :k], index_RM[:, :k] = cosine_Rk, index_Rk
    # Rounding takes the cosine of a copy past 1. Cut before the sort: cut after it, equal cosines would stand out of order.
    both_RM[row, place], index_RM[row, place] = np.clip(slab_RB[row, column], -1.0, 1.0), column + first_index
    order_Rk = np.argsort(-both_RM, axis=1, kind="stable")[:, :k]
    cosine_Rk[:], index_Rk[:] = np.take_along_axis(both_RM, order_Rk, 1), np.take_along_axis(index_RM, order_Rk, 1)


def _to_unit(rows: NDArray[Any], name: str, start: int, count: int) -> Floats32:
    """A chunk of rows at length 1; zero rows stay zero. In float64, whose squares of float32 neither overflow nor vanish."""
    chunk = rows[start : start + count]
    unit = np.empty(chunk.shape, dtype=np.float32)
    for first in range(0, len(chunk), _SLAB_ROWS):
        wide = chunk[first : first + _SLAB_ROWS].astype(np.float64)
        norm = np.sqrt(np.einsum("nd,nd->n", wide, wide))
        if not np.isfinite(norm).all():
            row = int((~np.isfinite(norm)).argmax())
            raise ValueError(f"{name}[{start + first + row}] has length {norm[row]}; allowed: finite numbers")
        unit[first : first + _SLAB_ROWS] = wide / np.where(norm > 0.0, norm, 1.0)[:, None]
    return unit


def compute_gaps(cosine_Qk: Floats, missing: float) -> Floats:
    """Cosine minus the row's largest, 0 or less; `missing` for none, and 0 in a row that has none at all."""
    found = np.isfinite(cosine_Qk)
    first_Q1 = np.where(found[:, :1], cosine_Qk[:, :1], 0.0)
    return np.where(found[:, :1], np.where(found, cosine_Qk - first_Q1, missing), 0.0)


def check_rows(values: ArrayLike, name: str) -> NDArray[Any]:
    """A table of floats. Raises ValueError."""
    rows: NDArray[Any] = np.asarray(values)
    if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind != "f":
        raise ValueError(f"{name} has shape {rows.shape} and type {rows.dtype}; allowed: (rows, columns) floats, one at least")
    return rows


def check_ints(values: ArrayLike, name: str, count: int) -> Ints:
    """So many integers. Raises ValueError."""
    raw: NDArray[Any] = np.asarray(values)
    if raw.shape != (count,) or raw.dtype.kind not in "iu":
        raise ValueError(f"{name} has shape {raw.shape} and type {raw.dtype}; allowed: ({count},) integers")
    return raw.astype(np.int64)


def check_neighbours(label_Qk: ArrayLike, cosine_Qk: ArrayLike, num_classes: int) -> tuple[Ints, Floats]:
    """Labels and cosines of neighbours, nearest first. Raises ValueError."""
    label: NDArray[Any] = np.asarray(label_Qk)
    cosine = np.asarray(cosine_Qk, dtype=np.float64)
    if label.ndim != 2 or 0 in label.shape or label.dtype.kind != "i" or cosine.shape != label.shape:
        shapes = f"label_Qk has shape {label.shape} and type {label.dtype}, cosine_Qk shape {cosine.shape}"
        raise ValueError(f"{shapes}; allowed: the same shape (queries, k), labels as signed integers")
    if label.min() < -1 or label.max() >= num_classes:
        raise ValueError(f"label_Qk goes from {label.min()} to {label.max()}; allowed: -1 for none, 0 to {num_classes - 1}")
    wrong = np.where(label < 0, cosine != -np.inf, ~np.isfinite(cosine))
    wrong[:, 1:] |= cosine[:, 1:] > cosine[:, :-1]
    if wrong.any():
        row, place = np.argwhere(wrong)[0]
        found = f"cosine_Qk[{row}, {place}] is {cosine[row, place]} where the label is {label[row, place]}"
        raise ValueError(f"{found}; allowed: finite and falling along the row, -inf exactly where the label is -1")
    return label.astype(np.int64), cosine


def check_shares(prior_C: ArrayLike) -> Floats:
    """The prior, divided by its sum. Raises ValueError."""
    prior = np.asarray(prior_C, dtype=np.float64)
    if prior.ndim != 1 or not len(prior) or not (prior >= 0.0).all() or not abs(prior.sum() - 1.0) <= 1e-6:
        raise ValueError(f"prior_C has shape {prior.shape} and sum {prior.sum()}; allowed: (classes,) shares, 0 or more, sum 1")
    result: Floats = prior / prior.sum()
    return result


def check_count(name: str, value: object) -> None:
    """Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}; allowed: whole numbers from 1")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
