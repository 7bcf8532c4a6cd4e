"""The contest's two empty forms, sample_submission.csv and test.csv, and how this room reads and compares csv tables.

Names and ids are compared under Unicode NFC, because macOS writes Korean decomposed (NFD); they are kept and written as
the file spells them, because the evaluator may compare bytes.
"""

import csv
import difflib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath, PureWindowsPath

from hectocar.errors import DataError, HectocarError
from hectocar.photos.classes import normalize_name

ID_COLUMN = "ID"
NUM_SHOWN = 5
"""Offenders that a message lists; it always gives their full count."""


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


def listed(items: Sequence[str]) -> str:
    """The first five items of a longer list and their count, for an error message."""
    shown = ", ".join(items[:NUM_SHOWN])
    return shown if len(items) <= NUM_SHOWN else f"{shown}, ... ({len(items)} in all)"


def first_few(items: Iterable[str]) -> str:
    """Offenders whose count the message has given already; a generator, for there may be millions of them."""
    return ", ".join(islice(items, NUM_SHOWN))


def describe_problems(title: str, problems: Sequence[str], advice: str) -> str:
    """A message of several findings, one a line."""
    return "\n".join([f"{title} ({len(problems)} problems); {advice}:", *(f"  {line}" for line in problems)])


def with_nearest(names: Sequence[str], valid: Iterable[str]) -> str:
    """`listed`, each of the shown names followed by the valid name that it resembles most, if any does."""
    by_key = {normalize_name(name): name for name in valid}
    shown = []
    for name in names[:NUM_SHOWN]:
        close = difflib.get_close_matches(normalize_name(name), by_key, n=1, cutoff=0.4)
        shown.append(f"{name!r} (nearest: {by_key[close[0]]!r})" if close else repr(name))
    return listed([*shown, *names[NUM_SHOWN:]])


def name_problems(kind: str, found: Sequence[str], wanted: Sequence[str], where: str) -> list[str]:
    """One line each for names given twice, missing and foreign; empty when both hold the same names in any order."""
    found_keys, wanted_keys = [normalize_name(name) for name in found], {normalize_name(name) for name in wanted}
    twice = [repr(key) for key, count in Counter(found_keys).items() if count > 1]
    absent = wanted_keys.difference(found_keys)
    missing = [name for name in wanted if normalize_name(name) in absent]
    extra = [name for name, key in zip(found, found_keys, strict=True) if key not in wanted_keys]
    lines = []
    if twice:
        lines.append(f"{len(twice)} {kind} given more than once: {listed(twice)}; allowed: each once")
    if missing:
        lines.append(f"{len(missing)} {kind} missing: {with_nearest(missing, extra)}; all {len(wanted)} of {where} are needed")
    if extra:
        lines.append(f"{len(extra)} {kind} unknown: {with_nearest(extra, wanted)}; allowed: only those of {where}")
    return lines


def read_csv(
    path: str | Path, what: str, error: type[HectocarError], allow_empty: bool = False
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Header, and an iterator of (line number, cells): a whole submission as lists of strings takes 500 MB.

    Tolerates a byte-order mark, CRLF and empty lines, nothing else.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as problem:
        raise error(f"{what} {path} cannot be read: {problem.strerror}; give the path of a csv file") from problem
    rows = _iter_rows(raw, f"{what} {path}", error)
    header, first = next(rows, None), next(rows, None)
    if header is None or (first is None and not allow_empty):
        raise error(f"{what} {path} has no {'rows below its header' if header else 'header'}; give a file that is complete")
    return header[1], rows if first is None else chain([first], rows)


def _iter_rows(raw: bytes, where: str, error: type[HectocarError]) -> Iterator[tuple[int, list[str]]]:
    # Decoded piece by piece: one str of the whole file takes two bytes a character as soon as a name is Korean.
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig", newline=""), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except UnicodeDecodeError as problem:
        line = next(number for number, text in enumerate(raw.split(b"\n"), start=1) if not _is_utf8(text))
        raise error(f"{where}, line {line}: not UTF-8 text; save it as 'CSV UTF-8'") from problem
    except csv.Error as problem:
        raise error(f"{where}, line {reader.line_num}: {problem}; write it as plain comma-separated values") from problem


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_named_columns(
    path: str | Path, what: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> list[tuple[int, dict[str, str]]]:
    """(line number, cell by column name) of every row, for tables whose columns have fixed names; no cell may be empty.

    Raises:
        DataError: a required column missing, a row of another length than the header, an empty cell.
    """
    header, lines = read_csv(path, what, DataError)
    rows = list(lines)
    missing = [name for name in required if header.count(name) != 1]
    if missing:
        raise DataError(
            f"{what} {path}: column {listed(missing)} is not there once; the header is {','.join(header)!r}; "
            f"allowed: {','.join(required)}"
        )
    place = {name: header.index(name) for name in (*required, *optional) if name in header}
    wrong = [f"line {line}" for line, row in rows if len(row) != len(header)]
    if wrong:
        raise DataError(f"{what} {path}: not {len(header)} cells in {listed(wrong)}; allowed: as many as in the header")
    table = [(line, {name: row[index] for name, index in place.items()}) for line, row in rows]
    empty = [f"line {line}, column {name}" for line, cells in table for name, cell in cells.items() if not cell.strip()]
    if empty:
        raise DataError(f"{what} {path}: empty cell in {listed(empty)}; fill in every cell or delete the row")
    return table


def check_class_header(header: Sequence[str], path: str | Path, error: type[HectocarError]) -> tuple[str, ...]:
    """The class names of a header `ID,<class>,<class>,...`; raises where it is not one."""
    if header[0] != ID_COLUMN or len(header) < 2:
        raise error(f"{path}, line 1: the header begins {','.join(header[:2])!r}; allowed: 'ID' and then the class names")
    check_unique(header[1:], "class column", [1] * (len(header) - 1), path, error)
    return tuple(header[1:])


def check_unique(names: Sequence[str], kind: str, lines: Sequence[int], path: str | Path, error: type[HectocarError]) -> None:
    """Raise where a name is empty or, under NFC, appears twice."""
    seen: set[str] = set()
    wrong = []
    for name, line in zip(names, lines, strict=True):
        key = normalize_name(name)
        if key in seen or not key.strip():
            wrong.append(f"{name!r} (line {line})")
        seen.add(key)
    if wrong:
        raise error(f"{path}: {kind} empty or repeated: {listed(wrong)}; allowed: each once and not empty")
