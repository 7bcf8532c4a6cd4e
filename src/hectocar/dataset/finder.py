"""The one finder of files: which photographs lie below a folder, what was left out and why, and how the disk spells a path.

Training, audit, folds, preview, predict and score ask here, so that they agree. Links to files and folders are followed, a
folder is read once however many links lead to it, and only regular files are photographs: nothing else is ever opened.
"""

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from hectocar.errors import DataError
from hectocar.photos.decode import ACCEPTED_FORMATS
from hectocar.progress import Progress
from hectocar.tables import listed, normalize_name, repeated_names

FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP",
    ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF",
}  # fmt: skip
RESULT_MARKERS = ("audit.json", "config.json", "bundle.json", "parts.json", ".hectocar")
"""Files that make a folder a result of hectocar: an audit, a run, a bundle, the parts of an answer."""
_SYSTEM_NAMES = frozenset(
    ("thumbs.db", "desktop.ini", "@eadir", "#recycle", "__macosx", "$recycle.bin", "system volume information", "lost+found")
)
_HIDDEN = "hidden, or kept by a system or a program"
_OTHER_NAME = "not named like a photograph"
_SPECIAL = "no regular file (a FIFO, a socket or a device)"
_BROKEN_LINK = "a link to nothing"
_LOOP = "a link to a folder above it, or to one that was read already"


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read; a folder ends with a slash and counts as one whatever is in it."""

    path: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What lies in a folder. Paths are relative to it, with forward slashes, as the disk spells them, by code point of NFC."""

    photos: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    """Only where the folder alone was read."""
    left_out: tuple[LeftOut, ...] = ()
    marker: str = ""
    """The file by which the folder is a result of hectocar."""


def photo_suffixes() -> tuple[str, ...]:
    """Endings of names that are read: those whose format this Pillow decodes."""
    return tuple(suffix for suffix, kind in FORMAT_OF_SUFFIX.items() if kind in ACCEPTED_FORMATS)


def read_folder(folder: Path) -> Listing:
    """Photographs and folders directly in a folder.

    Raises:
        DataError: The folder, or what a link in it leads to, cannot be read.
    """
    photos: list[str] = []
    folders: list[str] = []
    left_out: list[LeftOut] = []
    suffixes, marker = photo_suffixes(), ""
    for entry in _scan(folder):
        is_folder, reason = _judge(entry, suffixes)
        if reason:
            left_out.append(LeftOut(f"{entry.name}/" if is_folder else entry.name, reason))
        else:
            (folders if is_folder else photos).append(entry.name)
        if not is_folder and entry.name in RESULT_MARKERS:
            marker = entry.name
    return Listing(tuple(photos), tuple(folders), tuple(left_out), marker)


def find_below(folder: Path, within: Path | None = None) -> Listing:
    """Photographs at any depth below a folder; folders that are results of hectocar are left out, ``folder`` itself is not.

    Args:
        folder: Where to begin.
        within: The folder that it was found in: a link to that one, or above it, is no way into it.

    Raises:
        DataError: A folder cannot be read.
    """
    photos: list[str] = []
    left_out: list[LeftOut] = []
    seen = {_identity(above) for above in _folders_above(folder, within)}
    # Real folders before linked ones: which of two ways to a folder is taken does not hang on a link's name.
    waiting, linked, marker = deque([""]), deque[str](), ""
    while waiting or linked:
        prefix = waiting.popleft() if waiting else linked.popleft()
        here = folder / prefix
        key = _identity(here)
        if key in seen:
            left_out.append(LeftOut(prefix, _LOOP))
            continue
        seen.add(key)
        found = read_folder(here)
        if found.marker and prefix:
            left_out.append(LeftOut(prefix, describe_result(found.marker)))
            continue
        marker = marker or found.marker
        photos += [prefix + name for name in found.photos]
        left_out += [LeftOut(prefix + item.path, item.reason) for item in found.left_out]
        for name in found.folders:
            (linked if (here / name).is_symlink() else waiting).append(f"{prefix}{name}/")
    photos.sort(key=lambda path: (normalize_name(path), path))
    return Listing(photos=tuple(photos), left_out=tuple(left_out), marker=marker)


def describe_result(marker: str) -> str:
    """Why a folder is not read that is a result of ours."""
    return f"a result of hectocar, it holds {marker}"


def note_left_out(left_out: Iterable[LeftOut], progress: Progress) -> None:
    """One line for each reason: how many, and the first of them."""
    for line in describe_left_out(left_out):
        progress.note(line)


