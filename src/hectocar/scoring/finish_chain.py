"""The whole chain on one body of evidence: which views, which links, and what each is worth.

Shapes: N rows, G trained classes, R models, V views.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.progress import Progress
from hectocar.scoring.blend import Blend
from hectocar.scoring.calibrate import fit_temperature
from hectocar.scoring.finish import Expected, Finish, Level
from hectocar.scoring.finish_evidence import Evidence, Gain, LinkRow, State, arithmetic_mean, measure_gain, thin_rows
from hectocar.scoring.finish_fit import ChainFit, ChainFitter, Choice
from hectocar.scoring.metrics import cross_entropy_per_row, standard_error
from hectocar.scoring.reliability import (
    DecileRow,
    Reliability,
    compute_reliability,
    expected_ece_of_chance,
    loss_by_decile,
)

POWERS = {"fitted arithmetic mean": 1.0, "fitted geometric mean": 0.0, "fitted power mean": None}
LEVELS = (1, 2, 3, 5, 8)
LOOKS = {"temperature by brightness": (0,), "temperature by sharpness": (1,), "temperature by both": (0, 1)}
_ORDER_ROWS = 4000
Link = Callable[[list[State]], tuple[list[Any], list[State]]]
_MIN_GAIN = 5e-4
"""A view that lowers the loss of the mean by a smaller share than this ends the list."""


@dataclass(frozen=True)
class ViewRow:
    """One view: what it costs, what it can do alone, and what it adds to the plain one."""

    name: str
    cost: float
    """Work in plain views."""
    alone: dict[str, float]
    """Log loss by condition, nothing fitted."""
    with_plain: dict[str, Gain]
    """Geometric mean with the plain view, minus the plain view alone."""
    weight: float
    """In the largest level, summed over the models."""


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
    parts: tuple[str, ...]
    chain: list[LinkRow]
    blends: list[LinkRow]
    views: list[ViewRow]
    calibration: dict[str, Calibration]
    foreign_cost: dict[str, float]
    """Nested cost of each kind of unusable photograph, in losses of the prior."""
    foreign_cost_before: dict[str, float]
    """The same without the floor."""
    total: dict[str, Gain]
    """By condition: the whole chain against the plain mean."""
    nested: NDArray[np.float32]
    """(N, G) log probabilities by parts of the chain that were not fitted on the row."""


def fit_finish(
    evidence: Evidence,
    foreign: Evidence,
    *,
    views: Sequence[str],
    costs: Sequence[float],
    order: Sequence[int],
    num_models: int,
    prior_G: NDArray[np.float64],
    brightness: float,
    progress: Progress,
) -> FinishReport:
    """Fits everything and estimates it.

    Args:
        evidence: Of the real photographs, in one condition or two.
        foreign: Of photographs made unusable.
        views: Names of the candidates; the first is the plain one.
        costs: Work of each, in plain views.
        order: Places of the views worth taking, best first, see ``order_views``.
        num_models: R.
        prior_G: Share of each class in training.
        brightness: Mean luma of the training photographs.
        progress: Receives a bar.
    """
    progress.start("fitting the finish", len(LEVELS) + 2)
    fitter = ChainFitter(evidence.take(_places(order, num_models, len(views))),
                         foreign.take(_places(order, num_models, len(views))), prior_G, num_models, brightness)  # fmt: skip
    plain = _places([0], num_models, len(views))
    blends, best = compare_blends(fitter, evidence.take(plain), foreign.take(plain))
    weights = np.reshape(best.weights, (num_models, -1)).sum(axis=0)
    order = [view for place, view in enumerate(order) if place == 0 or weights[place] > 0.0]  # the first view embeds
    counts = sorted({count for count in LEVELS if count < len(order)} | {len(order)})
    power = POWERS[next(row.name for row in blends if row.kept)]
    progress.advance(1)
    chosen = Choice(power=power)
    levels: list[Level] = []
    for count in reversed(counts):
        places = _places(order[:count], num_models, len(views))
        part = ChainFitter(evidence.take(places), foreign.take(places), prior_G, num_models, brightness)
        names, cost = tuple(views[view] for view in order[:count]), sum(costs[view] for view in order[:count])
        fit = fit_chain(part, evidence.take(plain), foreign.take(plain), names, cost, chosen)
        if count == counts[-1]:
            full, chosen = fit, fit.choice
        levels.insert(0, fit.level)
        progress.advance(1)
    finish = Finish(tuple(levels), full.neighbours, brightness)
    return FinishReport(
        finish=finish,
        parts=evidence.parts,
        chain=full.rows,
        blends=blends,
        views=_view_rows(evidence, views, costs, num_models, finish.levels[-1]),
        calibration=_calibrate(evidence, arithmetic_mean(evidence.take(plain).log_probs), full.nested_NG),
        foreign_cost=full.foreign_cost,
        foreign_cost_before=full.foreign_cost_before,
        total=full.total,
        nested=full.nested_NG,
    )


def order_views(evidence: Evidence, num_views: int, num_models: int, firsts: Sequence[int]) -> list[int]:
    """Forward selection: each next view lowers the loss of the calibrated uniform geometric mean the most.

    Args:
        evidence: With all views.
        num_views: V.
        num_models: R.
        firsts: Views that may come first: every level has that one, and neighbours are looked for in its space.
    """
    rows = thin_rows(np.arange(len(evidence.label_N)), _ORDER_ROWS)
    label_N = evidence.label_N[rows]
    means = [
        np.mean([evidence.log_probs[model * num_views + view][rows] for model in range(num_models)], axis=0, dtype=np.float64)
        for view in range(num_views)
    ]

    def judge(total: NDArray[np.float64], count: int) -> float:
        log_probs = fit_temperature(total / count, label_N).apply(total / count)
        return float(-log_probs[np.arange(len(rows)), label_N].mean())

    order: list[int] = []
    total, best = np.zeros_like(means[0]), np.inf
    while len(order) < num_views:
        open_views = [view for view in (range(num_views) if order else firsts) if view not in order]
        losses = {view: judge(total + means[view], len(order) + 1) for view in open_views}
        view = min(losses, key=lambda place: (losses[place], place))
        if losses[view] > best * (1.0 - _MIN_GAIN):
            break
        order.append(view)
        total, best = total + means[view], losses[view]
    return order


def compare_blends(fitter: ChainFitter, plain: Evidence, foreign_plain: Evidence) -> tuple[list[LinkRow], Blend]:
    """Ways to blend the same views, each followed by a temperature; and the best, fitted on everything."""
    start = fitter.start(plain.log_probs, foreign_plain.log_probs)
    rows, losses, fitted = [], {}, {}
    _, greedy = fitter.set_temperature(fitter.blend_greedily(start)[1])
    before = fitter.losses(greedy)[0]
    rows.append(fitter.describe("greedy selection", greedy, None))
    uniform = fitter.start(fitter.evidence.log_probs, fitter.foreign.log_probs)
    rows.append(fitter.describe("uniform arithmetic mean", fitter.set_temperature(uniform)[1], before, kept=False))
    for name, power in POWERS.items():
        models, blended = fitter.blend_views(start, power)
        _, states = fitter.set_temperature(blended)
        fitted[name] = models[-1]
        losses[name] = float(fitter.losses(states)[0].mean())
        rows.append(fitter.describe(name, states, before, kept=False))
    best = min(losses, key=lambda name: losses[name])
    return [_kept(row, row.name == best) for row in rows], fitted[best]


def fit_chain(
    fitter: ChainFitter, plain: Evidence, foreign_plain: Evidence, views: tuple[str, ...], cost: float, choice: Choice
) -> ChainFit:
    """Fits the links one after another; those that are not decided stay where they pay."""
    start = fitter.start(plain.log_probs, foreign_plain.log_probs)
    rows = [fitter.describe("plain mean of fold probabilities", start, None)]
    blends, states = fitter.blend_views(start, choice.power)
    rows.append(fitter.describe("views, fitted weights", states, fitter.losses(start)[0]))
    temperatures, states, looks_rows = _fit_temperature(fitter, states, choice.looks)
    rows += looks_rows
    mixes, states, row = _try(
        fitter, "neighbours", lambda before: fitter.mix_neighbours(before, choice), states, choice.neighbours
    )
    rows.append(row)
    vectors, states, row = _try(
        fitter, "vector scaling", lambda before: fitter.scale_classes(before, choice.shrinkage), states, choice.vector
    )
    rows.append(row)
    neighbours = mixes[-1][0] if mixes else fitter.fit_votes(np.arange(len(fitter.evidence.label_N)))
    before, no_floor = fitter.losses(states)[0], states[-1]
    floors, states = fitter.lay_floor(states, choice.foreign_share)
    rows.append(fitter.describe("floor, and temperature under it", states, before))
    nested, base = fitter.losses(states)[0], fitter.losses(start)[0]
    kept = {row.name for row in rows if row.kept}
    looks = choice.looks
    if looks is None:
        looks = next((places for name, places in LOOKS.items() if name in kept), ())
    foreign_share, temperature, floor = floors[-1]
    level = Level(
        views=views,
        cost=cost,
        expected=_expect(fitter.evidence, nested),
        blend=blends[-1],
        temperature=temperatures[-1],
        temperature_looks=looks,
        mix=mixes[-1][1] if mixes else None,
        mix_temperature=mixes[-1][2] if mixes else None,
        vector=vectors[-1][1] if vectors else None,
        floor_temperature=temperature,
        floor=floor,
    )
    return ChainFit(
        level=level,
        rows=rows,
        nested_NG=fitter.nested_table(states),
        neighbours=neighbours,
        choice=Choice(
            power=choice.power,
            looks=looks,
            neighbours=bool(mixes),
            mix_power=mixes[-1][1].power if mixes else None,
            vector=bool(vectors),
            shrinkage=vectors[-1][0] if vectors else None,
            foreign_share=foreign_share,
            vote_models=tuple(model for model, _, _ in mixes) or None,
        ),
        foreign_cost=fitter.foreign_costs(no_floor, foreign_share) if choice.foreign_share is None else {},
        foreign_cost_before=fitter.costs_by_kind(no_floor.foreign),
        total={
            part: measure_gain(nested, base, fitter.evidence.part_N == place)
            for place, part in enumerate(fitter.evidence.parts)
        },
    )


def _fit_temperature(
    fitter: ChainFitter, states: list[State], looks: tuple[int, ...] | None
) -> tuple[list[Any], list[State], list[LinkRow]]:
    before = fitter.losses(states)[0]
    models, after = fitter.set_temperature(states, looks or ())
    if looks is not None:
        return models, after, [fitter.describe("temperature", after, before)]
    rows = [fitter.describe("temperature", after, before)]
    constant = fitter.losses(after)[0]
    found = {name: fitter.set_temperature(states, columns) for name, columns in LOOKS.items()}
    best = min(found, key=lambda name: float(fitter.losses(found[name][1])[0].mean()))
    pays = fitter.pays(found[best][1], after)
    for name, (_, tried) in found.items():
        rows.append(fitter.describe(name, tried, constant, kept=pays and name == best))
    return (*found[best], rows) if pays else (models, after, rows)


def _try(
    fitter: ChainFitter, name: str, link: Link, states: list[State], decided: bool | None
) -> tuple[list[Any], list[State], LinkRow]:
    before = fitter.losses(states)[0]
    if decided is False:
        return [], states, fitter.describe(name, states, before, kept=False)
    models, after = link(states)
    kept = decided or fitter.pays(after, states)
    row = fitter.describe(name, after, before, kept=kept)
    return (models, after, row) if kept else ([], states, row)


def _expect(evidence: Evidence, nested_N: NDArray[np.float64]) -> Expected:
    by_part = {part: nested_N[evidence.part_N == place] for place, part in enumerate(evidence.parts)}
    figures = [(float(loss.mean()), standard_error(loss)) for loss in by_part.values()]
    shifted = figures[1] if len(figures) > 1 else (None, None)
    return Expected(*figures[0], *shifted)


def _view_rows(
    evidence: Evidence, views: Sequence[str], costs: Sequence[float], num_models: int, level: Level
) -> list[ViewRow]:
    label_N = evidence.label_N
    weights = np.reshape(level.blend.weights, (num_models, -1)).sum(axis=0)
    weight_of = dict(zip(level.views, weights.tolist(), strict=True))

    def own(view: int) -> NDArray[np.float64]:
        tables = [evidence.log_probs[model * len(views) + view] for model in range(num_models)]
        mean: NDArray[np.float64] = np.mean(tables, axis=0, dtype=np.float64)
        return mean

    plain = own(0)
    plain_N = cross_entropy_per_row(plain, label_N)
    rows = []
    for view, name in enumerate(views):
        mean = own(view)
        alone_N, pair_N = cross_entropy_per_row(mean, label_N), cross_entropy_per_row((plain + mean) / 2.0, label_N)
        alone, pair = {}, {}
        for place, part in enumerate(evidence.parts):
            here = evidence.part_N == place
            alone[part], pair[part] = float(alone_N[here].mean()), measure_gain(pair_N, plain_N, here)
        rows.append(ViewRow(name, costs[view], alone, pair, weight_of.get(name, 0.0)))
    return rows


def _calibrate(evidence: Evidence, before_NG: NDArray[np.float32], after_NG: NDArray[np.float32]) -> dict[str, Calibration]:
    result = {}
    for place, part in enumerate(evidence.parts):
        rows = np.flatnonzero(evidence.part_N == place)
        label_N, brightness_N = evidence.label_N[rows], evidence.looks[rows, 0]
        probs = [np.exp(table[rows].astype(np.float64)) for table in (before_NG, after_NG)]
        losses = [-np.log(np.maximum(table[np.arange(len(rows)), label_N], 1e-15)) for table in probs]
        result[part] = Calibration(
            compute_reliability(probs[0], label_N),
            compute_reliability(probs[1], label_N),
            expected_ece_of_chance(probs[1]),
            loss_by_decile(losses[0], brightness_N, min(10, len(rows) // 2)),
            loss_by_decile(losses[1], brightness_N, min(10, len(rows) // 2)),
        )
    return result


def _places(order: Sequence[int], num_models: int, num_views: int) -> list[int]:
    return [model * num_views + view for model in range(num_models) for view in order]


def _kept(row: LinkRow, kept: bool) -> LinkRow:
    return LinkRow(row.name, row.nested, row.in_sample, row.gains, kept)
