"""One fold of a run as folders that any program can read: links by class number, and copies of what was changed as PNG.

SPLIT/photos.csv lists every photograph: part, file, label, image_id, kind. Parts: ``train`` and ``validation`` (links in class
folders), ``shifted`` (the held-out ones, shifted like the test set) and ``unusable`` (for the floor of a finish). Classes are
numbers with leading zeros, so that every program sorts them alike; damaged photographs, dropped duplicates and what an audit
left out are absent.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.codec import encode
from hectocar.dataset.run_inputs import Run
from hectocar.disk.artifacts import compute_digest
from hectocar.disk.writing import make_folder
from hectocar.errors import ArtifactError, ConfigError
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.shift import apply_shift
from hectocar.photos.unusable import make_unusable

HEADER = ("part", "file", "label", "image_id", "kind")


@dataclass(frozen=True)
class Split:
    """What was laid out, in the order of the manifest."""

    folder: Path
    num_classes: int
    held_N: NDArray[np.int64]
    """Rows of the manifest that are held out."""
    train_M: NDArray[np.int64]
    unusable: tuple[tuple[int, str], ...]
    """(row, kind)."""
    files: dict[str, tuple[str, ...]]
    """By part, below the folder: the order in which answers are given."""

    @property
    def parts(self) -> list[str]:
        """Those of the held-out photographs."""
        return [part for part in ("validation", "shifted") if part in self.files]


def lay_out(run: Run, fold: int, folder: Path, unusable: Sequence[tuple[int, str]] = (), limit_classes: int = 0) -> Split:
    """Writes the folder, whole or not at all; one that was made of the same is kept.

    Args:
        run: Whose photographs lie where its manifest says.
        fold: Held out.
        folder: Where to.
        unusable: (row, kind) of photographs to be made unusable, for rivals that get our finish.
        limit_classes: Only the first so many trained classes; 0 means all.

    Raises:
        ArtifactError: Something else stands there.
        ConfigError: No such fold, or a class has nothing to train on.
    """
    if not 0 <= fold < run.config.data.num_folds:
        raise ConfigError(f"--fold is {fold}; allowed: 0 to {run.config.data.num_folds - 1}")
    labels = run.manifest.labels(run.classes)
    num_classes = min(limit_classes or run.classes.num_trained, run.classes.num_trained)
    train, held = (rows[labels[rows] < num_classes] for rows in run.folds.split(fold))
    missing = sorted({*range(num_classes)} - {*labels[train].tolist()})
    if missing:
        raise ConfigError(f"{run.folder}: class {run.classes.label(missing[0])!r} has nothing to train on in fold {fold}")
    rows = _list_rows(run, labels, train, held, unusable)
    files = {part: tuple(row[1] for row in rows if row[0] == part) for part in dict.fromkeys(row[0] for row in rows)}
    split = Split(folder, num_classes, held, train, tuple(unusable), files)
    made_of = compute_digest([rows, run.manifest.digest(), encode(run.shift)])
    stamp = folder / "made_of.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of:
        return split
    if folder.exists():
        raise ArtifactError(f"{folder}: the split of something else; give another --out")
    make_folder(folder, lambda place: _fill(run, rows, place, made_of), last=stamp.name)
    return split


def _list_rows(
    run: Run, labels: NDArray[np.int64], train: NDArray[np.int64], held: NDArray[np.int64], unusable: Sequence[tuple[int, str]]
) -> list[tuple[str, str, int, str, str]]:
    def entry(part: str, row: int, kind: str = "") -> tuple[str, str, int, str, str]:
        suffix = Path(run.manifest.path[row]).suffix.lower()
        linked = part in ("train", "validation")
        name = f"{labels[row]:04d}/{row:06d}{suffix}" if linked else f"{row:06d}{kind and '_'}{kind}.png"
        return part, f"{part}/{name}", int(labels[row]), run.manifest.image_id[row], kind

    rows = [entry("train", row) for row in train.tolist()] + [entry("validation", row) for row in held.tolist()]
    rows += [entry("shifted", row) for row in held.tolist()] if run.shift else []
    return rows + [entry("unusable", row, kind) for row, kind in unusable]


def _fill(run: Run, rows: Sequence[tuple[str, str, int, str, str]], folder: Path, made_of: str) -> None:
    file_of = dict(zip(run.manifest.image_id, run.manifest.files(), strict=True))
    row_of = {image_id: row for row, image_id in enumerate(run.manifest.image_id)}
    for part, name, _, image_id, kind in rows:
        target, source = folder / name, file_of[image_id]
        target.parent.mkdir(parents=True, exist_ok=True)
        if part in ("train", "validation"):
            target.symlink_to(source.resolve())
            continue
        image = decode_photo(read_photo_bytes(source), max_megapixels=run.config.data.max_megapixels)
        if kind:
            image = make_unusable(image, kind, row_of[image_id])
        elif run.shift:
            image = apply_shift(image, run.shift)
        image.save(target, compress_level=1)
    with (folder / "photos.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
    (folder / "made_of.txt").write_text(made_of, encoding="utf-8")
