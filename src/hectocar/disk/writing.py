"""Files and folders written whole or not at all, what a kill leaves of them swept, and said plainly where there is no room.

What is being written stands beside its place as ``.NAME.PROCESS-NUMBER.part``; the next one that writes there takes away
those whose process is dead.
"""

import errno
import hashlib
import itertools
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hectocar.disk.processes import read_token, this_process
from hectocar.errors import WriteError

_LEFTOVER = re.compile(r"\..+\.([0-9a-f]{8}-\d+-[0-9a-f]*)-\d+\.part", re.DOTALL)
_FOREIGN_SECONDS = 7 * 24 * 3600
"""What another machine (or container) left is swept after a week: whether it still works there cannot be seen from here."""
_LONG_NAME_BYTES = 120
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_numbers = itertools.count()
_swept: set[Path] = set()


def replace_file(
    path: Path, write: Callable[[Path], object], *, num_bytes: int = 0, before: Callable[[Path], object] | None = None
) -> None:
    """Lets ``write`` fill a temporary file beside ``path`` and moves it there in one step.

    An interruption at any moment leaves the old file or the new one, never half of one.

    Args:
        path: The file.
        write: Gets the path of a file that does not exist yet.
        num_bytes: How much is about to be written, where that is known: for the message.
        before: Is called with the finished temporary file before it is moved.

    Raises:
        WriteError: No room, no permission, a name that is too long; what stood there is kept.
    """
    temporary = name_beside(path, _suffix())
    try:
        with explaining(path, temporary, num_bytes):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # never through a link laid there
            write(temporary)
            _flush(temporary)
            if before is not None:
                before(temporary)
            temporary.replace(path)
            _flush_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def make_folder(folder: Path, fill: Callable[[Path], object], *, last: str = "") -> None:
    """Lets ``fill`` write into a temporary folder beside ``folder`` and renames it: the folder is there whole or not at all.

    Args:
        folder: Must not exist, or be empty. One that cannot be renamed over, such as a mounted disk or one with a lock in
            it, gets the things of the temporary folder one by one.
        fill: Gets the temporary folder.
        last: What is put there last, in that case.

    Raises:
        WriteError: As ``replace_file``.
    """
    sweep(folder)
    fixed = folder.is_dir() and (any(folder.iterdir()) or folder.is_mount() or not os.access(folder.parent, os.W_OK))
    temporary = folder / f".new{_suffix()}" if fixed else name_beside(folder, _suffix())
    try:
        with explaining(folder, temporary):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            sweep(temporary.parent)
            temporary.mkdir()
            fill(temporary)
            for item in temporary.rglob("*"):
                (_flush_folder if item.is_dir() else _flush)(item)
            if fixed:
                for item in sorted(temporary.iterdir(), key=lambda item: item.name == last):
                    item.rename(folder / item.name)
            else:
                with suppress(OSError):  # only some systems rename over an empty folder
                    folder.rmdir()
                temporary.rename(folder)
            _flush_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def stage(folder: Path) -> Iterator[Path]:
    """A temporary folder inside ``folder``, for what is to be moved to its places there; swept like all others.

    Raises:
        WriteError: As ``replace_file``.
    """
    temporary = folder / f".new{_suffix()}"
    try:
        with explaining(folder, temporary):
            sweep(folder)
            temporary.mkdir()
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def name_beside(path: Path, suffix: str) -> Path:
    """A hidden name beside ``path`` that the file system takes: a digest stands for a long name."""
    raw = os.fsencode(path.name)
    name = path.name if len(raw) <= _LONG_NAME_BYTES else hashlib.sha256(raw).hexdigest()[:32]
    return path.with_name(f".{name}{suffix}")


