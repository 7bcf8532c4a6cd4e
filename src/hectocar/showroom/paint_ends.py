"""Paints nose and tail: lamps, grilles, bumpers, plates, windscreen and rear window.

Positions on the nose are shares: `a` of the half width outwards from the middle, `b` of the height from the car's
underside (0) to the bonnet's edge (1). The tail uses the same with its own upper edge.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from hectocar.showroom.atlas import Material, PanelBrush, Zone
from hectocar.showroom.catalogue import CarDesign, Headlamp, Taillamp
from hectocar.showroom.grilles import paint_grille

Points = list[tuple[float, float]]

_HEADLAMPS: dict[Headlamp, Points] = {
    "almond": [(0.50, 0.66), (0.60, 0.80), (0.84, 0.92), (1.02, 0.90), (1.02, 0.76), (0.76, 0.64)],
    "slim": [(0.46, 0.80), (1.02, 0.93), (1.02, 0.82), (0.56, 0.71)],
    "boxy": [(0.58, 0.60), (0.58, 0.88), (1.02, 0.90), (1.02, 0.62)],
    "round": [],
    "split": [(0.50, 0.88), (1.02, 0.95), (1.02, 0.88), (0.52, 0.81)],
    "angular": [(0.46, 0.70), (0.56, 0.84), (1.02, 0.95), (1.02, 0.68), (0.84, 0.63), (0.74, 0.70)],
    "vertical": [(0.78, 0.42), (0.74, 0.88), (1.02, 0.92), (1.02, 0.46)],
    "quad": [],
}
_TAILLAMPS: dict[Taillamp, Points] = {
    "wedge": [(0.55, 0.66), (0.62, 0.86), (1.02, 0.92), (1.02, 0.62)],
    "band": [(0.0, 0.76), (0.0, 0.85), (1.02, 0.88), (1.02, 0.74)],
    "vertical": [(0.80, 0.45), (0.78, 0.98), (1.02, 0.98), (1.02, 0.48)],
    "twin_round": [],
    "boxes": [(0.62, 0.62), (0.62, 0.82), (1.02, 0.82), (1.02, 0.62)],
    "hook": [(0.50, 0.80), (0.52, 0.89), (1.02, 0.92), (1.02, 0.56), (0.88, 0.56), (0.86, 0.79)],
}


@dataclass(frozen=True)
class EndFrame:
    """Turns shares into metres on one end of the car."""

    half_m: float
    low_m: float
    top_m: float

    def __call__(self, points: Points) -> Points:
        """Metres of a list of (a, b) shares."""
        return [(a * self.half_m, self.low_m + b * (self.top_m - self.low_m)) for a, b in points]

    def at(self, a: float, b: float) -> tuple[float, float]:
        """Metres of one point."""
        return self([(a, b)])[0]


def _frames(design: CarDesign) -> tuple[EndFrame, EndFrame]:
    shape = design.shape
    front_half, rear_half = (float(shape.half_width(np.array([u]))[0]) for u in (0.0, 1.0))
    return (
        EndFrame(front_half, shape.clearance_m, shape.nose_z_m),
        EndFrame(rear_half, shape.clearance_m + 0.1, shape.tail_z_m - 0.03),
    )


def _paint_headlamps(brush: PanelBrush, frame: EndFrame, kind: Headlamp) -> None:
    outline = _HEADLAMPS[kind]
    if outline:
        brush.both(frame([(a, b) for a, b in outline]), Material.DARK)
        centre_a, centre_b = np.mean(outline, axis=0)
        inner = [(centre_a + 0.88 * (a - centre_a), centre_b + 0.80 * (b - centre_b)) for a, b in outline]
        brush.both(frame(inner), Material.LAMP)
    bulbs: dict[Headlamp, list[tuple[float, float, float]]] = {
        "almond": [(0.72, 0.745, 0.050), (0.87, 0.80, 0.040)],
        "slim": [(0.62, 0.785, 0.026), (0.72, 0.805, 0.026), (0.82, 0.83, 0.026)],
        "boxy": [(0.70, 0.74, 0.062), (0.87, 0.74, 0.062)],
        "round": [(0.72, 0.74, 0.125)],
        "split": [(0.74, 0.60, 0.050), (0.86, 0.60, 0.050)],
        "angular": [(0.64, 0.755, 0.040), (0.86, 0.77, 0.052)],
        "vertical": [(0.86, 0.79, 0.042), (0.86, 0.66, 0.042), (0.86, 0.54, 0.042)],
        "quad": [(0.60, 0.76, 0.072), (0.82, 0.78, 0.082)],
    }
    for a, b, radius in bulbs[kind]:
        for sign in (-1.0, 1.0):
            y, z = frame.at(sign * a, b)
            if not outline:
                brush.disc(y, z, radius + 0.022, Material.CHROME)
                brush.disc(y, z, radius + 0.006, Material.LAMP)
            brush.disc(y, z, 0.8 * radius if outline else 0.55 * radius, Material.LAMP_HOT)
    if kind == "split":
        brush.both(frame([(0.64, 0.52), (0.64, 0.68), (0.96, 0.68), (0.94, 0.52)]), Material.DARK)
        for a in (0.72, 0.84):
            for sign in (-1.0, 1.0):
                brush.disc(*frame.at(sign * a, 0.60), 0.042, Material.LAMP_HOT)
        brush.both(frame([(0.52, 0.85), (0.98, 0.91), (0.98, 0.89), (0.53, 0.83)]), Material.LAMP_HOT)


def _paint_plate(brush: PanelBrush, frame: EndFrame, b: float) -> None:
    y, z = frame.at(0.0, b)
    brush.polygon([(y - 0.26, z - 0.06), (y + 0.26, z - 0.06), (y + 0.26, z + 0.06), (y - 0.26, z + 0.06)], Material.PLATE)
    for left, right in ((-0.21, -0.16), (-0.14, -0.09), (-0.06, 0.0), (0.03, 0.07), (0.09, 0.13), (0.15, 0.20)):
        brush.polygon([(y + left, z - 0.032), (y + right, z - 0.032), (y + right, z + 0.032), (y + left, z + 0.032)],
                      Material.PLATE_TEXT)  # fmt: skip


def _paint_bumper(brush: PanelBrush, design: CarDesign, frame: EndFrame) -> None:
    dark = Material.CLADDING if design.cladding else Material.BLACK
    brush.both(frame([(0.0, -0.2), (0.0, 0.10), (0.70, 0.10), (1.1, 0.14), (1.1, -0.2)]), dark)
    intake = [(-0.50, 0.13), (-0.56, 0.27), (0.56, 0.27), (0.50, 0.13)]
    stripes = [[(-1.0, b), (1.0, b), (1.0, b + 0.012), (-1.0, b + 0.012)] for b in (0.17, 0.225)]
    brush.pattern(frame(intake), [frame(stripe) for stripe in stripes], Material.DARK, Material.BLACK)
    brush.both(frame([(0.66, 0.18), (0.70, 0.33), (0.90, 0.36), (0.92, 0.20)]), Material.DARK)
    for sign in (-1.0, 1.0):
        brush.disc(*frame.at(sign * 0.80, 0.265), 0.04, Material.LAMP)


def paint_front(image: Image.Image, design: CarDesign) -> None:
    """The FRONT panel and the headlamps' way around the corners of the SIDE panel."""
    brush = PanelBrush(image, Zone.FRONT)
    frame, _ = _frames(design)
    _paint_bumper(brush, design, frame)
    paint_grille(brush, design, frame)
    _paint_headlamps(brush, frame, design.headlamp)
    _paint_plate(brush, frame, 0.36 if design.grille in ("bars", "slots", "slit", "closed", "kidney", "frame") else 0.20)
    brush.line(frame([(-0.56, 0.96), (0.56, 0.96)]), Material.GAP, 0.012)
    _paint_screen(brush, design, front=True)
    outline = _HEADLAMPS[design.headlamp]
    side = PanelBrush(image, Zone.SIDE)
    if outline:
        upper, lower = max(b for a, b in outline if a > 1.0), min(b for a, b in outline if a > 1.0)
        _, high = frame.at(0.0, upper)
        _, low = frame.at(0.0, lower)
        nose = design.shape.x_at(0.0)
        back = nose - design.shape.nose_round_m - 0.20
        side.polygon([(nose + 0.1, low), (nose + 0.1, high), (back, high + 0.015), (back + 0.08, low + 0.02)], Material.DARK)
        side.polygon([(nose + 0.1, low + 0.015), (nose + 0.1, high - 0.015), (back + 0.04, high), (back + 0.09, low + 0.03)],
                     Material.LAMP)  # fmt: skip
        side.disc(back + 0.09, 0.5 * (low + high), 0.022, Material.AMBER)


