"""The one decoder: bytes of a photograph -> upright uint8 RGB. Training, validation, prediction and service all use it."""

import io
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from PIL import Image, features

from hectocar.errors import DataError
from hectocar.photos.decode_cost import GIANT_BYTES, check_cost, decoded_bytes
from hectocar.photos.jpeg_stream import read_jpeg
from hectocar.photos.pixels import find_low_bytes, is_faint, join_bytes, to_upright_rgb
from hectocar.photos.png_texts import SIGNATURE, drop_long_texts

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF") + ("AVIF",) * bool(features.check("avif"))
"""By the bytes. AVIF where Pillow was built with it (its wheels are, from 11.3 on); HEIC it cannot read."""
JPEG_FORMATS = ("JPEG", "MPO")
DEFAULT_MAX_MEGAPIXELS = 100.0
_MAX_FILE_BYTES = 256 * 1024 * 1024
_MIN_SIDE_PX = 2
Image.init()  # registers the plugins that Pillow would otherwise load at the first odd file
# Pillow raises on its own limit before ours can speak; ours is stricter and names the allowed value.
Image.MAX_IMAGE_PIXELS = None

GIANTS: AbstractContextManager[Any] = threading.Lock()  # a decoding process shares one with others instead

Pixels = bytes | Image.Image
"""A photograph: the bytes of a file, or a Pillow image."""


def read_photo_bytes(path: Path) -> bytes:
    """Reads a whole file; bytes, not paths, go to the decoder, so that no library has to cope with Korean names.

    Raises:
        DataError: The file is missing, is a folder or a pipe, is empty, or is larger than 256 MiB.
    """
    try:
        facts = os.stat(path)  # noqa: PTH116 - a third of pathlib's time, once per photograph and epoch
        if not S_ISREG(facts.st_mode) and not S_ISDIR(facts.st_mode):
            raise DataError(f"{path}: no regular file (a FIFO, a socket or a device)")
        num_bytes = facts.st_size
        if num_bytes > _MAX_FILE_BYTES:
            raise DataError(f"{path}: the file has {num_bytes} bytes; allowed: up to {_MAX_FILE_BYTES}")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not data:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    return data


def open_photo(data: bytes, *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Image.Image:
    """Opens without decoding pixels: format, size and what a decode would cost are known and allowed afterwards.

    Raises:
        DataError: Not an accepted image format, or more pixels, memory or time than allowed, or a side under 2 px.
    """
    jpeg = read_jpeg(data) if data.startswith(b"\xff\xd8\xff") else None
    if jpeg is not None and jpeg.problem:
        raise DataError(f"not a photograph: a JPEG with {jpeg.problem}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            readable = drop_long_texts(data) if data.startswith(SIGNATURE) else data
            image = Image.open(io.BytesIO(readable), formats=ACCEPTED_FORMATS)
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise many types on hostile bytes
        raise DataError(f"not a photograph: {describe_error(error)}; allowed formats: {', '.join(ACCEPTED_FORMATS)}") from error
    _check_size(image, max_megapixels)
    check_cost(image, data, jpeg)
    return image


def _check_size(image: Image.Image, max_megapixels: float) -> None:
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        raise DataError(f"{width} x {height} px are {width * height / 1e6:.0f} megapixels; allowed: up to {max_megapixels:g}")
    if min(width, height) < _MIN_SIDE_PX:
        raise DataError(f"{width} x {height} px; allowed: sides of {_MIN_SIDE_PX} px or more")


def decode_photo(
    photo: Pixels, *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS, min_side_px: int | None = None
) -> Image.Image:
    """Decodes to upright RGB: EXIF orientation applied, alpha laid over white, deep grey and CMYK reduced.

    A Pillow image gives what the bytes give that it was opened from.

    Args:
        photo: The file's bytes (the name's suffix plays no part, so a PNG named .jpg is fine), or a Pillow image of any mode,
            which is read only.
        max_megapixels: Larger photographs are refused before any pixel is decoded.
        min_side_px: The bytes of a JPEG may be decoded at 1/2, 1/4 or 1/8 size (nearly for free) as long as both sides keep
            at least this many pixels. None decodes at full size.

    Returns:
        A Pillow image of mode RGB. Above ``pixels.WHOLE_MEGAPIXELS`` it is averaged down.

    Raises:
        DataError: Not a whole, accepted photograph.
    """
    data = None if isinstance(photo, Image.Image) else photo
    image = photo if isinstance(photo, Image.Image) else open_photo(photo, max_megapixels=max_megapixels)
    _check_size(image, max_megapixels)
    return decode_opened(image, data, min_side_px)


def decode_opened(image: Image.Image, data: bytes | None, min_side_px: int | None = None) -> Image.Image:
    """As ``decode_photo``, of what ``open_photo`` made of the data or of a caller's image (data None)."""
    try:
        with warnings.catch_warnings(), one_giant_at_a_time(image, data):
            warnings.simplefilter("ignore")
            if data is not None and min_side_px is not None and image.format in JPEG_FORMATS:
                _decode_smaller(image, min_side_px)
            low_bytes = find_low_bytes(image) if data is not None else []
            image.load()
            if low_bytes and data is not None and is_faint(image):
                low = open_photo(data, max_megapixels=math.inf)
                low.tile = low_bytes  # type: ignore[attr-defined]
                low.load()
                join_bytes(image, low)
            return to_upright_rgb(image)
    except Exception as error:  # truncated streams, broken chunks, bad huffman codes: each plugin has its own type
        raise DataError(f"damaged photograph: {describe_error(error)}") from error


def _decode_smaller(image: Image.Image, min_side_px: int) -> None:
    factor = min(image.size) // max(1, min_side_px)
    if factor >= 2:
        draft_size = (image.size[0] // factor, image.size[1] // factor)
        image.draft(image.mode, draft_size)


@contextmanager
def one_giant_at_a_time(image: Image.Image, data: bytes | None) -> Iterator[None]:
    """Photographs are decoded side by side, but giants one after the other: each may take a gigabyte."""
    if data is None or decoded_bytes(image) <= GIANT_BYTES:
        yield
        return
    with GIANTS:
        yield


def describe_error(error: Exception) -> str:
    """A library's complaint on one line, without its objects."""
    text = " ".join(str(error).split())
    return "no image header found" if "cannot identify image file" in text else text[:160] or type(error).__name__