def describe_left_out(left_out: Iterable[LeftOut]) -> list[str]:
    """One line for each reason, in order of first appearance."""
    by_reason: dict[str, list[str]] = {}
    for item in left_out:
        by_reason.setdefault(item.reason, []).append(printable(item.path))
    return [f"{len(paths)} left out, {reason}: {listed(paths)}" for reason, paths in by_reason.items()]


def printable(path: str | Path) -> str:
    """A path whose bytes are not UTF-8 is shown with escapes: no stream can write it."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def check_utf8(*paths: str | Path) -> None:
    """The one rule for names that are not UTF-8: they cannot be written into any table, so they are refused.

    Raises:
        DataError: Names the first, escaped.
    """
    for path in map(str, paths):
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{path!a}: the name is not UTF-8; rename it (often a zip of another system)") from error


def check_names(paths: Iterable[str], kind: str = "files") -> None:
    """Raises DataError where a name is not UTF-8, or where two are one name but for their Unicode form."""
    paths = list(paths)
    check_utf8(*paths)
    repeated = repeated_names(paths)
    if repeated:
        raise DataError(f"{repeated[0]}: two {kind} whose names differ only in Unicode form; rename one")


def kind_of(path: Path) -> str:
    """``folder``, ``file``, ``special`` (FIFO, socket, device) or ``nothing``, of what a path leads to.

    Raises:
        DataError: The system does not say.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{printable(path)}: cannot be read ({_why(error)})") from error
    return "folder" if S_ISDIR(mode) else "file" if S_ISREG(mode) else "special"


class DiskSpelling:
    """Finds the files that a table names below a folder, whatever system wrote the table.

    Every part of a path may be composed (NFC) on one side and decomposed on the other, and back-slashes are read as
    slashes where that exists. Each folder is listed once.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, Path | None] = {"": root}
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, path: str) -> Path:
        """The file as the disk spells it; as the table does where there is none."""
        spellings = (path, path.replace("\\", "/")) if "\\" in path else (path,)
        found = next(filter(None, map(self._locate, spellings)), None)
        return found or self._root / path

    def _locate(self, path: str) -> Path | None:
        above, _, name = path.rpartition("/")
        if above not in self._folders:
            self._folders[above] = self._locate(above)
        folder = self._folders[above]
        if folder is None or name in ("", "."):
            return folder
        if os.path.lexists(folder / name):
            return folder / name
        if folder not in self._names:
            self._names[folder] = _names_by_nfc(folder)
        actual = self._names[folder].get(normalize_name(name))
        return folder / actual if actual else None


def _names_by_nfc(folder: Path) -> dict[str, str]:
    try:
        return {normalize_name(name): name for name in sorted(os.listdir(folder), reverse=True)}  # noqa: PTH208 - names only
    except OSError:  # it is no folder, or may not be listed: nothing is found in it
        return {}


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: (normalize_name(entry.name), entry.name))
    except OSError as error:
        raise DataError(
            f"{printable(folder)}: the folder cannot be read ({_why(error)}); give yourself the right to"
        ) from error


def _judge(entry: os.DirEntry[str], suffixes: Sequence[str]) -> tuple[bool, str]:
    """Whether it is a folder, and why it is left out; empty where it is read."""
    if entry.name.startswith(".") or entry.name.casefold() in _SYSTEM_NAMES:
        return entry.is_dir(follow_symlinks=False), _HIDDEN
    try:
        if entry.is_dir():
            return True, ""
        if not entry.is_file():
            return False, _BROKEN_LINK if entry.is_symlink() and not os.path.exists(entry.path) else _SPECIAL  # noqa: PTH110
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False, _BROKEN_LINK
        raise DataError(f"{printable(entry.path)}: cannot be read ({_why(error)})") from error
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a tenth of pathlib's time, once per file
    if suffix in suffixes:
        return False, ""
    if suffix not in FORMAT_OF_SUFFIX:
        return False, _OTHER_NAME
    return False, f"{suffix} cannot be read by the Pillow that is installed; convert it to JPEG"


def _folders_above(folder: Path, within: Path | None) -> Iterator[Path]:
    yield from Path(os.path.realpath(folder)).parents
    if within is not None:
        yield from (resolved := Path(os.path.realpath(within)), *resolved.parents)


def _identity(folder: Path) -> tuple[int, int] | str:
    try:
        stat = folder.stat()
    except OSError:
        return str(folder)  # reading it says what is wrong
    # Some network file systems number nothing.
    return (stat.st_dev, stat.st_ino) if stat.st_ino else os.path.realpath(folder)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
