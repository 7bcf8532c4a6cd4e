"""One look at a photograph's bytes: hashes, a thumbnail, size, compression and photometry, at a third of a decode's price.

A JPEG stores luma apart from colour. Asking libjpeg for luma alone at full size skips the colour upsampling and
conversion, which are two thirds of a decode, and still reads the whole stream, so that a truncated file is noticed;
colour is then read at an eighth of the size. Legend: H height, W width.
"""

import hashlib
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hectocar.errors import DataError
from hectocar.photos.decode import DEFAULT_MAX_MEGAPIXELS, decode_planes, open_photo
from hectocar.photos.shift import estimate_jpeg_quality

THUMB_PX = 32
SHARPNESS_LONG_SIDE_PX = 256
"""Sharpness is read at about this size, so that photographs of different sizes compare."""
DARK_LEVEL, BRIGHT_LEVEL = 5, 250
_SATURATION_SIDE_PX = 48


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
    problem: str = ""


def measure_photo(data: bytes, *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Measurement:
    """Measures a photograph; one that cannot be decoded comes back with its ``problem``."""
    sha1 = hashlib.sha1(data).hexdigest()
    try:
        image = open_photo(data, max_megapixels=max_megapixels)
        facts = _read_header(image)
        luma, colour = decode_planes(data, max_megapixels=max_megapixels, colour_side_px=_SATURATION_SIDE_PX)
    except DataError as error:
        return Measurement(sha1=sha1, num_bytes=len(data), problem=str(error))
    luma_HW = np.asarray(luma)
    return Measurement(
        sha1=sha1,
        pixel_sha1=hashlib.sha1(f"{luma.width}x{luma.height}\n".encode() + luma.tobytes()).hexdigest(),
        num_bytes=len(data),
        format=facts.format,
        mode=facts.mode,
        exif_orientation=facts.exif_orientation,
        jpeg_quality=facts.jpeg_quality,
        width_px=luma.width,
        height_px=luma.height,
        saturation=_saturation(np.asarray(colour)),
        sharpness=_sharpness(luma),
        thumb=luma.resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX).tobytes(),
        **_photometry(luma_HW),
    )


@dataclass(frozen=True)
class _Header:
    format: str
    mode: str
    exif_orientation: int
    jpeg_quality: int


def _read_header(image: Image.Image) -> _Header:
    try:
        orientation = int(image.getexif().get(0x0112, 1))
    except Exception:  # unreadable EXIF says nothing about the pixels
        orientation = 1
    tables = getattr(image, "quantization", None)
    return _Header(
        format=image.format or "",
        mode=image.mode,
        exif_orientation=orientation if 1 <= orientation <= 8 else 1,
        jpeg_quality=estimate_jpeg_quality(tables) if tables else 0,
    )


class _Photometry(TypedDict):
    brightness: float
    contrast: float
    dark_share: float
    bright_share: float


def _photometry(luma_HW: NDArray[np.uint8]) -> _Photometry:
    counts = np.bincount(luma_HW.ravel()[:: max(1, luma_HW.size // 65536)], minlength=256)
    share, levels = counts / counts.sum(), np.arange(256)
    mean = float(share @ levels)
    return _Photometry(
        brightness=mean,
        contrast=float(np.sqrt(share @ (levels - mean) ** 2)),
        dark_share=float(share[: DARK_LEVEL + 1].sum()),
        bright_share=float(share[BRIGHT_LEVEL:].sum()),
    )


def _saturation(colour_HWC: NDArray[np.uint8]) -> float:
    high = colour_HWC.max(axis=2).astype(np.float32)
    low = colour_HWC.min(axis=2)
    return float(np.mean((high - low) / np.maximum(high, 1.0)))


def _sharpness(luma: Image.Image) -> float:
    factor = max(1, round(max(luma.size) / SHARPNESS_LONG_SIDE_PX))
    small = np.asarray(luma.reduce(factor) if factor > 1 else luma, dtype=np.float32)
    if min(small.shape) < 3:
        return 0.0
    centre = small[1:-1, 1:-1]
    laplacian = small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:] - 4.0 * centre
    return float(laplacian.std() / max(float(centre.std()), 1.0))
