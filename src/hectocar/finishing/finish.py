"""From finished folds to a bundle: out-of-fold answers of every run, joined by image_id, the chain fitted on them, the bundle.

Shapes: N photographs, R runs, V views, G trained classes, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.calibration.choose_views import ViewChoice, choose_views
from hectocar.calibration.evidence import Evidence
from hectocar.calibration.fit_chain import FinishReport, fit_finish
from hectocar.calibration.link import NUM_CROWD, normalize_logits
from hectocar.calibration.neighbours import UnitBank, find_neighbours, to_unit
from hectocar.dataset.decisions import check_same_photos, read_audit, suspected_photos
from hectocar.dataset.manifest import check_unchanged
from hectocar.dataset.run_inputs import Run
from hectocar.delivery.bundle import Bank, load_network, write_bundle
from hectocar.delivery.bundle_place import claim_bundle
from hectocar.delivery.members import BundleSpec
from hectocar.delivery.runs import join_runs
from hectocar.errors import ArtifactError, ConfigError, DataError
from hectocar.finishing.out_of_fold import (
    CLEAN,
    SHIFTED,
    TRAINED,
    UNUSABLE_CONDITION,
    ViewTable,
    measure_brightness,
    predict_views,
)
from hectocar.finishing.report import Effects, chain_rows, report_tables, total_lines, write_report
from hectocar.network.sizes import check_sizes
from hectocar.photos.unusable import UNUSABLE
from hectocar.photos.views import VIEWS, View, find_views
from hectocar.progress import Progress
from hectocar.results import Result, Table
from hectocar.scoring.equivalents import equivalent_effect

NUM_NEIGHBOURS = 100
NUM_OUTER_FOLDS = 5
"""Where a single fold is finished, its photographs are dealt into so many parts."""


@dataclass(frozen=True)
class _Bank:
    """What neighbours are looked for among."""

    bank: Bank
    unit: UnitBank
    group_B: NDArray[np.int64]


_Banks = dict[tuple[int, int], _Bank]
"""By (run, fold)."""


@dataclass(frozen=True, repr=False)
class FinishResult(Result):
    """The bundle, what was fitted for it, and what writing equivalent classes in different ways would do."""

    bundle: BundleSpec
    report: FinishReport
    equivalents: Effects

    def table(self) -> Table:
        """Every link of the chain and what it is worth."""
        return chain_rows(self.report)

    def tables(self) -> dict[str, list[list[str]]]:
        """Every table of the report, by its title."""
        return report_tables(self.report, self.equivalents)

    def totals(self) -> list[str]:
        """The whole chain against its start, a line per condition."""
        return total_lines(self.report)


def finish_runs(
    runs: Sequence[Run],
    bundle_folder: Path,
    *,
    data_folder: Path | None = None,
    audit_folder: Path | None = None,
    views: Sequence[str] = tuple(VIEWS),
    device: torch.device,
    progress: Progress,
) -> FinishResult:
    """Fits the finish of one run or several on out-of-fold predictions and writes the bundle with its report.

    Args:
        runs: Of the same photographs and classes, each with one finished fold or more.
        bundle_folder: Missing or empty, or this very bundle, as a kill after the last step leaves it.
        data_folder: Where the photographs lie now; None means where the first run found them.
        audit_folder: Whose suspects the expected loss is given without, too; None means the audit that the first run obeys.
        views: Candidates, see ``photos.views.VIEWS``; the plain one always is.
        device: Where to compute.
        progress: Receives bars and lines.

    Raises:
        ArtifactError: Runs that do not belong together, or a bundle folder that exists.
        ConfigError: An unknown view.
    """
    specs = join_runs(runs)
    suspects = find_suspects(runs[0], audit_folder, progress)
    with claim_bundle(bundle_folder, specs, ["finish", *views, "without", *sorted(suspects)]) as made_of:
        root = data_folder or runs[0].manifest.root
        advice = "restore them, or name the folder where they lie now with --data DIR"
        check_unchanged(runs[0].manifest.move(root), 0, advice)
        return _finish(specs, runs, bundle_folder, made_of, root, suspects, views, device, progress)


def _finish(
    specs: Sequence[BundleSpec], runs: Sequence[Run], bundle_folder: Path, made_of: str, root: Path,
    suspects: frozenset[str], views: Sequence[str], device: torch.device, progress: Progress,
) -> FinishResult:  # fmt: skip
    brightness = measure_brightness(runs[0].manifest, root)
    chosen = _usable_views(specs, find_views(["plain", *(name for name in views if name != "plain")]), progress)
    conditions = [CLEAN, SHIFTED] if _same_shift(runs) else [CLEAN]
    if conditions == [CLEAN]:
        progress.note("no shifted validation: the runs have no shift, or not the same one; train with --audit to have it")

    def ask(views: Sequence[View], condition: str) -> list[ViewTable]:
        pairs = zip(runs, specs, strict=True)
        return [predict_views(run, spec, root, views, condition, brightness, device, progress) for run, spec in pairs]

    tables = {condition: ask(chosen, condition) for condition in (*conditions, UNUSABLE_CONDITION)}
    gathered = _gather(runs[0], tables, conditions, suspects)
    places = gathered.choose_views(chosen, len(specs), np.array(specs[0].prior))
    first = chosen[places.order[0]]
    banks = gathered.build_banks(ask([first], TRAINED), first.name)
    evidence, unusable = gathered.build(banks, first.name)
    report = fit_finish(
        evidence,
        unusable,
        views=[view.name for view in chosen],
        costs=_costs(specs[0], chosen),
        chosen=places,
        num_models=len(specs),
        prior_G=np.array(specs[0].prior),
        brightness=brightness,
        progress=progress,
    )
    effects = _equivalents(specs[0], gathered, report)
    bundle = write_bundle(
        specs,
        bundle_folder,
        finish=report.finish,
        banks={key: searched.bank for key, searched in banks.items()},
        extra=lambda folder: write_report(folder / "report", report, effects),
        made_of=made_of,
    )
    return FinishResult(bundle, report, effects)


def find_suspects(run: Run, audit_folder: Path | None, progress: Progress) -> frozenset[str]:
    """The photographs of a run that an audit doubts and that were kept; none, and a line, where the run's own audit is gone.

    Args:
        run: The run.
        audit_folder: An audit of the same photographs; None takes the one that the run obeys.
        progress: Receives a line.

    Raises:
        ArtifactError: The folder given is no audit, or is of other photographs.
        DataError: Mistakes in its table of decisions.
    """
    config, manifest = run.config, run.manifest
    used = frozenset(manifest.image_id[row] for row in manifest.used())
    folder = audit_folder or (Path(config.data.audit) if config.data.audit else None)
    if folder is None:
        return frozenset()
    try:
        audit = read_audit(folder)
        check_same_photos(audit, manifest.image_id, manifest.sha1)
    except (ArtifactError, DataError) as error:
        if audit_folder is not None:
            raise
        progress.note(f"no expected loss without suspects, --audit DIR names an audit for it: {error}")
        return frozenset()
    suspects = suspected_photos(audit.decisions) & used
    progress.note(f"{len(suspects)} of {len(used)} photographs are suspects of {folder}: the loss is given without them, too")
    return suspects


def _usable_views(specs: Sequence[BundleSpec], views: Sequence[View], progress: Progress) -> tuple[View, ...]:
    """Without those whose size a network cannot take."""
    usable = list(views)
    for spec in specs:
        network = load_network(spec, spec.members[0], torch.device("cpu"))
        for view in list(usable):
            size_px = view.render(spec.members[0].size_px, spec.models[0].inference.fit, 0.0).size_px
            try:
                check_sizes(network, [size_px])
            except ConfigError:
                usable.remove(view)
                progress.note(f"view {view.name} is left out: {spec.models[0].network.backbone} cannot take {size_px} px")
    return tuple(usable)


def _same_shift(runs: Sequence[Run]) -> bool:
    return runs[0].shift is not None and all(run.shift == runs[0].shift for run in runs)


def _costs(spec: BundleSpec, views: Sequence[View]) -> list[float]:
    """Pixels of each view, in plain views."""
    size_px, fit = spec.members[0].size_px, spec.models[0].inference.fit
    sizes = np.array([view.render(size_px, fit, 0.0).size_px for view in views], dtype=np.float64)
    costs: list[float] = (sizes**2 / sizes[0] ** 2).tolist()
    return costs


@dataclass(frozen=True)
class _Gathered:
    """The tables of all runs, brought into one order of photographs."""

    tables: dict[str, list[ViewTable]]
    rows: dict[str, list[NDArray[np.int64]]]
    """Per condition and run the row of each photograph; unusable ones by kind, too."""
    conditions: list[str]
    label_of: dict[str, int]
    name_of: dict[str, str]
    group_of: dict[str, int]
    fold_of: dict[str, int]
    suspects: frozenset[str]

    def ids(self, condition: str) -> list[str]:
        table, rows = self.tables[condition][0], self.rows[condition][0]
        return [table.image_id[row] for row in rows]

    def choose_views(self, views: Sequence[View], num_models: int, prior_G: NDArray[np.float64]) -> ViewChoice:
        """Those that pay, the first one among those that embed."""
        evidence, unusable = self._stack(self.conditions), self._stack([UNUSABLE_CONDITION])
        firsts = [place for place, view in enumerate(views) if view.embeds]
        return choose_views(evidence, unusable, len(views), num_models, firsts, prior_G)

    def build(self, banks: _Banks, view: str) -> tuple[Evidence, Evidence]:
        """Evidence with neighbours among the embeddings of a view: real photographs, and unusable ones."""
        return self._stack(self.conditions, banks, view), self._stack([UNUSABLE_CONDITION], banks, view)

    def build_banks(self, trained: Sequence[ViewTable], view: str) -> _Banks:
        """Of each run's fold every photograph: those that its network held out, and those that it was trained on."""
        banks = {}
        for number, (clean, others) in enumerate(zip(self.tables[CLEAN], trained, strict=True)):
            for fold in np.unique(clean.fold):
                parts = [(table, np.flatnonzero(table.fold == fold)) for table in (clean, others)]
                ids = [table.image_id[row] for table, rows in parts for row in rows]
                embeddings = np.concatenate([table.embeddings_of(view)[rows] for table, rows in parts])
                labels = np.array([self.label_of[image_id] for image_id in ids], dtype=np.int64)
                groups = np.array([self.group_of[image_id] for image_id in ids], dtype=np.int64)
                bank = Bank(to_unit(embeddings), labels, len(parts[0][1]))
                banks[(number, int(fold))] = _Bank(bank, UnitBank.prepare(bank.embeddings), groups)
        return banks

    def _neighbours(self, condition: str, number: int, banks: _Banks, view: str) -> tuple[NDArray[Any], ...]:
        """Classes and cosines of the nearest photographs in the space of the query's own fold, and cosines of the nearest
        that its network has not seen; the query's group is left out."""
        table, rows = self.tables[condition][number], self.rows[condition][number]
        labels = np.full((len(rows), NUM_NEIGHBOURS), -1, dtype=np.int64)
        cosines = np.full((len(rows), NUM_NEIGHBOURS), -np.inf, dtype=np.float32)
        unseen = np.full((len(rows), NUM_CROWD), -np.inf, dtype=np.float32)
        fold_N = table.fold[rows]
        for fold in np.unique(fold_N):
            searched = banks[(number, int(fold))]
            num_unseen, group_B = searched.bank.num_unseen, searched.group_B
            here = np.flatnonzero(fold_N == fold)
            own = np.array([self.group_of[table.image_id[row]] for row in rows[here]], dtype=np.int64)
            queries = to_unit(table.embeddings_of(view)[rows[here]])
            found = find_neighbours(queries, searched.unit, NUM_NEIGHBOURS, query_group_Q=own, bank_group_B=group_B)
            labels[here], cosines[here] = found.take_labels(searched.bank.labels), found.cosine_Qk
            unseen[here] = find_neighbours(
                queries, searched.unit.first(num_unseen), NUM_CROWD, query_group_Q=own, bank_group_B=group_B[:num_unseen]
            ).cosine_Qk
        return labels, cosines, unseen

    def _stack(self, conditions: Sequence[str], banks: _Banks | None = None, view: str = "") -> Evidence:
        """Rows of the conditions one below the other; without banks, without neighbours."""
        num_models = len(self.tables[CLEAN])
        ids = [image_id for condition in conditions for image_id in self.ids(condition)]
        numbers = {image_id: number for number, image_id in enumerate(sorted(set(ids)))}
        pairs = [
            [self._neighbours(condition, number, banks, view) for condition in conditions] if banks else []
            for number in range(num_models)
        ]
        names = tuple(UNUSABLE) if list(conditions) == [UNUSABLE_CONDITION] else tuple(conditions)
        return Evidence(
            log_probs=tuple(
                np.concatenate([self._log_probs(condition, number, place) for condition in conditions])
                for number in range(num_models)
                for place in range(len(self.tables[CLEAN][0].views))
            ),
            neighbour_labels=tuple(np.concatenate([part[0] for part in found]) for found in pairs if found),
            neighbour_cosines=tuple(np.concatenate([part[1] for part in found]) for found in pairs if found),
            unseen_cosines=tuple(np.concatenate([part[2] for part in found]) for found in pairs if found),
            looks=np.concatenate([self.tables[condition][0].looks[self.rows[condition][0]] for condition in conditions]),
            label_N=np.array([self.label_of[image_id] for image_id in ids], dtype=np.int64),
            fold_N=np.array([self.fold_of[image_id] for image_id in ids], dtype=np.int64),
            photo_N=np.array([numbers[image_id] for image_id in ids], dtype=np.int64),
            condition_N=np.concatenate([self._places(condition, names) for condition in conditions]),
            conditions=names,
            suspect_N=np.array([image_id in self.suspects for image_id in ids], dtype=np.bool_),
        )

    def _log_probs(self, condition: str, number: int, place: int) -> NDArray[np.float32]:
        return normalize_logits(self.tables[condition][number].logits[place][self.rows[condition][number]])

    def _places(self, condition: str, names: tuple[str, ...]) -> NDArray[np.int64]:
        table, rows = self.tables[condition][0], self.rows[condition][0]
        return np.array([names.index(table.kind[row] or condition) for row in rows], dtype=np.int64)


