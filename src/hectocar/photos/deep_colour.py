"""16-bit colour whose values use the lower bits only: Pillow keeps the high byte of each, which is then all but nothing.

Pillow can be asked for the other byte by decoding the file again as if its bytes were in the other order.
"""

import sys

import numpy as np
from PIL import Image, ImageFile

from hectocar.photos.pixels import iter_strips

_HIGH_BYTE_LIMIT = 63
"""14 bits fill the high byte up to here; a picture above it is 16 bits deep and lost nothing."""
_OTHER_ORDER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


def find_low_bytes(image: Image.Image) -> list[ImageFile._Tile]:
    """The plan by which Pillow would decode the low bytes; empty where the picture is not of 16-bit colour.

    Args:
        image: Opened, not loaded.
    """
    tiles = []
    for tile in getattr(image, "tile", []):
        rawmode = tile.args if isinstance(tile.args, str) else tile.args[0] if tile.args else ""
        if image.mode not in ("RGB", "RGBA") or not isinstance(rawmode, str) or rawmode[-4:] not in _OTHER_ORDER:
            return []
        if rawmode == "LA;16B":  # Pillow knows no other order of it
            return []
        other = rawmode[:-4] + _OTHER_ORDER[rawmode[-4:]]
        tiles.append(tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:])))
    return tiles


def is_faint(image: Image.Image) -> bool:
    """Whether the colours of a picture use a quarter of the range at most."""
    return all(high <= _HIGH_BYTE_LIMIT for _, high in _colour_extrema(image))


def _colour_extrema(image: Image.Image) -> list[tuple[int, int]]:
    return [image.getchannel(band).getextrema() for band in "RGB"]  # type: ignore[misc]


def join_bytes(high: Image.Image, low: Image.Image) -> None:
    """Brings the colours of 16 bits to their own range, in the place of the high bytes; alpha stays as it is.

    White is 2^8 - 1, 2^10 - 1, 2^12 - 1 or 2^14 - 1, whichever holds all values.
    """
    most = max(high_k for _, high_k in _colour_extrema(high))
    white = next(2**bits - 1 for bits in (8, 10, 12, 14) if most < 2 ** (bits - 8))
    for (top, strip), (_, low_strip) in zip(iter_strips(high), iter_strips(low), strict=True):
        pixels, low_HWC = np.array(strip), np.asarray(low_strip)
        deep = pixels[..., :3].astype(np.float32) * 256.0 + low_HWC[..., :3]
        pixels[..., :3] = np.minimum(deep * (255.0 / white) + 0.5, 255.0).astype(np.uint8)
        high.paste(Image.fromarray(pixels), (0, top))