def paint_rear(image: Image.Image, design: CarDesign) -> None:
    """The REAR panel and the tail lamps' way around the corners of the SIDE panel."""
    brush = PanelBrush(image, Zone.REAR)
    _, frame = _frames(design)
    dark = Material.CLADDING if design.cladding else Material.BLACK
    brush.both(frame([(0.0, -0.3), (0.0, 0.12), (1.1, 0.16), (1.1, -0.3)]), dark)
    brush.line(frame([(-1.0, 0.38), (1.0, 0.38)]), Material.GAP, 0.014)
    brush.line(frame([(-0.70, 0.97), (-0.66, 0.42), (0.66, 0.42), (0.70, 0.97)]), Material.GAP, 0.012)
    outline = _TAILLAMPS[design.taillamp]
    if outline:
        brush.both(frame(outline), Material.RED)
        a0, b0 = np.mean(outline, axis=0)
        brush.both(frame([(a0 + 0.55 * (a - a0), b0 + 0.5 * (b - b0)) for a, b in outline]), Material.RED_HOT)
    else:
        for a in (0.58, 0.82):
            for sign in (-1.0, 1.0):
                brush.disc(*frame.at(sign * a, 0.74), 0.085, Material.CHROME)
                brush.disc(*frame.at(sign * a, 0.74), 0.072, Material.RED)
                brush.disc(*frame.at(sign * a, 0.74), 0.034, Material.RED_HOT)
    _paint_plate(brush, frame, 0.55 if design.style != "pickup" else 0.28)
    for sign in (-1.0, 1.0):
        brush.disc(*frame.at(sign * 0.68, 0.03), 0.04, Material.CHROME, stretch=1.6)
    brush.disc(*frame.at(0.0, 0.74), 0.04, Material.CHROME, stretch=1.3)
    _paint_screen(brush, design, front=False)
    if outline:
        upper, lower = max(b for a, b in outline if a > 1.0), min(b for a, b in outline if a > 1.0)
        (_, high), (_, low) = frame.at(0.0, upper), frame.at(0.0, lower)
        tail, reach = design.shape.x_at(1.0), design.shape.tail_round_m + 0.16
        corner = [(tail - 0.1, low), (tail - 0.1, high), (tail + reach, high), (tail + reach - 0.06, low)]
        PanelBrush(image, Zone.SIDE).polygon(corner, Material.RED)


