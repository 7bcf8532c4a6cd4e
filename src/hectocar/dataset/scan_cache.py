"""What a scan remembers of each photograph: one Parquet file per data folder in the user's cache folder.

It lies there (or in $HECTOCAR_CACHE), never beside the photographs. A row is taken from it while path, size and modification
time are those of the file; anything else about the file on disk (foreign, damaged, of another version, values that no scan
gives) makes it start anew. It is replaced in one step, so two scans at once lose nothing but time.
"""

import dataclasses
import hashlib
import math
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hectocar.disk.writing import replace_file
from hectocar.errors import WriteError
from hectocar.photos.measure import THUMB_PX, Measurement

CACHE_VERSION = "hectocar-scan-4"
"""Raise it whenever a measurement changes its meaning."""
_FIELDS = tuple(field.name for field in dataclasses.fields(Measurement))
_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bytes": pa.binary()}
_SCHEMA = pa.schema(
    [("path", pa.string()), ("file_bytes", pa.int64()), ("mtime_ns", pa.int64())]
    + [(field.name, _TYPES[getattr(field.type, "__name__", str(field.type))]) for field in dataclasses.fields(Measurement)]
)
_SHA1 = re.compile(r"[0-9a-f]{40}")

FileStat = tuple[int, int] | None
"""Size and modification time in ns; None where the file cannot be recognised by them."""
Measured = dict[str, tuple[FileStat, Measurement]]
"""By path below the data folder."""


def cache_folder() -> Path | None:
    """$HECTOCAR_CACHE, or hectocar's folder in the user's cache folder; None where HECTOCAR_CACHE=off or there is no home."""
    chosen = os.environ.get("HECTOCAR_CACHE", "")
    if chosen.lower() == "off":
        return None
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hectocar"
    except RuntimeError:  # a user whom the system does not know has no home
        return None


def cache_file(root: Path, max_megapixels: float) -> Path | None:
    """Where the scans of a data folder under a limit are remembered; None where nothing is."""
    folder = cache_folder()
    key = hashlib.sha256(f"{root.resolve()}\n{max_megapixels:g}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return folder / f"scan-{key}.parquet" if folder else None


def recognise(file: Path) -> FileStat:
    """Size and time of a file. A time before 1970 or in the future is a clock's mistake, and says nothing about the bytes."""
    try:
        stat = os.stat(file)  # noqa: PTH116 - a third of pathlib's time, once per photograph
    except (OSError, ValueError):
        return None
    return (stat.st_size, stat.st_mtime_ns) if 0 <= stat.st_mtime_ns <= time.time_ns() else None


def read_cache(file: Path | None) -> Measured:
    """Empty where there is none or it cannot be trusted: a cache is never a reason to fail."""
    if file is None:
        return {}
    try:
        if not file.is_file():
            return {}
        table = pq.read_table(file, page_checksum_verification=True)
        if (table.schema.metadata or {}).get(b"version") != CACHE_VERSION.encode():
            return {}
        if not table.schema.equals(_SCHEMA) or any(column.null_count for column in table.columns):
            return {}
        columns = [table.column(name).to_pylist() for name in _SCHEMA.names]
        if table.schema.metadata.get(b"digest") != _digest(columns):
            return {}
        known: Measured = {
            path: ((file_bytes, mtime_ns), Measurement(**dict(zip(_FIELDS, values, strict=True))))
            for path, file_bytes, mtime_ns, *values in zip(*columns, strict=True)
        }
    except Exception:  # pyarrow raises many types on foreign bytes
        return {}
    return known if all(_is_possible(row) for _, row in known.values()) else {}


def write_cache(file: Path, root: Path, known: Measured, found: Measured) -> None:
    """Remembers what was found, and what another command found in other folders of the same data while its files exist."""
    kept = {path: entry for path, entry in known.items() if path not in found and recognise(root / path) == entry[0]}
    entries = {path: (stat, row) for path, (stat, row) in {**kept, **found}.items() if stat is not None}
    columns: dict[str, Any] = {
        "path": list(entries),
        "file_bytes": [stat[0] for stat, _ in entries.values()],
        "mtime_ns": [stat[1] for stat, _ in entries.values()],
    }
    columns |= {name: [getattr(row, name) for _, row in entries.values()] for name in _FIELDS}
    try:
        digest = _digest([columns[name] for name in _SCHEMA.names])
        table = pa.table(columns, schema=_SCHEMA.with_metadata({"version": CACHE_VERSION, "digest": digest}))
        replace_file(file, lambda target: pq.write_table(table, target, compression="zstd", write_page_checksum=True))
    except (WriteError, OSError, ValueError, OverflowError, pa.ArrowException):
        return  # a full or read-only cache folder, a name that is not UTF-8: the next scan takes its time again


def _digest(columns: Sequence[Sequence[Any]]) -> bytes:
    """Of all values, so that one that was changed to another possible one is found out."""
    digest = hashlib.sha256()
    for values in columns:
        is_bytes = bool(values) and isinstance(values[0], bytes)
        digest.update(b"".join(values) if is_bytes else repr(list(values)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest().encode()


def _is_possible(row: Measurement) -> bool:
    """Whether a scan can have given such a row."""
    if len(row.thumb) != THUMB_PX * THUMB_PX or not _SHA1.fullmatch(row.sha1) or row.num_bytes < 0:
        return False
    if row.problem:
        return True
    shares = (row.saturation, row.dark_share, row.bright_share)
    return (
        _SHA1.fullmatch(row.pixel_sha1) is not None
        and 1 <= row.exif_orientation <= 8
        and 0 <= row.jpeg_quality <= 100
        and min(row.width_px, row.height_px) >= 1
        and 0.0 <= row.brightness <= 255.5
        and all(0.0 <= share <= 1.0 + 1e-6 for share in shares)
        and all(value >= 0.0 and math.isfinite(value) for value in (row.contrast, row.sharpness))
    )
