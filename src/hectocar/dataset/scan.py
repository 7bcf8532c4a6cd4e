"""The scan: one row of measurements per photograph, read in threads or processes and remembered between commands."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hectocar.dataset.scan_cache import Measured, cache_file, read_cache, recognise, write_cache
from hectocar.dataset.workers import start_pool
from hectocar.errors import DataError
from hectocar.photos.decode import read_photo_bytes
from hectocar.photos.measure import THUMB_PX, Measurement, measure_photo
from hectocar.photos.pool import count_workers
from hectocar.tables import normalize_name

PROCESSES_FROM = 1000
"""Photographs to measure from which on processes pay: a measurement is a dozen short calls that each give the interpreter's
lock away and wait for it again: two threads keep 1.4 cores busy, two processes 2."""

OnPhoto = Callable[[int, int], None]


@dataclass(frozen=True)
class PhotoScan:
    """Rows in the order asked for. ``image_id`` is the NFC path below ``root``; ``path`` is spelled as the disk has it."""

    root: Path
    image_id: tuple[str, ...]
    path: tuple[str, ...]
    rows: tuple[Measurement, ...]
    num_reused: int
    """Rows that came from the cache."""

    def __len__(self) -> int:
        return len(self.rows)

    def files(self) -> list[Path]:
        return [self.root / path for path in self.path]

    def readable(self) -> NDArray[np.int64]:
        """Places of the photographs that decode."""
        return np.flatnonzero([not row.problem for row in self.rows])

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A numeric column; NaN for photographs that cannot be read."""
        return np.array([float("nan") if row.problem else float(getattr(row, name)) for row in self.rows], dtype=np.float64)

    def thumbs(self) -> NDArray[np.uint8]:
        """(N, 32, 32) luma."""
        flat = np.frombuffer(b"".join(row.thumb for row in self.rows), dtype=np.uint8)
        return flat.reshape(len(self.rows), THUMB_PX, THUMB_PX)

    def take(self, places: Sequence[int]) -> "PhotoScan":
        """The rows at some places."""
        ids, paths, rows = ([column[k] for k in places] for column in (self.image_id, self.path, self.rows))
        return dataclasses.replace(self, image_id=tuple(ids), path=tuple(paths), rows=tuple(rows))  # type: ignore[arg-type]


def scan_files(
    root: Path, paths: Sequence[str], *, max_megapixels: float, num_workers: int = 0, on_photo: OnPhoto | None = None
) -> PhotoScan:
    """Measures files below a folder; what an earlier scan measured and did not change is taken from the cache.

    Args:
        root: The data folder.
        paths: Relative to it, with forward slashes, as the disk spells them.
        max_megapixels: Larger photographs are refused as damaged.
        num_workers: Threads; 0 for one per core.
        on_photo: Gets (done, total).
    """
    cache = cache_file(root, max_megapixels)
    known = read_cache(cache)
    stats = [recognise(root / path) for path in paths]
    rows: list[Measurement | None] = [None] * len(paths)
    found: Measured = {}
    for k, (path, stat) in enumerate(zip(paths, stats, strict=True)):
        entry = known.get(path)
        if entry is not None and entry[0] == stat:
            rows[k] = entry[1]
    todo = [k for k, row in enumerate(rows) if row is None]
    done = len(paths) - len(todo)
    if on_photo and done:
        on_photo(done, len(paths))

    pool: Executor | None = None
    try:
        pool, looks = start_pool(
            partial(measure_file, max_megapixels=max_megapixels), [root / paths[k] for k in todo],
            count_workers(num_workers), processes=len(todo) >= PROCESSES_FROM,
        )  # fmt: skip
        for k, look in zip(todo, looks, strict=True):
            rows[k] = look.row
            if look.lasting and stats[k]:
                found[paths[k]] = (stats[k], look.row)
            done += 1
            if on_photo:
                on_photo(done, len(paths))
    except BrokenProcessPool as error:
        raise DataError(
            f"{root}: a process that measures photographs was killed (often for want of memory, or by a file that crashes the "
            "decoder); with --workers 1 the scan runs in this process and goes on where it stopped"
        ) from error
    finally:  # an interrupted scan goes on where it stopped
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)
        if found and cache:
            write_cache(cache, root, known, found)
    measured = tuple(row for row in rows if row is not None)
    return PhotoScan(root, tuple(map(normalize_name, paths)), tuple(paths), measured, len(paths) - len(todo))


class Look(NamedTuple):
    """A measurement, and whether it is about the file's bytes: what the system refused today it may grant tomorrow."""

    row: Measurement
    lasting: bool


def measure_file(file: Path, max_megapixels: float) -> Look:
    """Reads and measures one file; a problem does not repeat the file's name."""
    try:
        data = read_photo_bytes(file)
    except DataError as error:
        row = Measurement(sha1=hashlib.sha1(b"").hexdigest(), problem=str(error).replace(f"{file}: ", ""))
        return Look(row, lasting=not isinstance(error.__cause__, OSError | MemoryError))
    try:
        return Look(measure_photo(data, max_megapixels=max_megapixels), lasting=True)
    except MemoryError:
        problem = f"not enough memory to decode its {len(data)} bytes"
        return Look(Measurement(hashlib.sha1(data).hexdigest(), num_bytes=len(data), problem=problem), lasting=False)
