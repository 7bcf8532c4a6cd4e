"""Paints what stands around the car: sky, houses, trees, parked cars, ground, and the car's shadow."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from hectocar.photos.showroom.camera import Camera
from hectocar.photos.showroom.scene import Place, Scene
from hectocar.photos.showroom.shapes import Floats

Draw = ImageDraw.ImageDraw
Colour = tuple[int, int, int]


def _to_bytes(rgb: tuple[float, ...] | Floats, factor: float = 1.0) -> Colour:
    red, green, blue = (int(min(255.0, max(0.0, 255.0 * c * factor))) for c in rgb)
    return red, green, blue


def _box(draw: Draw, corners: list[float], fill: Colour) -> None:
    """A rectangle, or nothing where a low horizon has turned it inside out."""
    if corners[0] <= corners[2] and corners[1] <= corners[3]:
        draw.rectangle(corners, fill=fill)


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


def _houses(draw: Draw, rng: np.random.Generator, width: int, height: int, horizon: float) -> None:
    x = -float(rng.uniform(0.0, 0.2)) * width
    while x < width:
        wide, high = float(rng.uniform(0.16, 0.45)) * width, float(rng.uniform(0.25, 0.75)) * height
        tone = np.array([0.55, 0.50, 0.46]) * rng.uniform(0.65, 1.45) + rng.normal(0.0, 0.04, 3)
        foot = horizon + 0.05 * height
        _box(draw, [x, foot - high, x + wide, foot], fill=_to_bytes(tone))
        columns, rows = int(rng.integers(2, 6)), int(rng.integers(2, 6))
        pane = _to_bytes(tone, float(rng.uniform(0.35, 0.7)))
        for i in range(columns):
            for j in range(rows):
                left, top = x + wide * (i + 0.22) / columns, foot - high + high * (j + 0.2) / (rows + 0.6)
                _box(draw, [left, top, left + 0.56 * wide / columns, top + 0.55 * high / (rows + 0.6)], fill=pane)
        x += wide + float(rng.uniform(0.0, 0.08)) * width


def _trees(draw: Draw, rng: np.random.Generator, width: int, height: int, horizon: float, count: int) -> None:
    for _ in range(count):
        x, size = float(rng.uniform(-0.05, 1.05)) * width, float(rng.uniform(0.10, 0.24)) * height
        green = np.array([0.20, 0.33, 0.14]) * rng.uniform(0.6, 1.35)
        _box(draw, [x - 0.06 * size, horizon - size, x + 0.06 * size, horizon + 0.3 * size], fill=_to_bytes((0.25, 0.2, 0.16)))
        for _ in range(7):
            a, b = x + float(rng.normal(0.0, 0.5)) * size, horizon - size * (1.0 + float(rng.normal(0.1, 0.4)))
            r = size * float(rng.uniform(0.3, 0.6))
            draw.ellipse([a - r, b - 0.8 * r, a + r, b + 0.8 * r], fill=_to_bytes(green, float(rng.uniform(0.8, 1.2))))


def _parked_cars(draw: Draw, rng: np.random.Generator, width: int, height: int, horizon: float, count: int) -> None:
    for _ in range(count):
        length, x = float(rng.uniform(0.20, 0.34)) * width, float(rng.uniform(-0.1, 1.0)) * width
        h = 0.30 * length
        foot = horizon + float(rng.uniform(0.04, 0.10)) * height
        tone = _to_bytes(np.array([0.6, 0.6, 0.62]) * rng.uniform(0.15, 1.4) + rng.normal(0.0, 0.08, 3))
        cabin = [(x + 0.18 * length, foot - 0.6 * h), (x + 0.32 * length, foot - h), (x + 0.70 * length, foot - h),
                 (x + 0.86 * length, foot - 0.6 * h)]  # fmt: skip
        draw.polygon(cabin, fill=tone)
        draw.polygon([(x + 0.25 * length, foot - 0.62 * h), (x + 0.34 * length, foot - 0.93 * h), (x + 0.69 * length, foot - 0.93 * h),
                      (x + 0.79 * length, foot - 0.62 * h)], fill=(45, 50, 56))  # fmt: skip
        draw.rounded_rectangle([x, foot - 0.65 * h, x + length, foot - 0.12 * h], radius=0.12 * h, fill=tone)
        for axle in (0.2, 0.8):
            a, r = x + axle * length, 0.2 * h
            draw.ellipse([a - r, foot - 2 * r, a + r, foot], fill=(25, 25, 26))


def _ground_lines(
    draw: Draw, camera: Camera, lines: list[tuple[tuple[float, float], tuple[float, float], float]], colour: Colour
) -> None:
    """Painted stripes on the ground, in metres: start, end, width."""
    ends = np.array([[start, end] for start, end, _ in lines])
    wide = np.array([width for *_, width in lines])[:, None, None]
    along = ends[:, 1] - ends[:, 0]
    across = 0.5 * wide * (np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1)[:, None])[:, None]
    middle = ends[:, :1] + np.linspace(0.0, 1.0, 13)[:, None] * along[:, None]
    edges = np.concatenate([middle + across, (middle - across)[:, ::-1]], axis=1)
    points = np.concatenate([edges, np.zeros((*edges.shape[:2], 1))], axis=2)
    x, y, depth = camera.project(points)
    for columns, rows, seen in zip(x, y, depth > 0.5, strict=True):
        if seen.sum() >= 3:
            draw.polygon(list(zip(columns[seen].tolist(), rows[seen].tolist(), strict=True)), fill=colour)


def _paint_street(
    draw: Draw, rng: np.random.Generator, scene: Scene, camera: Camera, size: tuple[int, int], horizon: float
) -> None:
    _houses(draw, rng, *size, horizon)
    _trees(draw, rng, *size, horizon, int(rng.integers(0, 4)))
    _parked_cars(draw, rng, *size, horizon, int(rng.integers(0, 3)))
    side = -1.0 if camera.eye[1] > 0 else 1.0
    kerb = side * float(rng.uniform(1.6, 2.6))
    _ground_lines(draw, camera, [((-40.0, kerb + 3 * side), (40.0, kerb + 3 * side), 6.0)], _to_bytes(scene.ground, 1.25))
    _ground_lines(draw, camera, [((-40.0, kerb), (40.0, kerb), 0.22)], _to_bytes((0.72, 0.71, 0.68)))
    middle = -side * float(rng.uniform(1.5, 2.2))
    dashes = [((4.0 * k, middle), (4.0 * k + 2.0, middle), 0.12) for k in range(-5, 6)]
    _ground_lines(draw, camera, dashes, (222, 220, 210))


def _paint_parking(
    draw: Draw, rng: np.random.Generator, scene: Scene, camera: Camera, size: tuple[int, int], horizon: float
) -> None:
    if rng.random() < 0.5:
        _houses(draw, rng, *size, horizon)
    _trees(draw, rng, *size, horizon, int(rng.integers(2, 9)))
    _parked_cars(draw, rng, *size, horizon, int(rng.integers(1, 5)))
    pitch = float(rng.uniform(2.4, 2.9))
    lines = [((-2.7, (k + 0.5) * pitch), (2.7, (k + 0.5) * pitch), 0.11) for k in range(-5, 5)]
    _ground_lines(draw, camera, [*lines, ((-2.7, -20.0), (-2.7, 20.0), 0.11)], (226, 226, 222))


def _paint_showroom(
    draw: Draw, rng: np.random.Generator, scene: Scene, camera: Camera, size: tuple[int, int], horizon: float
) -> None:
    width, height = size
    tone = np.array([0.80, 0.80, 0.80]) * rng.uniform(0.45, 1.15)
    foot = horizon + 0.12 * height
    _box(draw, [0, 0, width, foot], fill=_to_bytes(tone))
    if rng.random() < 0.6:
        count = int(rng.integers(2, 6))
        for k in range(count):
            left = width * (k + 0.06) / count
            _box(draw, [left, 0, left + 0.88 * width / count, foot - 0.10 * height], fill=_to_bytes((0.80, 0.88, 0.93)))
            _trees(draw, rng, int(width), height, horizon - 0.12 * height, 1)
    for k in range(int(rng.integers(2, 6))):
        x = width * (k + float(rng.uniform(0.2, 0.8))) / 5
        _box(draw, [x, 0.04 * height, x + 0.16 * width, 0.06 * height], fill=(255, 255, 250))
    _box(draw, [0, foot - 0.02 * height, width, foot], fill=_to_bytes(tone, 0.55))
    tiles = [((-30.0, 1.2 * k), (30.0, 1.2 * k), 0.02) for k in range(-9, 10)]
    tiles += [((1.2 * k, -30.0), (1.2 * k, 30.0), 0.02) for k in range(-9, 10)]
    _ground_lines(draw, camera, tiles, _to_bytes(scene.ground, 0.9))


def _paint_field(
    draw: Draw, rng: np.random.Generator, scene: Scene, camera: Camera, size: tuple[int, int], horizon: float
) -> None:
    width, height = size
    for level in (0.20, 0.10):
        x = np.linspace(0.0, width, 24)
        ridge = horizon - level * height * (0.6 + 0.4 * np.sin(x / width * float(rng.uniform(3, 9)) + float(rng.uniform(0, 6))))
        green = np.array([0.34, 0.42, 0.36]) * (1.15 if level > 0.15 else 0.8)
        draw.polygon(
            [*zip(x.tolist(), ridge.tolist(), strict=True), (width, horizon + 2), (0, horizon + 2)], fill=_to_bytes(green)
        )
    _trees(draw, rng, width, height, horizon, int(rng.integers(3, 10)))
    track = _to_bytes(np.array([0.55, 0.50, 0.42]) * rng.uniform(0.8, 1.15))
    _ground_lines(draw, camera, [((-40.0, 0.0), (40.0, 0.0), float(rng.uniform(3.2, 6.0)))], track)


def _paint_coast(
    draw: Draw, rng: np.random.Generator, scene: Scene, camera: Camera, size: tuple[int, int], horizon: float
) -> None:
    width, height = size
    _box(draw, [0, horizon, width, horizon + 0.07 * height], fill=_to_bytes((0.22, 0.42, 0.55), float(rng.uniform(0.8, 1.3))))
    for _ in range(6):
        a, b = float(rng.uniform(0, width)), horizon - float(rng.uniform(0.2, 0.6)) * height
        r = float(rng.uniform(0.05, 0.14)) * width
        draw.ellipse([a - r, b - 0.22 * r, a + r, b + 0.22 * r], fill=_to_bytes(scene.horizon, 1.05))
    side = -1.0 if camera.eye[1] > 0 else 1.0
    _ground_lines(draw, camera, [((-40.0, side * 2.6), (40.0, side * 2.6), 0.5)], _to_bytes((0.80, 0.79, 0.76)))
    _ground_lines(draw, camera, [((-40.0, -side * 1.6), (40.0, -side * 1.6), 0.12)], (226, 226, 222))


_PAINTERS: dict[Place, Callable[[Draw, np.random.Generator, Scene, Camera, tuple[int, int], float], None]] = {
    "street": _paint_street,
    "parking": _paint_parking,
    "showroom": _paint_showroom,
    "field": _paint_field,
    "coast": _paint_coast,
}


def paint_backdrop(scene: Scene, camera: Camera, width_px: int, height_px: int) -> NDArray[np.float32]:
    """Surroundings (H, W, 3) in 0..1, a little out of focus, with a rough ground."""
    rng = np.random.default_rng(scene.backdrop_seed)
    horizon = float(np.clip(camera.horizon_row(), -0.5 * height_px, 1.5 * height_px))
    image = _gradient(scene, width_px, height_px, horizon)
    _PAINTERS[scene.place](ImageDraw.Draw(image), rng, scene, camera, (width_px, height_px), horizon)
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
