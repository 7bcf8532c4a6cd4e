"""The shift between two sets of photographs: a tone curve and a JPEG quality, and how they are applied to a photograph.

The curve is v' = offset + gain * 255 * (v / 255) ** gamma on each RGB channel, cut off at 0 and 255.
Legend: K parameters (log gain, offset / 255, log gamma).
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hectocar.errors import DataError

Floats = NDArray[np.float64]

_RANGES = {"gain": (0.05, 10.0), "offset": (-255.0, 255.0), "gamma": (0.1, 10.0), "jpeg_quality": (0, 100)}
# ITU-T T.81, tables K.1 and K.2, row by row, and the zigzag order in which a file keeps them.
_LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99" + " 99" * 32
_ZIGZAG = sorted(range(64), key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8))


@dataclass(frozen=True)
class PhotoShift:
    """How a photograph of one set becomes like one of the other.

    Raises:
        DataError: A value is outside of its range.
    """

    gain: float = 1.0
    offset: float = 0.0
    """Grey levels, of 255."""
    gamma: float = 1.0
    jpeg_quality: int = 0
    """1 to 100 as libjpeg counts; 0 leaves the compression alone."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise DataError(f"shift: {name} is {value!r}; allowed: {low:g} to {high:g}")
        if self.jpeg_quality != int(self.jpeg_quality):
            raise DataError(f"shift: jpeg_quality is {self.jpeg_quality!r}; allowed: whole numbers from 0 to 100")

    @property
    def is_identity(self) -> bool:
        """No grey level changes and the compression is left alone."""
        return self.jpeg_quality == 0 and bool((self.tone_curve() == np.arange(256)).all())

    def tone_curve(self) -> NDArray[np.uint8]:
        """(256,) new value of each old one."""
        return np.round(bend_levels(to_vector(self), np.arange(256.0))).astype(np.uint8)

    def describe(self) -> str:
        """In words, for a person."""
        quality = f"JPEG quality {self.jpeg_quality}" if self.jpeg_quality else "compression left alone"
        return f"gain {self.gain:.3f}, offset {self.offset:+.1f}, gamma {self.gamma:.3f}, {quality}"


def apply_shift(image: Image.Image, shift: PhotoShift) -> Image.Image:
    """Shifts an RGB photograph: the tone curve first, then the compression (4:2:0, as cameras and web sites use)."""
    if shift.is_identity:
        return image
    shifted = image.point(shift.tone_curve().tolist() * 3)
    if not shift.jpeg_quality:
        return shifted
    buffer = io.BytesIO()
    shifted.save(buffer, "JPEG", quality=shift.jpeg_quality, subsampling=2)
    compressed = Image.open(buffer, formats=("JPEG",))
    compressed.load()
    return compressed


@cache
def _log_tables() -> NDArray[np.float64]:
    """(2, 100, 64) logarithms of the tables that libjpeg writes for luma and colour at each quality."""
    base = np.array([_LUMA.split(), _CHROMA.split()], dtype=np.int64)[:, None]
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)  # jpeg_quality_scaling of libjpeg
    return np.log(np.clip((base * percent + 50) // 100, 1, 255).astype(np.float64))


def estimate_jpeg_quality(quantization_tables: dict[int, list[int]]) -> int:
    """The libjpeg quality (1 to 100) whose tables are nearest; exact for files that libjpeg wrote.

    Args:
        quantization_tables: 64 steps per table, as Pillow gives them (row by row) or as the file does (zigzag); the first
            is taken for luma.

    Returns:
        0 where there is no table of 64.
    """
    tables = [quantization_tables[key] for key in sorted(quantization_tables) if len(quantization_tables[key]) == 64]
    if not tables:
        return 0
    logs = np.log(np.maximum(np.asarray(tables, dtype=np.float64), 1.0))
    references = _log_tables()[[0] + [1] * (len(tables) - 1)]
    distances = [
        np.abs(references - candidate[:, None]).mean(axis=(0, 2)) for candidate in (logs, logs[:, np.argsort(_ZIGZAG)])
    ]
    return int(np.minimum(*distances).argmin()) + 1


def bend_levels(params_K: Sequence[float] | Floats, values: Floats) -> Floats:
    log_gain, offset, log_gamma = params_K
    curve = 255.0 * (offset + math.exp(log_gain) * (values / 255.0) ** math.exp(log_gamma))
    return np.asarray(np.clip(curve, 0.0, 255.0))


def to_vector(shift: PhotoShift) -> Floats:
    return np.array([math.log(shift.gain), shift.offset / 255.0, math.log(shift.gamma)])


def to_shift(params_K: Floats, jpeg_quality: int) -> PhotoShift:
    gain, gamma = np.exp(params_K[[0, 2]])
    return PhotoShift(round(float(gain), 4), round(float(255.0 * params_K[1]), 2), round(float(gamma), 4), jpeg_quality)
