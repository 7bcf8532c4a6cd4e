"""Paints the flank and the top of a car: windows, doors, arches, bonnet lines, load bed."""

import numpy as np
from PIL import Image

from hectocar.showroom.atlas import Material, PanelBrush, Zone
from hectocar.showroom.catalogue import CarDesign
from hectocar.showroom.shapes import Floats, Shape


def window_outline(design: CarDesign, grow_m: float = 0.0) -> list[tuple[float, float]]:
    """Outline of all side windows together: the cabin's silhouette, shrunk by roof rail and pillars."""
    shape = design.shape
    u = np.linspace(shape.cowl_u, shape.deck_u, 140)
    front_u, rear_u = 0.075 / shape.length_m, (0.30 if design.style in ("sedan", "coupe", "pickup") else 0.11) / shape.length_m
    upper = np.minimum.reduce([shape.roof_z(u) - 0.085, shape.roof_z(u - front_u) - 0.045, shape.roof_z(u + rear_u) - 0.06])
    lower = shape.shoulder_z(u) + 0.045
    upper, lower = upper + grow_m, lower - grow_m
    inside = upper > lower + 0.03
    x = shape.x_at(0.0) - u * shape.length_m
    top = list(zip(x[inside].tolist(), upper[inside].tolist(), strict=True))
    bottom = list(zip(x[inside].tolist(), lower[inside].tolist(), strict=True))
    return top + bottom[::-1]


