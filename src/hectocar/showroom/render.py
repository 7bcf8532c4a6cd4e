"""Rasterises a car: Pillow draws triangle numbers far to near, NumPy then shades all visible pixels at once.

Every triangle carries linear functions of the pixel for its attributes (atlas place over depth, one over depth, normal),
so lines on the body stay straight under perspective and shading is smooth although the mesh is coarse.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hectocar.showroom.atlas import Material, blank_atlas
from hectocar.showroom.body import Layer, Mesh
from hectocar.showroom.camera import Camera
from hectocar.showroom.catalogue import CarDesign
from hectocar.showroom.paint_ends import paint_front, paint_rear
from hectocar.showroom.paint_side import paint_side, paint_top
from hectocar.showroom.paint_wheel import paint_wheel
from hectocar.showroom.parts import build_car
from hectocar.showroom.shading import Floats32, Light, Rgb, shade, surface_tables
from hectocar.showroom.shapes import Floats

SUPERSAMPLE = 2
"""Pixels per output pixel and side; the edges of a coarser picture look like staircases."""


@dataclass(frozen=True)
class CarLook:
    """What varies within a class: paint and how much it mirrors."""

    paint: Rgb
    gloss: float = 0.10


@lru_cache(maxsize=64)
def build_atlas(design: CarDesign) -> NDArray[np.uint8]:
    """Material numbers of a design (rows, columns)."""
    image = blank_atlas()
    paint_side(image, design)
    paint_top(image, design)
    paint_front(image, design)
    paint_rear(image, design)
    paint_wheel(image, design)
    return np.asarray(image).copy()


def _draw_numbers(xy: Floats, numbers: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int32]:
    """Image of triangle numbers, drawn in the given order; 0 where there is none."""
    image = Image.new("I", size)
    # The core drawer: ImageDraw.polygon looks up its ink anew each time, which takes longer than a small triangle.
    polygon = ImageDraw.Draw(image).draw.draw_polygon
    for corners, number in zip(xy.reshape(-1, 6).tolist(), numbers.tolist(), strict=True):
        polygon(corners, number, 1)
    return np.asarray(image, dtype=np.int32)


def _draw_order(mesh: Mesh, camera: Camera, depth: Floats) -> Floats:
    """Sort key: layer first, then far to near. What hangs on the far flank comes before the body."""
    middle = mesh.corners.mean(axis=1)
    layer = mesh.layer.astype(np.float64)
    far = (mesh.layer == int(Layer.MIRRORS)) & (middle[:, 1] * camera.eye[1] < 0.0)
    layer[far] = float(Layer.INSIDE)
    return np.asarray(layer * 1000.0 - depth.mean(axis=1))


def _plane_coefficients(x: Floats, y: Floats, attributes: Floats) -> Floats32:
    """(3, A, T): per triangle and attribute, value = c0 * x + c1 * y + c2."""
    x0, y0 = x[:, 0], y[:, 0]
    dx1, dy1, dx2, dy2 = x[:, 1] - x0, y[:, 1] - y0, x[:, 2] - x0, y[:, 2] - y0
    area = dx1 * dy2 - dx2 * dy1
    rise1, rise2 = (attributes[:, k] - attributes[:, 0] for k in (1, 2))
    along_x = (rise1 * dy2[:, None] - rise2 * dy1[:, None]) / area[:, None]
    along_y = (rise2 * dx1[:, None] - rise1 * dx2[:, None]) / area[:, None]
    constant = attributes[:, 0] - along_x * x0[:, None] - along_y * y0[:, None]
    return np.ascontiguousarray(np.stack([along_x.T, along_y.T, constant.T]), dtype=np.float32)


def _interpolate(planes: Floats32, k: int, face: NDArray[np.intp], x: Floats32, y: Floats32) -> Floats32:
    """Attribute k at pixels of triangles `face`."""
    value: Floats32 = planes[0, k].take(face)
    value *= x
    value += planes[1, k].take(face) * y
    value += planes[2, k].take(face)
    return value


def _look_up(atlas: NDArray[np.uint8], planes: Floats32, face: NDArray[np.intp], x: Floats32, y: Floats32) -> NDArray[np.uint8]:
    """Material of pixels: attributes 0 and 1 are atlas place over depth, 2 is one over depth."""
    column, row, inverse = (_interpolate(planes, k, face, x, y) for k in range(3))
    columns = np.clip(column / inverse, 0, atlas.shape[1] - 1).astype(np.intp)
    rows = np.clip(row / inverse, 0, atlas.shape[0] - 1).astype(np.intp)
    return np.asarray(atlas.reshape(-1).take(rows * atlas.shape[1] + columns))


def _directions_to_eye(camera: Camera, x: Floats32, y: Floats32) -> Floats32:
    """Unit vectors (3, P) from the car to the eye; x and y are fine pixels of the whole frame."""
    axes = camera.axes.astype(np.float32)
    right = (x / SUPERSAMPLE - camera.centre_px[0]) / camera.scale_px
    up = (camera.centre_px[1] - y / SUPERSAMPLE) / camera.scale_px
    ray = axes[2][:, None] + axes[0][:, None] * right + axes[1][:, None] * up
    return np.asarray(-ray / np.sqrt(np.einsum("kp,kp->p", ray, ray)), dtype=np.float32)


@dataclass(frozen=True)
class _Raster:
    """What lies under each fine pixel of a cut-out of the frame that holds the car."""

    above: NDArray[np.int32]
    below: NDArray[np.int32]
    """One plus the number of the triangle in front (of the body) and behind (of the wheels); 0 where there is none."""
    planes: Floats32
    left: int
    top: int
    size: tuple[int, int]
    """Cut-out in output pixels; above and below are SUPERSAMPLE times finer."""


def _rasterise(mesh: Mesh, camera: Camera, width_px: int, height_px: int) -> _Raster | None:
    """Draw the triangles that face the camera; None if the car is out of the frame."""
    x, y, depth = camera.project(mesh.corners)
    left, right = int(max(0.0, np.floor(x.min()))), int(min(float(width_px), np.ceil(x.max()) + 1))
    top, bottom = int(max(0.0, np.floor(y.min()))), int(min(float(height_px), np.ceil(y.max()) + 1))
    if left >= right or top >= bottom:
        return None
    x, y = (x - left) * SUPERSAMPLE, (y - top) * SUPERSAMPLE
    signed_area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    order = np.argsort(_draw_order(mesh, camera, depth), kind="stable")
    order = order[signed_area[order] < -0.02]
    x, y, depth = x[order], y[order], depth[order]
    xy, numbers = np.stack([x, y], axis=2), np.arange(1, len(order) + 1)
    is_wheel = mesh.layer[order] == int(Layer.WHEELS)
    fine = (SUPERSAMPLE * (right - left), SUPERSAMPLE * (bottom - top))
    below, above = (_draw_numbers(xy[chosen], numbers[chosen], fine).reshape(-1) for chosen in (is_wheel, ~is_wheel))
    over_depth = np.concatenate([mesh.atlas_at[order], np.ones((*depth.shape, 1))], axis=2) / depth[..., None]
    planes = _plane_coefficients(x, y, np.concatenate([over_depth, mesh.normals[order]], axis=2))
    return _Raster(above, below, planes, left, top, (right - left, bottom - top))


def _resolve(raster: _Raster, atlas: NDArray[np.uint8], pixels: NDArray[np.intp], x: Floats32, y: Floats32) -> tuple[
    NDArray[np.intp], NDArray[np.uint8]]:  # fmt: skip
    """Triangle and material of each pixel; through a wheel arch one sees the wheel, or the dark behind it."""
    front, behind = raster.above[pixels], raster.below[pixels]
    face = np.where(front > 0, front, behind).astype(np.intp) - 1
    material = _look_up(atlas, raster.planes, face, x, y)
    hole = np.flatnonzero(material == int(Material.HOLE))
    material[hole] = int(Material.WELL)
    seen = hole[behind[hole] > 0]
    face[seen] = behind[seen].astype(np.intp) - 1
    material[seen] = _look_up(atlas, raster.planes, face[seen], x[seen], y[seen])
    return face, material


@dataclass(frozen=True)
class Sprite:
    """The car alone, RGBA with colour multiplied by coverage, (height, width, 4), and where it belongs in the frame."""

    pixels: NDArray[np.uint8]
    left: int
    top: int


def render_car(design: CarDesign, look: CarLook, camera: Camera, light: Light, width_px: int, height_px: int) -> Sprite:
    """Draw the car and shade it."""
    raster = _rasterise(build_car(design), camera, width_px, height_px)
    if raster is None:
        return Sprite(np.zeros((0, 0, 4), dtype=np.uint8), 0, 0)
    width, height = (SUPERSAMPLE * edge for edge in raster.size)
    pixels = np.flatnonzero(raster.above | raster.below)
    rows = pixels // width
    x, y = (pixels - rows * width).astype(np.float32), rows.astype(np.float32)
    face, material = _resolve(raster, build_atlas(design), pixels, x, y)
    normals = np.stack([_interpolate(raster.planes, k, face, x, y) for k in (3, 4, 5)])
    normals /= np.sqrt(np.einsum("kp,kp->p", normals, normals)) + np.float32(1e-6)
    to_eye = _directions_to_eye(camera, x + SUPERSAMPLE * raster.left, y + SUPERSAMPLE * raster.top)
    colour = shade(material, normals, to_eye, light, *surface_tables(look.paint, look.gloss))
    red, green, blue = np.clip(colour * np.float32(255.0) + np.float32(0.5), 0.0, 255.0).astype(np.uint32)
    canvas = np.zeros(width * height, dtype="<u4")
    canvas[pixels] = red | (green << 8) | (blue << 16) | np.uint32(255 << 24)
    small = Image.frombytes("RGBa", (width, height), canvas.tobytes()).reduce(SUPERSAMPLE)
    stored = np.frombuffer(small.tobytes(), dtype=np.uint8).reshape(raster.size[1], raster.size[0], 4)
    return Sprite(stored, raster.left, raster.top)
