"""The whole chain on one body of evidence: which views, which links, and what each is worth.

Shapes: N rows, G trained classes, R models, V views.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.chain import Expected, Finish, Level, arithmetic_mean
from hectocar.calibration.choose_views import ViewChoice, ViewRow, table_places, view_rows
from hectocar.calibration.evidence import Evidence, Gain, LinkRow, State, measure_gain
from hectocar.calibration.fit_floor import FloorFitter, FloorPair
from hectocar.calibration.fit_links import ChainFit, ChainFitter, Choice, Insurance, pays
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
LOOKS = {"temperature by brightness": (0,), "temperature by sharpness": (1,), "temperature by both": (0, 1)}
Link = Callable[[list[State]], tuple[list[Any], list[State]]]


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
    insurances: tuple[Insurance, ...]
    """By level: what the floor brings where some photographs are unusable, and what each unseen kind costs with it."""
    foreign_cost_before: dict[str, float]
    """What each kind costs without the floor, in losses of the prior."""
    total: dict[str, Gain]
    """By condition: the whole chain against one network in the plain view."""
    nested: NDArray[np.float32]
    """(N, G) log probabilities by parts of the chain that were not fitted on the row."""

    @property
    def insurance(self) -> Insurance:
        """Of the largest level."""
        return self.insurances[-1]


def fit_finish(
    evidence: Evidence,
    foreign: Evidence,
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
        foreign: Of photographs made unusable.
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
    choice = Choice(power=chosen.power, views=chosen.kept)
    fits: list[ChainFit] = []
    for count in reversed(counts):
        places = table_places(order[:count], num_models, len(views))
        part = ChainFitter(evidence.take(places), foreign.take(places), prior_G, num_models, brightness)
        names, cost = tuple(views[view] for view in order[:count]), sum(costs[view] for view in order[:count])
        fit = fit_chain(part, evidence.take(plain), foreign.take(plain), names, cost, choice)
        if count == counts[-1]:
            full, choice = fit, fit.choice
        fits.insert(0, fit)
        progress.advance(1)
    finish = Finish(tuple(fit.level for fit in fits), full.neighbours, brightness)
    return FinishReport(
        finish=finish,
        parts=evidence.parts,
        chain=full.rows,
        blends=chosen.blends,
        views=view_rows(evidence, views, costs, num_models, finish.levels[-1]),
        calibration=_calibrate(evidence, arithmetic_mean(evidence.take(plain).log_probs), full.nested_NG),
        insurances=tuple(fit.insurance for fit in fits),
        foreign_cost_before=full.foreign_cost_before,
        total=full.total,
        nested=full.nested_NG,
    )


def fit_chain(
    fitter: ChainFitter, plain: Evidence, foreign_plain: Evidence, views: tuple[str, ...], cost: float, choice: Choice
) -> ChainFit:
    """Fits the links one after another; those that are not decided stay where they pay."""
    start = fitter.start(plain.log_probs, foreign_plain.log_probs)
    rows = [fitter.describe(start_name(fitter.num_models), start, None)]
    blends, states, row = _try(
        fitter, "views, fitted weights", lambda before: fitter.blend_views(before, choice.power), start, choice.views
    )
    rows.append(row)
    temperatures, looks, states, more = _fit_temperature(fitter, states, choice)
    rows += more
    mixes, states, row = _try(
        fitter, "neighbours", lambda before: fitter.mix_neighbours(before, choice), states, choice.neighbours
    )
    rows.append(row)
    vectors, states, row = _try(
        fitter, "vector scaling", lambda before: fitter.scale_classes(before, choice.shrinkage), states, choice.vector
    )
    rows.append(row)
    no_floor = states[-1]
    floors, states, row, insurance = _lay_floor(fitter, states)
    rows.append(row)
    nested, base = fitter.losses(states)[0], fitter.losses(start)[0]
    level = Level(
        views=views,
        cost=cost,
        expected=_expect(fitter.evidence, nested),
        blend=blends[-1] if blends else None,
        temperature=temperatures[-1] if temperatures else None,
        temperature_looks=looks,
        mix=mixes[-1][1] if mixes else None,
        mix_temperature=mixes[-1][2] if mixes else None,
        vector=vectors[-1][1] if vectors else None,
        floor_temperature=floors[-1][0] if floors else None,
        floor=floors[-1][1] if floors else None,
    )
    return ChainFit(
        level=level,
        rows=rows,
        nested_NG=fitter.nested_table(states),
        neighbours=mixes[-1][0] if mixes else fitter.fit_votes(np.arange(len(fitter.evidence.label_N))),
        choice=Choice(
            power=choice.power,
            views=bool(blends),
            temperature=bool(temperatures),
            looks=looks,
            neighbours=bool(mixes),
            mix_power=mixes[-1][1].power if mixes else None,
            vector=bool(vectors),
            shrinkage=vectors[-1][0] if vectors else None,
            vote_models=tuple(model for model, _, _ in mixes) or None,
        ),
        insurance=insurance,
        foreign_cost_before=FloorFitter(fitter).by_kind(FloorFitter(fitter).costs(no_floor)),
        total={
            part: measure_gain(nested, base, fitter.evidence.part_N == place)
            for place, part in enumerate(fitter.evidence.parts)
        },
    )


def start_name(num_models: int) -> str:
    """What the chain starts from: out of fold, each photograph has one network of each run."""
    return "one network, plain view" if num_models == 1 else f"one network of each of {num_models} runs, plain view"


def _fit_temperature(
    fitter: ChainFitter, states: list[State], choice: Choice
) -> tuple[list[Any], tuple[int, ...], list[State], list[LinkRow]]:
    """One temperature, then those by looks, each against the best so far."""
    if choice.looks is not None:
        columns = choice.looks
        models, states, row = _try(
            fitter, "temperature", lambda before: fitter.set_temperature(before, columns), states, choice.temperature
        )
        return models, columns, states, [row]
    models, best, row = _try(fitter, "temperature", fitter.set_temperature, states, choice.temperature)
    before = fitter.losses(best)[0]
    found = {name: fitter.set_temperature(states, columns) for name, columns in LOOKS.items()}
    chosen = min(found, key=lambda name: float(fitter.losses(found[name][1])[0].mean()))
    better = fitter.pays(found[chosen][1], best)
    rows = [fitter.describe(name, tried, before, kept=better and name == chosen) for name, (_, tried) in found.items()]
    if better:
        return found[chosen][0], LOOKS[chosen], found[chosen][1], [row, *rows]
    return models, (), best, [row, *rows]


def _lay_floor(fitter: ChainFitter, states: list[State]) -> tuple[list[FloorPair], list[State], LinkRow, Insurance]:
    """The floor stays where it pays in the mix that it is fitted for; each level's own, for fewer views show fewer doubts."""
    before = fitter.losses(states)[0]
    floors, after, insurance = FloorFitter(fitter).choose(states)
    kept = pays(insurance.gain)
    row = fitter.describe("floor, and temperature under it", after, before, kept=kept)
    return (floors, after, row, insurance) if kept else ([], states, row, insurance)


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
    """With all photographs, and without those that an audit doubts."""

    def measure(place: int, rows_N: NDArray[np.bool_]) -> tuple[float, float] | tuple[None, None]:
        loss = nested_N[(evidence.part_N == place) & rows_N]
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
