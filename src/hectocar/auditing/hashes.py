"""Perceptual hashes of photographs, and all pairs of hashes that differ in a few bits only.

The hash is the 64-bit DCT hash of Zauner ("Implementation and Benchmarking of Perceptual Image Hash Functions", 2010,
section 3.2.1). The search is multi-index hashing (Norouzi, Punjani & Fleet, "Fast Search in Hamming Space with Multi-Index
Hashing", CVPR 2012): cut the codes into chunks; if two codes differ in few bits, then in some chunk they differ in very few,
so only codes of nearby chunk values are compared. It is exact, and where comparing all with all is cheaper it does that.

Legend: N codes of the query, M codes of the base, H and W the sides of a thumbnail, K lookups of a chunk.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from hectocar.errors import DataError

THUMB_SIDE_PX = 32
HASH_BITS = 64
_SIDE = 8
"""Frequencies per axis: the hash keeps the 8 x 8 lowest."""
_DECIMALS = 6
_BLOCK = 1 << 17
"""Pairs in flight: 1 MiB per array, which the second-level cache about holds."""
_THUMBS_BLOCK = 1024
_MAX_CHUNKS = 8
_SAMPLE_ROWS = 256
_COST_PAIR, _COST_LOOKUP, _COST_CANDIDATE, _COST_ROW = 1.1, 6.5, 9.0, 150.0
"""Nanoseconds on an AVX2 core of 2.4 GHz: a pair of all with all, a bucket looked up, a pair of a bucket, a code sorted."""

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
    """All pairs of a query code and a base code that differ in at most ``radius`` bits: what comparing all with all finds.

    Equal codes are searched for once, but each of their pairs is in the result: 17 bytes a pair, up to 25 while it is made.
    Beyond that and some copies of the codes the search holds about 100 MiB, most of it a table of up to 4 million buckets.
    Where no cut into chunks helps (a large radius, codes that share most bits) it compares all with all, 1.1 ns a pair.

    Raises:
        DataError: Codes of another type, or a radius that is not 0 to 64.
    """
    query, base = _Distinct.of(query_N), _Distinct.of(base_M)
    found = _search(query.codes, base.codes, _checked(radius), within=False)
    return _read_keys(_concatenate(_iter_products(found, query, base, within=False)), query_N, base_M)


def find_close_pairs_within(codes_N: Codes, radius: int) -> ClosePairs:
    """All pairs of places i < j of one set whose codes differ in at most ``radius`` bits.

    As ``find_close_pairs``; k equal codes have k (k - 1) / 2 pairs (20,000 blank photographs: 200 million, 3.4 GB). Who needs
    groups only searches the codes of ``np.unique(codes_N, return_inverse=True)``, where each code is once.

    Raises:
        DataError: Codes of another type, or a radius that is not 0 to 64.
    """
    codes = _Distinct.of(codes_N)
    found = _search(codes.codes, codes.codes, _checked(radius), within=True)
    keys = _concatenate(chain(_iter_products(found, codes, codes, within=True), _iter_equal(codes)))
    return _read_keys(keys, codes_N, codes_N)


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


def _checked(radius: int) -> int:
    if not 0 <= radius <= HASH_BITS:
        raise DataError(f"radius must be 0 to {HASH_BITS} bits, not {radius}")
    return radius


@dataclass(frozen=True)
class _Distinct:
    """Different codes in ascending order; the places of code k are order[starts[k] : starts[k] + counts[k]], ascending."""

    codes: Codes
    order: Ints
    starts: Ints
    counts: Ints

    @classmethod
    def of(cls, codes_N: Codes) -> "_Distinct":
        if codes_N.dtype != np.uint64 or codes_N.ndim != 1:
            raise DataError(f"codes must be (N,) uint64, not {codes_N.shape} {codes_N.dtype}")
        order = np.argsort(codes_N, kind="stable")
        codes = codes_N[order]
        starts = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
        return cls(codes[starts], order, starts, np.diff(starts, append=len(codes)))


@dataclass(frozen=True)
class _Chunk:
    """Some bits of a code, looked up with every difference of at most ``radius`` bits."""

    shift: int
    width: int
    radius: int

    @property
    def bits(self) -> np.uint64:
        return np.uint64(((1 << self.width) - 1) << self.shift)

    @property
    def num_lookups(self) -> int:
        return sum(comb(self.width, flips) for flips in range(self.radius + 1))

    def values(self, codes_N: Codes) -> Ints:
        return ((codes_N & self.bits) >> np.uint64(self.shift)).astype(np.int64)

    def differences(self) -> Ints:
        return np.flatnonzero(np.bitwise_count(np.arange(1 << self.width)) <= self.radius)


def _cut_chunks(num_chunks: int, radius: int) -> list[_Chunk]:
    """Chunks such that each pair within ``radius`` is within a chunk's own radius in one of them.

    With radius = q * num_chunks + a it is q in the first a + 1 chunks and q - 1 in the others (Norouzi, Punjani & Fleet,
    "Fast Exact Search in Hamming Space with Multi-Index Hashing", TPAMI 2014, section 3.1): a pair outside of all differs in
    (a + 1)(q + 1) + (num_chunks - a - 1) q = radius + 1 bits at least.
    """
    base_width, num_wider = divmod(HASH_BITS, num_chunks)
    base_radius, rest = divmod(radius, num_chunks)
    chunks, shift = [], 0
    for k in range(num_chunks):
        width = base_width + (k < num_wider)
        chunks.append(_Chunk(shift, width, min(width, base_radius - (k > rest))))
        shift += width
    return [chunk for chunk in chunks if chunk.radius >= 0]


def _plan(query_N: Codes, base_M: Codes, radius: int, within: bool) -> list[_Chunk]:
    """The cheapest cut into chunks; none where comparing all with all is cheaper.

    Real hashes crowd in some buckets, so candidates are counted on the codes themselves, for a sample of the query.
    """
    num_rows, share = len(query_N), 0.5 if within else 1.0
    best, best_cost = [], share * num_rows * len(base_M) * _COST_PAIR
    sample = query_N[:: max(1, num_rows // _SAMPLE_ROWS)]
    for num_chunks in range(3, _MAX_CHUNKS + 1):
        chunks = _cut_chunks(num_chunks, radius)
        cost = 0.0
        for chunk in chunks:
            if 1 << chunk.width > 16 * len(base_M):
                cost = np.inf  # such a table would cost more than the search
            cost += num_rows * (chunk.num_lookups * _COST_LOOKUP + 2 * _COST_ROW)
            if cost >= best_cost:
                break
            counts = np.bincount(chunk.values(base_M), minlength=1 << chunk.width)
            differences, values = chunk.differences(), chunk.values(sample)
            num_met = sum(int(counts[differences ^ value].sum()) for value in values)
            cost += share * num_rows * num_met / len(sample) * _COST_CANDIDATE
        if cost < best_cost:
            best, best_cost = chunks, cost
    return best


def _search(query_N: Codes, base_M: Codes, radius: int, *, within: bool) -> Ints:
    """Keys row * M + column of the pairs within ``radius``, each once, of different codes; if within, column > row."""
    chunks = _plan(query_N, base_M, radius, within)
    if not chunks:
        return _concatenate(_iter_all(query_N, base_M, radius, within))
    prefixes = [chunks[: k + 1] for k in range(len(chunks))]
    return _concatenate(chain.from_iterable(_iter_chunk(query_N, base_M, radius, prefix, within) for prefix in prefixes))


def _concatenate(parts: Iterable[Ints]) -> Ints:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _iter_all(query_N: Codes, base_M: Codes, radius: int, within: bool) -> Iterator[Ints]:
    """Keys by comparing all with all, block by block."""
    num_columns = 4096
    num_rows = _BLOCK // num_columns
    differing = np.empty(_BLOCK, dtype=np.uint64)
    distance = np.empty(_BLOCK, dtype=np.uint8)
    for top in range(0, len(query_N), num_rows):
        rows = query_N[top : top + num_rows, None]
        for left in range(top if within else 0, len(base_M), num_columns):
            columns = base_M[None, left : left + num_columns]
            size, shape = rows.size * columns.size, (rows.size, columns.size)
            np.bitwise_xor(rows, columns, out=differing[:size].reshape(shape))
            np.bitwise_count(differing[:size], out=distance[:size])
            row, column = np.divmod(np.flatnonzero(distance[:size] <= radius), columns.size)
            key = (row + top) * len(base_M) + column + left
            yield key[column + left > row + top] if within else key


def _iter_chunk(query_N: Codes, base_M: Codes, radius: int, chunks: Sequence[_Chunk], within: bool) -> Iterator[Ints]:
    """Keys of the pairs that the last of the chunks finds and none before it."""
    chunk = chunks[-1]
    query_order = np.argsort(chunk.values(query_N), kind="stable")
    base_order = query_order if within else np.argsort(chunk.values(base_M), kind="stable")
    query, base = query_N[query_order], base_M[base_order]
    counts = np.bincount(chunk.values(base), minlength=1 << chunk.width).astype(np.int32)
    starts = np.cumsum(counts, dtype=np.int64)
    starts -= counts
    differences = chunk.differences()[:, None]
    step = max(1, _BLOCK // len(differences))
    for top in range(0, len(query), step):
        values = chunk.values(query[top : top + step])
        buckets = values ^ differences
        wanted = counts[buckets] > 0
        if within:  # two places of a set meet twice, and here only where the second lies behind the first
            wanted &= buckets >= values
        cells = np.flatnonzero(wanted)
        buckets, rows = buckets.ravel()[cells], cells % len(values) + top
        low, high = starts[buckets], starts[buckets] + counts[buckets]
        row_codes = query[rows]
        for owner, columns in _iter_ranges(np.maximum(low, rows + 1) if within else low, high):
            differing = row_codes[owner] ^ base[columns]
            hits = np.flatnonzero(np.bitwise_count(differing) <= radius)
            for earlier in chunks[:-1]:
                hits = hits[np.bitwise_count(differing[hits] & earlier.bits) > earlier.radius]
            yield _make_keys(query_order[rows[owner[hits]]], base_order[columns[hits]], len(base), within)


def _iter_ranges(low_K: Ints, high_K: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs (k, place) for all places from low[k] to before high[k], in blocks that end with a k."""
    lengths = np.maximum(high_K - low_K, 0)
    ends = np.cumsum(lengths)
    if not len(ends) or not ends[-1]:
        return
    cuts = np.searchsorted(ends, np.arange(_BLOCK, ends[-1], _BLOCK)) + 1
    shifts = low_K - ends + lengths
    for first, last in pairwise(np.unique([0, *cuts, len(ends)]).tolist()):
        owner = np.repeat(np.arange(first, last), lengths[first:last])
        begin = int(ends[first] - lengths[first])
        yield owner, np.arange(begin, begin + len(owner)) + shifts[owner]


