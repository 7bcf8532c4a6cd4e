"""What a photograph would cost to decode, by its header: giants that would fill the memory are refused before it is taken.

The figures are of Pillow's decoders: what they keep besides the picture, per pixel, at their peak.
"""

from PIL import Image

from hectocar.errors import DataError
from hectocar.photos.jpeg_stream import JpegStream

MAX_DECODED_BYTES = 1_000_000_000
GIANT_BYTES = 128 * 2**20
"""From here on only one photograph is decoded at a time."""
MAX_SCAN_MEGAPIXELS = 2500.0
"""Each scan of a progressive JPEG goes through the whole picture: 25 scans at 100 megapixels."""
_MAX_RLE_BYTES = 16 * 2**20
"""Pillow decodes a run-length coded BMP in Python, a second per 3 million bytes."""
_SMALL_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_TIFF_ROWS, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT, _TIFF_BITS, _TIFF_PLANAR = 278, 322, 323, 258, 284
_WEBP_BUFFERS, _AVIF_BUFFERS, _GIF_BUFFERS = 14, 10, 1
"""Bytes per pixel: two canvases, planes and the frame handed over; planes and the frame; the frame."""


def check_cost(image: Image.Image, data: bytes, jpeg: JpegStream | None) -> None:
    """Raises DataError where decoding would take more memory or time than any photograph should.

    Args:
        image: Opened, not loaded.
        data: The file's bytes.
        jpeg: Their structure, if they are a JPEG.
    """
    width, height = image.size
    num_bytes = decoded_bytes(image, jpeg)
    if num_bytes > MAX_DECODED_BYTES:
        raise DataError(
            f"{width} x {height} px of {_describe(image, jpeg)} take {num_bytes / 1e9:.1f} GB to decode; allowed: up to "
            f"{MAX_DECODED_BYTES / 1e9:g} GB; save it smaller, or as a plain JPEG or PNG"
        )
    if jpeg is not None and len(jpeg.scans) * width * height > MAX_SCAN_MEGAPIXELS * 1e6:
        raise DataError(
            f"{width} x {height} px in {len(jpeg.scans)} scans take too long to decode; allowed: up to "
            f"{MAX_SCAN_MEGAPIXELS * 1e6 // (width * height):.0f} scans of this size; save it as a plain JPEG"
        )
    if _codec(image) == "bmp_rle" and len(data) > _MAX_RLE_BYTES:
        raise DataError(
            f"a run-length coded BMP of {len(data)} bytes takes too long to decode; allowed: up to {_MAX_RLE_BYTES} bytes; "
            "save it as PNG"
        )


def decoded_bytes(image: Image.Image, jpeg: JpegStream | None = None) -> int:
    """Memory that is taken while an opened picture is decoded, in bytes: its pixels and what the decoder keeps beside them."""
    num_pixels = image.size[0] * image.size[1]
    own = _SMALL_MODES.get(image.mode, 4) * num_pixels
    if jpeg is not None:
        return own + jpeg.coefficient_bytes
    beside = {"WEBP": _WEBP_BUFFERS, "AVIF": _AVIF_BUFFERS, "GIF": _GIF_BUFFERS}.get(image.format or "", 0)
    if image.format == "TIFF" and _codec(image) == "libtiff":
        return own + _tiff_buffer(image)
    return own + (2 if _codec(image) == "bmp_rle" else beside) * num_pixels


def _tiff_buffer(image: Image.Image) -> int:
    """Bytes of the strip or tile that libtiff holds at once."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(_TIFF_BITS, (8,))
    bits_per_pixel = max(bits) if tags.get(_TIFF_PLANAR, 1) == 2 else sum(bits)
    width, height = image.size
    rows = min(int(tags.get(_TIFF_ROWS, height)), max(width, height))
    width, rows = int(tags.get(_TIFF_TILE_WIDTH, width)), int(tags.get(_TIFF_TILE_HEIGHT, rows))
    return int(width * rows * bits_per_pixel // 8)


def _codec(image: Image.Image) -> str:
    tiles = getattr(image, "tile", [])
    return str(tiles[0][0]) if tiles else ""


def _describe(image: Image.Image, jpeg: JpegStream | None) -> str:
    kind = "progressive " if jpeg is not None and jpeg.is_progressive else ""
    return f"{kind}{image.format} ({image.mode})"
