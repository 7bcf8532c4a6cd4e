"""The class list: names in code-point order, and which names are one class to the network because they mean the same car."""

import csv
import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hectocar.errors import DataError


def normalize_name(name: str) -> str:
    """NFC: a Korean name compares equal whether the system stores it composed (Linux, Windows) or decomposed (macOS)."""
    return unicodedata.normalize("NFC", name)


def nearest_names(name: str, names: Iterable[str], count: int = 3) -> str:
    """The most similar names, for error messages."""
    found = difflib.get_close_matches(name, list(names), n=count, cutoff=0.4)
    return ", ".join(found) if found else "none is similar"


@dataclass(frozen=True)
class ClassList:
    """Names (columns of a submission) and trained classes (outputs of the network).

    ``names`` are unique, NFC, in code-point order, never in the order of a folder listing, which differs between
    machines. ``members[g]`` are the names of trained class g; more than one only for equivalent names.
    """

    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]

    @property
    def num_trained(self) -> int:
        return len(self.members)

    def trained_index(self) -> dict[str, int]:
        """Maps each name to its trained class."""
        return {name: index for index, names in enumerate(self.members) for name in names}

    def label(self, index: int) -> str:
        """A printable name of a trained class."""
        return " = ".join(self.members[index])

    def member_columns(self) -> list[list[int]]:
        """For each trained class the positions of its names in ``names``."""
        position = {name: index for index, name in enumerate(self.names)}
        return [[position[name] for name in names] for names in self.members]

    def to_json(self) -> dict[str, Any]:
        return {"names": list(self.names), "members": [list(names) for names in self.members]}

    @classmethod
    def from_json(cls, data: Any) -> "ClassList":
        """Raises DataError unless the members hold each name exactly once."""
        try:
            names = tuple(str(name) for name in data["names"])
            members = tuple(tuple(str(name) for name in group) for group in data["members"])
        except (KeyError, TypeError) as error:
            raise DataError("class list: 'names' and 'members' are needed, lists of strings") from error
        flat = sorted(name for group in members for name in group)
        if flat != sorted(set(names)) or list(names) != sorted(names) or not names or not all(members):
            raise DataError("class list: 'names' must be unique and sorted, and 'members' must hold each name once")
        return cls(names=names, members=members)


def build_class_list(names: Sequence[str], equivalent_pairs: Sequence[tuple[str, str]] = ()) -> ClassList:
    """Sorts the names by code point and joins equivalent ones (transitively) into one trained class.

    Raises:
        DataError: A name appears twice (after NFC), or only one name of a pair exists.
    """
    normalized = [normalize_name(name) for name in names]
    repeated = sorted({name for name in normalized if normalized.count(name) > 1}) if len(set(normalized)) < len(names) else []
    if repeated:
        raise DataError(f"class names that differ only in Unicode form: {', '.join(repeated[:5])}; rename one of each")
    ordered = tuple(sorted(normalized))
    group_of = {name: name for name in ordered}
    for pair in equivalent_pairs:
        first, second = sorted(normalize_name(name) for name in pair)
        missing = [name for name in (first, second) if name not in group_of]
        if len(missing) == 2:
            continue
        if missing:
            raise DataError(
                f"equivalent classes: {missing[0]!r} is no class here; nearest: {nearest_names(missing[0], ordered)}. "
                "Mend the csv of pairs or remove the line"
            )
        old, new = sorted((group_of[first], group_of[second]), reverse=True)
        group_of = {name: new if root == old else root for name, root in group_of.items()}
    roots = sorted(set(group_of.values()))
    members = tuple(tuple(name for name in ordered if group_of[name] == root) for root in roots)
    return ClassList(names=ordered, members=members)


def read_equivalent_pairs(path: Path) -> list[tuple[str, str]]:
    """Reads a csv with the columns class_a and class_b: two names of one class in each row; it may have no rows.

    Raises:
        DataError: The file cannot be read or lacks a column or a value.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a csv ({error})") from error
    for name in ("class_a", "class_b"):
        if header.count(name) != 1:
            raise DataError(f"{path}: column {name} is not there once; needed: class_a and class_b, found {header}")
    pairs = []
    for line, row in enumerate(rows, start=2):
        first, second = row.get("class_a"), row.get("class_b")
        if not first or not second:
            raise DataError(f"{path}, line {line}: columns class_a and class_b are needed, both filled")
        if normalize_name(first) == normalize_name(second):
            raise DataError(f"{path}, line {line}: {first!r} is paired with itself; allowed: two different names of a class")
        pairs.append((first, second))
    return pairs
