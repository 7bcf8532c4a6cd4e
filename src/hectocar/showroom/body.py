"""Lofts a car's surface: lower body, cabin, wheels, mirrors and seats, as one soup of textured triangles.

A lattice of points runs along the car (rows) and around its section (columns). Every triangle knows which panel of the
class's atlas (paint.py) lies on it, so that windows, lamps and shut lines are paint and the mesh stays coarse: about
900 triangles, of which half face the camera.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hectocar.showroom.atlas import Zone, atlas_coordinates
from hectocar.showroom.catalogue import CarDesign
from hectocar.showroom.shapes import Floats, Shape

Ints = NDArray[np.int64]


class Layer(IntEnum):
    """What is drawn over what; inside a layer the nearer triangle wins."""

    WHEELS = 0
    INSIDE = 1
    BODY = 2
    CABIN = 3
    MIRRORS = 4


@dataclass(frozen=True)
class Mesh:
    """T triangles: corners (T, 3, 3) in metres, unit normals (T, 3, 3), atlas column and row (T, 3, 2), layer (T,)."""

    corners: Floats
    normals: Floats
    atlas_at: Floats
    layer: Ints


@dataclass(frozen=True)
class Lattice:
    """Points (R, C, 3) with a zone for each of the (R - 1) x (C - 1) cells."""

    points: Floats
    zones: Ints


def join_meshes(meshes: list[Mesh]) -> Mesh:
    """One soup of several."""
    return Mesh(
        np.concatenate([mesh.corners for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.atlas_at for mesh in meshes]),
        np.concatenate([mesh.layer for mesh in meshes]),
    )


def turned_inside_out(mesh: Mesh) -> Mesh:
    """The same surface seen from its other side, such as a convertible's windscreen from behind."""
    return Mesh(mesh.corners[:, ::-1], -mesh.normals[:, ::-1], mesh.atlas_at[:, ::-1], mesh.layer)


def build_lattice_mesh(lattice: Lattice, layer: Layer, *, outward_from: tuple[float, float, float] | None = None) -> Mesh:
    """Triangles of a lattice with smooth normals, turned away from `outward_from` (the lattice's middle by default)."""
    points = lattice.points
    along, around = np.gradient(points, axis=0), np.gradient(points, axis=1)
    normals = np.cross(along, around)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    middle = points.reshape(-1, 3).mean(axis=0) if outward_from is None else np.asarray(outward_from)
    # One sign for the whole lattice: a concave place must not flip on its own.
    if float(np.sum(normals * (points - middle))) < 0.0:
        normals = -normals
    first, last = slice(None, -1), slice(1, None)
    a, b, c, d = (first, first), (last, first), (last, last), (first, last)
    triangles = [(a, b, c), (a, c, d)]
    corners = np.concatenate([np.stack([points[s] for s in t], axis=2).reshape(-1, 3, 3) for t in triangles])
    corner_normals = np.concatenate([np.stack([normals[s] for s in t], axis=2).reshape(-1, 3, 3) for t in triangles])
    zones = np.tile(lattice.zones.reshape(-1), 2)
    return _oriented(corners, corner_normals, zones, layer)


def _oriented(corners: Floats, normals: Floats, zones: Ints, layer: Layer) -> Mesh:
    """Drop triangles without area and give the others one winding, so that culling by signed area works."""
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    keep = np.linalg.norm(face, axis=1) > 1e-7
    corners, normals, zones, face = corners[keep], normals[keep].copy(), zones[keep], face[keep]
    backwards = np.einsum("tk,tk->t", face, normals.sum(axis=1)) < 0.0
    corners[backwards] = corners[backwards][:, ::-1]
    normals[backwards] = normals[backwards][:, ::-1]
    return Mesh(corners, normals, atlas_coordinates(corners, zones), np.full(len(zones), int(layer), dtype=np.int64))


def build_body(shape: Shape) -> Mesh:
    """The lower body: flanks, bonnet, boot, and the rounded faces of nose and tail."""
    stations = np.array([0.0, 0.02, 0.05, 0.10, 0.17, shape.cowl_u, 0.36, 0.48, 0.60, 0.72, 0.82, 0.89, 0.94, 0.975, 1.0])
    stations = np.unique(np.clip(stations, 0.0, 1.0))
    section = _body_section(shape, stations)
    x = np.broadcast_to(shape.x_at(0.0) - stations[:, None] * shape.length_m, section.shape[:2])
    points = np.concatenate([x[..., None], section], axis=2)
    points = np.concatenate([_cap(points[0], 0.05), points, _cap(points[-1], -0.05)[::-1]])
    _round_ends(points, shape)
    num_rows, num_columns = points.shape[0] - 1, points.shape[1] - 1
    zones = np.full((num_rows, num_columns), int(Zone.SIDE), dtype=np.int64)
    middle = num_columns // 2
    zones[:, middle - 4 : middle + 4] = int(Zone.TOP)
    zones[:5] = int(Zone.FRONT)
    zones[-5:] = int(Zone.REAR)
    return build_lattice_mesh(Lattice(points, zones), Layer.BODY)