def _paint_screen(brush: PanelBrush, design: CarDesign, *, front: bool) -> None:
    """Windscreen or rear window: the cabin's cross-section less pillars and frame."""
    shape = design.shape
    foot_z = shape.cowl_z_m if front else shape.deck_z_m
    top_z = shape.height_m - (0.075 if front else shape.roof_drop_m + 0.05)
    foot = 0.925 * 0.5 * shape.width_m
    pillar = 0.085 if front else 0.14
    low, high = foot_z + (0.0 if front else 0.05), top_z

    def half_at(z: float, edge: float) -> float:
        return foot - shape.tumblehome * (z - foot_z) - edge

    paint = Material.BLACK if design.black_roof else Material.BODY
    brush.both([(0.0, foot_z - 0.06), (0.0, 2.19), (1.09, 2.19), (1.09, foot_z - 0.06)], paint)
    for edge, material in ((pillar - 0.018, Material.BLACK), (pillar, Material.GLASS)):
        inset = 0.0 if material is Material.BLACK else 0.012
        brush.both([(0.0, low + inset), (0.0, high - inset), (half_at(high, edge), high - inset),
                    (half_at(low, edge), low + inset)], material)  # fmt: skip
    if front:
        brush.disc(0.0, high - 0.05, 0.05, Material.BLACK, stretch=1.6)
