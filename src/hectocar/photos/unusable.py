"""Photographs that nobody could name a car by, made of ordinary ones: what the floor under a probability is fitted on.

Each kind takes away what a network needs and leaves something that a camera, a phone or a broken upload might have sent.
Without chance: the index of the photograph chooses what would be random.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

_TILES = 6
_CLOSE_SHARE = 0.16


def _dark(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.point([round(0.03 * level) for level in range(256)] * 3)


def _burnt(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.point([min(255, 240 + level // 8) for level in range(256)] * 3)


def _blurred(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / 7.0))


def _close(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    side = max(2, round(_CLOSE_SHARE * min(width, height)))
    left, top = rng.integers(0, [width - side + 1, height - side + 1])
    return image.crop((int(left), int(top), int(left) + side, int(top) + side)).resize(image.size, Image.Resampling.BILINEAR)


def _shuffled(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = (max(1, side // _TILES) for side in image.size)
    mixed = Image.new("RGB", (width * _TILES, height * _TILES))
    for place, source in enumerate(rng.permutation(_TILES**2)):
        left, top = int(source) % _TILES * width, int(source) // _TILES * height
        tile = image.crop((left, top, left + width, top + height))
        mixed.paste(tile, (place % _TILES * width, place // _TILES * height))
    return mixed


def _noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    noisy = 0.1 * pixels + rng.uniform(0.0, 230.0, pixels.shape)
    return Image.fromarray(noisy.astype(np.uint8))


def _page(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    # A scanned document: rows of dark words of different lengths on white.
    width, height = image.size
    pixels = np.full((height, width, 3), 245, dtype=np.uint8)
    line = max(2, height // 40)
    for top in range(2 * line, height - 2 * line, 3 * line):
        left = width // 12
        while left < width - width // 8:
            right = left + int(rng.integers(width // 40 + 1, width // 9 + 2))
            pixels[top : top + line, left:right] = 40
            left = right + max(1, width // 50)
    return Image.fromarray(pixels)


UNUSABLE: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "dark": _dark,
    "burnt": _burnt,
    "blurred": _blurred,
    "close": _close,
    "shuffled": _shuffled,
    "noise": _noise,
    "page": _page,
}
"""By kind: all but black, all but white, out of focus, a handful of pixels of the body, tiles out of order, noise, text."""


def make_unusable(image: Image.Image, kind: str, index: int) -> Image.Image:
    """The photograph (RGB) made unusable; the same index gives the same pixels."""
    return UNUSABLE[kind](image, np.random.default_rng([2025, index]))
