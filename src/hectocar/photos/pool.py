"""Photographs decoded ahead of their use.

Threads decode straight into the batch: Pillow releases the GIL while it decodes and resizes, and a batch never travels
between processes, which costs the usual loader more than half of what its workers decode.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hectocar.errors import DataError

NUM_AHEAD = 3
"""Batches being decoded while one is used."""


class _Numbered(Protocol):
    """What batches of training and of renders share."""

    @property
    def index_B(self) -> NDArray[np.int64]: ...  # noqa: N802 - as the batches call it

    @property
    def problems(self) -> dict[int, str]: ...


Batch = TypeVar("Batch", bound=_Numbered)


@dataclass(frozen=True)
class PhotoBatch:
    """``images_BHWC`` is uint8; ``problems`` maps a place in the batch to why its photograph is a black square."""

    images_BHWC: NDArray[np.uint8]
    index_B: NDArray[np.int64]
    problems: dict[int, str]


def count_workers(num_workers: int) -> int:
    """0 means one thread per core that this process may use."""
    if num_workers:
        return num_workers
    affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def square(size_px: int) -> tuple[int, int, int]:
    """Shape of a picture."""
    return size_px, size_px, 3


def iter_decoded(
    batches: Iterable[tuple[NDArray[np.int64], int]],
    load: Callable[[int, int], NDArray[np.uint8]],
    num_workers: int,
    shape: Callable[[int], tuple[int, ...]] = square,
) -> Iterator[PhotoBatch]:
    """Loads batches ahead of their use, in order, with one thread pool.

    Args:
        batches: (indices, size in px) of each batch.
        load: (index, size) -> uint8 of ``shape(size)``; may raise DataError, which lands in ``problems``.
        num_workers: threads, 0 for automatic.
        shape: of what is loaded for a photograph.
    """

    def fill(images: NDArray[np.uint8], place: int, index: int) -> str | None:
        try:
            images[place] = load(index, images.shape[1])
        except DataError as error:
            return str(error)
        return None

    waiting: deque[tuple[NDArray[np.uint8], NDArray[np.int64], list[Future[str | None]]]] = deque()
    with ThreadPoolExecutor(count_workers(num_workers), thread_name_prefix="decode") as pool:
        try:
            for index_B, size_px in batches:
                images = np.zeros((len(index_B), *shape(size_px)), dtype=np.uint8)
                waiting.append((images, index_B, [pool.submit(fill, images, b, int(i)) for b, i in enumerate(index_B)]))
                if len(waiting) > NUM_AHEAD:
                    yield _finish(*waiting.popleft())
            while waiting:
                yield _finish(*waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _finish(images: NDArray[np.uint8], index_B: NDArray[np.int64], futures: Sequence[Future[str | None]]) -> PhotoBatch:
    reasons = [future.result() for future in futures]
    return PhotoBatch(images, index_B, {place: reason for place, reason in enumerate(reasons) if reason is not None})


def raise_unread(batches: Iterable[Batch], files: Sequence[Path]) -> Iterator[Batch]:
    """Passes on batches whose photographs were all read; a sample number counts files round and round (see sampler.py).

    Raises:
        DataError: A photograph was not read; it is named.
    """
    for batch in batches:
        for place, reason in sorted(batch.problems.items()):
            file = files[int(batch.index_B[place]) % len(files)]
            reason = reason.removeprefix(f"{file}: ")
            raise DataError(f"{file}: changed since the manifest was made: {reason}. Mend the file and use --resume")
        yield batch
