"""What ours and the rivals say about the held-out photographs: read back, given the same temperature, given our finish.

Shapes: N held-out photographs, G classes, D dimensions. Conditions are ``clean`` and, where the run has a shift, ``shifted``;
tables of a condition have the rows of ``Split.held_N``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.calibration.fit_chain import fit_finish
from hectocar.calibration.fit_temperature import fit_temperature
from hectocar.dataset.run_inputs import Run
from hectocar.delivery.members import BundleSpec
from hectocar.delivery.runs import read_run_model
from hectocar.errors import ArtifactError
from hectocar.finishing.finish import finish_runs
from hectocar.finishing.gather import NUM_OUTER_FOLDS, gather
from hectocar.finishing.out_of_fold import CLEAN, SHIFTED, UNUSABLE_CONDITION, ViewTable, measure_brightness, predict_views
from hectocar.photos.views import own_views
from hectocar.progress import Progress
from hectocar.scoring.arrays import log_softmax
from rival_parts.split import Split

Floats = NDArray[np.float64]
Tables = dict[str, Floats]
"""(N, G) log probabilities by condition."""
VIEWS = own_views(True)
PART_OF = {CLEAN: "validation", SHIFTED: "shifted", UNUSABLE_CONDITION: "unusable"}


@dataclass(frozen=True)
class Ours:
    """The fold's network of the run, and what it says in the plain and the mirrored view."""

    spec: BundleSpec
    tables: dict[str, ViewTable]
    """By condition; ``unusable`` too."""

    @property
    def conditions(self) -> list[str]:
        return [name for name in (CLEAN, SHIFTED) if name in self.tables]

    def raw(self, run: Run, split: Split) -> Tables:
        """Both views averaged, of the classes that were laid out."""
        result = {}
        for name in self.conditions:
            rows, table = _places(run, split, self.tables[name]), self.tables[name]
            result[name] = average_mirror(*table.logits[:, rows, : split.num_classes])
        return result


def ask_ours(run: Run, fold: int, device: torch.device, progress: Progress) -> Ours:
    """From the run's store of out-of-fold answers, or anew.

    Raises:
        ArtifactError: The fold is not finished.
    """
    spec = read_run_model(run)
    spec = replace(spec, members=tuple(member for member in spec.members if member.fold == fold))
    if not spec.members:
        raise ArtifactError(f"{run.folder}: fold {fold} is not finished; `hectocar train ... --fold {fold}` trains it")
    conditions = [CLEAN, *([SHIFTED] if run.shift else []), UNUSABLE_CONDITION]
    root = run.manifest.root
    tables = {name: predict_views(run, spec, root, VIEWS, name, 0.0, device, progress) for name in conditions}
    return Ours(spec, tables)


def finish_ours(run: Run, split: Split, folder: Path, device: torch.device, progress: Progress) -> Tables:
    """The whole finish with all its views, as nested estimates; kept in the folder, for it takes minutes."""
    file = folder / "finished.npz"
    if not file.is_file():
        nested = finish_runs([run], folder / "bundle", device=device, progress=progress).report.nested
        folds = [member.fold for member in read_run_model(run).members]
        rows = np.flatnonzero(np.isin(run.folds.fold, folds))  # a finish orders photographs by image_id, as manifests do
        places = np.searchsorted(rows, split.held_N)
        blocks = nested.reshape(-1, len(rows), nested.shape[1])
        np.savez(file, **dict(zip((CLEAN, SHIFTED), blocks[:, places], strict=False)))
    return {name: table.astype(np.float64) for name, table in np.load(file).items()}


@dataclass(frozen=True)
class Answers:
    """What a rival's runner wrote."""

    arrays: Mapping[str, NDArray[np.float32]]

    def raw(self) -> Tables:
        """Both mirrors averaged, by condition."""
        names = [name for name in (CLEAN, SHIFTED) if f"{PART_OF[name]}_plain" in self.arrays]
        tables = {name: [self.arrays[f"{PART_OF[name]}_{view}"] for view in ("plain", "mirror")] for name in names}
        return {name: average_mirror(*pair) for name, pair in tables.items()}


