"""What a decoding process does: takes photographs from a common queue, loads each into its place in shared memory, says so.

It imports no network, and ends by itself when its parent is gone, because the queue then ends. See process_pool.py.
"""

import json
import mmap
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hectocar.errors import DataError
from hectocar.photos import decode

if sys.platform != "win32":  # which imports this file, but runs no such process
    import fcntl

Load = Callable[[int, int, int], NDArray[np.uint8]]
"""(row, size in px, epoch) -> uint8 (size, size, 3); may raise DataError."""

TASK = struct.Struct("<5q")
HEADER_BYTES = 4096
"""Before the photographs: for each process the ticket of what it decodes, so that a file that kills it can be named."""
_TICKET_BYTES = 8
MAX_WORKERS = HEADER_BYTES // _TICKET_BYTES
_QUEUE_LOCK, _GIANT_LOCK = range(2)  # bytes of the shared memory that are locked; what they hold plays no part


class Task(NamedTuple):
    """One photograph, as it is packed into the queue."""

    ticket: int
    """Counts photographs from 0."""
    start: int
    """Byte of the shared memory that its pixels begin at."""
    row: int
    size_px: int
    epoch: int


class Handles(NamedTuple):
    """File descriptors that a process inherits, and its number."""

    queue: int
    memory: int
    settings: int
    results: int
    worker: int


class _Lock:
    """A POSIX lock on a byte of the memory: the kernel gives it back when its holder is killed, which no semaphore does."""

    def __init__(self, memory: int, byte: int) -> None:
        self._memory, self._byte = memory, byte

    def __enter__(self) -> None:
        fcntl.lockf(self._memory, fcntl.LOCK_EX, 1, self._byte)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._memory, fcntl.LOCK_UN, 1, self._byte)


def place_of_ticket(worker: int) -> slice:
    """Where in the header a process notes what it decodes."""
    return slice(worker * _TICKET_BYTES, (worker + 1) * _TICKET_BYTES)


def serve(build_load: Callable[[Any], Load], handles: Handles) -> None:
    """Works until the queue ends.

    Args:
        build_load: Makes the loading function of the settings that the parent left in memory.
        handles: Of this process.
    """
    with mmap.mmap(handles.settings, 0, access=mmap.ACCESS_READ) as settings:
        load = build_load(json.loads(settings[:]))
    decode.GIANTS = _Lock(handles.memory, _GIANT_LOCK)
    turn = _Lock(handles.memory, _QUEUE_LOCK)
    memory = mmap.mmap(handles.memory, HEADER_BYTES)
    while (task := _take_task(handles.queue, turn)) is not None:
        end = task.start + task.size_px * task.size_px * 3
        if end > len(memory):
            memory = mmap.mmap(handles.memory, 0)  # it has grown
        memory[place_of_ticket(handles.worker)] = task.ticket.to_bytes(_TICKET_BYTES, "little")
        pixels = np.frombuffer(memory, np.uint8, end - task.start, task.start)
        answer = _load_into(pixels.reshape(task.size_px, task.size_px, 3), load, task)
        del pixels
        try:
            os.write(handles.results, json.dumps(answer).encode() + b"\n")
        except BrokenPipeError:  # the parent is gone
            return


def _load_into(pixels: NDArray[np.uint8], load: Load, task: Task) -> tuple[int, str | None, str]:
    """Returns the ticket, why the photograph is a black square (None: it is not), and the name of an unexpected error."""
    try:
        pixels[:] = load(task.row, task.size_px, task.epoch)
    except DataError as error:
        pixels[:] = 0
        return task.ticket, str(error), ""
    except Exception as error:  # the parent raises it where a thread would
        return task.ticket, " ".join(str(error).split()), type(error).__name__
    return task.ticket, None, ""


def _take_task(queue: int, turn: _Lock) -> Task | None:
    """The next of the queue, or None at its end. Whoever reads holds the lock, so that nobody gets half a task."""
    data = b""
    with turn:
        while len(data) < TASK.size:
            part = os.read(queue, TASK.size - len(data))
            if not part:
                return None
            data += part
    return Task(*TASK.unpack(data))
