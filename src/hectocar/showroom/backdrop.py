"""Paints what is around the car: sky, place (places.py), rough ground, and the car's shadow."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from hectocar.showroom.camera import Camera
from hectocar.showroom.places import paint_place
from hectocar.showroom.scene import Scene


@lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.float32]:
    """Noise from which every photo takes its own window."""
    fine = np.random.default_rng(7).standard_normal((640, 640)).astype(np.float32)
    return np.asarray(0.8 * fine + 0.2 * np.roll(fine, 1, axis=1), dtype=np.float32)


def noise_window(rng: np.random.Generator, width_px: int, height_px: int) -> NDArray[np.float32]:
    """A (height, width) piece of the noise tile, repeated where the photo is larger."""
    tile = _noise_tile()
    rows = (np.arange(height_px) + int(rng.integers(640))) % 640
    columns = (np.arange(width_px) + int(rng.integers(640))) % 640
    return tile[rows[:, None], columns[None, :]]


def _gradient(scene: Scene, width: int, height: int, horizon: float) -> Image.Image:
    """Sky above the horizon, ground below it, as one column stretched to the photo's width."""
    rows = np.arange(height, dtype=np.float64)
    above = np.clip((horizon - rows) / (0.9 * height), 0.0, 1.0)[:, None] ** 0.7
    below = np.clip((rows - horizon) / height, 0.0, 1.0)[:, None]
    sky = np.asarray(scene.horizon) * (1.0 - above) + np.asarray(scene.sky) * above
    ground = np.asarray(scene.ground) * (0.86 + 0.30 * below)
    column = np.where((rows < horizon)[:, None], sky, ground)
    strip = Image.fromarray(np.clip(column * 255.0, 0, 255).astype(np.uint8)[:, None, :])
    return strip.resize((width, height), Image.Resampling.NEAREST)


def paint_backdrop(scene: Scene, camera: Camera, width_px: int, height_px: int) -> NDArray[np.float32]:
    """Surroundings (H, W, 3) in 0..1, a little out of focus, with a rough ground."""
    rng = np.random.default_rng(scene.backdrop_seed)
    horizon = float(np.clip(camera.horizon_row(), -0.5 * height_px, 1.5 * height_px))
    image = _gradient(scene, width_px, height_px, horizon)
    paint_place(ImageDraw.Draw(image), rng, scene, camera, (width_px, height_px), horizon)
    image = image.filter(ImageFilter.BoxBlur(float(rng.uniform(0.5, 1.2)) * width_px / 224.0))
    pixels = np.asarray(image, dtype=np.float32) * np.float32(1.0 / 255.0)
    roughness = 0.008 if scene.place == "showroom" else 0.030
    below = (np.arange(height_px) > horizon).astype(np.float32)[:, None]
    pixels *= (1.0 + roughness * below * noise_window(rng, width_px, height_px))[..., None]
    return pixels


def shadow_mask(
    scene: Scene, camera: Camera, size_m: tuple[float, float, float], width_px: int, height_px: int
) -> NDArray[np.float32]:
    """Factor (H, W) by which the car's shadow dims the ground."""
    length, width, height = size_m
    image = Image.new("L", (width_px, height_px), 255)
    draw = ImageDraw.Draw(image)
    outline = np.array([(0.49, 0.25), (0.46, 0.42), (0.3, 0.5), (-0.3, 0.5), (-0.47, 0.44), (-0.49, 0.25)])
    outline = np.concatenate([outline, outline[::-1] * [1.0, -1.0]]) * [length, width]
    sun = scene.light.sun_direction.astype(np.float64)
    cast = -sun[:2] / max(float(sun[2]), 0.3) * 0.55 * height
    for offset, grow, dim in (
        (cast, 0.96, 0.75 * scene.shadow),
        (np.zeros(2), 1.0, scene.shadow),
        (np.zeros(2), 0.90, min(0.92, 1.35 * scene.shadow)),
    ):
        points = np.column_stack([outline * grow + offset, np.zeros(len(outline))])
        x, y, _ = camera.project(points)
        draw.polygon(list(zip(x.tolist(), y.tolist(), strict=True)), fill=int(255 * (1.0 - dim)))
    blurred = image.filter(ImageFilter.BoxBlur(max(1.0, 0.012 * width_px)))
    return np.asarray(blurred, dtype=np.float32) * np.float32(1.0 / 255.0)
