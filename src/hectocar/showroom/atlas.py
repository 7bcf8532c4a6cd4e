"""The atlas: one image of material numbers per class that all triangles look up, and the panels it is made of.

Panels are seen along an axis: SIDE holds (x, z), TOP (x, y), FRONT and REAR (y, z), WHEEL a wheel's face, and SWATCH one
cell per material for parts that are of one material only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hectocar.showroom.shapes import Floats

PX_PER_M = 128
SIDE_WIDTH_M, HEIGHT_M, END_WIDTH_M, WHEEL_M = 6.0, 2.2, 2.2, 1.0
_SIDE_COLUMNS, _ROWS = int(SIDE_WIDTH_M * PX_PER_M), int(HEIGHT_M * PX_PER_M) + 1
_END_COLUMNS, _WHEEL_PX = int(END_WIDTH_M * PX_PER_M), int(WHEEL_M * PX_PER_M)
ATLAS_SIZE_PX = (_SIDE_COLUMNS, 3 * _ROWS + 16)
SWATCH_PX = 16


class Zone(IntEnum):
    """Which panel lies on a triangle; a swatch is SWATCH plus the material's number."""

    SIDE = 0
    TOP = 1
    FRONT = 2
    REAR = 3
    WHEEL = 4
    SWATCH = 100


class Material(IntEnum):
    """What a pixel of the atlas is made of; colours are in shading.py."""

    BODY = 0
    BODY_CREASE = 1
    BODY_LIGHT = 2
    GAP = 3
    GLASS = 4
    BLACK = 5
    CHROME = 6
    DARK = 7
    LAMP = 8
    LAMP_HOT = 9
    AMBER = 10
    RED = 11
    RED_HOT = 12
    PLATE = 13
    PLATE_TEXT = 14
    TYRE = 15
    RIM = 16
    RIM_SHADE = 17
    WELL = 18
    INTERIOR = 19
    SEAT = 20
    CLADDING = 21
    HOLE = 22
    RUBBER = 23


@dataclass(frozen=True)
class Panel:
    """A rectangle of the atlas with a metric frame; `a` runs along its columns, `b` upwards."""

    column: float
    row: float
    a_left_m: float
    b_top_m: float
    sign: float = 1.0
    """-1 where a grows to the left: x of the side panel, whose nose is on the left."""

    def at(self, a: float, b: float) -> tuple[float, float]:
        """Atlas pixel of a point in metres."""
        return self.column + self.sign * (a - self.a_left_m) * PX_PER_M, self.row + (self.b_top_m - b) * PX_PER_M


PANELS: dict[Zone, Panel] = {
    Zone.SIDE: Panel(0, 0, SIDE_WIDTH_M / 2, HEIGHT_M, -1.0),
    Zone.TOP: Panel(0, _ROWS, SIDE_WIDTH_M / 2, HEIGHT_M / 2, -1.0),
    Zone.FRONT: Panel(0, 2 * _ROWS, -END_WIDTH_M / 2, HEIGHT_M),
    Zone.REAR: Panel(_END_COLUMNS, 2 * _ROWS, -END_WIDTH_M / 2, HEIGHT_M),
    Zone.WHEEL: Panel(2 * _END_COLUMNS, 2 * _ROWS, -WHEEL_M / 2, WHEEL_M / 2),
}
_AXES: dict[Zone, tuple[int, int]] = {
    Zone.SIDE: (0, 2),
    Zone.TOP: (0, 1),
    Zone.FRONT: (1, 2),
    Zone.REAR: (1, 2),
    Zone.WHEEL: (0, 2),
}


def atlas_coordinates(corners: Floats, zones: NDArray[np.int64]) -> Floats:
    """Atlas column and row (T, 3, 2) of triangle corners (T, 3, 3), each seen along its zone's axis."""
    result = np.zeros((*corners.shape[:2], 2))
    for zone, panel in PANELS.items():
        chosen = zones == int(zone)
        a, b = (corners[chosen][..., axis] for axis in _AXES[zone])
        result[chosen, :, 0] = panel.column + panel.sign * (a - panel.a_left_m) * PX_PER_M
        result[chosen, :, 1] = panel.row + (panel.b_top_m - b) * PX_PER_M
    swatches = zones >= int(Zone.SWATCH)
    result[swatches, :, 0] = ((zones[swatches] - int(Zone.SWATCH)) * SWATCH_PX + SWATCH_PX / 2)[:, None]
    result[swatches, :, 1] = 3 * _ROWS + SWATCH_PX / 2
    return result


class PanelBrush:
    """Draws materials on one panel of an atlas, in metres."""

    def __init__(self, image: Image.Image, zone: Zone) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)
        self._panel = PANELS[zone]

    def polygon(self, points: Sequence[tuple[float, float]], material: Material) -> None:
        """A filled polygon."""
        self._draw.polygon([self._panel.at(a, b) for a, b in points], fill=int(material))

    def both(self, points: Sequence[tuple[float, float]], material: Material) -> None:
        """A polygon and its mirror image about a = 0."""
        self.polygon(points, material)
        self.polygon([(-a, b) for a, b in points], material)

    def line(self, points: Sequence[tuple[float, float]], material: Material, width_m: float = 0.012) -> None:
        """An open line."""
        width_px = max(1, round(width_m * PX_PER_M))
        self._draw.line([self._panel.at(a, b) for a, b in points], fill=int(material), width=width_px, joint="curve")

    def disc(self, a: float, b: float, radius_m: float, material: Material, *, stretch: float = 1.0) -> None:
        """A filled disc, `stretch` times as wide as high."""
        column, row = self._panel.at(a, b)
        wide, high = radius_m * stretch * PX_PER_M, radius_m * PX_PER_M
        self._draw.ellipse([column - wide, row - high, column + wide, row + high], fill=int(material))

    def pattern(self, outline: Sequence[tuple[float, float]], stripes: Sequence[Sequence[tuple[float, float]]],
                ground: Material, ink: Material) -> None:  # fmt: skip
        """A polygon of `ground` with polygons of `ink` cut off at its outline."""
        mask = Image.new("L", self._image.size)
        ImageDraw.Draw(mask).polygon([self._panel.at(a, b) for a, b in outline], fill=255)
        layer = Image.new("L", self._image.size, int(ground))
        draw = ImageDraw.Draw(layer)
        for stripe in stripes:
            draw.polygon([self._panel.at(a, b) for a, b in stripe], fill=int(ink))
        self._image.paste(layer, mask=mask)


def blank_atlas() -> Image.Image:
    """Body colour everywhere, the wheel panel a hole, and the swatches."""
    image = Image.new("L", ATLAS_SIZE_PX, int(Material.BODY))
    draw = ImageDraw.Draw(image)
    for material in Material:
        left = int(material) * SWATCH_PX
        draw.rectangle([left, 3 * _ROWS, left + SWATCH_PX - 1, 3 * _ROWS + SWATCH_PX - 1], fill=int(material))
    return image
