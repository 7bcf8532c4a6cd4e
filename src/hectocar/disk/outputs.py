"""One rule for every --out: nothing of the user's is replaced, and what is ours is told by a mark.

A folder that is missing or empty is taken, one that we made is gone on with, all else is refused before the work. A file
is replaced where its mark, ``.NAME.hectocar`` beside it, says that we wrote exactly these bytes; so are the files of a
folder of ours, whose mark is ``.hectocar`` in it. A mark is written before the file that it is about, and names the old
and the new bytes: whenever a kill falls, what stands there is known.
"""

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hectocar.disk.artifacts import hash_file, write_json
from hectocar.disk.locks import hold_lock
from hectocar.disk.writing import explaining, make_folder, name_beside, replace_file, stage
from hectocar.errors import ArtifactError

MARK = ".hectocar"
_WORDS = {
    "ablation": "an ablation",
    "audit": "an audit",
    "bench": "a benchmark",
    "bundle": "a bundle",
    "demo": "a demo",
    "folds": "a table of folds",
    "preview": "a preview",
    "proof": "a proof on a GPU",
    "run": "a run",
    "score": "a score",
    "showroom": "a showroom",
    "submission": "a submission",
}
_SIGNS = {
    "ablation": ("runs.csv", "table.md", "plot.png"),
    "audit": ("audit.json",),
    "bundle": ("bundle.json",),
    "run": ("config.json", "manifest.parquet"),
    "score": ("score.html", "per_class.csv", "photographs.csv"),
    "showroom": ("truth/answers.csv", "truth/faults.csv", "test.csv"),
}
"""Files by which an artefact is known without a mark."""
_MAX_MARK_BYTES = 1_000_000


