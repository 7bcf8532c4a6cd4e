"""Views: the ways in which a photograph is shown to a network at prediction, without chance, and what a photograph looks like.

A view is a fit (how the photograph fills the square), a size, a mirror and a brightening. Views that differ by the mirror
only share their pixels. Legend: K looks (brightness, sharpness).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hectocar.errors import ConfigError
from hectocar.photos.decode import fit_photo, resize_photo
from hectocar.tables import with_nearest

SMALL_LONG_SIDE_PX = 256
"""Sharpness is read at about this size, so that photographs of different sizes compare."""
SIZE_STEP_PX = 16
LOOK_NAMES = ("brightness", "sharpness")
_KEPT_SHARES = {"zoom": 0.87, "half": 0.5**0.5}
"""Share of each side that is kept around the middle: three quarters and a half of the area."""
_MEASURE_PX = 64
_GAMMA_MIN = 0.3


@dataclass(frozen=True)
class Render:
    """Pixels that a network sees; equal renders are made once."""

    fit: str
    size_px: int
    target: float = 0.0
    """Mean luma (0 to 255) up to which a darker photograph is brightened; 0 leaves it alone."""


@dataclass(frozen=True)
class View:
    """One way to look at a photograph."""

    name: str
    fit: str = ""
    """See ``render_picture``; empty means the network's own (``inference.fit``)."""
    size_factor: float = 1.0
    """Of the size that the network was validated with."""
    mirror: bool = False
    brighten: bool = False
    """Towards the mean brightness of the training photographs."""
    embeds: bool = False
    """Whether neighbours may be looked for among its embeddings."""

    def render(self, size_px: int, fit: str, brightness: float) -> Render:
        """Its pixels for a network of this size and fit, trained on photographs of this mean luma."""
        scaled = size_px
        if self.size_factor != 1.0:
            scaled = max(SIZE_STEP_PX, round(size_px * self.size_factor / SIZE_STEP_PX) * SIZE_STEP_PX)
        return Render(self.fit or fit, scaled, brightness if self.brighten else 0.0)


_ALL = (
    View("plain", embeds=True),
    View("mirror", mirror=True),
    View("bright", brighten=True),
    View("zoom", fit="zoom", embeds=True),
    View("zoom_bright", fit="zoom", brighten=True),
    View("large", size_factor=1.25, embeds=True),
    View("large_mirror", size_factor=1.25, mirror=True),
    View("large_bright", size_factor=1.25, brighten=True),
    View("large_zoom", fit="zoom", size_factor=1.25, embeds=True),
    View("larger", size_factor=1.5),
    View("half", fit="half"),
    View("crop", fit="crop"),
    View("letterbox", fit="letterbox"),
)
VIEWS = {view.name: view for view in _ALL}


def find_views(names: Sequence[str]) -> tuple[View, ...]:
    """Views by name.

    Raises:
        ConfigError: An unknown or repeated name, or none.
    """
    unknown = [name for name in names if name not in VIEWS]
    if unknown:
        raise ConfigError(f"--views: unknown {with_nearest(unknown, tuple(VIEWS))}; allowed: {', '.join(VIEWS)}")
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"--views is {','.join(names)!r}; allowed: one view or more, none twice")
    return tuple(VIEWS[name] for name in names)


def own_views(mirror: bool) -> tuple[View, ...]:
    """The views whose logits a network's validation averages."""
    return (VIEWS["plain"], VIEWS["mirror"]) if mirror else (VIEWS["plain"],)


def plan_renders(
    views: Sequence[View], size_px: int, fit: str, brightness: float
) -> tuple[tuple[Render, ...], list[tuple[int, bool]]]:
    """The different renders of the views, and for each view (its render's place, mirrored or not)."""
    renders = list(dict.fromkeys(view.render(size_px, fit, brightness) for view in views))
    return tuple(renders), [(renders.index(view.render(size_px, fit, brightness)), view.mirror) for view in views]


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
        left, top = width * (1.0 - kept) / 2.0, height * (1.0 - kept) / 2.0
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


def measure_look(image: Image.Image) -> tuple[float, float]:
    """Brightness and sharpness of decoded pixels, as ``Measurement`` has them but for the sampling of the brightness.

    Args:
        image: RGB, whole.
    """
    luma = image.convert("L").reduce(max(1, round(max(image.size) / SMALL_LONG_SIDE_PX)))
    small_HW = np.asarray(luma, dtype=np.float32)
    return float(small_HW.mean()), measure_sharpness(small_HW)


def measure_sharpness(small_HW: NDArray[np.float32]) -> float:
    """Deviation of the Laplacian in that of the picture, of a small one."""
    if min(small_HW.shape) < 3:
        return 0.0
    centre = small_HW[1:-1, 1:-1]
    laplacian = small_HW[:-2, 1:-1] + small_HW[2:, 1:-1] + small_HW[1:-1, :-2] + small_HW[1:-1, 2:] - 4.0 * centre
    return _deviation(laplacian) / max(_deviation(centre), 1.0)


def _deviation(values_HW: NDArray[np.float32]) -> float:
    # Two dot products: numpy's std makes three passes and as many copies.
    flat = (values_HW - values_HW.mean()).ravel()
    return math.sqrt(float(flat @ flat) / flat.size)
