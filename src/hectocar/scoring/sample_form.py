"""The contest's empty form: sample_submission.csv."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hectocar.dataset.photo_list import ID_COLUMN
from hectocar.errors import DataError, HectocarError
from hectocar.tables import check_unique, listed, read_csv


@dataclass(frozen=True)
class SampleForm:
    """What a submission must look like: the sample's ids and class columns, in its order and its spelling."""

    ids: tuple[str, ...]
    columns: tuple[str, ...]
    path: Path


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


def check_class_header(header: Sequence[str], path: str | Path, error: type[HectocarError]) -> tuple[str, ...]:
    """The class names of a header `ID,<class>,<class>,...`; raises where it is not one."""
    if header[0] != ID_COLUMN or len(header) < 2:
        raise error(f"{path}, line 1: the header begins {','.join(header[:2])!r}; allowed: 'ID' and then the class names")
    check_unique(header[1:], "class column", [1] * (len(header) - 1), path, error)
    return tuple(header[1:])
