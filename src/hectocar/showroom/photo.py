"""Puts car, shadow, surroundings and camera together into a photograph."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hectocar.errors import DataError
from hectocar.showroom.backdrop import noise_window, paint_backdrop, shadow_mask
from hectocar.showroom.camera import Camera, place_camera
from hectocar.showroom.catalogue import CarDesign, find_design
from hectocar.showroom.render import render_car
from hectocar.showroom.scene import Scene, draw_scene

MIN_EDGE_PX, MAX_EDGE_PX = 16, 4096
_MEAN_CAR_M = (4.7, 1.85, 1.5)


def _check_size(width_px: int, height_px: int) -> None:
    for name, value in (("width_px", width_px), ("height_px", height_px)):
        if not MIN_EDGE_PX <= value <= MAX_EDGE_PX:
            raise DataError(f"{name} is {value}; allowed: {MIN_EDGE_PX} to {MAX_EDGE_PX}")


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise DataError(f"seed is {seed}; allowed: 0 or more")


def _place(design: CarDesign, scene: Scene, width_px: int, height_px: int) -> tuple[Camera, tuple[float, float, float]]:
    shape = design.shape
    size_m = (shape.length_m, shape.width_m, shape.height_m)
    return place_camera(scene.view, size_m, width_px, height_px), size_m


def _develop(pixels: NDArray[np.float32], scene: Scene) -> Image.Image:
    """Exposure, white balance, a shoulder for the highlights and grain; from (H, W, 3) in 0..1."""
    height, width = pixels.shape[:2]
    rng = np.random.default_rng(scene.backdrop_seed + 1)
    pixels = pixels * (np.asarray(scene.white_balance, dtype=np.float32) * np.float32(scene.exposure))
    pixels += np.float32(scene.grain) * noise_window(rng, width, height)[..., None]
    np.clip(pixels, 0.0, 1.0, out=pixels)
    return Image.fromarray((pixels * 255.0 + 0.5).astype(np.uint8))


def render_scene(design: CarDesign, scene: Scene, width_px: int, height_px: int) -> Image.Image:
    """One RGB photo of a design in given circumstances."""
    camera, size_m = _place(design, scene, width_px, height_px)
    pixels = paint_backdrop(scene, camera, width_px, height_px)
    pixels *= shadow_mask(scene, camera, size_m, width_px, height_px)[..., None]
    car = render_car(design, scene.look, camera, scene.light, width_px, height_px)
    layer = car.pixels.astype(np.float32) * np.float32(1.0 / 255.0)
    window = pixels[car.top : car.top + layer.shape[0], car.left : car.left + layer.shape[1]]
    window *= 1.0 - layer[..., 3:]
    window += layer[..., :3]
    return _develop(pixels, scene)


def render_photo(class_name: str, seed: int, *, width_px: int, height_px: int) -> Image.Image:
    """One clean RGB photo of a class.

    The seed alone decides view, paint, light and surroundings, whatever the class. Raises DataError for an unknown
    class, a negative seed or an edge outside of 16..4096 px.
    """
    _check_size(width_px, height_px)
    _check_seed(seed)
    return render_scene(find_design(class_name), draw_scene(np.random.default_rng(seed)), width_px, height_px)


def render_part(class_name: str, seed: int, *, width_px: int, height_px: int) -> Image.Image:
    """An extreme close-up that shows a piece of the car only; raises DataError like render_photo."""
    _check_size(width_px, height_px)
    _check_seed(seed)
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    # The car does not fit: the room around it is negative, and a shift chooses the piece.
    view = replace(scene.view, fill=3.4, shift_x=float(rng.uniform(-0.5, 0.5)), shift_y=float(rng.uniform(-0.1, 0.5)))
    return render_scene(find_design(class_name), replace(scene, view=view), width_px, height_px)


def render_empty_place(seed: int, *, width_px: int, height_px: int) -> Image.Image:
    """A photo of a place without a car in front; raises DataError like render_photo."""
    _check_size(width_px, height_px)
    _check_seed(seed)
    scene = draw_scene(np.random.default_rng(seed))
    camera = place_camera(scene.view, _MEAN_CAR_M, width_px, height_px)
    return _develop(paint_backdrop(scene, camera, width_px, height_px), scene)
