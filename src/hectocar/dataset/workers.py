"""Worker processes that leave with their parent, and threads where a system has no such processes."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 64
"""Tasks that a process is handed at once."""
_LOOK_S = 0.5
_REFUSED = (OSError, NotImplementedError, ImportError)
"""What a system without semaphores, shared memory, or room for one more process answers with."""


def start_pool(
    work: Callable[[T], R], tasks: Sequence[T], num_workers: int, *, processes: bool
) -> tuple[Executor, Iterator[R]]:
    """Begins the work and gives its results in the order of the tasks.

    Forked as torch's loaders are: spawned processes would run a user's script again. Where that cannot be, threads work.

    Args:
        work: A function of a module.
        tasks: Its arguments.
        num_workers: Processes or threads.
        processes: Whether they pay.
    """
    if processes and num_workers > 1 and can_fork():
        pool: Executor | None = None
        try:
            pool = ProcessPoolExecutor(
                num_workers, mp_context=get_context("fork"), initializer=enter_worker, initargs=(os.getpid(),)
            )
            return pool, pool.map(work, tasks, chunksize=CHUNK)
        except _REFUSED:
            for process in (getattr(pool, "_processes", None) or {}).values():
                process.kill()  # some were started before the system refused the next one
    threads = ThreadPoolExecutor(num_workers, thread_name_prefix="work")
    return threads, threads.map(work, tasks)


def can_fork() -> bool:
    """Windows cannot; on macOS a forked process may crash in the system's own libraries."""
    return hasattr(os, "fork") and "fork" in get_all_start_methods() and sys.platform != "darwin"


def enter_worker(parent: int) -> None:
    """Lets a worker hear no interruption, which its parent hears and answers, and leave when the parent is gone."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    # A killed parent closes no queue: each worker holds the other end of it itself, and would wait for ever.
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