@dataclass(frozen=True)
class Mark:
    """What we wrote, and in which bytes."""

    kind: str
    sha256: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By file name; two while one is being replaced by the other."""
    made_of: str = ""
    """Digest of what it was made from, where that decides whether it may stand."""

    def write(self, path: Path) -> None:
        write_json(path, {"kind": self.kind, "sha256": {n: list(d) for n, d in self.sha256.items()}, "made_of": self.made_of})

    def knows(self, file: Path) -> bool:
        """Whether the file is as we wrote it."""
        return hash_file(file) in self.sha256.get(file.name, ())


def read_mark(path: Path) -> Mark | None:
    """None where there is none, or it is none of ours."""
    try:
        with path.open("rb") as file:
            tree = json.loads(file.read(_MAX_MARK_BYTES))
        digests = {str(name): tuple(map(str, values)) for name, values in tree["sha256"].items()}
        return Mark(str(tree["kind"]), digests, str(tree["made_of"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def identify(folder: Path) -> str:
    """The kind of artefact that a folder is; empty where it is none of ours."""
    mark = read_mark(folder / MARK)
    if mark is not None:
        return mark.kind
    return next((kind for kind, names in _SIGNS.items() if all((folder / name).is_file() for name in names)), "")


@contextmanager
def claim_folder(out: Path, kind: str, *, inputs: Iterable[Path] = (), data: Path | None = None) -> Iterator[None]:
    """Makes sure that a command may write a folder, and that it alone does so until it ends; see ``check_folder``."""
    check_folder(out, kind, inputs=inputs, data=data)
    with hold_lock(out):
        check_folder(out, kind, inputs=inputs, data=data)  # the one that wrote until now may have left something else
        yield


@contextmanager
def claim_file(
    out: Path, kind: str, *, inputs: Iterable[Path] = (), data: Path | None = None, overwrite: bool = False
) -> Iterator[Callable[[], None]]:
    """The same for a file; yields what checks it again just before it is written."""
    inputs = tuple(inputs)

    def check() -> None:
        check_file(out, kind, inputs=inputs, data=data, overwrite=overwrite)

    check()
    with hold_lock(out):
        check()
        yield check


def check_folder(out: Path, kind: str, *, inputs: Iterable[Path] = (), data: Path | None = None) -> bool:
    """Whether a folder may be written.

    Args:
        out: What --out names.
        kind: What is to be made.
        inputs: Runs, bundles, audits and files that the command reads.
        data: The folder of photographs that it reads.

    Returns:
        Whether one of this kind stands there; it is missing or empty otherwise.

    Raises:
        ArtifactError: It is something else, or lies where nothing may be written.
    """
    facts = _look(out)
    _check_place(out, inputs, data)
    if facts is None:
        return False
    if not stat.S_ISDIR(facts.st_mode):
        raise ArtifactError(f"--out {out}: is a file, and {_WORDS[kind]} is a folder; give a new or an empty folder")
    found = identify(out)
    if found == kind:
        return True
    if found:
        raise ArtifactError(f"--out {out}: holds {_WORDS.get(found, found)}, not {_WORDS[kind]}; give a new or an empty folder")
    content = list_content(out)
    if content:
        raise ArtifactError(
            f"--out {out}: exists and is not {_WORDS[kind]} (it holds {content[0]!r}); give a new or an empty folder"
        )
    return False


def check_file(out: Path, kind: str, *, inputs: Iterable[Path] = (), data: Path | None = None, overwrite: bool = False) -> None:
    """Raises ArtifactError unless a file may be written: none is there, an empty one, ours, or --overwrite was given."""
    facts = _look(out)
    inputs = tuple(inputs)
    _check_place(out, inputs, data)
    if facts is None:
        return
    if stat.S_ISDIR(facts.st_mode):
        raise ArtifactError(f"--out {out}: is a folder, and {_WORDS[kind]} is a file; give a file name in it")
    if not stat.S_ISREG(facts.st_mode):
        raise ArtifactError(f"--out {out}: is no regular file but a device, a pipe or the like; give the name of a file")
    for place in inputs:
        if place.exists() and (os.path.samestat(facts, place.stat()) or _is_inside(out.resolve(), place.resolve())):
            raise ArtifactError(f"--out {out}: is read by this very command ({place}); give another name")
    if facts.st_size and not overwrite and not is_own_file(out, kind):
        raise ArtifactError(
            f"--out {out}: exists and is not {_WORDS[kind]} as hectocar wrote it; give another name, or --overwrite to lose it"
        )


def is_own_file(path: Path, kind: str) -> bool:
    """Whether a file has the very bytes that we wrote there."""
    mark = read_mark(name_beside(path, MARK))
    return mark is not None and mark.kind == kind and path.is_file() and mark.knows(path)


def replace_own_file(path: Path, kind: str, write: Callable[[Path], object]) -> None:
    """Writes a file with its mark, in one step; whether it may be replaced was checked before (``claim_file``)."""

    def mark(temporary: Path) -> None:
        digests = [hash_file(temporary)]
        if is_own_file(path, kind):
            digests.append(hash_file(path))
        Mark(kind, {path.name: tuple(dict.fromkeys(digests))}).write(name_beside(path, MARK))

    replace_file(path, write, before=mark)


def mark_folder(folder: Path, kind: str) -> None:
    """Makes a folder that is missing or empty one of ours."""
    if identify(folder) != kind:
        make_folder(folder, lambda temporary: Mark(kind).write(temporary / MARK))


def check_unedited(folder: Path, advice: str) -> None:
    """Raises ArtifactError where a person has edited a file that we wrote into a folder of ours."""
    mark = read_mark(folder / MARK) or Mark("")
    for name in sorted(mark.sha256):
        if (folder / name).is_file() and not mark.knows(folder / name):
            raise ArtifactError(f"{folder / name}: edited since hectocar wrote it; {advice}")


def publish_folder(
    folder: Path, kind: str, fill: Callable[[Path], object], *, last: str = "", overwrite: bool = False, advice: str = ""
) -> None:
    """Writes all files of a folder; other files in it stay.

    A new folder is there whole or not at all. In one of ours the new files, all written by then, are moved to their places
    one by one; ``last``, which makes the folder what it is, is taken away first and put back last: a kill in between
    leaves no mixture that passes for whole, and the same command goes on.

    Args:
        folder: Missing, empty or of this kind.
        kind: What it becomes.
        fill: Writes the files into a folder.
        last: Name of the file without which the folder is not whole.
        overwrite: Replace files that a person has edited since.
        advice: For the message where that is not wanted.

    Raises:
        ArtifactError: A file was edited; nothing is replaced.
    """
    if not folder.is_dir() or not list_content(folder):

        def fill_and_mark(temporary: Path) -> None:
            fill(temporary)
            Mark(kind, _digests(temporary)).write(temporary / MARK)

        make_folder(folder, fill_and_mark, last=last)
        return
    with stage(folder) as temporary:
        fill(temporary)
        new, old = _digests(temporary), (read_mark(folder / MARK) or Mark(kind)).sha256
        if not overwrite:
            check_unedited(folder, advice)
        both = {name: tuple(dict.fromkeys((*new.get(name, ()), *old.get(name, ())))) for name in {*new, *old}}
        Mark(kind, both).write(folder / MARK)
        with explaining(folder, temporary):
            if last:
                (folder / last).unlink(missing_ok=True)
            for name in old.keys() - new.keys():
                (folder / name).unlink(missing_ok=True)
            for item in sorted(temporary.iterdir(), key=lambda item: item.name == last):
                item.replace(folder / item.name)
        Mark(kind, new).write(folder / MARK)


def list_content(folder: Path) -> list[str]:
    """What a folder holds, without locks and half written files of ours."""
    with explaining(folder):
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a folder that cannot be read says so at once
    return [name for name in names if not (name.startswith(".") and name.endswith((".lock", ".part")))]


def _digests(folder: Path) -> dict[str, tuple[str, ...]]:
    return {file.name: (hash_file(file),) for file in folder.iterdir() if file.is_file() and file.name != MARK}


def _look(out: Path) -> os.stat_result | None:
    """None where nothing is there; a link is refused whatever it leads to."""
    with explaining(out):
        try:
            facts = out.lstat()
        except FileNotFoundError:
            return None
    if stat.S_ISLNK(facts.st_mode):
        target = out.parent / out.readlink()
        raise ArtifactError(
            f"--out {out}: is a symbolic link (to {target}); give the place itself, nothing is written through it"
        )
    return facts


def _check_place(out: Path, inputs: Iterable[Path], data: Path | None) -> None:
    place = out.parent.resolve() / out.name
    for folder in inputs:
        if folder.is_dir() and _is_inside(place, folder.resolve()) and identify(folder) != "audit":
            raise ArtifactError(f"--out {out}: lies in {folder}, which this command reads; give a place outside of it")
        if folder.is_dir() and place == folder.resolve():
            raise ArtifactError(f"--out {out}: is read by this very command; give another place")
    if data is None or not data.is_dir():
        return
    root = data.resolve()
    if place == root or _is_inside(root, place):
        raise ArtifactError(f"--out {out}: holds the photographs ({data}); give another place")
    for folder in _list_photo_folders(root):
        if _is_inside(place, folder.resolve()) or place == folder.resolve():
            raise ArtifactError(f"--out {out}: lies among the photographs ({folder}); give a place outside of {data}")


def _list_photo_folders(root: Path) -> Iterator[Path]:
    """Folders of classes and of the test set; results of ours that lie beside them, and empty folders, are none."""
    layout = root / "train"
    yield from (folder for folder in (layout, root / "test") if folder.is_dir())
    with suppress(OSError):
        for folder in (layout if layout.is_dir() else root).iterdir():
            if folder.is_dir() and not identify(folder) and any(folder.iterdir()):
                yield folder


def _is_inside(place: Path, folder: Path) -> bool:
    return folder in place.parents
