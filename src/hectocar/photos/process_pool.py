"""Photographs decoded ahead of their use by processes, straight into memory that is shared with this one.

A thread holds the interpreter's lock for a part of each photograph, which bounds any number of threads; processes share none.
They are programs of their own (fork is unsafe beside torch's threads, and multiprocessing's spawn would run a user's script
again), live as long as the pool, and are handed photographs one by one, so that none waits for a slower one. The memory has
no name, so whatever is killed, nothing of it is left, and no limit of /dev/shm bounds it.
"""

import json
import mmap
import os
import selectors
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.errors import HectocarError
from hectocar.photos.pool import NUM_AHEAD, PhotoBatch, square
from hectocar.photos.process_worker import HEADER_BYTES, MAX_WORKERS, TASK, Handles, Task, place_of_ticket

_NUM_SLOTS = NUM_AHEAD + 2
"""Batches that the memory has room for: those decoded ahead, the one that is used, and the one before."""
_START = """
import sys
from importlib import import_module
sys.path[:] = sys.argv[7:]
import_module(sys.argv[1]).main(sys.argv[2:7])
"""
_GRACE_S = 5.0
_BACKLOG_LOOK_S = 0.01
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc keeps what a photograph frees for the next one: 1,000 page faults less for each at 640 px, a third of its time.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}


def can_share_memory() -> bool:
    """Linux has memory without a name that other processes can map."""
    return hasattr(os, "memfd_create")


@dataclass
class _Slot:
    """Room for a batch."""

    number: int
    num_open: int = 0
    """Photographs that are still being decoded."""
    problems: dict[int, str] = field(default_factory=dict)


