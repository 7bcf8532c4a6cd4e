"""Photographs -> fixed-size uint8 batches. Threads decode straight into the batch: no processes, no copies, no pickles.

Pillow releases the GIL while it decodes and resizes, so threads scale here, and a batch never travels between processes
(which costs the usual loader more than half of what its workers decode).
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.errors import DataError
from hectocar.photos.decode import DEFAULT_MAX_MEGAPIXELS, decode_photo, fit_photo, read_photo_bytes

NUM_AHEAD = 3
"""Batches being decoded while one is used."""


@dataclass(frozen=True)
class PhotoBatch:
    """``images_BHWC`` is uint8; ``problems`` maps a place in the batch to why its photograph is a black square."""

    images_BHWC: NDArray[np.uint8]
    index_B: NDArray[np.int64]
    problems: dict[int, str]


def count_workers(num_workers: int) -> int:
    """0 means one thread per core that this process may use."""
    return num_workers or len(os.sched_getaffinity(0))


def iter_loaded(
    batches: Iterable[tuple[NDArray[np.int64], int]], load: Callable[[int, int], NDArray[np.uint8]], num_workers: int
) -> Iterator[PhotoBatch]:
    """Loads batches ahead of their use, in order, with one thread pool.

    Args:
        batches: (indices, size in px) of each batch.
        load: (index, size) -> uint8 (size, size, 3); may raise DataError, which lands in ``problems``.
        num_workers: threads, 0 for automatic.
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
                images = np.zeros((len(index_B), size_px, size_px, 3), dtype=np.uint8)
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


def iter_photo_batches(
    files: Sequence[Path],
    *,
    size_px: int,
    fit: str,
    batch_size: int,
    num_workers: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> Iterator[PhotoBatch]:
    """Whole photographs, in order, without chance: the input of validation, prediction and service.

    A damaged photograph becomes a black square and is named in ``problems``; the caller must not use its answer.
    """

    def load(index: int, side_px: int) -> NDArray[np.uint8]:
        image = decode_photo(read_photo_bytes(files[index]), max_megapixels=max_megapixels, min_side_px=2 * side_px)
        return fit_photo(image, side_px, fit)

    starts = range(0, len(files), batch_size)
    batches = ((np.arange(start, min(start + batch_size, len(files))), size_px) for start in starts)
    return iter_loaded(batches, load, num_workers)
