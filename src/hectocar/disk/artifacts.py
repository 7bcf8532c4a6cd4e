"""Files that a step leaves behind, as data: arrays, JSON, events, digests, and a record of what made them."""

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.disk.writing import explaining, replace_file
from hectocar.errors import ArtifactError

MAX_JSON_BYTES = 32 * 2**20
"""The longest JSON that is read: ten times what a bundle of 10,000 classes has."""
MAX_LOG_BYTES = 512 * 2**20


def save_arrays(path: Path, **arrays: ArrayLike) -> None:
    """Writes named arrays and their digest into one npz file, atomically."""
    stored = {name: np.asarray(array) for name, array in arrays.items()}
    stored["sha256"] = np.array(_digest_arrays(stored))

    def write(target: Path) -> None:
        # Into the file: a view of a buffer that an error leaves in a cycle crashes the collector of Python 3.12.
        with target.open("wb") as file:
            np.savez(file, **stored)  # type: ignore[arg-type]

    replace_file(path, write, num_bytes=sum(array.nbytes for array in stored.values()))


def load_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """What ``save_arrays`` wrote, without pickles; None where there is no such file, or it is not as it was written."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        return arrays if str(arrays.pop("sha256")) == _digest_arrays(arrays) else None
    except Exception:  # zip, zlib and NumPy raise many types on foreign bytes
        return None


def _digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def write_json(path: Path, data: Any) -> None:
    """Writes readable UTF-8 JSON atomically."""
    text = json_text(data)
    replace_file(path, lambda target: target.write_text(text, encoding="utf-8", newline=""))


def json_text(data: Any) -> str:
    """What ``write_json`` writes."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Raises ArtifactError when the file is missing, is not JSON, or is of a size or depth that none of ours has."""
    try:
        return parse_json(read_bounded(path, MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error})") from error


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file of a size that is sensible.

    Raises:
        OSError: Missing or unreadable.
        ValueError: Too large, or no plain file.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most >> 20} MiB")
    return content


def parse_json(content: bytes | str) -> Any:
    """Raises ValueError where it is no JSON in UTF-8, or nested so deeply that Python gives up."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        return json.loads(text, parse_int=_parse_int)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _parse_int(text: str) -> int | float:
    # Python refuses numbers of more than 4,300 digits without saying where: infinity is refused by its key.
    return int(text) if len(text) <= 1000 else math.inf


def compute_digest(data: Any) -> str:
    """SHA-256 of the canonical JSON form."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_environment() -> dict[str, str]:
    """Versions that a figure depends on."""
    packages = ("hectocar", "torch", "torchvision", "timm", "numpy", "Pillow")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a source tree: PYTHONPATH=src
            versions[name] = "source"
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}


def utc_now() -> str:
    """The time in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class EventLog:
    """Appends one JSON object per line to ``events.jsonl``; a line is written in one call, so a cut loses at most it."""

    def __init__(self, path: Path) -> None:
        with explaining(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(self, kind: str, **fields: Any) -> None:
        event = {"time": utc_now(), "kind": kind, **fields}
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with explaining(self.path), self.path.open("ab+") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                line = b"\n" + line  # the line before was cut off: do not lose this one with it
            file.write(line)

    def read(self) -> list[dict[str, Any]]:
        """The events, each with ``time`` and ``kind``.

        Raises:
            ArtifactError: The log is too large, or a line is JSON but no event.
        """
        if not self.path.is_file():
            return []
        try:
            lines = read_bounded(self.path, MAX_LOG_BYTES).split(b"\n")
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{self.path}: cannot be read ({error})") from error
        events = []
        for number, line in enumerate(lines, start=1):
            try:
                event = parse_json(line)
            except ValueError:  # a line that was cut off, or the nothing after the last one
                continue
            for key in ("time", "kind"):
                if not isinstance(event, dict) or not isinstance(event.get(key), str):
                    raise ArtifactError(f"{self.path}, line {number}: no event with a text {key!r}; delete the line")
            events.append(event)
        return events
