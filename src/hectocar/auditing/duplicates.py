"""Which photographs are one picture: equal bytes, equal pixels, or copies that were edited. Links, then groups.

Candidates for edited copies come from perceptual hashes of the whole photograph, of its mirror image and of its inner
parts (a photograph that was cropped by 6 % resembles the inner 88 % of its original), and from embeddings where there are
some; each candidate is then laid over its partner and compared pixel by pixel (align.py).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hectocar.auditing.align import Alignment, Box, Grey, align_photos, load_grey
from hectocar.auditing.hashes import compute_codes, find_close_pairs
from hectocar.dataset.groups import connect_places
from hectocar.dataset.scan import PhotoScan
from hectocar.errors import DataError
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.pool import count_workers

HASH_RADIUS = 8
"""Bits of 64. On cars196 all edited copies lie within 6 of a box's hash, and chance pairs begin at 8."""
MIN_SIMILARITY = 0.92
"""Correlation of details. On cars196 copies have 0.93 and more; two cars in one studio have 0.91 and less."""
NEAREST_EMBEDDINGS, MIN_COSINE = 5, 0.9
_BLOCK = 256
"""Candidates compared between two looks at which photographs are connected already."""


def _boxes() -> tuple[Box, ...]:
    centred = [(c, c, 1.0 - 2.0 * c, 1.0 - 2.0 * c) for c in (0.0, 0.03, 0.06, 0.09, 0.12)]
    at_corners = [(x * c, y * c, 1.0 - c, 1.0 - c) for c in (0.07, 0.14) for x in (0, 1) for y in (0, 1)]
    return (*centred, *at_corners)


BOXES = _boxes()
"""Parts of a photograph that candidates are looked for with: the whole, inner parts, and parts at the corners."""

Ints = NDArray[np.int64]
LinkKind = Literal["bytes", "pixels", "near"]
OnPair = Callable[[int, int], None]


@dataclass(frozen=True)
class DuplicateLink:
    """Two places of a scan that show the same picture."""

    first: int
    second: int
    how: LinkKind
    similarity: float
    """1 for equal bytes or pixels, else the correlation of details."""
    detail: str
    """What was done to the one to get the other."""


@dataclass(frozen=True)
class _Candidates:
    """Pairs of places to compare, the likeliest first: the second may show the box ``BOXES[box]`` of the first."""

    first: Ints
    second: Ints
    box: Ints
    mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)


def find_links(
    scan: PhotoScan,
    *,
    max_megapixels: float,
    num_workers: int = 0,
    embeddings_ND: NDArray[np.float32] | None = None,
    on_pair: OnPair | None = None,
) -> list[DuplicateLink]:
    """All pairs that show one picture; of equal files each is linked to the first only.

    Args:
        scan: Photographs; unreadable ones have no links.
        max_megapixels: As in the scan.
        num_workers: Threads; 0 for one per core.
        embeddings_ND: Of any pretrained network, one row per photograph of the scan; adds candidates.
        on_pair: Gets (done, total) candidate pairs.
    """
    usable = [int(k) for k in scan.readable()]
    links, firsts = _link_equal(usable, [row.sha1 for row in scan.rows], "bytes")
    pixel_links, _ = _link_equal(firsts, [row.pixel_sha1 for row in scan.rows], "pixels")
    links += [link for link in pixel_links if same_pixels(scan, link.first, link.second, max_megapixels)]
    copies = {link.second for link in links}
    places = np.array([k for k in firsts if k not in copies], dtype=np.int64)
    candidates = _find_candidates(scan.thumbs(), places, embeddings_ND)
    return links + _confirm(scan, candidates, max_megapixels, num_workers, on_pair)


class _Groups:
    """Groups that grow while links are confirmed: what is connected already need not be compared."""

    def __init__(self, num_photos: int) -> None:
        self.parent = list(range(num_photos))

    def root(self, k: int) -> int:
        while self.parent[k] != k:
            self.parent[k] = self.parent[self.parent[k]]
            k = self.parent[k]
        return k

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.root(first), self.root(second)))
        self.parent[high] = low


def group_links(links: Iterable[DuplicateLink], num_photos: int) -> Ints:
    """(N,) the lowest place of the group that each photograph belongs to by links, directly or in a chain."""
    ends = [(link.first, link.second) for link in links]
    return connect_places(num_photos, [first for first, _ in ends], [second for _, second in ends])


def _link_equal(places: Sequence[int], keys: Sequence[str], how: LinkKind) -> tuple[list[DuplicateLink], list[int]]:
    first_of: dict[str, int] = {}
    links, firsts = [], []
    for k in places:
        first = first_of.setdefault(keys[k], k)
        if first == k:
            firsts.append(k)
        else:
            detail = "same bytes" if how == "bytes" else "same pixels, other bytes"
            links.append(DuplicateLink(first, k, how, 1.0, detail))
    return links, firsts


def same_pixels(scan: PhotoScan, first: int, second: int, max_megapixels: float) -> bool:
    """Whether two photographs decode to the same upright RGB picture."""

    def digest(k: int) -> str:
        image = decode_photo(read_photo_bytes(scan.root / scan.path[k]), max_megapixels=max_megapixels)
        return hashlib.sha1(f"{image.size}".encode() + image.tobytes()).hexdigest()

    try:
        return digest(first) == digest(second)
    except DataError:  # gone since the scan
        return False


