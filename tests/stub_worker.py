"""A decoding process that reads no photograph: its pixels say what was asked for, and some rows are its end."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.errors import DataError
from hectocar.photos.process_worker import Handles, Load, serve

KILLED, LEFT, FAILED, UNREAD, STARVED, SLOW = range(100_001, 100_007)


def build_load(settings: Any) -> Load:
    def load(row: int, size_px: int, epoch: int) -> NDArray[np.uint8]:
        if row == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if row == LEFT:
            sys.exit(3)
        if row == FAILED:
            raise ValueError("not\nforeseen")
        if row == STARVED:
            raise MemoryError("no 7 GiB")
        if row == UNREAD:
            raise DataError("gone")
        if row == SLOW:
            time.sleep(0.05)
        return np.full((size_px, size_px, 3), (row % 251, epoch, settings["mark"]), dtype=np.uint8)

    return load


def main(handles: Sequence[str]) -> None:
    serve(build_load, Handles(*map(int, handles)))
