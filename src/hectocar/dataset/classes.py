"""The class list: names in code-point order, and which names are one class to the network because they mean the same car."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hectocar.dataset.groups import connect_places
from hectocar.errors import DataError
from hectocar.tables import listed, normalize_name, read_named_columns, repeated_names, with_nearest


@dataclass(frozen=True)
class ClassList:
    """Names (columns of a submission) and trained classes (outputs of the network).

    ``names`` are unique, NFC, in code-point order, never in the order of a folder listing, which differs between
    machines. ``members[g]`` are the names of trained class g; more than one only for equivalent names.
    """

    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        flat = sorted(name for group in self.members for name in group)
        if not self.names or not all(self.members) or self.names != tuple(sorted(set(self.names))) or tuple(flat) != self.names:
            raise DataError("class list: 'names' must be unique and sorted, and 'members' must hold each name once")

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


def build_class_list(names: Sequence[str], equivalent_pairs: Sequence[tuple[str, str]] = ()) -> ClassList:
    """Sorts the names by code point and joins equivalent ones (transitively) into one trained class.

    Raises:
        DataError: A name appears twice (after NFC), or only one name of a pair exists.
    """
    repeated = repeated_names(names)
    if repeated:
        raise DataError(f"class names that differ only in Unicode form: {listed(repeated)}; rename one of each")
    ordered = tuple(sorted(map(normalize_name, names)))
    groups: dict[int, list[str]] = {}
    for name, group in zip(ordered, join_equivalent(ordered, equivalent_pairs), strict=True):
        groups.setdefault(group, []).append(name)
    return ClassList(names=ordered, members=tuple(tuple(groups[group]) for group in sorted(groups)))


def join_equivalent(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[int]:
    """The group of each name: the lowest place among those joined to it by pairs, directly or in a chain.

    A pair of which neither name is there belongs to another contest and is passed over.

    Raises:
        DataError: Only one name of a pair is there, so the pairs or the names are wrong.
    """
    place_of = {normalize_name(name): place for place, name in enumerate(names)}
    absent, joined = [], []
    for pair in pairs:
        first, second = (place_of.get(normalize_name(name)) for name in pair)
        if first is not None and second is not None:
            joined.append((first, second))
        elif first is not None or second is not None:
            absent.append(pair[0] if first is None else pair[1])
    if absent:
        paired = {normalize_name(name) for pair in pairs for name in pair}
        # The partner resembles the name most, and is not meant.
        free = [name for name in names if normalize_name(name) not in paired]
        raise DataError(
            f"equivalent classes: {len(absent)} names whose partner is a class column are none themselves: "
            f"{with_nearest(absent, free)}; correct the name or delete the pair"
        )
    groups: list[int] = connect_places(len(names), [one for one, _ in joined], [other for _, other in joined]).tolist()
    return groups


def read_equivalent_pairs(path: Path) -> list[tuple[str, str]]:
    """Reads a csv with the columns class_a and class_b: two names of one class in each row; it may have no rows.

    Raises:
        DataError: The file cannot be read, lacks a column or a value, or pairs a name with itself.
    """
    rows = read_named_columns(path, "equivalent classes", ("class_a", "class_b"), allow_empty=True)
    pairs = [(cells["class_a"], cells["class_b"]) for _, cells in rows]
    same = [
        f"line {line}: {first!r}"
        for (line, _), (first, second) in zip(rows, pairs, strict=True)
        if normalize_name(first) == normalize_name(second)
    ]
    if same:
        raise DataError(
            f"equivalent classes {path}: a class paired with itself in {listed(same)}; allowed: two different names"
        )
    return pairs
