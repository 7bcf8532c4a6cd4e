"""Which views pay, in which order, and which mean blends them best.

Shapes: N rows (a photograph under a condition), P photographs, G trained classes, R models, V views.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.blend import Mean, ViewBlend
from hectocar.calibration.chain import Level
from hectocar.calibration.evidence import ChainState, Evidence, Gain, LinkRow, estimate, measure_gain, pays, thin_rows
from hectocar.calibration.fit_blend import select_greedily
from hectocar.calibration.fit_links import ChainFitter, Decided
from hectocar.calibration.fit_temperature import fit_temperature
from hectocar.calibration.link import Link
from hectocar.calibration.temperature import TemperatureLink
from hectocar.scoring.metrics import cross_entropy_per_row

MEANS: dict[str, Mean] = {"fitted arithmetic mean": "arithmetic", "fitted geometric mean": "geometric"}
_ORDER_ROWS = 4000


@dataclass(frozen=True)
class ViewChoice:
    """Which views are taken, and how they are blended."""

    order: tuple[int, ...]
    """Places, best first. Every level has the first one, and neighbours are looked for in its space."""
    mean: Mean | None
    """Of the blend; None where there is none."""
    kept: bool
    """Whether the blend pays over the plain view alone, which else is the order."""
    blends: list[LinkRow]
    """Ways to blend, each followed by a temperature."""


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


def choose_views(
    evidence: Evidence, unusable: Evidence, num_views: int, num_models: int, firsts: Sequence[int], prior_G: NDArray[np.float64]
) -> ViewChoice:
    """Which views pay, in which order, and the mean that blends them best. Neighbours are not asked.

    Args:
        evidence: With all views.
        unusable: Likewise.
        num_views: V.
        num_models: R.
        firsts: Views that may come first, the plain one (0) among them.
        prior_G: Share of each class in training.
    """
    order = order_views(evidence, num_views, num_models, firsts)
    places, plain = table_places(order, num_models, num_views), table_places([0], num_models, num_views)
    bodies = evidence.take(places), unusable.take(places)
    fitters = {name: ChainFitter(*bodies, prior_G, num_models, 0.0, Decided(views_mean=mean)) for name, mean in MEANS.items()}
    start = next(iter(fitters.values())).start(evidence.take(plain).log_probs, unusable.take(plain).log_probs)
    rows, name, blend, blended = compare_blends(fitters, start)
    if not pays(fitters[name].measure(blended, start)):
        return ViewChoice((0,), None, False, [replace(row, kept=False) for row in rows])
    weights = np.reshape(blend.blend.weights, (num_models, -1)).sum(axis=0)
    kept = tuple(view for place, view in enumerate(order) if place == 0 or weights[place] > 0.0)  # the first view embeds
    return ViewChoice(kept, MEANS[name], True, rows)


def order_views(evidence: Evidence, num_views: int, num_models: int, firsts: Sequence[int]) -> list[int]:
    """Forward selection: each next view lowers the loss of the calibrated uniform geometric mean the most, and by more than
    the standard error. The plain view (0) comes first unless another that may pays over it.

    Args:
        evidence: With all views.
        num_views: V.
        num_models: R.
        firsts: Views that may come first: every level has that one, and neighbours are looked for in its space.
    """
    rows = thin_rows(np.arange(len(evidence.label_N)), _ORDER_ROWS)
    label_N, (_, place_N) = evidence.label_N[rows], np.unique(evidence.photo_N[rows], return_inverse=True)
    means = [
        np.mean([evidence.log_probs[model * num_views + view][rows] for model in range(num_models)], axis=0, dtype=np.float64)
        for view in range(num_views)
    ]

    def judge(views: Sequence[int]) -> NDArray[np.float64]:
        """(P,) loss of each photograph."""
        mean = sum(means[view] for view in views) / len(views)
        log_probs = fit_temperature(mean, label_N).apply(mean)
        loss_N = -log_probs[np.arange(len(rows)), label_N]
        per_photo: NDArray[np.float64] = np.bincount(place_N, weights=loss_N) / np.bincount(place_N)
        return per_photo

    def grow(order: list[int], candidates: Sequence[int], loss_P: NDArray[np.float64]) -> tuple[list[int], bool]:
        losses = {view: judge([*order, view]) for view in candidates}
        best = min(losses, key=lambda view: (losses[view].mean(), view))
        return [*order, best], pays(estimate(losses[best] - loss_P))

    order = [0]
    first, better = grow([], firsts, judge(order))
    order = first if better else order
    while len(order) < num_views:
        longer, better = grow(order, [view for view in range(num_views) if view not in order], judge(order))
        if not better:
            break
        order = longer
    return order


def compare_blends(
    fitters: dict[str, ChainFitter], start: list[ChainState]
) -> tuple[list[LinkRow], str, ViewBlend, list[ChainState]]:
    """Ways to blend the same views, each followed by a temperature; of the best: name, blend fitted on everything, states."""
    rows, losses, fitted, fitter = [], {}, {}, next(iter(fitters.values()))
    greedy = _heat(fitter, fitter.advance(start, _blend_greedily(fitter, start)))
    before = fitter.losses(greedy)[0]
    rows.append(fitter.describe("greedy selection", greedy, None, kept=False))
    uniform = fitter.start(fitter.evidence.log_probs, fitter.unusable.log_probs)
    rows.append(fitter.describe("uniform arithmetic mean", _heat(fitter, uniform), before, kept=False))
    for name, one in fitters.items():
        links = ViewBlend.fit(one, start)
        blended = one.advance(start, links)
        states = _heat(one, blended)
        fitted[name] = links[-1], blended
        losses[name] = float(one.losses(states)[0].mean())
        rows.append(one.describe(name, states, before, kept=False))
    best = min(losses, key=lambda name: losses[name])
    return [replace(row, kept=row.name == best) for row in rows], best, *fitted[best]


def _heat(fitter: ChainFitter, states: list[ChainState]) -> list[ChainState]:
    return fitter.advance(states, TemperatureLink.fit(fitter, states))


def _blend_greedily(fitter: ChainFitter, states: list[ChainState]) -> list[Link]:
    """The baseline: greedy ensemble selection."""
    links: list[Link] = []
    for state in states:
        rows = thin_rows(state.train)
        tables = [table[rows] for table in fitter.evidence.log_probs]
        links.append(ViewBlend(select_greedily(tables, fitter.evidence.label_N[rows])))
    return links


def view_rows(evidence: Evidence, views: Sequence[str], costs: Sequence[float], num_models: int, level: Level) -> list[ViewRow]:
    label_N = evidence.label_N
    link = level.find(ViewBlend)
    weights = np.reshape(link.blend.weights, (num_models, -1)).sum(axis=0) if isinstance(link, ViewBlend) else np.ones(1)
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
        for place, condition in enumerate(evidence.conditions):
            here = evidence.condition_N == place
            alone[condition], pair[condition] = float(alone_N[here].mean()), measure_gain(pair_N, plain_N, here)
        rows.append(ViewRow(name, costs[view], alone, pair, weight_of.get(name, 0.0)))
    return rows


def table_places(order: Sequence[int], num_models: int, num_views: int) -> list[int]:
    """Where the tables of some views lie among all sources, models outside."""
    return [model * num_views + view for model in range(num_models) for view in order]