def _describe_too_few(run: Run, num_found: int, condition: str) -> str:
    num_dealt = np.count_nonzero(run.folds.fold >= 0)
    if num_dealt < 2 * NUM_OUTER_FOLDS:  # no further fold would help
        return (
            f"{run.folder}: trained with {num_dealt} photographs; fitting needs {2 * NUM_OUTER_FOLDS} or more; give more "
            f"photographs, or make a bundle of it as it is: `hectocar bundle {run.folder} --out BUNDLE`"
        )
    return f"only {num_found} photographs ({condition}) were held out by every run; train more folds of each run first"


def _gather(run: Run, tables: dict[str, list[ViewTable]], conditions: list[str], suspects: frozenset[str]) -> _Gathered:
    rows = {}
    for condition, runs in tables.items():
        places = [{key: row for row, key in enumerate(zip(t.image_id, t.kind, strict=True))} for t in runs]
        common = sorted(set.intersection(*(set(place) for place in places)))
        if len(common) < 2 * NUM_OUTER_FOLDS:
            raise ArtifactError(_describe_too_few(run, len(common), condition))
        rows[condition] = [np.array([place[key] for key in common], dtype=np.int64) for place in places]
    manifest, folds = run.manifest, run.folds
    fold_N = folds.fold
    if len(np.unique(tables[CLEAN][0].fold)) < 2:  # one finished fold: its groups are dealt into parts
        fold_N = np.unique(folds.group, return_inverse=True)[1] % NUM_OUTER_FOLDS
    ids = manifest.image_id
    return _Gathered(
        tables=tables,
        rows=rows,
        conditions=conditions,
        label_of=dict(zip(ids, manifest.labels(run.classes).tolist(), strict=True)),
        name_of=dict(zip(ids, manifest.class_name, strict=True)),
        group_of=dict(zip(ids, folds.group.tolist(), strict=True)),
        fold_of=dict(zip(ids, fold_N.tolist(), strict=True)),
        suspects=suspects,
    )


def _equivalents(spec: BundleSpec, gathered: _Gathered, report: FinishReport) -> Effects:
    """On the condition most like the test set."""
    place = len(report.conditions) - 1
    condition = report.conditions[place]
    ids = gathered.ids(condition)
    sizes = [len(gathered.rows[name][0]) for name in gathered.conditions]
    start = sum(sizes[:place])
    probs = np.exp(report.nested[start : start + sizes[place]].astype(np.float64))
    place_of = {name: place for place, name in enumerate(spec.classes.names)}
    columns = np.array([place_of[gathered.name_of[image_id]] for image_id in ids], dtype=np.int64)
    return equivalent_effect(probs, columns, spec.classes.member_columns(), len(spec.classes.names), spec.frequency)
