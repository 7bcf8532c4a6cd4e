"""The contest's two empty forms: sample_submission.csv and test.csv."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from hectocar.errors import DataError, HectocarError
from hectocar.tables import check_unique, listed, read_csv, read_named_columns

ID_COLUMN = "ID"


@dataclass(frozen=True)
class SampleForm:
    """What a submission must look like: the sample's ids and class columns, in its order and its spelling."""

    ids: tuple[str, ...]
    columns: tuple[str, ...]
    path: Path


@dataclass(frozen=True)
class TestTable:
    """The photographs to predict. `img_paths` are relative to the folder of the table and never leave it."""

    __test__ = False  # the name makes pytest try to collect it

    ids: tuple[str, ...]
    img_paths: tuple[str, ...]


def read_sample(path: str | Path) -> SampleForm:
    """Read a sample submission; the values in it do not matter.

    Raises:
        DataError: not a csv in UTF-8, first column not `ID`, a column or id empty or twice, a row of another length.
    """
    header, rows = read_csv(path, "sample submission", DataError)
    columns = check_class_header(header, path, DataError)
    ids = [(line, row[0], len(row)) for line, row in rows]
    wrong = [f"line {line} has {length}" for line, _, length in ids if length != len(header)]
    if wrong:
        raise DataError(f"{path}: {listed(wrong)} cells; allowed: {len(header)} as in the header; fetch the sample again")
    check_unique([name for _, name, _ in ids], ID_COLUMN, [line for line, _, _ in ids], path, DataError)
    return SampleForm(tuple(name for _, name, _ in ids), columns, Path(path))


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


def check_class_header(header: Sequence[str], path: str | Path, error: type[HectocarError]) -> tuple[str, ...]:
    """The class names of a header `ID,<class>,<class>,...`; raises where it is not one."""
    if header[0] != ID_COLUMN or len(header) < 2:
        raise error(f"{path}, line 1: the header begins {','.join(header[:2])!r}; allowed: 'ID' and then the class names")
    check_unique(header[1:], "class column", [1] * (len(header) - 1), path, error)
    return tuple(header[1:])
