"""A decoded photograph brought into squares: the one resize, and the views made of it."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from hectocar.photos.views import Render

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in px, right and bottom exclusive."""
_KEPT_SHARES = {"zoom": 0.87, "half": 0.5**0.5}
"""Share of each side that is kept around the middle: three quarters and a half of the area."""
_MEASURE_PX = 64
_GAMMA_MIN = 0.3


def resize_photo(image: Image.Image, size_px: int, box: Box | None = None) -> NDArray[np.uint8]:
    """Resizes a photograph, or a box of it, to a square; a new uint8 array (size_px, size_px, 3)."""
    return _resize(image if box is None else image.crop(box), size_px, size_px)


def _resize(image: Image.Image, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Antialiased bilinear, as Pillow's, within one grey level: torch's kernel for bytes takes a third of the time."""
    pixels_HWC = torch.from_numpy(np.array(image))
    resized = F.interpolate(pixels_HWC.permute(2, 0, 1)[None], size=(height_px, width_px), mode="bilinear", antialias=True)
    result: NDArray[np.uint8] = resized[0].permute(1, 2, 0).contiguous().numpy()
    return result


def fit_photo(image: Image.Image, size_px: int, fit: str) -> NDArray[np.uint8]:
    """Brings a whole photograph into a square without chance: the view of validation, prediction and service.

    Args:
        image: RGB.
        size_px: Side of the square.
        fit: ``stretch``, ``letterbox`` (mid-grey bars) or ``crop`` (the middle square).

    Returns:
        uint8 array (size_px, size_px, 3).
    """
    width, height = image.size
    if fit == "stretch":
        return resize_photo(image, size_px)
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return resize_photo(image, size_px, (left, top, left + side, top + side))
    if fit == "letterbox":
        scale = size_px / max(width, height)
        inner = _resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
        square = np.full((size_px, size_px, 3), 124, dtype=np.uint8)
        top, left = (size_px - inner.shape[0]) // 2, (size_px - inner.shape[1]) // 2
        square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return square
    raise ValueError(f"fit is {fit!r}; allowed: stretch, letterbox, crop")


def render_picture(image: Image.Image, render: Render) -> NDArray[np.uint8]:
    """Pixels of a render.

    Args:
        image: RGB.
        render: Fits are those of ``fit_photo``, and ``zoom`` and ``half``: the middle three quarters and the middle half of
            the area, stretched to the square.

    Returns:
        uint8 array (size_px, size_px, 3).
    """
    if render.target > 0.0:
        image = brighten_picture(image, render.target)
    kept = _KEPT_SHARES.get(render.fit)
    if kept is not None:
        width, height = image.size
        left, top = (round(side * (1.0 - kept) / 2.0) for side in image.size)
        return resize_photo(image, render.size_px, (left, top, width - left, height - top))
    return fit_photo(image, render.size_px, render.fit)


def brighten_picture(image: Image.Image, target: float) -> Image.Image:
    """Bends the levels of a dark photograph, v' = 255 (v / 255)^gamma, until its bent luma has the target as its mean.

    A brighter photograph stays as it is. The curve acts on each channel, so strong colours end a little darker.

    Args:
        image: RGB.
        target: Mean luma, 0 to 255. What gamma 0.3 does not reach stays below it.
    """
    counts = np.array(image.convert("L").resize((_MEASURE_PX, _MEASURE_PX), Image.Resampling.NEAREST).histogram())
    share, levels = counts / counts.sum(), np.arange(256) / 255.0
    if 255.0 * float(share @ levels) >= target:
        return image
    low, high = _GAMMA_MIN, 1.0
    for _ in range(16):  # bisection: the mean falls as gamma rises
        middle = (low + high) / 2.0
        low, high = (low, middle) if 255.0 * float(share @ levels**middle) < target else (middle, high)
    curve = np.round(255.0 * levels**high).astype(int).tolist()
    return image.point(curve * 3)
