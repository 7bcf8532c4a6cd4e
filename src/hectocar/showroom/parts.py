"""Wheels, mirrors, seats, rails and spoilers, and the assembly of the whole car."""

from functools import lru_cache

import numpy as np

from hectocar.showroom.atlas import Material, Zone
from hectocar.showroom.body import (
    Lattice,
    Layer,
    Mesh,
    build_body,
    build_cabin,
    build_lattice_mesh,
    join_meshes,
    turned_inside_out,
)
from hectocar.showroom.catalogue import CarDesign
from hectocar.showroom.shapes import Floats, Shape

TYRE_WIDTH_M = 0.23
_WHEEL_INSET_M = 0.035
_WHEEL_SIDES = 18


def build_ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float], material: Material, layer: Layer,
                    *, squareness: float = 1.0) -> Mesh:  # fmt: skip
    """A lump of one material; below 1, `squareness` turns the ellipsoid towards a box."""
    polar = np.linspace(0.02, np.pi - 0.02, 6)[:, None]
    turn = np.linspace(0.0, 2.0 * np.pi, 10)[None, :]
    unit = np.stack([np.cos(polar) * np.ones_like(turn), np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn)], axis=2)
    unit = np.sign(unit) * np.abs(unit) ** squareness
    points = np.asarray(centre) + unit * np.asarray(radii)
    zones = np.full((points.shape[0] - 1, points.shape[1] - 1), int(Zone.SWATCH) + int(material), dtype=np.int64)
    return build_lattice_mesh(Lattice(points, zones), layer)


def _ring(radii_m: Floats, y_m: Floats) -> Floats:
    """Points (R, C, 3) of circles around the y axis."""
    turn = np.linspace(0.0, 2.0 * np.pi, _WHEEL_SIDES + 1)
    x = radii_m[:, None] * np.cos(turn)
    z = radii_m[:, None] * np.sin(turn)
    return np.stack([x, np.broadcast_to(y_m[:, None], x.shape), z], axis=2)


def _build_wheel(centre: tuple[float, float, float], radius_m: float, side: float) -> Mesh:
    """A tyre's tread and shoulder and the painted face, which bulges a little."""
    half = 0.5 * TYRE_WIDTH_M
    tread = _ring(np.array([0.01, 0.95, 1.0, 0.94]) * radius_m, side * np.array([-half, -half, 0.6 * half, half]))
    face = _ring(np.array([0.94, 0.78, 0.62, 0.01]) * radius_m, side * np.array([half, half + 0.012, half, half - 0.015]))
    tyre_zone, face_zone = int(Zone.SWATCH) + int(Material.TYRE), int(Zone.WHEEL)
    meshes = []
    for points, zone, origin in ((tread, tyre_zone, (0.0, 0.0, 0.0)), (face, face_zone, (0.0, side * (half - 2.0), 0.0))):
        zones = np.full((points.shape[0] - 1, points.shape[1] - 1), zone, dtype=np.int64)
        mesh = build_lattice_mesh(Lattice(points, zones), Layer.WHEELS, outward_from=origin)
        meshes.append(Mesh(mesh.corners + np.asarray(centre), mesh.normals, mesh.atlas_at, mesh.layer))
    return join_meshes(meshes)


def _build_wheels(shape: Shape) -> Mesh:
    wheels = []
    for axle_u in (shape.front_axle_u, shape.rear_axle_u):
        for side in (-1.0, 1.0):
            half_width = float(shape.half_width(np.array([axle_u]))[0])
            y = side * (half_width - _WHEEL_INSET_M - 0.5 * TYRE_WIDTH_M)
            wheels.append(_build_wheel((shape.x_at(axle_u), y, shape.wheel_radius_m), shape.wheel_radius_m, side))
    return join_meshes(wheels)


def _build_mirrors(design: CarDesign) -> Mesh:
    shape = design.shape
    u = shape.cowl_u + 0.055
    z = float(shape.shoulder_z(np.array([u]))[0]) + 0.11
    y = 0.5 * shape.width_m + 0.03
    size = 1.25 if design.style in ("suv", "pickup", "van") else 1.0
    material = Material.BLACK if design.black_roof else Material.BODY
    radii = (0.065 * size, 0.105 * size, 0.07 * size)
    return join_meshes(
        [build_ellipsoid((shape.x_at(u), s * y, z), radii, material, Layer.MIRRORS, squareness=0.7) for s in (-1.0, 1.0)]
    )


def _build_seats(shape: Shape) -> Mesh:
    """Two seat backs with head rests and a wheel, for cars without a roof."""
    u = 0.5 * (shape.header_u + shape.deck_u) + 0.035
    lumps = []
    for y in (-0.37, 0.37):
        for z, radii in ((shape.cowl_z_m - 0.02, (0.08, 0.24, 0.17)), (shape.cowl_z_m + 0.19, (0.06, 0.13, 0.09))):
            lumps.append(build_ellipsoid((shape.x_at(u), y, z), radii, Material.SEAT, Layer.CABIN, squareness=0.6))
    return join_meshes(lumps)


def _build_roof_parts(design: CarDesign) -> list[Mesh]:
    """Roof rails and the spoiler above the rear window or on the boot."""
    shape, parts = design.shape, []
    if design.roof_rails:
        middle = 0.5 * (shape.header_u + shape.roof_end_u)
        half_length = 0.40 * (shape.roof_end_u - shape.header_u) * shape.length_m
        y = 0.925 * 0.5 * shape.width_m - shape.tumblehome * (shape.height_m - shape.cowl_z_m) - 0.06
        for side in (-1.0, 1.0):
            centre = (shape.x_at(middle), side * y, shape.height_m + 0.005)
            parts.append(build_ellipsoid(centre, (half_length, 0.02, 0.032), Material.CHROME, Layer.MIRRORS, squareness=0.5))
    if design.spoiler:
        low_tail = design.style == "coupe"
        u = 0.965 if low_tail else shape.roof_end_u + 0.012
        z = shape.tail_z_m + 0.14 if low_tail else shape.height_m - shape.roof_drop_m + 0.03
        radii = (0.11, (0.42 if low_tail else 0.31) * shape.width_m, 0.025)
        material = Material.BLACK if low_tail else Material.BODY
        parts.append(build_ellipsoid((shape.x_at(u), 0.0, z), radii, material, Layer.CABIN, squareness=0.5))
    return parts


@lru_cache(maxsize=64)
def build_car(design: CarDesign) -> Mesh:
    """The whole car of a design."""
    meshes = [build_body(design.shape), build_cabin(design), _build_wheels(design.shape), _build_mirrors(design)]
    if design.style == "convertible":
        meshes += [_build_seats(design.shape), turned_inside_out(meshes[1])]
    return join_meshes(meshes + _build_roof_parts(design))
