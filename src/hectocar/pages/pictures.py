"""Pictures of pages: thumbnails that are embedded once, however often they are shown."""

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from hectocar.dataset.scan import PhotoScan
from hectocar.errors import DataError
from hectocar.photos.decode import DEFAULT_MAX_MEGAPIXELS, decode_photo, read_photo_bytes
from hectocar.photos.pool import count_workers

THUMB_LONG_SIDE_PX, THUMB_QUALITY = 200, 70


@dataclass(frozen=True)
class Thumb:
    """A small JPEG, or why there is none."""

    jpeg: bytes = b""
    width_px: int = 0
    height_px: int = 0
    problem: str = ""

    @property
    def uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


@dataclass(frozen=True)
class Album:
    """The thumbnails of one page by place in the scan; one that is shown several times is stored once and referred to."""

    thumbs: dict[int, Thumb]
    repeated: frozenset[int]

    def thumb(self, place: int | None) -> Thumb:
        """The picture at a place, or why there is none."""
        return self.thumbs.get(-1 if place is None else place, Thumb(problem="not among the photographs of the scan"))


def build_album(scan: PhotoScan, places: Iterable[int | None], num_workers: int = 0) -> Album:
    """Decodes each photograph once, in threads; ``places`` names a photograph as often as the page shows it."""
    times = Counter(place for place in places if place is not None)
    chosen = sorted(times)
    with ThreadPoolExecutor(count_workers(num_workers), thread_name_prefix="thumbs") as pool:
        thumbs = dict(zip(chosen, pool.map(lambda place: load_thumb(scan, place), chosen), strict=True))
    return Album(thumbs, frozenset(place for place, count in times.items() if count > 1))


def load_thumb(scan: PhotoScan, place: int, change: Callable[[Image.Image], Image.Image] | None = None) -> Thumb:
    """Decodes, changes at full size and shrinks one photograph, however large the scan allowed it to be.

    A problem, of now or of the scan, names no folder of this machine.
    """
    row, file = scan.rows[place], scan.root / scan.path[place]
    if row.problem:
        return Thumb(problem=row.problem)
    limit, size = max(DEFAULT_MAX_MEGAPIXELS, row.width_px * row.height_px / 1e6), None if change else THUMB_LONG_SIDE_PX
    try:
        image = decode_photo(read_photo_bytes(file), max_megapixels=limit, min_side_px=size)
        return make_thumb(change(image) if change else image)
    except DataError as error:
        return Thumb(problem=str(error).replace(f"{file}: ", ""))


def make_thumb(image: Image.Image, long_side_px: int = THUMB_LONG_SIDE_PX, quality: int = THUMB_QUALITY) -> Thumb:
    """A JPEG no longer than ``long_side_px`` on either side."""
    small = image.copy()
    small.thumbnail((long_side_px, long_side_px), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, format="JPEG", quality=quality, optimize=True)
    return Thumb(target.getvalue(), *small.size)