def sweep(folder: Path) -> None:
    """Removes what dead processes of ours left half written in a folder; each process looks there once."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):  # one that cannot be read, or is not there
        for entry in list(os.scandir(folder)):
            found = _LEFTOVER.fullmatch(entry.name)
            owner = read_token(found[1]) if found else None
            if owner is None:
                continue
            old = not owner.is_local() and time.time() - entry.stat(follow_symlinks=False).st_mtime > _FOREIGN_SECONDS
            if not owner.is_dead() and not old:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


@contextmanager
def explaining(path: Path, temporary: Path | None = None, num_bytes: int = 0) -> Iterator[None]:
    """Turns a failure to write ``path`` into one message, whatever library it comes from.

    Raises:
        WriteError: The system refused.
    """
    try:
        yield
    except WriteError as error:  # of a file in the temporary folder: the user knows the other name
        raise WriteError(str(error).replace(str(temporary or path), str(path))) from error.__cause__
    except Exception as error:
        cause = _find_cause(error)
        if cause is None or (cause.errno not in _NO_ROOM and not _is_about(cause, path, temporary)):
            raise
        raise WriteError(f"{path} cannot be written: {_explain(cause, path, max(num_bytes, _measure(temporary)))}") from cause


def check_room(folder: Path, num_bytes: int, what: str, *, largest_bytes: int = 0) -> None:
    """Raises WriteError where a folder's disk has too little room, or one file may not become that large."""
    place = _existing(folder)
    free, limit = shutil.disk_usage(place).free, _read_size_limit()
    if num_bytes > free:
        raise WriteError(
            f"{folder}: {what} need {_in_bytes(num_bytes)}, and {_in_bytes(free)} are free there; make room, or give a place "
            "with more"
        )
    if limit is not None and largest_bytes > limit:
        raise WriteError(
            f"{folder}: {what} need a file of {_in_bytes(largest_bytes)}, and this shell allows files of {_in_bytes(limit)} "
            "(ulimit -f); raise that limit"
        )


def _suffix() -> str:
    return f".{this_process().token()}-{next(_numbers)}.part"


def _flush(path: Path) -> None:
    """To the disk itself: a power failure after the move must not find an empty file."""
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _NO_ROOM:  # told late by disks over a network
            raise
    finally:
        os.close(descriptor)


def _flush_folder(path: Path) -> None:
    with suppress(OSError):  # some systems open no folders
        _flush(path)


def _find_cause(error: Exception) -> OSError | None:
    """The system's refusal behind an error: safetensors and pyarrow tell it in their own."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if type(error).__module__.split(".")[0] not in ("safetensors", "safetensors_rust", "pyarrow"):
        return None
    found = re.search(r"(?:os error|errno|code:) (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def _is_about(error: OSError, path: Path, temporary: Path | None) -> bool:
    """Not about another file, such as one that is copied and cannot be read."""
    names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    mine = [place for place in (temporary, path) if place is not None]
    return not names or any(name.is_relative_to(place) or place.is_relative_to(name) for name in names for place in mine)


def _explain(error: OSError, path: Path, num_bytes: int) -> str:
    kept = "what stood there before is kept"
    size = f"it needs {_in_bytes(num_bytes)} or more" if num_bytes else "it needs more"
    if error.errno == errno.EFBIG:
        limit = _read_size_limit()
        allowed = "than the disk allows" if limit is None else f"than {_in_bytes(limit)}, this shell's limit (ulimit -f)"
        return f"the file grows larger {allowed} ({size}); {kept}; raise the limit"
    if error.errno in _NO_ROOM:
        free = shutil.disk_usage(_existing(path.parent)).free
        return f"no room left on its disk ({size}, {_in_bytes(free)} are free); {kept}"
    if error.errno == errno.ENAMETOOLONG:
        return f"the name is too long; file systems take 255 bytes a name, and it has {len(os.fsencode(path.name))}"
    blocker = next((place for place in path.parents if place.exists() and not place.is_dir()), None)
    reason = error.strerror if blocker is None else f"{blocker} is no folder"
    return f"{reason}; {kept}; give a place where you may write"


def _measure(path: Path | None) -> int:
    """Bytes in a file or folder; 0 for none."""
    if path is None:
        return 0
    with suppress(OSError):
        return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
    return 0


def _existing(path: Path) -> Path:
    """The nearest folder above that is there."""
    return next((place for place in (path, *path.absolute().parents) if place.is_dir()), Path())


def _read_size_limit() -> int | None:
    """Bytes that this process may write into one file; None without a limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _in_bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
