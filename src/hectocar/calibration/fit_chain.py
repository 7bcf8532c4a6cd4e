"""The whole chain on one body of evidence: which views, which links, and what each is worth.

Shapes: N rows, G trained classes, R models, V views.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.blend import ViewBlend
from hectocar.calibration.chain import LINKS, Expected, Finish, Level
from hectocar.calibration.choose_views import ViewChoice, ViewRow, table_places, view_rows
from hectocar.calibration.evidence import ChainState, Evidence, Gain, Insurance, LinkRow, measure_gain
from hectocar.calibration.fit_floor import FloorFitter
from hectocar.calibration.fit_links import ChainFitter, Decided
from hectocar.calibration.link import Link, arithmetic_mean
from hectocar.calibration.neighbours import NeighbourLink, NeighbourModel
from hectocar.calibration.screen_views import ScreenedView
from hectocar.progress import Progress
from hectocar.scoring.metrics import standard_error
from hectocar.scoring.reliability import (
    DecileRow,
    Reliability,
    compute_reliability,
    expected_ece_of_chance,
    loss_by_decile,
)

LEVELS = (1, 2, 3, 5, 8)


@dataclass(frozen=True)
class ChainFit:
    """What came out of fitting one level."""

    level: Level
    rows: list[LinkRow]
    nested_NG: NDArray[np.float32]
    """Nested log probabilities of each row."""
    neighbours: NeighbourModel
    decided: Decided
    """What smaller levels take over."""
    insurance: Insurance
    """What the floor brings where some photographs are unusable."""
    unusable_cost_before: dict[str, float]
    """Mean cost of each kind of unusable photograph, in losses of the prior, without a floor."""
    total: dict[str, Gain]
    """By condition: the whole chain against its start."""


@dataclass(frozen=True)
class Calibration:
    """How probabilities and right answers agree, under one condition, in the nested estimate."""

    before: Reliability
    after: Reliability
    chance_ece: float
    """What the ECE would be on average if every probability were exactly right: sampling alone."""
    deciles_before: list[DecileRow]
    """Log loss by brightness."""
    deciles_after: list[DecileRow]


@dataclass(frozen=True)
class FinishReport:
    """The finish and the evidence for it."""

    finish: Finish
    conditions: tuple[str, ...]
    chain: list[LinkRow]
    blends: list[LinkRow]
    views: list[ViewRow]
    calibration: dict[str, Calibration]
    insurances: tuple[Insurance, ...]
    """By level: what the floor brings where some photographs are unusable, and what each unseen kind costs with it."""
    unusable_cost_before: dict[str, float]
    """What each kind costs without the floor, in losses of the prior."""
    total: dict[str, Gain]
    """By condition: the whole chain against one network in the plain view."""
    nested: NDArray[np.float32]
    """(N, G) log probabilities by links that were not fitted on the row."""
    screened: tuple[ScreenedView, ...] = ()
    """What told hopeless views, before these photographs were asked about."""

    @property
    def insurance(self) -> Insurance:
        """Of the largest level."""
        return self.insurances[-1]


def fit_finish(
    evidence: Evidence,
    unusable: Evidence,
    *,
    views: Sequence[str],
    costs: Sequence[float],
    chosen: ViewChoice,
    num_models: int,
    prior_G: NDArray[np.float64],
    brightness: float,
    progress: Progress,
) -> FinishReport:
    """Fits everything and estimates it.

    Args:
        evidence: Of the real photographs, in one condition or two.
        unusable: Of photographs made unusable.
        views: Names of the candidates; the first is the plain one.
        costs: Work of each, in plain views.
        chosen: See ``choose_views``.
        num_models: R.
        prior_G: Share of each class in training.
        brightness: Mean luma of the training photographs.
        progress: Receives a bar.
    """
    order = chosen.order
    counts = sorted({count for count in LEVELS if count < len(order)} | {len(order)})
    progress.start("fitting the finish", len(counts))
    plain = table_places([0], num_models, len(views))
    decided = Decided(views_mean=chosen.mean, kept={ViewBlend.title: chosen.kept})
    fits: list[ChainFit] = []
    for count in reversed(counts):
        places = table_places(order[:count], num_models, len(views))
        fitter = ChainFitter(evidence.take(places), unusable.take(places), prior_G, num_models, brightness, decided)
        names, cost = tuple(views[view] for view in order[:count]), sum(costs[view] for view in order[:count])
        fit = fit_chain(fitter, evidence.take(plain), unusable.take(plain), names, cost)
        if count == counts[-1]:
            full, decided = fit, fit.decided
        fits.insert(0, fit)
        progress.advance(1)
    finish = Finish(tuple(fit.level for fit in fits), full.neighbours, brightness)
    return FinishReport(
        finish=finish,
        conditions=evidence.conditions,
        chain=full.rows,
        blends=chosen.blends,
        views=view_rows(evidence, views, costs, num_models, finish.levels[-1]),
        calibration=_calibrate(evidence, arithmetic_mean(evidence.take(plain).log_probs), full.nested_NG),
        insurances=tuple(fit.insurance for fit in fits),
        unusable_cost_before=full.unusable_cost_before,
        total=full.total,
        nested=full.nested_NG,
    )


def fit_chain(fitter: ChainFitter, plain: Evidence, unusable_plain: Evidence, views: tuple[str, ...], cost: float) -> ChainFit:
    """Fits the links one after another; those that are not decided stay where they pay."""
    start = fitter.start(plain.log_probs, unusable_plain.log_probs)
    rows = [fitter.describe(start_name(fitter.num_models), start, None)]
    states: Sequence[ChainState] = start
    fitted: dict[type[Link], Link] = {}
    for kind in LINKS:
        before_last = states
        links, states, row = fitter.try_link(kind, states)
        rows.append(row)
        if links is not None:
            fitted[kind] = links[-1]
    mix, vote_models = fitted.get(NeighbourLink), fitter.learn_votes(start)
    conditions, floor = fitter.evidence.conditions, FloorFitter(fitter)
    nested, base = fitter.losses(states)[0], fitter.losses(start)[0]
    assert fitter.insurance is not None
    return ChainFit(
        level=Level(views, cost, _expect(fitter.evidence, nested), tuple(fitted.values())),
        rows=rows,
        nested_NG=fitter.nested_table(states),
        neighbours=vote_models[-1],
        decided=replace(
            fitter.decided,
            neighbours_mean=mix.mix.mean if isinstance(mix, NeighbourLink) else None,
            kept={kind.title: kind in fitted for kind in LINKS},
            vote_models=vote_models,
        ),
        insurance=fitter.insurance,
        unusable_cost_before=floor.by_kind(floor.costs(before_last[-1])),
        total={name: measure_gain(nested, base, fitter.evidence.condition_N == place) for place, name in enumerate(conditions)},
    )


def start_name(num_models: int) -> str:
    """What the chain starts from: out of fold, each photograph has one network of each run."""
    return "one network, plain view" if num_models == 1 else f"one network of each of {num_models} runs, plain view"


def _expect(evidence: Evidence, nested_N: NDArray[np.float64]) -> Expected:
    """With all photographs, and without those that an audit doubts."""

    def measure(place: int, rows_N: NDArray[np.bool_]) -> tuple[float, float] | tuple[None, None]:
        loss = nested_N[(evidence.condition_N == place) & rows_N]
        return (float(loss.mean()), standard_error(loss)) if len(loss) > 1 else (None, None)

    everyone = np.ones(len(nested_N), dtype=np.bool_)
    suspect_N = ~everyone if evidence.suspect_N is None else evidence.suspect_N
    trusted_N = everyone & ~suspect_N if suspect_N.any() else ~everyone
    (clean, clean_error), (shifted, shifted_error) = measure(0, everyone), measure(1, everyone)
    (clean_trusted, clean_trusted_error), (shifted_trusted, shifted_trusted_error) = (
        measure(0, trusted_N),
        measure(1, trusted_N),
    )
    assert clean is not None
    assert clean_error is not None
    return Expected(
        clean=clean,
        clean_error=clean_error,
        shifted=shifted,
        shifted_error=shifted_error,
        num_suspects=len(np.unique(evidence.photo_N[suspect_N])),
        clean_trusted=clean_trusted,
        clean_trusted_error=clean_trusted_error,
        shifted_trusted=shifted_trusted,
        shifted_trusted_error=shifted_trusted_error,
    )


def _calibrate(evidence: Evidence, before_NG: NDArray[Any], after_NG: NDArray[np.float32]) -> dict[str, Calibration]:
    result = {}
    for place, condition in enumerate(evidence.conditions):
        rows = np.flatnonzero(evidence.condition_N == place)
        label_N, brightness_N = evidence.label_N[rows], evidence.looks[rows, 0]
        probs = [np.exp(table[rows].astype(np.float64)) for table in (before_NG, after_NG)]
        losses = [-np.log(np.maximum(table[np.arange(len(rows)), label_N], 1e-15)) for table in probs]
        result[condition] = Calibration(
            compute_reliability(probs[0], label_N),
            compute_reliability(probs[1], label_N),
            expected_ece_of_chance(probs[1]),
            loss_by_decile(losses[0], brightness_N, min(10, len(rows) // 2)),
            loss_by_decile(losses[1], brightness_N, min(10, len(rows) // 2)),
        )
    return result
