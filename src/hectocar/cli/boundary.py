"""The one boundary: whatever a command meets, it ends in a result or in one message and an exit code.

0 is a result, 2 one message about what cannot be done, 130 Ctrl-C, 143 SIGTERM and 129 SIGHUP, which are interruptions
like Ctrl-C. ``--debug`` adds the traceback. Nothing below this room needs to know how a program ends.
"""

import errno
import multiprocessing
import multiprocessing.process
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hectocar.cli.terminal import STDERR, STDOUT, complain
from hectocar.errors import HectocarError

OK, REFUSED = 0, 2
_MAX_TEXT = 300
_GRACE_S = 1.0
"""That workers have to end by themselves."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))  # Windows has no SIGHUP
_OS_ADVICE = {
    errno.EACCES: "may not be read or written by you; change its permissions or give another path",
    errno.EPERM: "may not be changed; change its permissions or give another path",
    errno.EROFS: "lies on a disk that cannot be written; give another path",
    errno.EISDIR: "is a folder; allowed: a file",
    errno.ENOTDIR: "lies below a file, where only a folder could hold it; give another path",
    errno.EEXIST: "exists already; give another path",
    errno.ENOENT: "does not exist; give the path of what is there",
    errno.ENAMETOOLONG: "has a name too long for this disk; give a shorter one",
    errno.ELOOP: "is a link that leads back to itself; give what it should lead to",
    errno.EMFILE: "cannot be opened, because too many files are open; give a smaller --workers or raise `ulimit -n`",
    errno.ENFILE: "cannot be opened, because too many files are open on this machine; call again later",
    errno.EBUSY: "is used by another program; call again when that has ended",
    errno.ESTALE: "lies on a disk that is no longer connected; connect it and call again",
    errno.EIO: "cannot be read or written: the disk reports an error; look after the disk, then call again",
}
_NO_ROOM = {errno.ENOSPC: "no room is left on the disk", errno.EDQUOT: "your share of the disk is used up"} | {
    errno.EFBIG: "the file would be larger than is allowed here (`ulimit -f`)"
}


class Terminated(KeyboardInterrupt):
    """Another signal that asks the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_guarded(work: Callable[[], None], *, again: str, debug: bool, out: Path | None = None) -> int:
    """Runs a command.

    Args:
        work: What to do.
        again: What an interruption leaves and which call goes on, in the command's own words.
        debug: Show the traceback of whatever goes wrong.
        out: Where the command writes, for messages about files whose name is not known.

    Returns:
        The exit code.
    """
    others, threads = set(multiprocessing.active_children()), set(threading.enumerate())
    try:
        with _interrupted_by_signals():
            work()
        code = OK
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else OK if end.code is None else REFUSED
    except BaseException as error:  # Rust libraries (safetensors) panic outside of Exception
        interrupted = isinstance(error, KeyboardInterrupt)
        if debug:
            complain("\n  ".join("".join(traceback.format_exception(error)).splitlines()))
        code = 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT) if interrupted else REFUSED
        complain(f"hectocar: {f'interrupted; {again}' if interrupted else describe_error(error, again, out)}")
        _end_workers(set(multiprocessing.active_children()) - others, set(threading.enumerate()) - threads)
    lost = STDOUT.close_if_broken()
    if lost is not None:
        complain(f"hectocar: the work is done, but what it has to say could not be printed ({lost})")
        code = code or REFUSED
    STDERR.close_if_broken()
    return code


def _end_workers(workers: Collection[multiprocessing.process.BaseProcess], threads: Collection[threading.Thread]) -> None:
    """A worker that goes on would keep the interpreter from ending; a thread that looks after workers sees that they are gone.

    Left alone, it may close its pipe just while the interpreter, which is ending, writes into it: a traceback at the very end.
    """
    for worker in workers:
        worker.terminate()
    end = time.monotonic() + _GRACE_S
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
        if worker.is_alive():  # Python forgets a signal that comes before a forked process has begun to run
            worker.kill()
    for thread in threads if workers else ():
        thread.join(max(0.0, end - time.monotonic()))


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP be raised like Ctrl-C, where nobody else listens to them, and puts back what was there."""
    owner, before = os.getpid(), {}

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker that was forked while this stood
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Terminated(number)

    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:  # under nohup, SIGHUP stays ignored
                before[number] = signal.signal(number, interrupt)
    except ValueError:  # not the main thread: its owner hears the signals
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_error(error: BaseException, again: str, out: Path | None = None) -> str:
    """One message for a person: what is wrong, where, and what to do."""
    if isinstance(error, HectocarError):
        return _describe_own(error, again)
    text = " ".join(str(error).split())
    if _is_out_of_memory(error, text):
        return (
            f"not enough memory ({_cut(text) or 'the system gave none'}); end other programs, or give smaller --workers, "
            "training.memory_gib, batch sizes or --max-megapixels"
        )
    if isinstance(error, RecursionError):
        return "an input is nested too deeply to be read; give one that a program of its kind has written"
    if isinstance(error, UnicodeError):
        return f"a name or a text is not valid Unicode ({_cut(text)}); rename the file, or save the text as UTF-8"
    if isinstance(error, OSError):
        return _describe_os_error(error, again, out)
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name!r} is missing here; install hectocar again with all it needs"
    return (
        f"unexpected {type(error).__name__}: {_cut(text) or 'no message'}; a fault of hectocar or a damaged input; "
        "--debug shows the traceback"
    )


def _describe_own(error: HectocarError, again: str) -> str:
    cause = error.__cause__  # a full disk is told apart even where a room has said already which file it was
    no_room = isinstance(cause, OSError) and cause.errno in _NO_ROOM
    return f"{error}; make room; {again}" if no_room else str(error)


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in text or "out of memory" in text.lower()


def _describe_os_error(error: OSError, again: str, out: Path | None) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike))]
    where = " and ".join(names)
    if error.errno in _NO_ROOM:
        what = f"{where or (f'a file of {out}' if out else 'a file')} cannot be written"
        return f"{what}: {_NO_ROOM[error.errno]}; make room; {again}"
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if where and error.errno in _OS_ADVICE:
        return f"{where} {_OS_ADVICE[error.errno]} ({reason})"
    return f"{where or 'a file or stream'} cannot be read or written: {_cut(reason)}; --debug shows where"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} ..."
