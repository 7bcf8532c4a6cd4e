"""Seeded mutations of artefacts: one leaf of a JSON, an array, a column, a tensor or a header, or a handful of bytes."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

ABSENT, HUGE, DEEP = object(), "x" * 1_000_000, json.loads("[" * 300 + "]" * 300)
VALUES: tuple[Any, ...] = (
    None, float("nan"), float("inf"), 10**400, -1, 0, 1, 2**31, 0.25, "x", "", "\ud800", HUGE, [], {}, DEEP, [1], True, False,
    ABSENT,
)  # fmt: skip


def find_leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values, those of mappings and lists too."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path] * bool(path) + [leaf for key, value in items for leaf in find_leaves(value, (*path, key))]


def mutate_tree(tree: Any, rng: np.random.Generator) -> str:
    """Changes one leaf in place; says which."""
    leaves = find_leaves(tree)
    *path, key = leaves[rng.integers(len(leaves))]
    value = VALUES[rng.integers(len(VALUES))]
    for step in path:
        tree = tree[step]
    if value is ABSENT:
        del tree[key]
    else:
        tree[key] = value
    return f"{'.'.join(map(str, [*path, key]))} = {repr(value)[:40] if value is not ABSENT else 'absent'}"


def mutate_json(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    tree = json.loads(content)
    what = mutate_tree(tree, rng)
    return json.dumps(tree).encode(), what


def explode_json(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    choices = {
        "nested": b"[" * 100_000,
        "nested and closed": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "digits": b'{"format": ' + b"1" * 5000 + b"}",
        "UTF-16": content.decode().encode("utf-16"),
        "byte-order mark": b"\xef\xbb\xbf" + content,
        "twice": content + content,
    }
    name = list(choices)[rng.integers(len(choices))]
    return choices[name], name


def mutate_lines(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    lines = content.split(b"\n")
    place = int(rng.integers(len(lines) - 1))
    lines[place], what = mutate_json(lines[place], rng)
    return b"\n".join(lines), f"line {place}: {what}"


def mutate_bytes(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    kind = ("flip", "cut", "empty", "insert", "zeros", "noise")[rng.integers(6)]
    data, place = bytearray(content), int(rng.integers(len(content)))
    if kind == "flip":
        data[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del data[place:]
    elif kind == "insert":
        data[place:place] = bytes([int(rng.integers(256))])
    elif kind == "zeros":
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    else:
        data = bytearray() if kind == "empty" else bytearray(rng.bytes(64))
    return bytes(data), f"{kind} at {place}"


def mutate_tensors(content: bytes, rng: np.random.Generator, scratch: Path) -> tuple[bytes, str]:
    """A leaf of the header, or a tensor's name, type, shape or numbers."""
    scratch.write_bytes(content)
    with safe_open(scratch, framework="pt") as file:
        header = file.metadata()
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if rng.random() < 0.5:
        state = json.loads(header["hectocar"])
        what = mutate_tree(state, rng)
        header["hectocar"] = json.dumps(state)
    else:
        name = sorted(tensors)[rng.integers(len(tensors))]
        is_float = tensors[name].is_floating_point()
        changes: dict[str, Callable[[Tensor], Tensor | None]] = {
            "renamed": lambda tensor: None,
            "float64": lambda tensor: tensor.double(),
            "longer": lambda tensor: torch.cat([tensor.reshape(-1), tensor.reshape(-1)[:1]]),
            "nan": lambda tensor: torch.full_like(tensor, float("nan")) if is_float else tensor + 99,
            "infinite": lambda tensor: torch.full_like(tensor, float("inf")) if is_float else tensor - 99,
            "other": lambda tensor: tensor + 1,
        }
        kind = list(changes)[rng.integers(len(changes))]
        changed, tensor = changes[kind](tensors[name]), tensors.pop(name)
        tensors[name.replace("/", "", 1) + "x" if changed is None else name] = tensor if changed is None else changed
        what = f"{name} {kind}"
    return save(tensors, metadata=header), what


def mutate_arrays(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    with np.load(io.BytesIO(content)) as data:
        arrays = {name: data[name] for name in data.files}
    name = sorted(arrays)[rng.integers(len(arrays))]
    array = arrays.pop(name)
    kind = ("absent", "text", "nan", "short", "other")[rng.integers(5)]
    if kind == "text":
        arrays[name] = np.array("x")
    elif kind == "nan":
        arrays[name] = np.full_like(array, np.nan) if array.dtype.kind == "f" else array.reshape(-1)
    elif kind == "short":
        arrays[name] = array[:-1] if array.ndim else np.array([])
    elif kind == "other":
        arrays[name] = array + 1 if array.dtype.kind in "fiu" else np.array(7)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue(), f"{name} {kind}"


def mutate_table(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A cell, a column or the metadata of a Parquet table."""
    table = pq.read_table(io.BytesIO(content))
    metadata, columns = table.schema.metadata, {name: table.column(name).to_pylist() for name in table.column_names}
    name, row = table.column_names[rng.integers(len(columns))], int(rng.integers(table.num_rows))
    kind = ("absent", "null", "cell", "type", "repeated", "rows", "path", "metadata")[rng.integers(8)]
    if kind == "absent":
        del columns[name]
    elif kind == "null":
        columns[name][row] = None
    elif kind == "cell":
        text = isinstance(columns[name][row], str)
        columns[name][row] = "x" if text else columns[name][row][::-1] if isinstance(columns[name][row], bytes) else 7
    elif kind == "type":
        columns[name] = [3] * table.num_rows if isinstance(columns[name][row], str) else ["x"] * table.num_rows
    elif kind == "repeated":
        columns = {key: [*values, values[row]] for key, values in columns.items()}
    elif kind == "rows":
        columns = {key: values[:row] for key, values in columns.items()}
    elif kind == "path":
        for key in ("path", "image_id"):
            if key in columns:
                columns[key][row] = ("../../a.jpg", "/etc/passwd", "a\0b.jpg")[rng.integers(3)]
    else:
        metadata = {}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    return buffer.getvalue(), f"{name} {kind} at {row}"


def mutate(file: Path, content: bytes, rng: np.random.Generator, scratch: Path) -> tuple[bytes, str]:
    """A mutant of a file and what was done to it."""
    draw = rng.random()
    if draw < 0.2:
        return mutate_bytes(content, rng)
    if file.suffix == ".json":
        return explode_json(content, rng) if draw < 0.3 else mutate_json(content, rng)
    if file.suffix == ".jsonl":
        return mutate_lines(content, rng)
    if file.suffix == ".safetensors":
        return mutate_tensors(content, rng, scratch)
    return mutate_arrays(content, rng) if file.suffix == ".npz" else mutate_table(content, rng)
