"""Perceptual hashes of photographs, and all pairs of hashes that differ in a few bits only.

The hash is the 64-bit DCT hash of Zauner ("Implementation and Benchmarking of Perceptual Image Hash Functions", 2010,
section 3.2.1). The search compares all with all, half a nanosecond a pair on one core, block by block in threads.

Legend: N codes of the query, M codes of the base, H and W the sides of a thumbnail.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.errors import DataError
from hectocar.photos.pool import count_workers

THUMB_SIDE_PX = 32
HASH_BITS = 64
_SIDE = 8
"""Frequencies per axis: the hash keeps the 8 x 8 lowest."""
_DECIMALS = 6
_BLOCK_ROWS, _BLOCK_COLUMNS = 32, 4096
"""Pairs in flight: 1 MiB per array, which the second-level cache about holds."""
_THUMBS_BLOCK = 1024
_KINDS = (np.int64, np.int64, np.uint8)

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
Codes = NDArray[np.uint64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ClosePairs:
    """Pairs of codes, sorted by the place in the query and then by the place in the base."""

    query: Ints
    base: Ints
    distance: NDArray[np.uint8]
    """Bits that differ."""

    def __len__(self) -> int:
        return len(self.query)


def compute_codes(thumbs_NHW: NDArray[np.uint8], *, box: Box = WHOLE, mirror: bool = False) -> Codes:
    """DCT hashes: bit k, from the top, says whether the k-th of the 8 x 8 lowest frequencies is above the median of all 63.

    The bit of the mean brightness is always 0, so that gain and offset leave the code as it is. A flat thumbnail has code 0.

    Args:
        thumbs_NHW: (N, 32, 32) luma.
        box: Of this part only: left, top, width, height in shares of the sides.
        mirror: Of the photographs mirrored left to right.

    Returns:
        (N,) codes, the same on machines of either byte order.

    Raises:
        DataError: Thumbnails of another size or type, or a box that is not inside the photograph.
    """
    if thumbs_NHW.dtype != np.uint8 or thumbs_NHW.shape[1:] != (THUMB_SIDE_PX, THUMB_SIDE_PX):
        raise DataError(f"thumbnails must be (N, 32, 32) uint8, not {thumbs_NHW.shape} {thumbs_NHW.dtype}")
    for start, length in ((box[0], box[2]), (box[1], box[3])):
        if not (start >= 0.0 and length > 0.0 and start + length <= 1.0 + 1e-9):
            raise DataError(f"box must be (left, top, width, height) inside 0 to 1, not {box}")
    basis = _build_basis(box, mirror)
    codes_N = np.empty(len(thumbs_NHW), dtype=np.uint64)
    pixels = np.empty((_THUMBS_BLOCK, THUMB_SIDE_PX**2))
    for start in range(0, len(codes_N), _THUMBS_BLOCK):
        thumbs = thumbs_NHW[start : start + _THUMBS_BLOCK]
        pixels[: len(thumbs)] = thumbs.reshape(len(thumbs), -1)
        # Frequencies that a symmetric picture lacks are rounding noise: without this their bits would be chance.
        spectrum = np.round(pixels[: len(thumbs)] @ basis, _DECIMALS)
        bits = spectrum > np.sort(spectrum[:, 1:], axis=1)[:, (_SIDE**2 - 1) // 2, None]
        bits[:, 0] = False
        codes_N[start : start + len(thumbs)] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return codes_N


def find_close_pairs(query_N: Codes, base_M: Codes, radius: int) -> ClosePairs:
    """All pairs of a query code and a base code that differ in at most ``radius`` bits: 17 bytes a pair, 26 while it is made.

    Raises:
        DataError: Codes of another type, or a radius that is not 0 to 64.
    """
    for codes in (query_N, base_M):
        if codes.dtype != np.uint64 or codes.ndim != 1:
            raise DataError(f"codes must be (N,) uint64, not {codes.shape} {codes.dtype}")
    if not 0 <= radius <= HASH_BITS:
        raise DataError(f"radius must be 0 to {HASH_BITS} bits, not {radius}")
    with ThreadPoolExecutor(count_workers(0)) as pool:
        search = partial(_search_rows, query_N, base_M, radius)
        parts = list(pool.map(search, range(0, len(query_N) if len(base_M) else 0, _BLOCK_ROWS)))
    columns = (np.concatenate([np.empty(0, dtype=kind), *(part[k] for part in parts)]) for k, kind in enumerate(_KINDS))
    return ClosePairs(*columns)


def _search_rows(query_N: Codes, base_M: Codes, radius: int, top: int) -> tuple[NDArray[Any], ...]:
    """Places and distances of the pairs of some rows of the query, in order."""
    rows = query_N[top : top + _BLOCK_ROWS, None]
    differing = np.empty((len(rows), _BLOCK_COLUMNS), dtype=np.uint64)
    distance = np.empty((len(rows), _BLOCK_COLUMNS), dtype=np.uint8)
    found = []
    for left in range(0, len(base_M), _BLOCK_COLUMNS):
        columns = base_M[None, left : left + _BLOCK_COLUMNS]
        width = columns.shape[1]
        np.bitwise_xor(rows, columns, out=differing[:, :width])
        np.bitwise_count(differing[:, :width], out=distance[:, :width])
        row, column = np.nonzero(distance[:, :width] <= radius)
        found.append(((row + top).astype(np.int32), (column + left).astype(np.int32), distance[row, column]))
    query, base, bits = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(query, kind="stable")
    return query[order], base[order], bits[order].astype(np.uint8)


@lru_cache(maxsize=64)
def _build_basis(box: Box, mirror: bool) -> NDArray[np.float64]:
    """(1024, 64) crop, resampling by area, DCT-II and reflection in one; mirrored, a cosine of odd frequency changes sign."""
    left, top, width, height = box
    rows, columns = _sample_cosines(top, height), _sample_cosines(left, width)
    if mirror:
        columns = columns * (-1.0) ** np.arange(_SIDE)[:, None]
    return np.ascontiguousarray(np.kron(rows, columns).T)


def _sample_cosines(start: float, length: float) -> NDArray[np.float64]:
    """(8, 32) cosines of the DCT over a part of a side that is resampled by area to the whole side."""
    side = THUMB_SIDE_PX
    edges = np.linspace(start * side, (start + length) * side, side + 1)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    area = np.maximum(overlap, 0)
    frequency = np.arange(_SIDE)[:, None]
    cosines: NDArray[np.float64] = np.cos(np.pi * (pixel + 0.5) * frequency / side) @ (area / area.sum(axis=1, keepdims=True))
    return cosines
