"""How a data folder is laid out: its class folders, its test set, and what in it is neither.

DATA/train/<class>/ with DATA/test/ beside it, or without a train folder DATA/<class>/, where a folder named test is the
test set. Whatever lies below a class folder, at any depth, is of the class.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hectocar.dataset.finder import (
    LeftOut,
    Listing,
    check_names,
    check_utf8,
    describe_left_out,
    describe_result,
    find_below,
    kind_of,
    note_left_out,
    photo_suffixes,
    read_folder,
)
from hectocar.errors import DataError
from hectocar.progress import NoProgress, Progress
from hectocar.tables import listed, normalize_name

TRAIN, TEST = "train", "test"
_LOOSE = "a photograph beside the class folders, of no class"


@dataclass(frozen=True)
class DataLayout:
    """Names of folders as the disk spells them."""

    top: str
    """The folder below DATA that holds the class folders; empty where DATA itself does."""
    classes: tuple[str, ...]
    test: str
    """The folder of the test set; empty where there is none."""
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def read_layout(data_folder: Path) -> DataLayout:
    """Looks at DATA and, where it has one, at DATA/train.

    Raises:
        DataError: No such folder, or a train folder that is none.
    """
    if kind_of(data_folder) != "folder":
        raise DataError(f"{data_folder}: no such folder; expected train/<class>/*.jpg in it")
    check_utf8(data_folder, os.path.realpath(data_folder))
    outside = read_folder(data_folder)
    train, test = _named(outside.folders, TRAIN), _named(outside.folders, TEST)
    others = tuple(name for name in outside.folders if name not in (train, test))
    loose = _beside(outside, "")
    if not train:
        notes = () if not test else (_describe_test(data_folder, test),)
        return DataLayout("", others, test, loose, notes)
    inside = read_folder(data_folder / train)
    if inside.photos and not inside.folders:
        advice = f"put them into folders, one a class: {train}/<class>/*.jpg"
        if others:
            advice = (
                f"a folder named {train} is the training set and not a class like {listed([repr(name) for name in others])} "
                f"beside it: rename it, or put all class folders into {data_folder / train}"
            )
        raise DataError(f"{data_folder / train}: {len(inside.photos)} photographs and no class folders in it; {advice}")
    beside = tuple(LeftOut(f"{name}/", f"beside {train}/, where the classes are looked for") for name in others)
    return DataLayout(train, inside.folders, test, (*loose, *beside, *_beside(inside, f"{train}/")), ())


def find_photos(data_folder: Path, progress: Progress | None = None) -> list[tuple[str, Path]]:
    """Finds (class name, file) in the class folders of a data folder; ``progress`` is told what was left out and why.

    Returns:
        In code-point order of the image ids, which are the files' NFC paths below ``data_folder``.

    Raises:
        DataError: No folder, no class folders, fewer than two classes, one without photographs, a folder that cannot be
            read, a name that is not UTF-8, or two names equal but for their Unicode form.
    """
    layout = read_layout(data_folder)
    top = data_folder / layout.top
    start = f"{layout.top}/" if layout.top else ""
    classes, left_out = {}, list(layout.left_out)
    for name in layout.classes:
        found = find_below(top / name, within=top)
        if found.marker:
            left_out.append(LeftOut(f"{start}{name}/", describe_result(found.marker)))
            continue
        left_out += [LeftOut(f"{start}{name}/{item.path}", item.reason) for item in found.left_out]
        if not any(item.path == "" for item in found.left_out):  # a link back to where we are
            classes[name] = found
    notes = [*layout.notes, *_describe_depth(start, classes)]
    progress = progress or NoProgress()
    for note in notes:
        progress.note(note)
    note_left_out(left_out, progress)
    photos = [
        (normalize_name(f"{start}{name}/{path}"), normalize_name(name), data_folder / f"{start}{name}/{path}")
        for name, listing in classes.items()
        for path in listing.photos
    ]
    _check_classes(top, classes, len(photos), [*layout.notes, *describe_left_out(left_out)])
    check_names(classes, "class folders")
    check_names([image_id for image_id, _, _ in photos])
    photos.sort(key=lambda photo: photo[0])
    return [(name, file) for _, name, file in photos]


def find_test_photos(data_folder: Path, test_folder: Path | None, progress: Progress) -> list[str]:
    """Photographs of the test set as paths from the resolved data folder, in code-point order of their NFC form.

    Args:
        data_folder: Its own test set is looked for in DATA/test.
        test_folder: Any other folder; it may lie elsewhere.
        progress: Is told what was left out.

    Raises:
        DataError: A folder was named and is not there or has no photographs, or a name is not UTF-8.
    """
    own = "" if test_folder else read_layout(data_folder).test
    if not test_folder and not own:
        return []
    folder = test_folder or data_folder / own
    if kind_of(folder) != "folder":
        raise DataError(f"--test {folder}: no such folder; allowed: a folder of photographs")
    found = find_below(folder, within=None if test_folder else data_folder)
    note_left_out([LeftOut(f"{folder.name}/{item.path}", item.reason) for item in found.left_out], progress)
    if test_folder and not found.photos:
        raise DataError(f"--test {folder}: no photographs below it; accepted names end in {', '.join(photo_suffixes())}")
    start = f"{own or _from_data(folder, data_folder)}/".removeprefix("./")
    paths = [start + path for path in found.photos]
    check_names(paths)
    return sorted(paths, key=normalize_name)


def _from_data(folder: Path, data_folder: Path) -> str:
    """The way from the resolved data folder; where a link was taken on it, `..` leads somewhere else."""
    resolved, root = folder.resolve(), data_folder.resolve()
    try:
        return Path(os.path.relpath(resolved, root)).as_posix()
    except ValueError:  # another drive of Windows
        return resolved.as_posix()


def _named(folders: Sequence[str], name: str) -> str:
    """The folder of this name, or of this name in capitals, as other systems and people write it; empty if there is none."""
    alike = [folder for folder in folders if folder.casefold() == name]
    return name if name in alike else next(iter(alike), "")


def _beside(listing: Listing, start: str) -> tuple[LeftOut, ...]:
    # Tables beside the photographs belong there: only photographs and what is odd are worth a word.
    loose = tuple(LeftOut(f"{start}{name}", _LOOSE) for name in listing.photos)
    odd = tuple(LeftOut(f"{start}{item.path}", item.reason) for item in listing.left_out if not _is_table(item.path))
    return (*loose, *odd)


def _is_table(path: str) -> bool:
    return path.lower().endswith((".csv", ".txt", ".md", ".json", ".yaml"))


def _describe_test(data_folder: Path, test: str) -> str:
    return (
        f"{data_folder / test} is taken as the test set, not as a class, for there is no train folder beside it "
        f"(a class of this name: {data_folder / TRAIN / test})"
    )


def _describe_depth(start: str, classes: dict[str, Listing]) -> list[str]:
    deep = [f"{start}{name}/{path}" for name, listing in classes.items() for path in listing.photos if "/" in path]
    if not deep:
        return []
    return [f"{len(deep)} photographs in folders below a class folder count as that class, first {deep[0]}"]


def _check_classes(top: Path, classes: dict[str, Listing], num_photos: int, notes: Sequence[str]) -> None:
    told = "".join(f"; {note}" for note in notes)
    empty = sorted(name for name, listing in classes.items() if not listing.photos)
    if empty and num_photos:
        raise DataError(
            f"{top}: {len(empty)} class folders without photographs, first {empty[0]!r}; remove them, or add files that end "
            f"in {', '.join(photo_suffixes())}{told}"
        )
    num_classes = len(classes) - len(empty)
    if num_classes < 2:
        raise DataError(
            f"{top}: {num_classes} class folders with photographs; needed: two or more, as train/<class>/*.jpg{told}"
        )
