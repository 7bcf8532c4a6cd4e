"""The scan: one row of measurements per photograph, read in threads and remembered between commands.

The memory is one Parquet file per data folder in the user's cache folder (or in $HECTOCAR_CACHE), never beside the
photographs. A row is taken from it while path, size and modification time are those of the file; anything else about
the file on disk (foreign, damaged, of another version) makes it start anew. It is replaced in one step, so two scans at
once lose nothing but time.
"""

import dataclasses
import hashlib
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hectocar.artifacts import replace_file
from hectocar.errors import DataError, WriteError
from hectocar.photos.decode import count_workers, read_photo_bytes
from hectocar.photos.measure import THUMB_PX, Measurement, measure_photo
from hectocar.tables import normalize_name

PROCESSES_FROM = 1000
"""Photographs to measure from which on processes pay."""
CACHE_VERSION = "hectocar-scan-2"
"""Raise it whenever a measurement changes its meaning."""
_FIELDS = tuple(field.name for field in dataclasses.fields(Measurement))

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
    cache = _cache_file(root, max_megapixels)
    known = _read_cache(cache) if cache else {}
    stats = [_stat(root / path) for path in paths]
    rows: list[Measurement | None] = [None] * len(paths)
    for k, (path, stat) in enumerate(zip(paths, stats, strict=True)):
        entry = known.get(path)
        if entry is not None and entry[0] == stat:
            rows[k] = entry[1]
    todo = [k for k, row in enumerate(rows) if row is None]
    done = len(paths) - len(todo)
    if on_photo and done:
        on_photo(done, len(paths))

    pool = _build_pool(len(todo), count_workers(num_workers))
    files, chunk = [root / paths[k] for k in todo], 64 if isinstance(pool, ProcessPoolExecutor) else 1
    try:
        for k, row in zip(todo, pool.map(measure_file, files, repeat(max_megapixels), chunksize=chunk), strict=True):
            rows[k] = row
            done += 1
            if on_photo:
                on_photo(done, len(paths))
    except BrokenProcessPool as error:
        raise DataError(
            f"{root}: a process that measures photographs was killed (often for want of memory, or by a file that crashes the "
            "decoder); with --workers 1 the scan runs in this process and goes on where it stopped"
        ) from error
    finally:  # an interrupted scan goes on where it stopped
        pool.shutdown(wait=True, cancel_futures=True)
        if todo and cache:
            found: _Known = {
                path: (stat, row) for path, stat, row in zip(paths, stats, rows, strict=True) if row is not None and stat
            }
            _write_cache(cache, {**_still_there(root, known, found), **found})
    measured = tuple(row for row in rows if row is not None)
    return PhotoScan(root, tuple(map(normalize_name, paths)), tuple(paths), measured, len(paths) - len(todo))


def _build_pool(num_todo: int, num_workers: int) -> Executor:
    """Processes for many photographs, threads for few.

    A measurement is a dozen short calls that each give the interpreter's lock away and wait for it again: two threads
    keep 1.4 cores busy, two processes 2. Forked as torch's loaders are: spawned ones would run a user's script again.
    """
    if num_workers == 1 or num_todo < PROCESSES_FROM:
        return ThreadPoolExecutor(num_workers, thread_name_prefix="scan")
    return ProcessPoolExecutor(num_workers, mp_context=get_context("fork"), initializer=_ignore_interrupt)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and stops the workers


def measure_file(file: Path, max_megapixels: float) -> Measurement:
    """Reads and measures one file; a problem does not repeat the file's name."""
    try:
        return measure_photo(read_photo_bytes(file), max_megapixels=max_megapixels)
    except DataError as error:
        return Measurement(sha1=hashlib.sha1(b"").hexdigest(), problem=str(error).replace(f"{file}: ", ""))


def cache_folder() -> Path | None:
    """$HECTOCAR_CACHE, or hectocar's folder in the user's cache folder; None where that is off or there is no home."""
    chosen = os.environ.get("HECTOCAR_CACHE", "")
    if chosen.lower() == "off":
        return None
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hectocar"
    except RuntimeError:  # a user without a home, as containers have them
        return None


def _cache_file(root: Path, max_megapixels: float) -> Path | None:
    folder = cache_folder()
    key = hashlib.sha256(f"{root.resolve()}\n{max_megapixels:g}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return folder / f"scan-{key}.parquet" if folder else None


_Stat = tuple[int, int] | None
_Known = dict[str, tuple[_Stat, Measurement]]


def _stat(file: Path) -> _Stat:
    try:
        stat = os.stat(file)  # noqa: PTH116 - a third of pathlib's time, once per photograph
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _still_there(root: Path, known: _Known, found: _Known) -> _Known:
    # Another command may have scanned other folders of the same data: keep its rows while their files exist.
    return {path: entry for path, entry in known.items() if path not in found and _stat(root / path) == entry[0]}


def _read_cache(file: Path) -> _Known:
    """Empty where there is none or it cannot be trusted: a cache is never a reason to fail."""
    try:
        if not file.is_file():
            return {}
        table = pq.read_table(file, page_checksum_verification=True)
        if (table.schema.metadata or {}).get(b"version") != CACHE_VERSION.encode():
            return {}
        columns = {name: table.column(name).to_pylist() for name in ("path", "file_bytes", "mtime_ns", *_FIELDS)}
        rows = [Measurement(**dict(zip(_FIELDS, row, strict=True))) for row in zip(*(columns[n] for n in _FIELDS), strict=True)]
        if any(len(row.thumb) != THUMB_PX * THUMB_PX for row in rows):
            return {}
        stats = zip(columns["file_bytes"], columns["mtime_ns"], strict=True)
        return dict(zip(columns["path"], zip(stats, rows, strict=True), strict=True))
    except Exception:  # pyarrow raises many types on foreign bytes
        return {}


def _write_cache(file: Path, entries: _Known) -> None:
    columns: dict[str, Any] = {
        "path": pa.array(list(entries), pa.string()),
        "file_bytes": pa.array([stat[0] if stat else 0 for stat, _ in entries.values()], pa.int64()),
        "mtime_ns": pa.array([stat[1] if stat else 0 for stat, _ in entries.values()], pa.int64()),
    }
    for name in _FIELDS:
        columns[name] = pa.array([getattr(row, name) for _, row in entries.values()])
    table = pa.table(columns).replace_schema_metadata({"version": CACHE_VERSION})
    try:
        replace_file(file, lambda target: pq.write_table(table, target, compression="zstd", write_page_checksum=True))
    except (WriteError, OSError, pa.ArrowException):  # a full or read-only cache folder: the next scan takes its time again
        return
