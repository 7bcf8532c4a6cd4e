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
from hectocar.tables import with_nearest

SMALL_LONG_SIDE_PX = 256
"""Sharpness is read at about this size, so that photographs of different sizes compare."""
SIZE_STEP_PX = 16
LOOK_NAMES = ("brightness", "sharpness")


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
