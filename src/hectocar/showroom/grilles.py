"""Paints the grille, the part that tells most facelifts from what came before."""

from typing import TYPE_CHECKING

from hectocar.showroom.atlas import Material, PanelBrush
from hectocar.showroom.catalogue import CarDesign

if TYPE_CHECKING:
    from hectocar.showroom.paint_ends import EndFrame

Points = list[tuple[float, float]]


def _mirrored(right: Points) -> Points:
    """An outline from its right half."""
    return right + [(-a, b) for a, b in reversed(right)]


def _grow(outline: Points, by: float) -> Points:
    """The outline pushed outwards, for a chrome frame."""
    middle = sum(b for _, b in outline) / len(outline)
    widest = max(abs(a) for a, _ in outline)
    tallest = max(abs(b - middle) for _, b in outline)
    return [(a * (1 + by / widest), middle + (b - middle) * (1 + by / tallest)) for a, b in outline]


def _rows(step: float, thick: float) -> list[Points]:
    count = int(1.1 / step)
    return [[(-1.0, k * step), (1.0, k * step), (1.0, k * step + thick), (-1.0, k * step + thick)] for k in range(count)]


def _columns(step: float, thick: float) -> list[Points]:
    count = int(1.0 / step)
    return [
        [(k * step, -0.1), (k * step + thick, -0.1), (k * step + thick, 1.2), (k * step, 1.2)] for k in range(-count, count)
    ]


def _diagonals(step: float, thick: float) -> list[Points]:
    stripes: list[Points] = []
    for k in range(-24, 24):
        for lean in (-0.6, 0.6):
            a = k * step
            stripes.append([(a, 0.0), (a + thick, 0.0), (a + thick + lean, 1.0), (a + lean, 1.0)])
    return stripes


def _fill(brush: PanelBrush, frame: "EndFrame", outline: Points, stripes: list[Points], ink: Material, rim: float) -> None:
    """A grille with a chrome rim of the given share, or none."""
    if rim:
        brush.polygon(frame(_grow(outline, rim)), Material.CHROME)
    brush.pattern(frame(outline), [frame(stripe) for stripe in stripes], Material.DARK, ink)


def _paint_slots(brush: PanelBrush, frame: "EndFrame") -> None:
    for k in range(-3, 4):
        left, right = k * 0.13 - 0.042, k * 0.13 + 0.042
        brush.polygon(frame([(left, 0.52), (left, 0.84), (right, 0.84), (right, 0.52)]), Material.DARK)


def _paint_kidneys(brush: PanelBrush, frame: "EndFrame") -> None:
    for sign in (-1.0, 1.0):
        half = [(sign * a, b) for a, b in ((0.03, 0.50), (0.05, 0.86), (0.30, 0.84), (0.34, 0.66), (0.26, 0.50))]
        rim = [(sign * a, b) for a, b in ((0.0, 0.46), (0.01, 0.90), (0.33, 0.88), (0.385, 0.66), (0.29, 0.46))]
        brush.polygon(frame(rim), Material.CHROME)
        brush.pattern(frame(half), [frame(stripe) for stripe in _columns(0.07, 0.022)], Material.DARK, Material.RIM_SHADE)


def paint_grille(brush: PanelBrush, design: CarDesign, frame: "EndFrame") -> None:
    """Draw the design's grille and badge on the FRONT panel."""
    badge = (0.0, 0.88)
    match design.grille:
        case "bars":
            _fill(
                brush,
                frame,
                _mirrored([(0.0, 0.84), (0.44, 0.82), (0.36, 0.46), (0.0, 0.45)]),
                _rows(0.085, 0.035),
                Material.CHROME,
                0.025,
            )
            badge = (0.0, 0.66)
        case "slots":
            _paint_slots(brush, frame)
            badge = (0.0, 0.92)
        case "mesh":
            outline = _mirrored([(0.0, 0.74), (0.40, 0.72), (0.62, 0.42), (0.52, 0.24), (0.0, 0.22)])
            _fill(brush, frame, outline, _diagonals(0.085, 0.022), Material.RIM_SHADE, 0.0)
            badge = (0.0, 0.86)
        case "kidney":
            _paint_kidneys(brush, frame)
            badge = (0.0, 0.95)
        case "shield":
            outline = _mirrored([(0.0, 0.88), (0.36, 0.86), (0.46, 0.62), (0.32, 0.18), (0.0, 0.16)])
            _fill(brush, frame, outline, _rows(0.07, 0.022), Material.RIM_SHADE, 0.03)
            badge = (0.0, 0.72)
        case "slit":
            _fill(brush, frame, _mirrored([(0.0, 0.76), (0.50, 0.78), (0.48, 0.68), (0.0, 0.66)]), [], Material.BLACK, 0.0)
            badge = (0.0, 0.85)
        case "closed":
            brush.polygon(frame(_mirrored([(0.0, 0.845), (0.52, 0.865), (0.52, 0.835), (0.0, 0.815)])), Material.LAMP_HOT)
            brush.polygon(frame(_mirrored([(0.0, 0.78), (0.46, 0.79), (0.42, 0.60), (0.0, 0.58)])), Material.BODY_CREASE)
            badge = (0.0, 0.69)
        case "frame":
            outline = _mirrored([(0.0, 0.88), (0.50, 0.88), (0.50, 0.46), (0.0, 0.46)])
            _fill(brush, frame, outline, [], Material.BLACK, 0.05)
            brush.polygon(frame(_mirrored([(0.0, 0.71), (0.50, 0.71), (0.50, 0.62), (0.0, 0.62)])), Material.CHROME)
            badge = (0.0, 0.66)
        case "spindle":
            outline = _mirrored([(0.0, 0.88), (0.38, 0.88), (0.24, 0.58), (0.50, 0.20), (0.44, 0.12), (0.0, 0.12)])
            _fill(brush, frame, outline, _columns(0.055, 0.018), Material.RIM_SHADE, 0.03)
            badge = (0.0, 0.80)
    brush.disc(*frame.at(*badge), 0.042, Material.CHROME, stretch=1.25)
