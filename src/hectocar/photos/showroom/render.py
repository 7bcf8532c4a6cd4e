"""Rasterises a car: Pillow draws triangle numbers far to near, NumPy then shades all visible pixels at once.

Every triangle carries linear functions of the pixel for its attributes (atlas place over depth, one over depth, normal),
so lines on the body stay straight under perspective and shading is smooth although the mesh is coarse.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hectocar.photos.showroom.atlas import Material, blank_atlas
from hectocar.photos.showroom.body import Layer, Mesh
from hectocar.photos.showroom.camera import Camera
from hectocar.photos.showroom.catalogue import CarDesign
from hectocar.photos.showroom.paint_ends import paint_front, paint_rear
from hectocar.photos.showroom.paint_side import paint_side, paint_top
from hectocar.photos.showroom.paint_wheel import paint_wheel
from hectocar.photos.showroom.parts import build_car
from hectocar.photos.showroom.shading import Floats32, Light, Rgb, shade, surface_tables
from hectocar.photos.showroom.shapes import Floats

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


def _directions_to_eye(camera: Camera, x: Floats32, y: Floats32, zoom: int) -> Floats32:
    axes = camera.axes.astype(np.float32)
    right = (x / zoom - camera.centre_px[0]) / camera.scale_px
    up = (camera.centre_px[1] - y / zoom) / camera.scale_px
    ray = axes[2][:, None] + axes[0][:, None] * right + axes[1][:, None] * up
    return np.asarray(-ray / np.sqrt(np.einsum("kp,kp->p", ray, ray)), dtype=np.float32)


def render_car(design: CarDesign, look: CarLook, camera: Camera, light: Light, width_px: int, height_px: int) -> Image.Image:
    """The car alone, as an image of mode RGBa (colour multiplied by coverage)."""
    zoom = SUPERSAMPLE
    mesh, atlas = build_car(design), build_atlas(design)
    size = (zoom * width_px, zoom * height_px)
    x, y, depth = camera.project(mesh.corners)
    x, y = x * zoom, y * zoom
    signed_area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    order = np.argsort(_draw_order(mesh, camera, depth), kind="stable")
    order = order[signed_area[order] < -0.02]
    x, y, depth, layer = x[order], y[order], depth[order], mesh.layer[order]
    xy, numbers = np.stack([x, y], axis=2), np.arange(1, len(order) + 1)
    is_wheel = layer == int(Layer.WHEELS)
    below = _draw_numbers(xy[is_wheel], numbers[is_wheel], size).reshape(-1)
    above = _draw_numbers(xy[~is_wheel], numbers[~is_wheel], size).reshape(-1)
    over_depth = np.concatenate([mesh.atlas_at[order], np.ones((*depth.shape, 1))], axis=2) / depth[..., None]
    planes = _plane_coefficients(x, y, np.concatenate([over_depth, mesh.normals[order]], axis=2))

    number = np.where(above > 0, above, below)
    pixels = np.flatnonzero(number)
    face = (number[pixels] - 1).astype(np.intp)
    rows = pixels // size[0]
    px, py = (pixels - rows * size[0]).astype(np.float32), rows.astype(np.float32)
    material = _look_up(atlas, planes, face, px, py)
    # Through a wheel arch one sees the wheel, or the dark behind it.
    hole = np.flatnonzero(material == int(Material.HOLE))
    behind = below[pixels[hole]] - 1
    material[hole] = int(Material.WELL)
    seen = hole[behind >= 0]
    face[seen] = behind[behind >= 0]
    material[seen] = _look_up(atlas, planes, face[seen], px[seen], py[seen])

    normals = np.stack([_interpolate(planes, k, face, px, py) for k in (3, 4, 5)])
    normals /= np.sqrt(np.einsum("kp,kp->p", normals, normals)) + np.float32(1e-6)
    diffuse, mirror = surface_tables(look.paint, look.gloss)
    colour = shade(material, normals, _directions_to_eye(camera, px, py, zoom), light, diffuse, mirror)
    red, green, blue = np.clip(colour * np.float32(255.0) + np.float32(0.5), 0.0, 255.0).astype(np.uint32)
    canvas = np.zeros(size[1] * size[0], dtype="<u4")
    canvas[pixels] = red | (green << 8) | (blue << 16) | np.uint32(255 << 24)
    return Image.frombytes("RGBa", size, canvas.tobytes()).reduce(zoom)
