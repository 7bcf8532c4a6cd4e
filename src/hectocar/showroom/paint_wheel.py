"""Paints the face of a wheel: tyre wall, rim and one of eight spoke patterns."""

import math

from PIL import Image

from hectocar.showroom.atlas import Material, PanelBrush, Zone
from hectocar.showroom.catalogue import CarDesign

_RIM_SHARE = 0.70
"""Rim radius as a share of the tyre's."""


def _spoke(brush: PanelBrush, angle: float, inner_m: float, outer_m: float, widths_m: tuple[float, float], twist: float = 0.0,
           material: Material = Material.RIM) -> None:  # fmt: skip
    """A spoke from the hub to the rim; `twist` turns its outer end, in radians."""
    points = []
    for radius, turn, width, order in ((inner_m, 0.0, widths_m[0], 1), (outer_m, twist, widths_m[1], -1)):
        pair = []
        for sign in (-1, 1):
            offset = sign * 0.5 * width
            direction = angle + turn
            pair.append(
                (
                    radius * math.cos(direction) - offset * math.sin(direction),
                    radius * math.sin(direction) + offset * math.cos(direction),
                )
            )
        points += pair[::order]
    brush.polygon(points, material)


def _paint_spokes(brush: PanelBrush, design: CarDesign, rim_m: float) -> None:
    turn = 2.0 * math.pi
    inner, outer = 0.12 * rim_m, 0.97 * rim_m
    match design.wheel:
        case "five":
            for k in range(5):
                _spoke(brush, turn * k / 5 + 0.3, inner, outer, (0.10, 0.075))
                _spoke(brush, turn * k / 5 + 0.3, inner, outer, (0.02, 0.015), material=Material.RIM_SHADE)
        case "six":
            for k in range(6):
                _spoke(brush, turn * k / 6, inner, outer, (0.06, 0.12))
        case "ten":
            for k in range(10):
                _spoke(brush, turn * k / 10, inner, outer, (0.028, 0.034))
        case "twin_five":
            for k in range(5):
                for shift in (-0.17, 0.17):
                    _spoke(brush, turn * k / 5 + 0.3 + shift, inner, outer, (0.032, 0.036))
        case "y_spoke":
            for k in range(5):
                _spoke(brush, turn * k / 5 + 0.3, inner, 0.52 * rim_m, (0.05, 0.045))
                for twist in (-0.30, 0.30):
                    _spoke(brush, turn * k / 5 + 0.3, 0.46 * rim_m, outer, (0.03, 0.028), twist)
        case "mesh":
            for k in range(14):
                for twist in (-0.32, 0.32):
                    _spoke(brush, turn * k / 14, inner, outer, (0.012, 0.016), twist)
        case "turbine":
            for k in range(9):
                _spoke(brush, turn * k / 9, inner, outer, (0.03, 0.085), 0.55)
        case "disc":
            brush.disc(0.0, 0.0, 0.96 * rim_m, Material.RIM)
            brush.disc(0.0, 0.0, 0.62 * rim_m, Material.RIM_SHADE)
            brush.disc(0.0, 0.0, 0.56 * rim_m, Material.RIM)
            for k in range(12):
                angle = turn * k / 12
                brush.disc(0.79 * rim_m * math.cos(angle), 0.79 * rim_m * math.sin(angle), 0.075 * rim_m, Material.DARK)


def paint_wheel(image: Image.Image, design: CarDesign) -> None:
    """The WHEEL panel."""
    brush = PanelBrush(image, Zone.WHEEL)
    radius = design.shape.wheel_radius_m
    rim = _RIM_SHARE * radius if design.wheel != "disc" else 0.62 * radius
    brush.disc(0.0, 0.0, 1.1 * radius, Material.TYRE)
    brush.disc(0.0, 0.0, rim + 0.020, Material.RUBBER)
    brush.disc(0.0, 0.0, rim + 0.010, Material.RIM)
    brush.disc(0.0, 0.0, rim - 0.014, Material.DARK)
    brush.disc(0.0, 0.0, 0.62 * rim, Material.RIM_SHADE)
    brush.disc(0.0, 0.0, 0.56 * rim, Material.DARK)
    _paint_spokes(brush, design, rim)
    brush.disc(0.0, 0.0, 0.19 * rim, Material.RIM)
    brush.disc(0.0, 0.0, 0.10 * rim, Material.RIM_SHADE)
