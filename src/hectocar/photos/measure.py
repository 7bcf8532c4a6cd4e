"""One look at a photograph's bytes: hashes, a thumbnail, size, compression and photometry, at a third of a decode's price.

A JPEG stores luma apart from colour. Asking libjpeg for luma alone at full size skips the colour upsampling and
conversion, which are two thirds of a decode, and still reads the whole stream, so that a truncated file is noticed;
colour is then read at an eighth of the size. Legend: H height, W width.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np
from PIL import Image

from hectocar.errors import DataError
from hectocar.photos.decode import DEFAULT_MAX_MEGAPIXELS, open_photo
from hectocar.photos.jpeg_damage import find_damage
from hectocar.photos.jpeg_stream import read_jpeg
from hectocar.photos.pixels import iter_strips
from hectocar.photos.planes import decode_planes
from hectocar.photos.shift import estimate_jpeg_quality
from hectocar.photos.views import SMALL_LONG_SIDE_PX, measure_sharpness

THUMB_PX = 32
DARK_LEVEL, BRIGHT_LEVEL = 5, 250
_SATURATION_SIDE_PX = 48
_SAMPLE_SIDE_PX = 256


@dataclass(frozen=True)
class Measurement:
    """What one photograph is. Where ``problem`` says why it cannot be used, all but ``sha1`` and ``num_bytes`` mean nothing."""

    sha1: str = ""
    """Of the file's bytes."""
    pixel_sha1: str = ""
    """Of the decoded upright luma at full size: equal for files that differ in metadata only."""
    num_bytes: int = 0
    format: str = ""
    """By the bytes, not by the name: JPEG, PNG, ..."""
    mode: str = ""
    """Pillow's: RGB, L (grey), CMYK, RGBA, ..."""
    exif_orientation: int = 1
    """1 is upright, 6 and 8 lie on a side, 3 stands on its head; 2, 4, 5, 7 are mirrored besides."""
    width_px: int = 0
    """Upright."""
    height_px: int = 0
    jpeg_quality: int = 0
    """1 to 100 by the quantisation tables; 0 where it is no JPEG."""
    brightness: float = float("nan")
    """Mean luma, 0 to 255."""
    contrast: float = float("nan")
    """Standard deviation of luma."""
    saturation: float = float("nan")
    """Mean of (max - min) / max over the three channels, 0 to 1."""
    sharpness: float = float("nan")
    """Standard deviation of the Laplacian over that of luma, at about 256 px: independent of gain and offset."""
    dark_share: float = float("nan")
    """Share of luma of at most 5."""
    bright_share: float = float("nan")
    """Share of luma of at least 250."""
    thumb: bytes = bytes(THUMB_PX * THUMB_PX)
    """Luma at 32 x 32, uint8, row by row."""
    damage: str = ""
    """What a photograph that decodes has lost all the same (``jpeg_damage``); empty where nothing is missing."""
    problem: str = ""


def measure_photo(data: bytes, *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Measurement:
    """Measures a photograph; one that cannot be decoded comes back with its ``problem``."""
    sha1 = hashlib.sha1(data).hexdigest()
    try:
        image = open_photo(data, max_megapixels=max_megapixels)
        facts, size = _read_header(image), image.size
        planes = decode_planes(image, data, colour_side_px=_SATURATION_SIDE_PX)
    except DataError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from error  # says nothing about the bytes
        return Measurement(sha1=sha1, num_bytes=len(data), problem=str(error))
    if planes.orientation >= 5 and facts.format != "TIFF":  # Pillow gives a TIFF's size as it is seen
        size = (size[1], size[0])
    luma = planes.luma
    small = luma.reduce(max(1, round(max(luma.size) / SMALL_LONG_SIDE_PX)))
    return Measurement(
        sha1=sha1,
        pixel_sha1=_hash_pixels(luma, size),
        num_bytes=len(data),
        format=facts.format,
        mode=facts.mode,
        exif_orientation=planes.orientation,
        jpeg_quality=facts.jpeg_quality,
        width_px=size[0],
        height_px=size[1],
        saturation=_saturation(planes.colour),
        sharpness=measure_sharpness(np.asarray(small, dtype=np.float32)),
        thumb=small.resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX).tobytes(),
        damage="" if planes.stored is None else find_damage(data, read_jpeg(data), planes.stored),
        **_photometry(luma),
    )


def _hash_pixels(luma: Image.Image, size: tuple[int, int]) -> str:
    digest = hashlib.sha1(f"{size[0]}x{size[1]}\n".encode())
    for _, strip in iter_strips(luma):
        digest.update(strip.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Header:
    format: str
    mode: str
    jpeg_quality: int


def _read_header(image: Image.Image) -> _Header:
    tables = getattr(image, "quantization", None)
    return _Header(
        format=image.format or "",
        mode=image.mode,
        jpeg_quality=_quality(tuple((number, tuple(values)) for number, values in tables.items())) if tables else 0,
    )


class _Photometry(TypedDict):
    brightness: float
    contrast: float
    dark_share: float
    bright_share: float


def _photometry(luma: Image.Image) -> _Photometry:
    # Sampled, not averaged: the ends of the scale must stay what they are.
    size = (min(_SAMPLE_SIDE_PX, luma.width), min(_SAMPLE_SIDE_PX, luma.height))
    counts = np.array(luma.resize(size, Image.Resampling.NEAREST).histogram(), dtype=np.float64)
    share, levels = counts / counts.sum(), np.arange(256)
    mean = float(share @ levels)
    return _Photometry(
        brightness=mean,
        contrast=float(np.sqrt(share @ (levels - mean) ** 2)),
        dark_share=float(share[: DARK_LEVEL + 1].sum()),
        bright_share=float(share[BRIGHT_LEVEL:].sum()),
    )


def _saturation(colour: Image.Image) -> float:
    counts = np.array(colour.convert("HSV").getchannel("S").histogram(), dtype=np.float64)
    return float(counts @ np.arange(256) / (255.0 * counts.sum()))


@lru_cache(maxsize=256)
def _quality(tables: tuple[tuple[int, tuple[int, ...]], ...]) -> int:
    # A data set has few kinds of tables, and each takes longer to recognise than a thumbnail to make.
    return estimate_jpeg_quality({number: list(values) for number, values in tables})