def _find_candidates(thumbs_NHW: NDArray[np.uint8], places: Ints, embeddings_ND: NDArray[np.float32] | None) -> _Candidates:
    """Pairs whose hashes are close, each with the box and the reflection that bring them closest; then those of embeddings."""
    thumbs = thumbs_NHW[places]
    plain = compute_codes(thumbs)
    parts: list[Ints] = []
    for mirrored in (False, True):
        for number, box in enumerate(BOXES):
            pairs = find_close_pairs(compute_codes(thumbs, box=box, mirror=mirrored), plain, HASH_RADIUS)
            other = pairs.query != pairs.base
            columns = (pairs.query[other], pairs.base[other], pairs.distance[other].astype(np.int64))
            parts.append(np.stack([*columns, *(np.full(len(columns[0]), v) for v in (number, mirrored))]))
    if embeddings_ND is not None:
        near = _find_by_embedding(embeddings_ND[places])
        # As far as a hash can be: tried last, with every reflection and two boxes.
        parts += [
            np.stack([*near, *(np.full(near.shape[1], v) for v in (64, number, mirrored))])
            for mirrored in (False, True)
            for number in (0, 3)
        ]
    query, base, distance, box, mirrored = np.concatenate(parts, axis=1)
    low, high = np.minimum(query, base), np.maximum(query, base)
    order = np.lexsort((mirrored, box, distance, high, low))
    # The closest look at each pair; of pairs that only embeddings name, all looks.
    pair = low[order] * len(places) + high[order]
    best = np.concatenate([[True], pair[1:] != pair[:-1]]) if len(pair) else np.zeros(0, dtype=bool)
    of_embedding = distance[order] == 64
    first_distance = distance[order][np.maximum.accumulate(np.where(best, np.arange(len(pair)), 0))] if len(pair) else pair
    order = order[best | (of_embedding & (first_distance == 64))]
    order = order[np.argsort(distance[order], kind="stable")]
    return _Candidates(places[query[order]], places[base[order]], box[order], mirrored[order].astype(bool))


def _find_by_embedding(embeddings_MD: NDArray[np.float32]) -> Ints:
    """(2, P) pairs low < high of rows that are among each other's nearest."""
    unit = embeddings_MD / np.maximum(np.linalg.norm(embeddings_MD, axis=1, keepdims=True), 1e-9)
    count = min(NEAREST_EMBEDDINGS + 1, len(unit))
    parts = [np.zeros((2, 0), dtype=np.int64)]
    for start in range(0, len(unit), 1024):
        cosine = unit[start : start + 1024] @ unit.T
        nearest = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        row, column = np.nonzero(np.take_along_axis(cosine, nearest, axis=1) >= MIN_COSINE)
        ends = np.stack([row + start, nearest[row, column]])
        parts.append(np.sort(ends[:, ends[0] != ends[1]], axis=0))
    return np.unique(np.concatenate(parts, axis=1), axis=1)


def _confirm(
    scan: PhotoScan, candidates: _Candidates, max_megapixels: float, num_workers: int, on_pair: OnPair | None
) -> list[DuplicateLink]:
    """Compares pixels, the likeliest pairs first; pairs that links connect already are not looked at again.

    So a picture that was copied a thousand times costs a thousand comparisons, not half a million.
    """

    @lru_cache(maxsize=4096)
    def grey(k: int) -> Grey | None:
        try:
            return load_grey(scan.root / scan.path[k], max_megapixels)
        except DataError:  # gone since the scan
            return None

    def compare(c: int) -> Alignment | None:
        first, second = grey(int(candidates.first[c])), grey(int(candidates.second[c]))
        if first is None or second is None:
            return None
        return align_photos(first, second, mirrored=bool(candidates.mirrored[c]), box=BOXES[candidates.box[c]])

    groups = _Groups(len(scan))
    links = []
    with ThreadPoolExecutor(count_workers(num_workers), thread_name_prefix="align") as pool:
        for start in range(0, len(candidates), _BLOCK):
            block = range(start, min(start + _BLOCK, len(candidates)))
            ends = [(int(candidates.first[c]), int(candidates.second[c])) for c in block]
            open_pairs = [
                (c, *pair) for c, pair in zip(block, ends, strict=True) if groups.root(pair[0]) != groups.root(pair[1])
            ]
            for (_, first, second), found in zip(open_pairs, pool.map(compare, [c for c, *_ in open_pairs]), strict=True):
                if found is not None and found.similarity >= MIN_SIMILARITY and groups.root(first) != groups.root(second):
                    groups.join(first, second)
                    links.append(_describe(scan, first, second, found, max_megapixels))
            if on_pair:
                on_pair(block.stop, len(candidates))
    return links


def _describe(scan: PhotoScan, first: int, second: int, alignment: Alignment, max_megapixels: float) -> DuplicateLink:
    a, b = scan.rows[first], scan.rows[second]
    low, high = min(first, second), max(first, second)
    same_size = (a.width_px, a.height_px) == (b.width_px, b.height_px)
    if (
        same_size
        and alignment.similarity > 0.999
        and not alignment.mirrored
        and same_pixels(scan, first, second, max_megapixels)
    ):
        return DuplicateLink(low, high, "pixels", 1.0, "same pixels, other bytes")
    parts = ["mirrored"] if alignment.mirrored else []
    if alignment.crop_share > 0.02:
        parts.append(f"{alignment.crop_share:.0%} cut off")
    if abs(b.brightness - a.brightness) > 5.0:
        parts.append(f"mean brightness {a.brightness:.0f} and {b.brightness:.0f}")
    if not same_size:
        parts.append(f"{a.width_px}x{a.height_px} and {b.width_px}x{b.height_px} px")
    if a.jpeg_quality != b.jpeg_quality:
        parts.append(f"JPEG quality {a.jpeg_quality or 'none'} and {b.jpeg_quality or 'none'}")
    return DuplicateLink(low, high, "near", alignment.similarity, ", ".join(parts) or "compressed again")
