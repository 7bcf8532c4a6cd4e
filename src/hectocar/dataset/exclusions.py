"""Lists of photographs to leave out: which training photograph each row of a list means."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hectocar.dataset.layout import TRAIN
from hectocar.errors import DataError
from hectocar.progress import Progress
from hectocar.tables import describe_problems, listed, normalize_name, read_named_columns, with_nearest

CONTEST_LISTS = ("contest:noise_seed", "contest:noise_consensus")
"""Lists of files that the contest's participants named noisy, as data.exclude takes them."""


@dataclass(frozen=True)
class ExclusionList:
    """The cells of the column ``file`` of one list."""

    source: str
    names: tuple[str, ...]

    @property
    def is_ours(self) -> bool:
        """A list of the package names photographs that a stranger does not have; a list of the user's names his own."""
        return self.source in CONTEST_LISTS


def read_exclusions(sources: Sequence[str]) -> list[ExclusionList]:
    """Reads the lists that ``data.exclude`` names.

    Raises:
        DataError: A list is missing or has no column ``file``.
    """
    lists = []
    for source in sources:
        if source.startswith("contest:"):
            if source not in CONTEST_LISTS:
                raise DataError(f"data.exclude: {source} is no list of the contest; allowed: {', '.join(CONTEST_LISTS)}")
            with resources.as_file(resources.files("hectocar.contest") / f"{source.removeprefix('contest:')}.csv") as path:
                rows = read_named_columns(path, "data.exclude", ("file",))
        else:
            rows = read_named_columns(source, "data.exclude", ("file",), allow_empty=True)
        lists.append(ExclusionList(source, tuple(cells["file"].strip() for _, cells in rows)))
    return lists


def find_excluded(
    lists: Sequence[ExclusionList], image_ids: Sequence[str], data_folder: Path, progress: Progress
) -> dict[str, str]:
    """Maps each excluded image_id to the list that names it, and says how many each list leaves out.

    A row is a path below DATA, with or without the train folder in front, or an absolute one; a bare file name counts where
    only one photograph has it.

    Raises:
        DataError: A row of a user's list names no photograph, or a bare name several; each with what it resembles.
    """
    index = _Index(image_ids, data_folder)
    excluded: dict[str, str] = {}
    for one in lists:
        unknown, ambiguous, found = [], [], 0
        for name in one.names:
            ids = index.find(name)
            if len(ids) == 1:
                excluded.setdefault(ids[0], one.source)
                found += 1
            elif ids:
                ambiguous.append(f"{name!r} ({listed(ids)})")
            else:
                unknown.append(name)
        problems = []
        if ambiguous:
            problems.append(f"{len(ambiguous)} rows name several photographs: {listed(ambiguous)}; give the path")
        if unknown and one.is_ours:
            problems.append(f"{len(unknown)} rows name no photograph here")
        elif unknown:
            problems.append(f"{len(unknown)} rows name no training photograph: {with_nearest(unknown, index.ids)}")
        if problems and not one.is_ours:
            raise DataError(describe_problems(f"data.exclude {one.source}", problems, f"allowed: paths below {data_folder}"))
        progress.note(
            "; ".join([f"data.exclude {one.source}: {found} of its {len(one.names)} rows leave a photograph out", *problems])
        )
    return excluded


class _Index:
    """Photographs by path and by name."""

    def __init__(self, image_ids: Sequence[str], data_folder: Path) -> None:
        self.ids = image_ids
        self._root = normalize_name(data_folder.resolve().as_posix()).rstrip("/") + "/"
        self._by_path = {image_id: image_id for image_id in image_ids}
        self._by_name: dict[str, list[str]] = {}
        for image_id in image_ids:
            start, _, rest = image_id.partition("/")
            # The list may have been made where the layout had a train folder, or had none.
            self._by_path.setdefault(rest if start.casefold() == TRAIN else f"{TRAIN}/{image_id}", image_id)
            self._by_name.setdefault(image_id.rpartition("/")[2], []).append(image_id)

    def find(self, name: str) -> list[str]:
        """The photographs that a row may mean: none, one, or several of one bare name."""
        plain = normalize_name(name)
        return self._find(plain) or (self._find(plain.replace("\\", "/")) if "\\" in plain else [])

    def _find(self, name: str) -> list[str]:
        path = name.removeprefix(self._root).removeprefix("./")
        if path in self._by_path:
            return [self._by_path[path]]
        return [] if "/" in path else self._by_name.get(path, [])
