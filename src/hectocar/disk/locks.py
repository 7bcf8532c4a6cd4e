"""One writer of an output at a time: a lock file beside it that says who holds it.

The system's own lock on that file is the truth where the disk has such locks: it goes with its process, however that
ends. Elsewhere the file itself is the lock, and its process, told by number and start, is asked whether it lives.
"""

import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hectocar.disk.artifacts import utc_now
from hectocar.disk.processes import Process, read_token, this_process
from hectocar.disk.writing import explaining, name_beside
from hectocar.errors import ArtifactError

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

_TAKEN = (errno.EACCES, errno.EAGAIN)
_MAX_BYTES = 4096
_UNSIGNED_SECONDS = 60.0
"""A lock file that says nothing for so long was left by a kill between two calls."""
_held: set[tuple[int, Path]] = set()
_guard = threading.Lock()


@dataclass(frozen=True)
class Holder:
    """Who has a lock."""

    process: Process
    command: str = "another command"
    since: str = "a moment ago"
    host: str = ""

    def describe(self) -> str:
        """For a message."""
        where = "" if self.process.is_local() else f" on {self.host}"
        return f"process {self.process.pid}{where} ({self.command}, since {self.since})"


@contextmanager
def hold_lock(output: Path) -> Iterator[None]:
    """Makes this process the only one that writes ``output``.

    Args:
        output: A file or folder, there or not; its lock stands beside it, in a folder that is made where it is missing.

    Raises:
        ArtifactError: Another process, or another part of this one, is writing it; it says which.
        WriteError: No lock can be written there.
    """
    path = _lock_path(output)
    key = (os.getpid(), path)
    with _guard:
        if key in _held:
            raise ArtifactError(f"{output}: this very process is writing it already; wait until that ends")
        _held.add(key)
    made: list[Path] = []
    try:
        with explaining(output):
            made = _make_parents(path.parent)
            descriptor = _take(path, output, _describe_self())
        try:
            yield
        finally:
            if fcntl is None:  # there an open file cannot be taken away
                os.close(descriptor)
            with suppress(OSError):
                path.unlink()  # before it is let go: who waits for it sees that the file is another
            if fcntl is not None:
                os.close(descriptor)
    finally:
        _held.discard(key)
        for folder in made:
            with suppress(OSError):  # what was made for the lock only goes with it
                folder.rmdir()


def _lock_path(output: Path) -> Path:
    absolute = output.absolute()
    place = name_beside(absolute.parent.resolve() / absolute.name, ".lock")
    if output.is_dir() and not os.access(place.parent, os.W_OK):
        return output.resolve() / ".lock"  # a mounted disk in a folder of somebody else
    return place


def _make_parents(folder: Path) -> list[Path]:
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _take(path: Path, output: Path, own: bytes) -> int:
    """The descriptor of the lock file, which is locked and says who has it."""
    while True:
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor, created = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                descriptor, created = os.open(path, flags), False
            except FileNotFoundError:  # let go in between
                continue
        try:
            if _lock(descriptor, path, created):
                if not _is_at(descriptor, path):  # its last holder took it away after it was opened
                    os.close(descriptor)
                    continue
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, own, 0) if hasattr(os, "pwrite") else os.write(descriptor, own)
                return descriptor
            holder = _read_holder(path)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if holder is not None:
            raise ArtifactError(f"{output}: {holder.describe()} is writing it; wait until that ends, or give another place")
        raise ArtifactError(f"{output}: another command begins to write it at this moment; wait until that ends")


def _lock(descriptor: int, path: Path, created: bool) -> bool:
    """Whether it is ours now."""
    if fcntl is not None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _TAKEN:
                return False
    return created or _take_over(path)  # a disk without locks


def _take_over(path: Path) -> bool:
    """Takes away the lock of a dead process; the caller then finds no file, and begins again with its own."""
    holder = _read_holder(path)
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:  # let go in between: what stands there next is somebody's
        return True
    if not (holder.process.is_dead() if holder else age > _UNSIGNED_SECONDS):
        return False
    aside = path.with_name(f"{path.name}.{this_process().token()}-0.part")
    with suppress(OSError):
        path.rename(aside)  # of several that try, one succeeds
        if _read_holder(aside) != holder:  # another was quicker, and this is its new lock
            aside.rename(path)
            return False
        aside.unlink()
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _describe_self() -> bytes:
    name = Path(sys.argv[0] if sys.argv else "python").name
    command = " ".join(["hectocar", *sys.argv[1:2]]) if name in ("hectocar", "__main__.py") else name or "python"
    content = {"process": this_process().token(), "command": command[:200], "since": utc_now(), "host": socket.gethostname()}
    return json.dumps(content, ensure_ascii=True).encode()


def _read_holder(path: Path) -> Holder | None:
    """None where it does not say: it was taken this moment, or is none of ours."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_BYTES))
        process = read_token(content["process"])
        texts = [str(content[name])[:200] for name in ("command", "since", "host")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Holder(process, *texts) if process is not None else None