def _body_section(shape: Shape, stations: Floats) -> Floats:
    """Closed section (R, C, 2) of y and z, from under the car over the left flank and the top to the right flank."""
    width, top, shoulder = shape.half_width(stations), shape.top_z(stations), shape.shoulder_z(stations)
    low = (
        shape.clearance_m + 0.10 * np.clip((stations - 0.86) / 0.14, 0.0, 1.0) + 0.03 * np.clip(1.0 - stations / 0.1, 0.0, 1.0)
    )
    high = shoulder - low
    crown = top - shoulder
    half = [
        (0.00 * width, low), (0.84 * width, low), (0.93 * width, low + 0.02), (0.965 * width, low + 0.14 * high),
        (0.99 * width, low + 0.40 * high), (1.0 * width, low + 0.62 * high), (0.975 * width, low + 0.90 * high),
        (0.955 * width, shoulder), (0.925 * width, shoulder + 0.35 * crown), (0.80 * width, shoulder + 0.62 * crown),
        (0.45 * width, shoulder + 0.93 * crown), (0.00 * width, top),
    ]  # fmt: skip
    left = np.stack([np.stack([y, z], axis=-1) for y, z in half], axis=1)
    right = left[:, -2::-1] * np.array([-1.0, 1.0])
    return np.concatenate([left, right], axis=1)


def _cap(ring: Floats, depth_m: float) -> Floats:
    """Shrinking copies of an end ring that close the body there, innermost first."""
    centre = np.array([ring[0, 0], 0.0, 0.5 * (ring[:, 2].min() + ring[:, 2].max())])
    rows = []
    for scale, share in ((0.03, 1.0), (0.35, 1.0), (0.72, 0.98), (0.93, 0.85), (0.985, 0.4)):
        row = centre + (ring - centre) * scale
        row[:, 0] = ring[:, 0] + depth_m * share
        rows.append(row)
    return np.stack(rows)


def _round_ends(points: Floats, shape: Shape) -> None:
    """Bend nose and tail in plan and in profile, in place."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    for sign, corner_m, lean_m in ((1.0, shape.nose_round_m, shape.nose_lean_m), (-1.0, shape.tail_round_m, 0.05)):
        inset = shape.x_at(0.0) - sign * x
        weight = np.clip(1.0 - inset / (3.2 * corner_m + 0.1), 0.0, 1.0) ** 1.4
        plan = corner_m * (np.abs(y) / (0.5 * shape.width_m)) ** 2.4
        height = np.clip((z - shape.clearance_m) / (shape.nose_z_m - shape.clearance_m), 0.0, 1.3)
        profile = lean_m * np.clip(height - 0.45, 0.0, 1.0) ** 1.5 * 2.0 + 0.06 * np.clip(0.4 - height, 0.0, 1.0) * 2.0
        points[..., 0] -= sign * np.clip(weight, 0.0, 1.0) * (plan + profile)


def build_cabin(design: CarDesign) -> Mesh:
    """Windscreen, side windows and roof; of a convertible only the windscreen and its frame."""
    shape = design.shape
    end_u = shape.header_u + 0.012 if design.style == "convertible" else shape.deck_u
    front = np.linspace(shape.cowl_u - 0.005, shape.header_u - 0.02, 4)
    roof = np.linspace(shape.header_u, shape.roof_end_u, 6)
    rear = np.linspace(shape.roof_end_u + 0.3 * (shape.deck_u - shape.roof_end_u), shape.deck_u + 0.003, 4)
    stations = np.concatenate([front, roof, rear])
    stations = stations[stations < end_u + 0.004]
    base = shape.shoulder_z(stations) - 0.01
    top = np.maximum(shape.roof_z(stations), base + 0.005)
    foot = 0.925 * shape.half_width(np.full_like(stations, 0.4))
    high = top - base
    rail = foot - shape.tumblehome * high
    round_off = np.minimum(0.06, 0.4 * high)
    half = [
        (foot, base), (foot - 0.45 * shape.tumblehome * high + 0.012, base + 0.5 * high), (rail + 0.006, top - round_off),
        (rail - 0.025, top - 0.25 * round_off), (rail - 0.10, top + 0.006),
        (0.5 * rail, top + 0.03 * np.minimum(1.0, 4 * high)), (0.0 * rail, top + 0.04 * np.minimum(1.0, 4 * high)),
    ]  # fmt: skip
    left = np.stack([np.stack([y, z], axis=-1) for y, z in half], axis=1)
    section = np.concatenate([left, left[:, -2::-1] * np.array([-1.0, 1.0])], axis=1)
    x = np.broadcast_to(shape.x_at(0.0) - stations[:, None] * shape.length_m, section.shape[:2])
    points = np.concatenate([x[..., None], section], axis=2)
    # A windscreen bulges: its middle lies ahead of its corners.
    bulge = np.clip((shape.header_u + 0.02 - stations) / 0.1, 0.0, 1.0)[:, None]
    points[..., 0] += 0.10 * bulge * (1.0 - (points[..., 1] / foot[:, None]) ** 2)
    zones = np.full((points.shape[0] - 1, points.shape[1] - 1), int(Zone.SIDE), dtype=np.int64)
    mid_u = 0.5 * (stations[1:] + stations[:-1])
    upper = np.where(mid_u < shape.header_u, int(Zone.FRONT), np.where(mid_u < shape.roof_end_u, int(Zone.TOP), int(Zone.REAR)))
    zones[:, 3:-3] = upper[:, None]
    return build_lattice_mesh(Lattice(points, zones), Layer.CABIN, outward_from=(shape.x_at(0.5), 0.0, shape.cowl_z_m - 0.5))
