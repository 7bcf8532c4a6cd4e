"""A process per contestant: alive through all rounds of a case, asked in turn, idle otherwise.

Each is spawned, not forked: what one sets in its process (an allocator, a library's threads) helps or hinders no other.
"""

import importlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection

from hectocar.dataset.workers import can_fork, enter_worker
from hectocar.lab.bench.cases import PACKAGES, Entry, Job

Work = Callable[[], Sequence[float]]
"""A round's work; returns what can be compared with the others' answers, often nothing."""
_LEAVE_S = 20.0


@dataclass(frozen=True)
class Round:
    """What a contestant says after a round."""

    seconds: float
    answer: Sequence[float] = ()
    problem: str = ""


def find_missing(entry: Entry) -> str:
    """What must be installed before it can take part, in words; empty where nothing is missing."""
    missing = [PACKAGES[module] for module in entry.needs if find_spec(module) is None]
    return f"not installed: {', '.join(missing)} (the extra 'bench')" if missing else ""


def build_work(entry: Entry, job: Job) -> Work:
    """The function that does a round's work, ready to be called in this process."""
    module, _, name = entry.build.partition(":")
    build: Callable[[Job], Work] = getattr(importlib.import_module(f"hectocar.lab.bench.{module}"), name)
    return build(job)


class Process:
    """A contestant at work; a context manager that ends it."""

    def __init__(self, entry: Entry, job: Job) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, entry, job, os.getpid()))
        self._process.start()
        theirs.close()

    def ask(self) -> Round:
        """One round, or why it cannot be."""
        try:
            self._connection.send(True)
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_LEAVE_S)
            return Round(0.0, problem=f"its process ended (exit code {self._process.exitcode})")
        assert isinstance(answer, Round)
        return answer

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join(_LEAVE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(connection: Connection, entry: Entry, job: Job, parent: int) -> None:
    enter_worker(parent)
    _silence()
    if can_fork():  # what this process was started by would be what a loader's workers are started by
        set_start_method("fork", force=True)
    os.environ["OMP_NUM_THREADS"] = str(entry.num_workers or job.num_workers)  # read when torch or OpenCV is imported
    work: Work | None = None
    problem = ""
    try:
        work = build_work(entry, job)  # while others build theirs: nothing is timed before all have passed a round
    except Exception as error:  # whatever another program answers with is its result
        problem = _describe(error)
    while True:
        try:
            connection.recv()
        except (EOFError, OSError):
            return
        connection.send(Round(0.0, problem=problem) if work is None else _time_round(work))


def _time_round(work: Work) -> Round:
    started = time.perf_counter()
    try:
        answer = work()
    except Exception as error:
        return Round(0.0, problem=_describe(error))
    return Round(time.perf_counter() - started, answer)


def _describe(error: Exception) -> str:
    lines = str(error).strip().splitlines()  # a loader's error carries its worker's traceback, whose last line says it
    return f"{type(error).__name__}: {lines[-1][:200] if lines else ''}"


def _silence() -> None:
    """What peers print or warn of is no part of the table; what stops them comes back through the pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise it asks a server for a newer version
