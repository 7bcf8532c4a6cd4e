"""The planes of a photograph that its measurement needs, at a third of a decode's price."""

import math
from dataclasses import dataclass

from PIL import Image

from hectocar.errors import DataError
from hectocar.photos.decode import JPEG_FORMATS, decode_opened, decode_photo, describe_error, one_giant_at_a_time
from hectocar.photos.jpeg_damage import stored_luma
from hectocar.photos.pixels import read_orientation, to_upright_rgb, turn_upright


@dataclass(frozen=True)
class Planes:
    """Enough of a photograph to measure it, not to show it."""

    luma: Image.Image
    """Mode L, at full size, or averaged down where a giant is no JPEG."""
    colour: Image.Image
    """RGB, reduced."""
    stored: Image.Image | None
    """Of a JPEG: what its luma (of CMYK its black) is before it is turned upright, at full size."""
    orientation: int
    """As EXIF counts."""


def decode_planes(image: Image.Image, data: bytes, *, colour_side_px: int) -> Planes:
    """Decodes to upright luma at full size and to RGB at a reduced size.

    A JPEG gives its luma plane as it is stored (its colour is not decoded at full size); other formats are decoded whole.

    Args:
        image: What ``open_photo`` made of the data; it is used up.
        data: The file's bytes.
        colour_side_px: Both sides of the RGB picture have at least this many pixels where the photograph has them.

    Raises:
        DataError: The bytes are not a whole photograph.
    """
    # A PNG may say after its pixels how it is turned, and Pillow decodes it to know; a TIFF forgets it when it is decoded.
    orientation = 1 if image.format == "PNG" else read_orientation(image)
    if image.format not in JPEG_FORMATS:
        whole = decode_opened(image, data)
        return _planes_of(whole, colour_side_px, None, read_orientation(image) if image.format == "PNG" else orientation)
    is_cmyk, is_grey = image.mode == "CMYK", image.mode == "L"
    try:
        with one_giant_at_a_time(image, data):
            if not is_cmyk:
                image.draft("L", image.size)
            image.load()
            stored = stored_luma(image)
            if is_cmyk:
                return _planes_of(to_upright_rgb(image), colour_side_px, stored, orientation)
        luma = turn_upright(stored, orientation)
    except Exception as error:  # as in decode_photo
        raise DataError(f"damaged photograph: {describe_error(error)}") from error
    colour = luma if is_grey else decode_photo(data, max_megapixels=math.inf, min_side_px=colour_side_px)
    return Planes(luma, colour.convert("RGB"), stored, orientation)


def _planes_of(whole: Image.Image, colour_side_px: int, stored: Image.Image | None, orientation: int) -> Planes:
    reduced = whole.reduce(max(1, min(whole.size) // max(1, colour_side_px)))
    return Planes(whole.convert("L"), reduced, stored, orientation)
