"""Cross-validation folds: stratified by class, and never a group of duplicates on both sides."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hectocar.config.schema import DataConfig
from hectocar.dataset.classes import ClassList
from hectocar.dataset.columns import read_columns, to_ints
from hectocar.dataset.decisions import group_photos, read_audit
from hectocar.dataset.manifest import USED, Manifest
from hectocar.disk.outputs import replace_own_file
from hectocar.disk.writing import replace_file
from hectocar.errors import ArtifactError, DataError
from hectocar.progress import Progress
from hectocar.tables import csv_text, listed

UNUSED_FOLD = -1


@dataclass(frozen=True)
class Folds:
    """Fold of each photograph (UNUSED_FOLD where it may not be shown) and the duplicate group that it belongs to."""

    image_id: tuple[str, ...]
    group: NDArray[np.int64]
    fold: NDArray[np.int64]

    def save(self, path: Path) -> None:
        table = pa.table({"image_id": pa.array(self.image_id), "group": self.group, "fold": self.fold})
        replace_file(path, lambda target: pq.write_table(table, target))

    def digest(self) -> str:
        """SHA-256 over the fold and the group of each photograph."""
        lines = zip(self.image_id, self.fold.tolist(), self.group.tolist(), strict=True)
        return hashlib.sha256("\n".join(f"{i}\t{fold}\t{group}" for i, fold, group in lines).encode()).hexdigest()

    def find_leak(self, group_N: NDArray[np.int64]) -> tuple[str, str] | None:
        """Two photographs of one group, by someone else's groups of the same photographs, that these folds separate."""
        first: dict[int, int] = {}
        for row in np.flatnonzero(self.fold != UNUSED_FOLD):
            other = first.setdefault(int(group_N[row]), int(row))
            if self.fold[other] != self.fold[row]:
                return self.image_id[other], self.image_id[row]
        return None

    def check(self, manifest: Manifest, num_folds: int, where: str) -> None:
        """Raises ArtifactError where a fold is out of range, or is not given to the photographs in use and to no others."""
        used = np.array([status == USED for status in manifest.status])
        wrong = np.flatnonzero((self.fold >= num_folds) | ((self.fold != UNUSED_FOLD) != used))
        if len(wrong):
            row = int(wrong[0])
            raise ArtifactError(
                f"{where}: {self.image_id[row]} ({manifest.status[row]}) has the fold {self.fold[row]}; allowed: "
                f"0 to {num_folds - 1} for photographs that are used, {UNUSED_FOLD} for others; make the run again"
            )

    def split(self, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the training and of the held-out photographs of a fold."""
        return np.flatnonzero((self.fold != fold) & (self.fold != UNUSED_FOLD)), np.flatnonzero(self.fold == fold)


def load_folds(path: Path, image_id: Sequence[str]) -> Folds:
    """Loads the table and puts it into the order of ``image_id``.

    Raises:
        ArtifactError: The table is damaged or is about other photographs.
    """
    kinds = {"image_id": pa.string(), "group": pa.int64(), "fold": pa.int64()}
    try:
        columns, _ = read_columns(path, kinds)
        rows = {image_id: row for row, image_id in enumerate(columns["image_id"])}
        unknown = sorted(rows.keys() ^ set(image_id))
        if unknown or len(rows) < len(columns["image_id"]):
            raise ValueError(f"image_id {unknown[0]!r} on one side only" if unknown else "an image_id stands twice")
        order = [rows[i] for i in image_id]
        group, fold = (to_ints(columns[name])[order] for name in ("group", "fold"))
        if len(fold) and (fold.min() < UNUSED_FOLD or group.min() < 0):
            raise ValueError(f"the smallest fold is {fold.min()}, the smallest group {group.min()}")
    except ValueError as error:
        raise ArtifactError(f"{path}: not the folds of these photographs ({error}); make the run again") from error
    return Folds(image_id=tuple(image_id), group=group, fold=fold)


def assign_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], used: NDArray[np.int64], *, num_folds: int, seed: int
) -> NDArray[np.int64]:
    """Deals whole groups to folds so that each class is spread as evenly as its size allows.

    Groups go, in random order and larger first, to the fold that has the fewest photographs of the group's main class,
    and among those to the smallest fold.

    Args:
        labels: (N,) class of each photograph.
        groups: (N,) group of each photograph.
        used: positions that take part; the others get UNUSED_FOLD.
        num_folds: two or more.
        seed: of the random order.

    Returns:
        (N,) fold of each photograph.

    Raises:
        DataError: Fewer groups than folds.
    """
    fold_N = np.full(len(labels), UNUSED_FOLD, dtype=np.int64)
    members: dict[int, list[int]] = {}
    for row in used:
        members.setdefault(int(groups[row]), []).append(int(row))
    if len(members) < num_folds:
        raise DataError(f"{len(members)} distinct photographs cannot make {num_folds} folds; add some or lower data.num_folds")
    order = np.random.default_rng(seed).permutation(sorted(members))
    counts_FC = np.zeros((num_folds, int(labels.max()) + 1), dtype=np.int64)
    for group in sorted(order, key=lambda g: -len(members[g])):
        rows = members[group]
        class_counts = np.bincount(labels[rows], minlength=counts_FC.shape[1])
        main = int(class_counts.argmax())
        fold = min(range(num_folds), key=lambda f: (counts_FC[f, main], counts_FC[f].sum()))
        counts_FC[fold] += class_counts
        fold_N[rows] = fold
    return fold_N


def deal_folds(manifest: Manifest, classes: ClassList, config: DataConfig, progress: Progress) -> Folds:
    """Folds of a manifest: equivalent classes count as one; equal bytes, pixels and looks and an audit's groups stay together.

    Says which classes are too small to be in each fold.

    Raises:
        DataError: Too few photographs, or so many in one group that a fold leaves less than two to train on.
    """
    decisions = read_audit(Path(config.audit)).decisions if config.audit else ()
    groups = np.arange(len(manifest), dtype=np.int64)
    if config.group_duplicates:
        alike = (manifest.pixel_sha1, [str(look) for look in manifest.look])
        groups = group_photos(manifest.sha1, manifest.image_id, decisions, alike)
    labels = manifest.labels(classes)
    fold_N = assign_folds(labels, groups, manifest.used(), num_folds=config.num_folds, seed=config.fold_seed)
    largest = int(np.bincount(fold_N[fold_N != UNUSED_FOLD]).argmax())
    num_left = int(np.count_nonzero((fold_N != UNUSED_FOLD) & (fold_N != largest)))
    if num_left < 2:
        raise DataError(
            f"fold {largest} would leave {num_left} photograph to train on; allowed: 2 or more. Add photographs"
            + (", or raise data.num_folds" if len(np.unique(groups[manifest.used()])) > config.num_folds else "")
        )
    small = classes_missing_in_folds(labels, fold_N, config.num_folds)
    if small:
        names = listed([f"{classes.label(label)} ({count})" for label, count in small])
        progress.note(f"{len(small)} classes have too few photographs to be in each of {config.num_folds} folds: {names}")
    return Folds(image_id=manifest.image_id, group=groups, fold=fold_N)


def write_fold_table(path: Path, manifest: Manifest, folds: Folds) -> None:
    """Writes a csv with one row per training photograph: image_id, class_name, fold, group, status, problem."""
    columns = (manifest.image_id, manifest.class_name, folds.fold.tolist(), folds.group.tolist())
    rows = zip(*columns, manifest.status, manifest.problem, strict=True)
    text = csv_text(("image_id", "class_name", "fold", "group", "status", "problem"), rows)
    replace_own_file(path, "folds", lambda target: target.write_text(text, encoding="utf-8", newline=""))


def fold_rows(manifest: Manifest, classes: ClassList, folds: Folds, num_folds: int) -> list[list[str]]:
    """A table for the screen: per fold its photographs, classes, and the smallest and largest number per class."""
    labels = manifest.labels(classes)
    rows = [["fold", "photographs", "classes", "fewest per class", "most per class"]]
    for fold in range(num_folds):
        counts = np.bincount(labels[folds.fold == fold], minlength=classes.num_trained)
        rows.append([str(fold), str(counts.sum()), str(np.count_nonzero(counts)), str(counts.min()), str(counts.max())])
    return rows


def classes_missing_in_folds(labels: NDArray[np.int64], fold_N: NDArray[np.int64], num_folds: int) -> list[tuple[int, int]]:
    """(class, number of photographs) of the classes that some fold lacks: too small to be in each."""
    missing = []
    for label in np.unique(labels[fold_N != UNUSED_FOLD]):
        folds = fold_N[(labels == label) & (fold_N != UNUSED_FOLD)]
        if len(np.unique(folds)) < num_folds:
            missing.append((int(label), len(folds)))
    return missing
