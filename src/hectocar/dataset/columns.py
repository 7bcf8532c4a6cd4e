"""Parquet tables of ours, read strictly: each column there, of its type, and without gaps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


def read_columns(path: Path, kinds: Mapping[str, pa.DataType]) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Columns as lists, and the metadata of the table.

    Args:
        path: The file.
        kinds: Type of each column; others in the file are passed over.

    Raises:
        ValueError: Whatever is wrong with the file; pyarrow raises many types on foreign bytes.
    """
    if not path.is_file():
        raise ValueError("no such file")
    try:
        table = pq.read_table(path, columns=list(kinds), page_checksum_verification=True)
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        columns = {name: table.column(name).to_pylist() for name in kinds}
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error
    for name, kind in kinds.items():
        if table.schema.field(name).type != kind:
            raise ValueError(f"column {name} is of type {table.schema.field(name).type}; expected {kind}")
        if table.column(name).null_count:
            raise ValueError(f"column {name} has {table.column(name).null_count} empty cells; expected none")
    return columns, metadata


def to_ints(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