def read_answers(file: Path, split: Split) -> Answers:
    """Reads arrays, never pickles.

    Raises:
        ArtifactError: Damaged, or about other photographs than the split's.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: not a rival's answers ({error}); remove its folder and run it again") from error
    for part, names in split.files.items():
        if tuple(arrays.get(f"{part}_file", np.empty(0)).tolist()) != names:
            raise ArtifactError(f"{file}: not about the photographs of {split.folder}, {part}; remove its folder, run it again")
        for view in ("plain", "mirror") if part != "train" else ():
            table = arrays.get(f"{part}_{view}", np.empty(0))
            if table.shape != (len(names), split.num_classes) or not np.isfinite(table).all():
                wanted = (len(names), split.num_classes)
                raise ArtifactError(f"{file}: {part}_{view} has shape {table.shape}; allowed: {wanted}, finite")
    return Answers(arrays)


def average_mirror(plain_NG: NDArray[np.float32], mirror_NG: NDArray[np.float32]) -> Floats:
    """Geometric mean of two views, as log probabilities."""
    return log_softmax((log_softmax(plain_NG) + log_softmax(mirror_NG)) / 2.0)


def nested_temperature(tables: Tables, label_N: NDArray[np.int64], part_N: NDArray[np.int64]) -> Tables:
    """One temperature for all conditions together, each part by one fitted on the others: the rule of our own finish."""
    result = {name: np.empty_like(table) for name, table in tables.items()}
    for part in np.unique(part_N):
        others, own = part_N != part, part_N == part
        stacked = np.concatenate([table[others] for table in tables.values()])
        temperature = fit_temperature(stacked, np.tile(label_N[others], len(tables)))
        for name, table in tables.items():
            result[name][own] = temperature.apply(table[own])
    return result


def deal_parts(run: Run, split: Split) -> NDArray[np.int64]:
    """(N,) the parts that a finish of one fold deals its photographs into: groups of duplicates stay together."""
    parts: NDArray[np.int64] = (np.unique(run.folds.group, return_inverse=True)[1] % NUM_OUTER_FOLDS)[split.held_N]
    return parts


def finish_rival(run: Run, split: Split, ours: Ours, answers: Answers, progress: Progress) -> Tables:
    """Our chain (two views, temperature, neighbours, floor) fitted on a rival's answers, as nested estimates."""
    arrays, prior = answers.arrays, np.array(ours.spec.prior)

    def table(condition: str) -> ViewTable:
        base, part = ours.tables[condition], PART_OF[condition]
        logits = np.stack([arrays[f"{part}_plain"], arrays[f"{part}_mirror"]])
        embeddings = arrays[f"{part}_embeddings"].astype(np.float16)[None]
        return replace(base, views=tuple(view.name for view in VIEWS), logits=logits, embeddings=embeddings)

    tables = {condition: [table(condition)] for condition in (*ours.conditions, UNUSABLE_CONDITION)}
    ids = tuple(run.manifest.image_id[row] for row in split.train_M)
    fold = np.full(len(ids), ours.spec.members[0].fold)
    nothing = np.empty((len(VIEWS), len(ids), 0), dtype=np.float32)
    bank = ViewTable(
        ("plain",), ids, ("",) * len(ids), fold, nothing, arrays["train_embeddings"].astype(np.float16)[None], nothing[0]
    )
    gathered = gather(run, tables, ours.conditions, frozenset())
    choice = gathered.choose_views(VIEWS, 1, prior)
    evidence, unusable = gathered.build(gathered.build_banks([bank], "plain"), "plain")
    fitted = fit_finish(
        evidence, unusable, views=[view.name for view in VIEWS], costs=[1.0] * len(VIEWS), chosen=choice, num_models=1,
        prior_G=prior, brightness=measure_brightness(run.manifest, run.manifest.root), progress=progress,
    )  # fmt: skip
    blocks = fitted.nested.reshape(len(ours.conditions), -1, fitted.nested.shape[1]).astype(np.float64)
    return dict(zip(ours.conditions, blocks, strict=True))


def _places(run: Run, split: Split, table: ViewTable) -> NDArray[np.int64]:
    row_of = {image_id: row for row, image_id in enumerate(table.image_id)}
    return np.array([row_of[run.manifest.image_id[row]] for row in split.held_N], dtype=np.int64)
