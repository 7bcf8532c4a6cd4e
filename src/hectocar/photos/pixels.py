"""Pixels of any kind -> upright 8-bit RGB: the same for a Pillow image and for the file that it came from.

Everything is done strip by strip, so that a giant picture costs little beyond its own pixels; and a giant is averaged down
on the way, because nothing here looks at more than WHOLE_MEGAPIXELS. Legend: H height, W width.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

WHOLE_MEGAPIXELS = 32.0
"""Larger pictures are averaged down by a whole factor to at most this."""
STRIP_PIXELS = 4 * 2**20
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
_WHITE = (255, 255, 255, 255)
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TOPS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0, 2.0**24 - 1, 2.0**32 - 1, 2.0**64, 2.0**128)
"""White of pictures that are stored deeper than 8 bits: cameras and scanners give 8, 10, 12, 14 or 16 of them."""
_OUTLIER_SHARE = 1e-4
"""Hot pixels do not stretch the range."""
_HIGHLIGHT_SHARE = 0.01
"""Linear pictures put lamps and reflections far above white, which is 1."""
_FLOAT_SLACK = 1.1
"""Resampling overshoots."""
_FRACTION_LIMIT = 2.0

Deep = NDArray[np.float64]
Convert = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Levels:
    """The values that become black and white."""

    low: float
    high: float


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """Upright RGB of a picture of any mode: alpha laid over white, deep grey brought to its own range.

    Args:
        image: Loaded; it stays as it is, and is itself the answer where there is nothing to do.

    Returns:
        RGB, turned as EXIF says, at full size or, above WHOLE_MEGAPIXELS, averaged over squares.

    Raises:
        ValueError: Pillow knows no way from this mode to RGB.
    """
    factor = find_factor(image.size)
    plain = image.mode == "RGB" and not has_alpha(image)
    rgb = image if plain and factor == 1 else _convert_strips(image, _same if plain else _find_convert(image), factor)
    return turn_upright(rgb, read_orientation(image))


def find_factor(size: tuple[int, int]) -> int:
    """By how much both sides of a picture are averaged down."""
    return max(1, math.ceil(math.sqrt(size[0] * size[1] / (WHOLE_MEGAPIXELS * 1e6))))


def read_orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF counts; 1 where nothing, or nonsense, is said."""
    try:
        orientation = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # unreadable EXIF says nothing about the pixels
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turns and mirrors the pixels; the image itself where they stand upright."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def iter_strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """(top row, strip) of at most STRIP_PIXELS, their heights multiples of a number; the picture itself where it is small."""
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width // multiple) * multiple
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def has_alpha(image: Image.Image) -> bool:
    """Whether some pixels may let through what lies behind."""
    return bool(image.has_transparency_data)


def _convert_strips(image: Image.Image, convert: Convert, factor: int) -> Image.Image:
    width, height = image.size
    if width * height <= STRIP_PIXELS:
        return convert(image)
    rgb = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top, strip in iter_strips(image, factor):
        piece = convert(strip)
        rgb.paste(piece.reduce(factor) if factor > 1 else piece, (0, top // factor))
    return rgb


def _same(image: Image.Image) -> Image.Image:
    return image


def _find_convert(image: Image.Image) -> Convert:
    if image.mode.startswith(("I", "F")):
        levels = find_levels(image)
        return lambda strip: _from_deep_grey(strip, levels)
    if not has_alpha(image):
        return lambda strip: strip.convert("RGB")
    if all(_to_rgba(strip).getchannel("A").getextrema()[1] == 0 for _, strip in iter_strips(image)):
        return lambda strip: _to_rgba(strip).convert("RGB")  # alpha that is zero everywhere was never meant
    return _lay_over_white


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def _lay_over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), _to_rgba(image)).convert("RGB")


def find_levels(image: Image.Image) -> Levels:
    """Black and white of a picture of deep grey (modes I, I;16, F), by its values.

    White is the smallest of 2^8 - 1, 2^10 - 1, 2^12 - 1, 2^14 - 1, 2^16 - 1, ... that no pixel passes, hot ones aside; for
    fractions it is 1 where all but the highlights stay below 2. Black is 0; but where values reach a quarter of white below
    it, they are signed, and black is as far from 0 as white. What is not a number counts for nothing.
    """
    is_float = image.mode == "F"
    whites = (1.0, *_TOPS) if is_float else _TOPS
    white = whites[_find_rung(image, [_slack(top, is_float) for top in whites], np.asarray)]
    if _find_rung(image, [white / 4.0], np.negative) == 0:
        return Levels(0.0, white)
    halves = [1.0 if top == 1.0 else (top + 1.0) / 2.0 for top in whites]
    half = halves[_find_rung(image, [_slack(half, is_float) for half in halves], np.abs)]
    return Levels(-half, half if half == 1.0 else half - 1.0)


def _slack(top: float, is_float: bool) -> float:
    return top if not is_float else _FRACTION_LIMIT if top == 1.0 else _FLOAT_SLACK * top


def _find_rung(image: Image.Image, limits: Sequence[float], side: Callable[[Deep], Deep]) -> int:
    """Place of the first limit that hardly any value passes; the number of limits where all are passed."""
    counts, num_values = np.zeros(len(limits), dtype=np.int64), 0
    for _, strip in iter_strips(image):
        values = side(_deep_values(strip))
        values = values[np.isfinite(values)]
        num_values += values.size
        highest = values.max(initial=-math.inf)
        counts += np.array([np.count_nonzero(values > limit) if highest > limit else 0 for limit in limits])
    allowed = max(_OUTLIER_SHARE * num_values, float(num_values >= 1000))
    for place, (limit, count) in enumerate(zip(limits, counts.tolist(), strict=True)):
        if count <= (_HIGHLIGHT_SHARE * num_values if limit == _FRACTION_LIMIT else allowed):
            return place
    return len(limits)


def _deep_values(image: Image.Image) -> Deep:
    return np.asarray(image).astype(np.float64)


def _from_deep_grey(image: Image.Image, levels: Levels) -> Image.Image:
    # Pillow's own convert clips at 255 and would make the photograph white.
    deep = np.nan_to_num(_deep_values(image), nan=levels.low, posinf=levels.high, neginf=levels.low)
    grey = np.clip((deep - levels.low) * (255.0 / (levels.high - levels.low)) + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


# 16-bit colour whose values use the lower bits only: Pillow keeps the high byte of each, which is then all but nothing. It
# can be asked for the other byte by decoding the file again as if its bytes were in the other order.
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