class ProcessPool:
    """Processes that decode for one training.

    Args:
        module: Of ``main(handles)``, which a process calls; see ``process_worker.serve``.
        settings: What it needs to know, as JSON can say it.
        num_workers: Processes, at most 512.
        describe: (index) -> file, for messages.

    Raises:
        OSError: The system gives no memory that can be shared, or no further process.
    """

    def __init__(self, module: str, settings: Any, num_workers: int, describe: Callable[[int], object]) -> None:
        self._describe = describe
        self._slots = [_Slot(k) for k in range(_NUM_SLOTS)]
        self._slot_bytes = self._num_given = self._num_tasks = self._turn = 0
        self._open: dict[int, tuple[_Slot, int, int]] = {}  # ticket -> slot, place in the batch, index
        self._unsent = bytearray()  # what the queue had no room for
        self._half_lines: dict[int, bytes] = {}
        self._workers: list[subprocess.Popen[bytes]] = []
        self._selector, handles = selectors.DefaultSelector(), [*os.pipe()]
        self._end = weakref.finalize(self, _end_all, os.getpid(), self._workers, self._selector, handles)
        reader, self._queue = handles
        os.set_blocking(self._queue, False)
        try:
            self._memory_handle = _make_memory(handles)
            os.ftruncate(self._memory_handle, HEADER_BYTES)
            self._memory = mmap.mmap(self._memory_handle, HEADER_BYTES)
            settings_handle = _make_memory(handles)
            with open(settings_handle, "wb", closefd=False) as file:
                file.write(json.dumps(settings).encode())
            for worker in range(min(num_workers, MAX_WORKERS)):
                self._start(module, reader, settings_handle, worker, handles)
        except BaseException:
            self.close()
            raise

    def _start(self, module: str, reader: int, settings: int, worker: int, handles: list[int]) -> None:
        results, answers = os.pipe()
        handles.append(results)
        try:
            given = Handles(reader, self._memory_handle, settings, answers, worker)
            process = subprocess.Popen(
                # Alone (-I), in the encoding and with the paths of this process; in a group of its own, which Ctrl-C spares.
                [sys.executable, "-I", f"-Xutf8={sys.flags.utf8_mode}", "-c", _START, module, *map(str, given), *sys.path],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=given[:-1], process_group=0,
                env={**os.environ, **_ENVIRONMENT},
            )  # fmt: skip
        finally:
            os.close(answers)
        self._workers.append(process)
        self._selector.register(results, selectors.EVENT_READ, worker)

    def pids(self) -> list[int]:
        """Numbers of the processes."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """Ends the processes; a pool that nobody holds any more is closed by itself."""
        self._end()

    def make_room(self, num_images: int, size_px: int) -> None:
        """Prepares for batches of so many pictures.

        Raises:
            OSError: There is not so much memory.
        """
        num_bytes = num_images * int(np.prod(square(size_px)))
        if not self._end.alive or num_bytes <= self._slot_bytes:
            return
        for slot in self._slots:
            self._wait_for(slot)  # of an epoch that was given up: it would write where something else stands now
        total = HEADER_BYTES + _NUM_SLOTS * num_bytes
        os.posix_fallocate(self._memory_handle, 0, total)
        self._memory, self._slot_bytes = mmap.mmap(self._memory_handle, total), num_bytes

    def iter_decoded(self, batches: Sequence[NDArray[np.int64]], size_px: int, epoch: int) -> Iterator[PhotoBatch]:
        """Yields the pictures of each batch of indices, in order, decoded ahead.

        The pixels of a batch are valid until the next one is asked for, and of one pass at a time.

        Raises:
            OSError: See ``make_room``.
            HectocarError: A process has died, or the pool is closed.
        """
        self.make_room(max(map(len, batches), default=0), size_px)
        self._turn += 1
        turn, todo = self._turn, iter(batches)
        waiting: deque[tuple[_Slot, NDArray[np.int64]]] = deque()
        while True:
            if turn != self._turn:
                raise RuntimeError("this pool has begun another pass over photographs")
            while len(waiting) <= NUM_AHEAD and (index_B := next(todo, None)) is not None:
                waiting.append((self._hand_out(index_B, size_px, epoch), index_B))
            if not waiting:
                return
            slot, index_B = waiting.popleft()
            self._wait_for(slot)
            shape = len(index_B), *square(size_px)
            pixels = np.frombuffer(self._memory, np.uint8, int(np.prod(shape)), HEADER_BYTES + slot.number * self._slot_bytes)
            yield PhotoBatch(pixels.reshape(shape), index_B, dict(sorted(slot.problems.items())))

    def _hand_out(self, index_B: NDArray[np.int64], size_px: int, epoch: int) -> _Slot:
        """Puts a batch into the queue, for the slot that has been out of use for longest."""
        slot = self._slots[self._num_given % _NUM_SLOTS]
        self._wait_for(slot)
        self._num_given += 1
        slot.problems, slot.num_open = {}, len(index_B)
        start, num_bytes = HEADER_BYTES + slot.number * self._slot_bytes, int(np.prod(square(size_px)))
        for place, index in enumerate(index_B.tolist()):
            self._open[self._num_tasks] = slot, place, index
            self._unsent += TASK.pack(*Task(self._num_tasks, start + place * num_bytes, index, size_px, epoch))
            self._num_tasks += 1
        self._send()
        return slot

    def _send(self) -> None:
        try:
            del self._unsent[: os.write(self._queue, self._unsent)]
        except BlockingIOError:  # it is full: later
            pass
        except BrokenPipeError:  # all processes are dead, which their answers tell
            self._unsent.clear()

    def _wait_for(self, slot: _Slot) -> None:
        """Until nothing of a slot is being decoded."""
        if not self._end.alive:
            raise HectocarError("the processes that decode photographs have ended; start the training again with --resume")
        while slot.num_open:
            if self._unsent:
                self._send()
            for key, _ in self._selector.select(_BACKLOG_LOOK_S if self._unsent else None):
                self._read_answers(key.fd, key.data)

    def _read_answers(self, handle: int, worker: int) -> None:
        data = os.read(handle, 2**16)
        if not data:
            raise self._bury(worker)
        *lines, self._half_lines[handle] = (self._half_lines.get(handle, b"") + data).split(b"\n")
        for line in lines:
            ticket, reason, kind = json.loads(line)
            slot, place, index = self._open.pop(ticket)
            slot.num_open -= 1
            if kind:
                self.close()
                error = MemoryError if kind == "MemoryError" else HectocarError
                raise error(f"{self._describe(index)}: cannot be decoded ({kind}: {reason})")
            if reason is not None:
                slot.problems[place] = reason

    def _bury(self, worker: int) -> HectocarError:
        """Why a process has ended, and what it decoded then."""
        try:
            code = self._workers[worker].wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            code = 0
        ticket = int.from_bytes(self._memory[place_of_ticket(worker)], "little")
        at_work = f" at {self._describe(self._open[ticket][2])}" if ticket in self._open else ""
        self.close()
        how = f"was killed by signal {-code} (9 is often want of memory)" if code < 0 else f"ended with code {code}"
        return HectocarError(
            f"a process that decodes photographs {how}{at_work}; go on with --resume; a smaller data.num_workers needs less "
            "memory, and data.loader=threads decodes without processes"
        )


def _make_memory(handles: list[int]) -> int:
    """An empty file that only its handle leads to."""
    if not can_share_memory():
        raise OSError("this system has no memory without a name")
    handles.append(os.memfd_create("photographs"))
    return handles[-1]


def _end_all(owner: int, workers: list[subprocess.Popen[bytes]], selector: selectors.BaseSelector, handles: list[int]) -> None:
    """Ends the processes and gives everything back; knows nothing of the pool, which may be gone."""
    if os.getpid() != owner:  # a forked copy of the program: the processes are not its own
        return
    selector.close()
    for worker in workers:
        worker.terminate()
    for handle in handles:
        os.close(handle)
    for worker in workers:
        try:
            worker.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
