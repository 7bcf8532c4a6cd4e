"""Csv tables that people bring along, read strictly, and how names in them are compared and reported.

Names and ids are compared under Unicode NFC, because macOS writes Korean decomposed (NFD); they are kept and written as
the file spells them, because the evaluator may compare bytes.
"""

import csv
import difflib
import heapq
import io
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from hectocar.errors import DataError, HectocarError

NUM_SHOWN = 5
"""Offenders that a message lists; it always gives their full count."""


_COMPARED = 300
"""Names that are compared letter by letter, those that share most pairs of letters: 33,000 took 10 s for one name."""


def normalize_name(name: str) -> str:
    """NFC: a Korean name compares equal whether the system stores it composed (Linux, Windows) or decomposed (macOS)."""
    return unicodedata.normalize("NFC", name)


def repeated_names(names: Iterable[str]) -> list[str]:
    """The names that stand more than once, compared and given under NFC, in order of first appearance."""
    return [name for name, count in Counter(map(normalize_name, names)).items() if count > 1]


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


def closest_names(name: str, valid: Iterable[str], count: int) -> list[str]:
    """The valid names that resemble a name, best first; none where nothing does."""
    key, by_key = normalize_name(name), {normalize_name(other): other for other in valid}
    likely: Iterable[str] = by_key
    if len(by_key) > _COMPARED:
        pairs = _letter_pairs(key)
        likely = heapq.nlargest(_COMPARED, by_key, key=lambda other: len(pairs & _letter_pairs(other)))
    return [by_key[close] for close in difflib.get_close_matches(key, likely, n=count, cutoff=0.4)]


def _letter_pairs(name: str) -> set[str]:
    return {name[k : k + 2] for k in range(len(name) - 1)}


def nearest_names(name: str, valid: Iterable[str], count: int = 3) -> str:
    """The most similar names, for a message about one name."""
    return ", ".join(closest_names(name, valid, count)) or "none is similar"


def with_nearest(names: Sequence[str], valid: Collection[str]) -> str:
    """`listed`, each of the shown names followed by the valid name that it resembles most, if any does."""
    shown = []
    for name in names[:NUM_SHOWN]:
        close = closest_names(name, valid, 1)
        shown.append(f"{name!r} (nearest: {close[0]!r})" if close else repr(name))
    return listed([*shown, *names[NUM_SHOWN:]])


def name_problems(kind: str, found: Sequence[str], wanted: Sequence[str], where: str) -> list[str]:
    """One line each for names given twice, missing and foreign; empty when both hold the same names in any order."""
    found_keys, wanted_keys = [normalize_name(name) for name in found], {normalize_name(name) for name in wanted}
    twice = [repr(name) for name in repeated_names(found)]
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


_FORMULA_STARTS = tuple("=+-@\t\r\n \uff1d\uff0b\uff0d\uff20")
"""Wide forms too, which East Asian spreadsheets take for the narrow ones, and the blank that some trim away first."""


def spreadsheet_safe(cell: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe is put before one that begins like it.

    So that `from_spreadsheet_safe` gives back exactly what was written, an apostrophe that a name itself has there is doubled.
    """
    return f"'{cell}" if cell.lstrip("'").startswith(_FORMULA_STARTS) else cell


def from_spreadsheet_safe(cell: str) -> str:
    """The text that `spreadsheet_safe` was given; what a person wrote without the apostrophe stays as it is."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA_STARTS) else cell


def csv_text(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table that people open in a spreadsheet: texts are made safe, numbers stay numbers, None is an empty cell.

    Not for submissions, whose ids are compared byte by byte.
    """
    lines = _Lines()
    writer = csv.writer(lines)
    writer.writerow(header)
    writer.writerows([spreadsheet_safe(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return "".join(lines)


class _Lines(list[str]):
    # The csv module quotes a line end inside a cell only where it ends lines with that character itself.
    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


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
    path: str | Path,
    what: str,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
    allow_empty: bool = False,
    blank: tuple[str, ...] = (),
) -> list[tuple[int, dict[str, str]]]:
    """(line number, cell by column name) of every row, for tables whose columns have fixed names.

    No cell may be empty but those of the columns named in ``blank``.

    Raises:
        DataError: a required column missing, a row of another length than the header, an empty cell.
    """
    header, lines = read_csv(path, what, DataError, allow_empty)
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
    empty = [
        f"line {line}, column {name}"
        for line, cells in table
        for name, cell in cells.items()
        if name not in blank and not cell.strip()
    ]
    if empty:
        raise DataError(f"{what} {path}: empty cell in {listed(empty)}; fill in every cell or delete the row")
    return table


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
