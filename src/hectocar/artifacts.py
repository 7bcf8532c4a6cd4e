"""Files that a step leaves behind, as data: arrays, JSON, events, digests, and a record of what made them."""

import hashlib
import io
import json
import math
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hectocar.errors import ArtifactError
from hectocar.writing import explaining
from hectocar.writing import make_folder as make_folder
from hectocar.writing import replace_file as replace_file

MAX_JSON_BYTES = 32 * 2**20
"""The longest JSON that is read: ten times what a bundle of 10,000 classes has."""


def save_arrays(path: Path, **arrays: ArrayLike) -> None:
    """Writes named arrays into one npz file, atomically."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    replace_file(path, lambda target: target.write_bytes(buffer.getbuffer()), num_bytes=buffer.getbuffer().nbytes)


def load_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """What ``save_arrays`` wrote, without pickles; None where there is no such file or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def write_json(path: Path, data: Any) -> None:
    """Writes readable UTF-8 JSON atomically."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    replace_file(path, lambda target: target.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Raises ArtifactError when the file is missing, is not JSON, or is of a size or depth that none of ours has."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {MAX_JSON_BYTES >> 20} MiB")
        return json.loads(content.decode("utf-8"), parse_int=_parse_int)
    except RecursionError as error:
        raise ArtifactError(f"{path}: cannot be read as JSON (it is nested too deeply)") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error})") from error


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
        line = json.dumps({"time": utc_now(), "kind": kind, **fields}, ensure_ascii=False).encode() + b"\n"
        with explaining(self.path), self.path.open("ab+") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                line = b"\n" + line  # the line before was cut off: do not lose this one with it
            file.write(line)

    def read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        events = []
        for line in self.path.read_bytes().split(b"\n"):
            try:
                events.append(json.loads(line))
            except ValueError:  # a line that was cut off, or the nothing after the last one
                continue
        return events