def _make_keys(row: Ints, column: Ints, num_columns: int, within: bool) -> Ints:
    if within:
        return np.minimum(row, column) * num_columns + np.maximum(row, column)
    return row * num_columns + column


def _iter_products(found: Ints, query: _Distinct, base: _Distinct, *, within: bool) -> Iterator[Ints]:
    """Keys of all places of the codes of each pair that was found."""
    for start in range(0, len(found), _BLOCK):
        rows, columns = np.divmod(found[start : start + _BLOCK], len(base.codes))
        for pair, place in _iter_ranges(query.starts[rows], query.starts[rows] + query.counts[rows]):
            low = base.starts[columns[pair]]
            for owner, other in _iter_ranges(low, low + base.counts[columns[pair]]):
                yield _make_keys(query.order[place[owner]], base.order[other], len(base.order), within)


def _iter_equal(codes: _Distinct) -> Iterator[Ints]:
    """Keys of the pairs of places i < j that have one code."""
    places = np.arange(len(codes.order))
    for first, second in _iter_ranges(places + 1, np.repeat(codes.starts + codes.counts, codes.counts)):
        yield codes.order[first] * len(places) + codes.order[second]


def _read_keys(keys: Ints, query_N: Codes, base_M: Codes) -> ClosePairs:
    """Sorts the keys and takes them apart; the base's places are written over the keys, so that nothing is held twice."""
    keys.sort()
    query = np.empty_like(keys)
    distance = np.empty(len(keys), dtype=np.uint8)
    for start in range(0, len(keys), _BLOCK):
        block = slice(start, start + _BLOCK)
        query[block], keys[block] = np.divmod(keys[block], len(base_M))
        distance[block] = np.bitwise_count(query_N[query[block]] ^ base_M[keys[block]])
    return ClosePairs(query, keys, distance)
