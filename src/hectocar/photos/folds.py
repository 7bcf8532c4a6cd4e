"""Cross-validation folds: stratified by class, and never a group of duplicates on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hectocar.artifacts import replace_file
from hectocar.errors import ArtifactError, DataError

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

    def split(self, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the training and of the held-out photographs of a fold."""
        return np.flatnonzero((self.fold != fold) & (self.fold != UNUSED_FOLD)), np.flatnonzero(self.fold == fold)


def load_folds(path: Path, image_id: Sequence[str]) -> Folds:
    """Loads the table and puts it into the order of ``image_id``.

    Raises:
        ArtifactError: The table is damaged or is about other photographs.
    """
    try:
        table = pq.read_table(path)
        rows = {i: row for row, i in enumerate(table.column("image_id").to_pylist())}
        order = np.array([rows[i] for i in image_id], dtype=np.int64)
        group, fold = table.column("group").to_numpy()[order], table.column("fold").to_numpy()[order]
    except Exception as error:  # pyarrow raises many types on foreign bytes
        raise ArtifactError(f"{path}: not the folds of these photographs ({error}); make the run again") from error
    return Folds(image_id=tuple(image_id), group=group.astype(np.int64), fold=fold.astype(np.int64))


def group_equal(keys: Sequence[str]) -> NDArray[np.int64]:
    """Numbers equal keys (SHA-1 of the bytes) alike, in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


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


def classes_missing_in_folds(labels: NDArray[np.int64], fold_N: NDArray[np.int64], num_folds: int) -> list[tuple[int, int]]:
    """(class, number of photographs) of the classes that some fold lacks: too small to be in each."""
    missing = []
    for label in np.unique(labels[fold_N != UNUSED_FOLD]):
        folds = fold_N[(labels == label) & (fold_N != UNUSED_FOLD)]
        if len(np.unique(folds)) < num_folds:
            missing.append((int(label), len(folds)))
    return missing
