"""Paints five kinds of place behind and under the car, in the car's own perspective where it lies on the ground."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import ImageDraw

from hectocar.showroom.camera import Camera
from hectocar.showroom.scene import Place, Scene
from hectocar.showroom.shapes import Floats

Draw = ImageDraw.ImageDraw
Colour = tuple[int, int, int]
Stripe = tuple[tuple[float, float], tuple[float, float], float]


@dataclass(frozen=True)
class Canvas:
    """What a place is painted on, and with which chance."""

    draw: Draw
    rng: np.random.Generator
    scene: Scene
    camera: Camera
    width: int
    height: int
    horizon: float

    def uniform(self, low: float, high: float) -> float:
        """A number in a range."""
        return float(self.rng.uniform(low, high))


def _to_bytes(rgb: tuple[float, ...] | Floats, factor: float = 1.0) -> Colour:
    red, green, blue = (int(min(255.0, max(0.0, 255.0 * c * factor))) for c in rgb)
    return red, green, blue


def _box(draw: Draw, corners: list[float], fill: Colour) -> None:
    """A rectangle, or nothing where a low horizon has turned it inside out."""
    if corners[0] <= corners[2] and corners[1] <= corners[3]:
        draw.rectangle(corners, fill=fill)


def _houses(canvas: Canvas) -> None:
    draw, rng, width, height, horizon = canvas.draw, canvas.rng, canvas.width, canvas.height, canvas.horizon
    x = -canvas.uniform(0.0, 0.2) * width
    while x < width:
        wide, high = canvas.uniform(0.16, 0.45) * width, canvas.uniform(0.25, 0.75) * height
        tone = np.array([0.55, 0.50, 0.46]) * rng.uniform(0.65, 1.45) + rng.normal(0.0, 0.04, 3)
        foot = horizon + 0.05 * height
        _box(draw, [x, foot - high, x + wide, foot], fill=_to_bytes(tone))
        columns, rows = int(canvas.rng.integers(2, 6)), int(canvas.rng.integers(2, 6))
        pane = _to_bytes(tone, canvas.uniform(0.35, 0.7))
        for i in range(columns):
            for j in range(rows):
                left, top = x + wide * (i + 0.22) / columns, foot - high + high * (j + 0.2) / (rows + 0.6)
                _box(draw, [left, top, left + 0.56 * wide / columns, top + 0.55 * high / (rows + 0.6)], fill=pane)
        x += wide + canvas.uniform(0.0, 0.08) * width


def _trees(canvas: Canvas, count: int) -> None:
    draw, rng, width, height, horizon = canvas.draw, canvas.rng, canvas.width, canvas.height, canvas.horizon
    for _ in range(count):
        x, size = canvas.uniform(-0.05, 1.05) * width, canvas.uniform(0.10, 0.24) * height
        green = np.array([0.20, 0.33, 0.14]) * rng.uniform(0.6, 1.35)
        _box(draw, [x - 0.06 * size, horizon - size, x + 0.06 * size, horizon + 0.3 * size], fill=_to_bytes((0.25, 0.2, 0.16)))
        for _ in range(7):
            a, b = x + float(rng.normal(0.0, 0.5)) * size, horizon - size * (1.0 + float(rng.normal(0.1, 0.4)))
            r = size * canvas.uniform(0.3, 0.6)
            draw.ellipse([a - r, b - 0.8 * r, a + r, b + 0.8 * r], fill=_to_bytes(green, canvas.uniform(0.8, 1.2)))


def _parked_cars(canvas: Canvas, count: int) -> None:
    draw, rng, width, height, horizon = canvas.draw, canvas.rng, canvas.width, canvas.height, canvas.horizon
    for _ in range(count):
        length, x = canvas.uniform(0.20, 0.34) * width, canvas.uniform(-0.1, 1.0) * width
        h = 0.30 * length
        foot = horizon + canvas.uniform(0.04, 0.10) * height
        tone = _to_bytes(np.array([0.6, 0.6, 0.62]) * rng.uniform(0.15, 1.4) + rng.normal(0.0, 0.08, 3))
        cabin = ((0.18, 0.6), (0.32, 1.0), (0.70, 1.0), (0.86, 0.6))
        draw.polygon([(x + a * length, foot - b * h) for a, b in cabin], fill=tone)
        glass = ((0.25, 0.62), (0.34, 0.93), (0.69, 0.93), (0.79, 0.62))
        draw.polygon([(x + a * length, foot - b * h) for a, b in glass], fill=(45, 50, 56))
        draw.rounded_rectangle([x, foot - 0.65 * h, x + length, foot - 0.12 * h], radius=0.12 * h, fill=tone)
        for axle in (0.2, 0.8):
            a, r = x + axle * length, 0.2 * h
            draw.ellipse([a - r, foot - 2 * r, a + r, foot], fill=(25, 25, 26))


def _ground_lines(canvas: Canvas, lines: list[Stripe], colour: Colour) -> None:
    """Painted stripes on the ground, in metres: start, end, width."""
    ends = np.array([[start, end] for start, end, _ in lines])
    wide = np.array([width for *_, width in lines])[:, None, None]
    along = ends[:, 1] - ends[:, 0]
    across = 0.5 * wide * (np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1)[:, None])[:, None]
    # Points crowd at the stripe's middle, where the car stands and the camera near it cuts the stripe off.
    steps = 0.5 + 0.5 * np.linspace(-1.0, 1.0, 21) ** 3
    middle = ends[:, :1] + steps[:, None] * along[:, None]
    edges = np.concatenate([middle + across, (middle - across)[:, ::-1]], axis=1)
    points = np.concatenate([edges, np.zeros((*edges.shape[:2], 1))], axis=2)
    x, y, depth = canvas.camera.project(points)
    for columns, rows, seen in zip(x, y, depth > 0.5, strict=True):
        if seen.sum() >= 3:
            canvas.draw.polygon(list(zip(columns[seen].tolist(), rows[seen].tolist(), strict=True)), fill=colour)


def _paint_street(canvas: Canvas) -> None:
    _houses(canvas)
    _trees(canvas, int(canvas.rng.integers(0, 4)))
    _parked_cars(canvas, int(canvas.rng.integers(0, 3)))
    side = -1.0 if canvas.camera.eye[1] > 0 else 1.0
    kerb = side * canvas.uniform(1.6, 2.6)
    _ground_lines(canvas, [((-40.0, kerb + 3 * side), (40.0, kerb + 3 * side), 6.0)], _to_bytes(canvas.scene.ground, 1.25))
    _ground_lines(canvas, [((-40.0, kerb), (40.0, kerb), 0.22)], _to_bytes((0.72, 0.71, 0.68)))
    middle = -side * canvas.uniform(1.5, 2.2)
    dashes = [((4.0 * k, middle), (4.0 * k + 2.0, middle), 0.12) for k in range(-5, 6)]
    _ground_lines(canvas, dashes, (222, 220, 210))


def _paint_parking(canvas: Canvas) -> None:
    if canvas.rng.random() < 0.5:
        _houses(canvas)
    _trees(canvas, int(canvas.rng.integers(2, 9)))
    _parked_cars(canvas, int(canvas.rng.integers(1, 5)))
    pitch = canvas.uniform(2.4, 2.9)
    lines = [((-2.7, (k + 0.5) * pitch), (2.7, (k + 0.5) * pitch), 0.11) for k in range(-5, 5)]
    _ground_lines(canvas, [*lines, ((-2.7, -20.0), (-2.7, 20.0), 0.11)], (226, 226, 222))


def _paint_showroom(canvas: Canvas) -> None:
    draw, rng, width, height, horizon = canvas.draw, canvas.rng, canvas.width, canvas.height, canvas.horizon
    tone = np.array([0.80, 0.80, 0.80]) * rng.uniform(0.45, 1.15)
    foot = horizon + 0.12 * height
    _box(draw, [0, 0, width, foot], fill=_to_bytes(tone))
    if canvas.rng.random() < 0.6:
        count = int(canvas.rng.integers(2, 6))
        for k in range(count):
            left = width * (k + 0.06) / count
            _box(draw, [left, 0, left + 0.88 * width / count, foot - 0.10 * height], fill=_to_bytes((0.80, 0.88, 0.93)))
            _trees(replace(canvas, horizon=horizon - 0.12 * height), 1)
    for k in range(int(canvas.rng.integers(2, 6))):
        x = width * (k + canvas.uniform(0.2, 0.8)) / 5
        _box(draw, [x, 0.04 * height, x + 0.16 * width, 0.06 * height], fill=(255, 255, 250))
    _box(draw, [0, foot - 0.02 * height, width, foot], fill=_to_bytes(tone, 0.55))
    tiles = [((-30.0, 1.2 * k), (30.0, 1.2 * k), 0.02) for k in range(-9, 10)]
    tiles += [((1.2 * k, -30.0), (1.2 * k, 30.0), 0.02) for k in range(-9, 10)]
    _ground_lines(canvas, tiles, _to_bytes(canvas.scene.ground, 0.9))


def _paint_field(canvas: Canvas) -> None:
    draw, rng, width, height, horizon = canvas.draw, canvas.rng, canvas.width, canvas.height, canvas.horizon
    for level in (0.20, 0.10):
        x = np.linspace(0.0, width, 24)
        ridge = horizon - level * height * (0.6 + 0.4 * np.sin(x / width * canvas.uniform(3, 9) + canvas.uniform(0, 6)))
        green = np.array([0.34, 0.42, 0.36]) * (1.15 if level > 0.15 else 0.8)
        draw.polygon(
            [*zip(x.tolist(), ridge.tolist(), strict=True), (width, horizon + 2), (0, horizon + 2)], fill=_to_bytes(green)
        )
    _trees(canvas, int(canvas.rng.integers(3, 10)))
    track = _to_bytes(np.array([0.55, 0.50, 0.42]) * rng.uniform(0.8, 1.15))
    _ground_lines(canvas, [((-40.0, 0.0), (40.0, 0.0), canvas.uniform(3.2, 6.0))], track)


def _paint_coast(canvas: Canvas) -> None:
    draw, width, height, horizon = canvas.draw, canvas.width, canvas.height, canvas.horizon
    _box(draw, [0, horizon, width, horizon + 0.07 * height], fill=_to_bytes((0.22, 0.42, 0.55), canvas.uniform(0.8, 1.3)))
    for _ in range(6):
        a, b = canvas.uniform(0, width), horizon - canvas.uniform(0.2, 0.6) * height
        r = canvas.uniform(0.05, 0.14) * width
        draw.ellipse([a - r, b - 0.22 * r, a + r, b + 0.22 * r], fill=_to_bytes(canvas.scene.horizon, 1.05))
    side = -1.0 if canvas.camera.eye[1] > 0 else 1.0
    _ground_lines(canvas, [((-40.0, side * 2.6), (40.0, side * 2.6), 0.5)], _to_bytes((0.80, 0.79, 0.76)))
    _ground_lines(canvas, [((-40.0, -side * 1.6), (40.0, -side * 1.6), 0.12)], (226, 226, 222))


_PAINTERS: dict[Place, Callable[[Canvas], None]] = {
    "street": _paint_street,
    "parking": _paint_parking,
    "showroom": _paint_showroom,
    "field": _paint_field,
    "coast": _paint_coast,
}


def paint_place(
    draw: Draw, rng: np.random.Generator, scene: Scene, camera: Camera, size: tuple[int, int], horizon: float
) -> None:
    """Paint the scene's place over a gradient of sky and ground."""
    _PAINTERS[scene.place](Canvas(draw, rng, scene, camera, *size, horizon))
