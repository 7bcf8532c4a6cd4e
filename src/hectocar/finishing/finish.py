"""From finished folds to a bundle: out-of-fold answers of every run, joined by image_id, the chain fitted on them, the bundle.

Shapes: N photographs, R runs, V views, G trained classes, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hectocar.calibration.fit_chain import FinishReport, fit_finish
from hectocar.calibration.screen_views import ScreenedView, find_hopeless
from hectocar.dataset.decisions import check_same_photos, read_audit, suspected_photos
from hectocar.dataset.manifest import check_unchanged
from hectocar.dataset.run_inputs import Run
from hectocar.dataset.teaching import RELABEL_FILE, doubted_photos
from hectocar.delivery.bundle import load_network, write_bundle
from hectocar.delivery.bundle_place import claim_bundle
from hectocar.delivery.members import BundleSpec
from hectocar.delivery.runs import join_runs
from hectocar.errors import ArtifactError, ConfigError, DataError
from hectocar.finishing.gather import Gathered, gather, screen_tables
from hectocar.finishing.out_of_fold import (
    CLEAN,
    SHIFTED,
    TRAINED,
    UNUSABLE_CONDITION,
    ViewTable,
    choose_part,
    measure_brightness,
    predict_views,
)
from hectocar.finishing.report import Effects, chain_rows, report_tables, total_lines, write_report
from hectocar.network.sizes import check_sizes
from hectocar.photos.views import VIEWS, View, find_views
from hectocar.progress import Progress
from hectocar.results import Result, Table
from hectocar.scoring.equivalents import equivalent_effect


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
    screen: bool = True,
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
        screen: Whether views that are hopeless on a part of the photographs are not tried on the others.
        device: Where to compute.
        progress: Receives bars and lines.

    Raises:
        ArtifactError: Runs that do not belong together, or a bundle folder that exists.
        ConfigError: An unknown view.
    """
    specs = join_runs(runs)
    suspects = find_suspects(runs[0], audit_folder, progress)
    made_with = ["finish", *views, "screened" if screen else "all", "without", *sorted(suspects)]
    with claim_bundle(bundle_folder, specs, made_with) as made_of:
        root = data_folder or runs[0].manifest.root
        advice = "restore them, or name the folder where they lie now with --data DIR"
        check_unchanged(runs[0].manifest.move(root), 0, advice)
        return _finish(specs, runs, bundle_folder, made_of, root, suspects, views, screen, device, progress)


def _finish(
    specs: Sequence[BundleSpec], runs: Sequence[Run], bundle_folder: Path, made_of: str, root: Path,
    suspects: frozenset[str], views: Sequence[str], screen: bool, device: torch.device, progress: Progress,
) -> FinishResult:  # fmt: skip
    brightness = measure_brightness(runs[0].manifest, root)
    chosen = _usable_views(specs, find_views(["plain", *(name for name in views if name != "plain")]), progress)
    conditions = [CLEAN, SHIFTED] if _same_shift(runs) else [CLEAN]
    if conditions == [CLEAN]:
        progress.note("no shifted validation: the runs have no shift, or not the same one; train with --audit to have it")

    def ask(views: Sequence[View], condition: str, *, part_only: bool = False) -> list[ViewTable]:
        return [
            predict_views(run, spec, root, views, condition, brightness, device, progress, part_only=part_only)
            for run, spec in zip(runs, specs, strict=True)
        ]

    screened: list[ScreenedView] = []
    if screen and all(choose_part(run).any() for run in runs):
        screened = screen_tables(runs, {condition: ask(chosen, condition, part_only=True) for condition in conditions})
        chosen = _drop_hopeless(chosen, screened, progress)
    tables = {condition: ask(chosen, condition) for condition in (*conditions, UNUSABLE_CONDITION)}
    gathered = gather(runs[0], tables, conditions, suspects)
    places = gathered.choose_views(chosen, len(specs), np.array(specs[0].prior))
    first = chosen[places.order[0]]
    banks = gathered.build_banks(ask([first], TRAINED), first.name)
    evidence, unusable = gathered.build(banks, first.name)
    fitted = fit_finish(
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
    report = replace(fitted, screened=tuple(screened))
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
    """The photographs of a run that an audit doubts and that were kept, and those that the run's own table of decisions
    doubts; none of an audit, and a line, where the run's own is gone.

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
    doubted = doubted_photos(run.relabel) & used
    if doubted:
        progress.note(
            f"{len(doubted)} of {len(used)} photographs are doubted by {RELABEL_FILE}: the loss is given without them, too"
        )
    folder = audit_folder or (Path(config.data.audit) if config.data.audit else None)
    if folder is None:
        return doubted
    try:
        audit = read_audit(folder)
        check_same_photos(audit, manifest.image_id, manifest.sha1)
    except (ArtifactError, DataError) as error:
        if audit_folder is not None:
            raise
        progress.note(f"no expected loss without the audit's suspects, --audit DIR names an audit for it: {error}")
        return doubted
    suspects = suspected_photos(audit.decisions) & used
    progress.note(f"{len(suspects)} of {len(used)} photographs are suspects of {folder}: the loss is given without them, too")
    return suspects | doubted


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


def _drop_hopeless(views: Sequence[View], screened: Sequence[ScreenedView], progress: Progress) -> tuple[View, ...]:
    """The plain view stays whatever its loss."""
    hopeless = find_hopeless(screened)
    for view in views[1:]:
        rows = [row for row in screened if row.name == view.name]
        if view.name in hopeless:
            losses = ", ".join(f"{row.loss:.4f} on {row.num_photos} photographs ({row.part})" for row in rows)
            progress.note(f"view {view.name} is tried no further, {losses}: too far above the best")
    return tuple(view for place, view in enumerate(views) if place == 0 or view.name not in hopeless)


def _same_shift(runs: Sequence[Run]) -> bool:
    return runs[0].shift is not None and all(run.shift == runs[0].shift for run in runs)


def _costs(spec: BundleSpec, views: Sequence[View]) -> list[float]:
    """Pixels of each view, in plain views."""
    size_px, fit = spec.members[0].size_px, spec.models[0].inference.fit
    sizes = np.array([view.render(size_px, fit, 0.0).size_px for view in views], dtype=np.float64)
    costs: list[float] = (sizes**2 / sizes[0] ** 2).tolist()
    return costs


def _equivalents(spec: BundleSpec, gathered: Gathered, report: FinishReport) -> Effects:
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
