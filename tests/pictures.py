"""Pictures with structure at every scale, and what people do to them: for tests of hashes, alignment and duplicates."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def make_picture(seed: int, width: int = 320, height: int = 200) -> Image.Image:
    """A random scene: coarse colour, finer texture over it, some sharp-edged boxes."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((height, width, 3))
    for cells, weight in ((4, 70.0), (12, 40.0), (40, 20.0)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers += weight * (np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), dtype=float) / 127.5 - 1.0)
    for _ in range(6):
        left, top = int(rng.integers(0, width - 40)), int(rng.integers(0, height - 40))
        layers[top : top + int(rng.integers(10, 60)), left : left + int(rng.integers(10, 80))] += rng.uniform(-70, 70, 3)
    return Image.fromarray(np.clip(layers + 120.0, 0, 255).astype(np.uint8))


def encode(image: Image.Image, quality: int = 88, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def edited_copies(image: Image.Image) -> dict[str, bytes]:
    """The same picture after what messengers, web sites and people do to it."""
    width, height = image.size
    dx, dy = round(0.05 * width), round(0.05 * height)
    return {
        "recompressed": encode(image, 40),
        "resized": encode(image.resize((round(0.7 * width), round(0.7 * height)), Image.Resampling.LANCZOS)),
        "brightened": encode(ImageEnhance.Brightness(image).enhance(1.25)),
        "darkened": encode(ImageEnhance.Brightness(image).enhance(0.7)),
        "cropped": encode(image.crop((dx, dy, width - dx, height - dy))),
        "cropped at a corner": encode(image.crop((0, 0, width - 2 * dx, height - 2 * dy))),
        "mirrored": encode(ImageOps.mirror(image)),
        "mirrored and cropped": encode(ImageOps.mirror(image.crop((dx, dy, width - dx, height - dy))), 60),
    }


def save(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
