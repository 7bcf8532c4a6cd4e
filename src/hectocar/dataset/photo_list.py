"""What to predict: the photographs that a user points at by a csv (ID, img_path), a folder, or one by one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from hectocar.dataset.finder import (
    DiskSpelling,
    check_names,
    check_utf8,
    find_below,
    kind_of,
    note_left_out,
    photo_suffixes,
    printable,
)
from hectocar.errors import DataError
from hectocar.progress import NoProgress, Progress
from hectocar.tables import check_unique, listed, normalize_name, read_named_columns

ID_COLUMN = "ID"
SAMPLE_FILE = "sample_submission.csv"


@dataclass(frozen=True)
class PhotoList:
    """Photographs to predict, each with its id, and the form of the answer if one is prescribed."""

    ids: tuple[str, ...]
    files: tuple[Path, ...]
    sample: Path | None = None


@dataclass(frozen=True)
class TestTable:
    """The photographs to predict. `img_paths` are relative to the folder of the table and never leave it."""

    __test__ = False  # the name makes pytest try to collect it

    ids: tuple[str, ...]
    img_paths: tuple[str, ...]


def find_photo_list(inputs: Sequence[Path], sample: Path | None = None, progress: Progress | None = None) -> PhotoList:
    """Understands what the user points at: a csv with ID and img_path, folders, or photographs.

    Args:
        inputs: A file that is named is taken whatever its name ends in; of a folder, what the finder takes for photographs.
        sample: The form of the answer; beside a csv its sample_submission.csv is the default.
        progress: Is told what was left out of a folder.

    Raises:
        DataError: Nothing is there, a name is not UTF-8 or given twice, or the table is wrong.
    """
    if len(inputs) == 1 and inputs[0].suffix.lower() == ".csv" and kind_of(inputs[0]) != "folder":
        return _from_table(inputs[0], sample)
    files: list[Path] = []
    for path in inputs:
        kind = kind_of(path)
        if kind == "folder":
            found = find_below(path)
            note_left_out(found.left_out, progress or NoProgress())
            files += [path / name for name in found.photos]
        elif kind == "file" and path.suffix.lower() != ".csv":
            files.append(path)
        else:
            problem = {"nothing": "no such file or folder", "special": "no regular file (a FIFO, a socket or a device)"}
            raise DataError(
                f"{printable(path)}: {problem.get(kind, 'a table among other inputs')}; "
                "allowed: a csv (ID, img_path), photographs, or a folder of them"
            )
    if not files:
        raise DataError(f"{printable(inputs[0])}: no photographs in it; accepted names end in {', '.join(photo_suffixes())}")
    paths = [file.as_posix() for file in files]
    check_names(paths)
    stems = [normalize_name(file.stem) for file in files]
    ids = stems if len(set(stems)) == len(stems) else map(normalize_name, paths)
    return PhotoList(ids=tuple(ids), files=tuple(files), sample=sample)


def _from_table(table_file: Path, sample: Path | None) -> PhotoList:
    check_utf8(table_file)
    table = read_test_table(table_file)
    disk = DiskSpelling(table_file.parent)
    files = tuple(disk.find(path) for path in table.img_paths)
    if not any(os.path.isfile(file) for file in files):  # noqa: PTH113 - False where the system does not say
        raise DataError(
            f"{table_file}: none of its {len(files)} photographs exists, first {files[0]}; put them beside the table"
        )
    beside = table_file.parent / SAMPLE_FILE
    return PhotoList(ids=table.ids, files=files, sample=sample or (beside if beside.is_file() else None))


def read_test_table(path: str | Path) -> TestTable:
    """Read the contest's test.csv: a row of `ID,img_path` for each photograph; other columns are ignored.

    Raises:
        DataError: a column missing, no rows, an id or path empty, an id twice, a path that leaves the folder.
    """
    rows = read_named_columns(path, "test table", (ID_COLUMN, "img_path"))
    ids = [cells[ID_COLUMN] for _, cells in rows]
    check_unique(ids, ID_COLUMN, [line for line, _ in rows], path, DataError)
    unsafe = [f"line {line}: {cells['img_path']!r}" for line, cells in rows if not _stays_inside(cells["img_path"])]
    if unsafe:
        raise DataError(
            f"{path}: column img_path leaves the folder of the table in {listed(unsafe)}; "
            "allowed: a relative path without '..', such as ./test/TEST_00000.jpg"
        )
    return TestTable(tuple(ids), tuple(str(PurePosixPath(cells["img_path"])) for _, cells in rows))


def _stays_inside(img_path: str) -> bool:
    """Judged by the rules of both systems: the table may have been written on the other one."""
    if not img_path.strip() or "\0" in img_path:
        return False
    both = (PurePosixPath(img_path), PureWindowsPath(img_path))
    return not any(pure.anchor or ".." in pure.parts or not pure.name for pure in both)