def _paint_windows(brush: PanelBrush, design: CarDesign) -> None:
    shape = design.shape
    outline = window_outline(design)
    if design.black_roof:
        u = np.linspace(shape.cowl_u - 0.01, shape.deck_u + 0.01, 60)
        top = np.column_stack([shape.x_at(0.0) - u * shape.length_m, np.full(60, 2.19)])
        low = np.column_stack([top[:, 0], shape.shoulder_z(u) + 0.25])
        points = [(float(a), float(b)) for a, b in np.concatenate([top, low[::-1]])]
        brush.polygon(points, Material.BLACK)
    brush.polygon(window_outline(design, 0.016), Material.CHROME if design.chrome_windows else Material.BLACK)
    brush.polygon(outline, Material.GLASS)
    for index, pillar_u in enumerate(shape.pillars_u):
        x, lean = shape.x_at(pillar_u), 0.03 + 0.05 * index
        foot = float(shape.shoulder_z(np.array([pillar_u]))[0]) + 0.045
        solid = design.style in ("suv", "van") and index == len(shape.pillars_u) - 1
        half = 0.05 if solid else 0.03
        material = Material.BODY if solid and not design.black_roof else Material.BLACK
        brush.polygon([(x - half, foot), (x + half, foot), (x + half - lean, 2.1), (x - half - lean, 2.1)], material)
    # The pillars were drawn past the windows' upper edge: give the roof rail back what lies above it.
    roof = Material.BLACK if design.black_roof else Material.BODY
    upper = [(a, b + 0.016) for a, b in outline[: len(outline) // 2]]
    brush.polygon([*upper, (upper[-1][0], 2.19), (upper[0][0], 2.19)], roof)


def _arch_material(design: CarDesign) -> Material:
    return Material.CLADDING if design.cladding else Material.BODY_CREASE


def _paint_arches(brush: PanelBrush, design: CarDesign) -> None:
    shape = design.shape
    radius = shape.wheel_radius_m
    for axle_u in (shape.front_axle_u, shape.rear_axle_u):
        x = shape.x_at(axle_u)
        brush.disc(x, radius, radius + (0.115 if design.cladding else 0.062), _arch_material(design))
    for axle_u in (shape.front_axle_u, shape.rear_axle_u):
        x = shape.x_at(axle_u)
        brush.disc(x, radius, radius + 0.045, Material.HOLE)
        wide, foot = radius + 0.04, radius + 0.03
        brush.polygon([(x - wide, radius), (x + wide, radius), (x + foot, 0.0), (x - foot, 0.0)], Material.HOLE)


def _paint_flank(brush: PanelBrush, design: CarDesign) -> None:
    """Sill, crease, doors and handles."""
    shape = design.shape
    low, front, rear = shape.clearance_m, shape.x_at(0.0), shape.x_at(1.0)
    sill = Material.CLADDING if design.cladding else Material.BLACK
    brush.polygon([(front, low + 0.03), (rear, low + 0.03), (rear, low - 0.1), (front, low - 0.1)], sill)
    if design.cladding:
        brush.polygon([(front, low + 0.12), (rear, low + 0.12), (rear, low - 0.1), (front, low - 0.1)], sill)
    u = np.linspace(0.12, 0.93, 40)
    crease = _belt_share(shape, u, 0.80)
    x = (shape.x_at(0.0) - u * shape.length_m).tolist()
    brush.line(list(zip(x, crease.tolist(), strict=True)), Material.BODY_CREASE, 0.016)
    brush.line(list(zip(x, (crease + 0.018).tolist(), strict=True)), Material.BODY_LIGHT, 0.014)
    u_low = np.linspace(shape.front_axle_u + 0.09, shape.rear_axle_u - 0.09, 20)
    hollow = _belt_share(shape, u_low, 0.24).tolist()
    brush.line(list(zip((shape.x_at(0.0) - u_low * shape.length_m).tolist(), hollow, strict=True)), Material.BODY_CREASE, 0.03)
    _paint_doors(brush, design)


def _belt_share(shape: Shape, u: Floats, share: float) -> Floats:
    return shape.clearance_m + share * (shape.shoulder_z(u) - shape.clearance_m)


def _door_edges_u(design: CarDesign) -> list[float]:
    """Places of the vertical shut lines."""
    shape = design.shape
    first = shape.cowl_u + (0.075 if design.style == "van" else 0.025)
    if shape.num_side_doors == 1:
        return [first, first + 1.28 / shape.length_m]
    second = shape.pillars_u[0]
    last = shape.pillars_u[1] if len(shape.pillars_u) > 1 else shape.deck_u - 0.015
    return [first, second, last]


def _paint_doors(brush: PanelBrush, design: CarDesign) -> None:
    shape = design.shape
    edges = _door_edges_u(design)
    for index, edge_u in enumerate(edges):
        x = shape.x_at(edge_u)
        top = float(shape.shoulder_z(np.array([edge_u]))[0]) + 0.03
        foot = shape.clearance_m + 0.06
        behind = index == len(edges) - 1
        dodge = 0.16 if behind and abs(x - 0.12 - shape.x_at(shape.rear_axle_u)) < shape.wheel_radius_m + 0.2 else 0.0
        brush.line([(x, top), (x + 0.01, 0.55 * top + 0.45 * foot), (x + dodge, foot)], Material.GAP, 0.014)
        if index > 0:
            z = float(_belt_share(shape, np.array([edge_u]), 0.86)[0])
            brush.polygon([(x + 0.06, z), (x + 0.24, z + 0.004), (x + 0.24, z + 0.034), (x + 0.06, z + 0.03)],
                          Material.CHROME if design.chrome_windows else Material.BODY_CREASE)  # fmt: skip
    ends = [shape.x_at(edges[0]), shape.x_at(edges[-1])]
    brush.line([(ends[0], shape.clearance_m + 0.06), (ends[1], shape.clearance_m + 0.06)], Material.GAP, 0.012)


def _paint_screen_frame(brush: PanelBrush, design: CarDesign) -> None:
    """The flank of a convertible's windscreen: glass in a dark frame."""
    shape = design.shape
    u = np.linspace(shape.cowl_u, shape.header_u + 0.02, 30)
    x, foot = (shape.x_at(0.0) - u * shape.length_m).tolist(), (shape.shoulder_z(u) + 0.03).tolist()
    for lower_by, material in ((0.0, Material.BLACK), (0.05, Material.GLASS)):
        upper = [(a, 2.19) for a in x] if lower_by == 0.0 else list(zip(x, (shape.roof_z(u) - lower_by).tolist(), strict=True))
        brush.polygon([*upper, *zip(x[::-1], foot[::-1], strict=True)], material)


def paint_side(image: Image.Image, design: CarDesign) -> None:
    """The SIDE panel, but for the lamps that reach around the corners (paint_ends.py)."""
    brush = PanelBrush(image, Zone.SIDE)
    _paint_flank(brush, design)
    if design.style == "convertible":
        _paint_screen_frame(brush, design)
    else:
        _paint_windows(brush, design)
    _paint_arches(brush, design)


def paint_top(image: Image.Image, design: CarDesign) -> None:
    """The TOP panel: bonnet and boot lines, black roof, open cockpit or load bed."""
    brush = PanelBrush(image, Zone.TOP)
    shape = design.shape
    half = 0.5 * shape.width_m
    bonnet = [(shape.x_at(0.015), 0.60 * half), (shape.x_at(shape.cowl_u - 0.01), 0.80 * half)]
    for sign in (-1.0, 1.0):
        brush.line([(x, sign * y) for x, y in bonnet], Material.GAP, 0.014)
        brush.line([(x - 0.05, sign * y * 0.55) for x, y in bonnet], Material.BODY_LIGHT, 0.02)
        brush.line([(x - 0.05, sign * (y * 0.55 + 0.025)) for x, y in bonnet], Material.BODY_CREASE, 0.02)
    brush.polygon(_rectangle(shape, shape.cowl_u - 0.008, shape.cowl_u + 0.02, half), Material.BLACK)
    if design.black_roof and design.style != "convertible":
        brush.polygon(_rectangle(shape, shape.header_u - 0.05, shape.roof_end_u + 0.05, half), Material.BLACK)
    if design.style == "convertible":
        brush.polygon(_rectangle(shape, shape.cowl_u + 0.06, shape.deck_u - 0.01, 0.80 * half), Material.INTERIOR)
        brush.polygon(_rectangle(shape, shape.deck_u - 0.01, shape.deck_u + 0.05, 0.72 * half), Material.BLACK)
    elif design.style == "pickup":
        brush.polygon(_rectangle(shape, shape.deck_u + 0.01, 0.985, 0.86 * half), Material.BLACK)
        brush.polygon(_rectangle(shape, shape.deck_u + 0.02, 0.975, 0.80 * half), Material.DARK)
    elif shape.deck_u < 0.95:
        brush.line(
            [(shape.x_at(shape.deck_u + 0.012), -0.7 * half), (shape.x_at(shape.deck_u + 0.012), 0.7 * half)], Material.GAP
        )


def _rectangle(shape: Shape, start_u: float, end_u: float, half_m: float) -> list[tuple[float, float]]:
    start, end = shape.x_at(start_u), shape.x_at(end_u)
    return [(start, -half_m), (start, half_m), (end, half_m), (end, -half_m)]
