"""Whole photographs -> fixed-size uint8 batches, without chance: the input of validation, prediction and service.

Legend: B photographs of a batch, K looks (see views.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hectocar.photos.decode import DEFAULT_MAX_MEGAPIXELS, Pixels, decode_photo
from hectocar.photos.pool import iter_decoded
from hectocar.photos.shift import PhotoShift, apply_shift
from hectocar.photos.views import LOOK_NAMES, Render, measure_look, render_picture

Photo = TypeVar("Photo")
_MAX_BATCH_BYTES = 128 * 2**20
Change = Callable[[Image.Image, int], Image.Image]
"""(photograph at full size, its index) -> what is looked at instead: a shift, or something unusable."""


@dataclass(frozen=True)
class RenderBatch:
    """Pictures of B photographs, one array (B, S, S, 3) per render; ``problems`` maps places to why they are black."""

    pictures: tuple[NDArray[np.uint8], ...]
    look_BK: NDArray[np.float32]
    index_B: NDArray[np.int64]
    problems: dict[int, str]


def shift_change(shift: PhotoShift | None) -> Change | None:
    """The change that makes photographs like those of another set."""
    return None if shift is None else lambda image, _: apply_shift(image, shift)


def view_photo(
    photo: Pixels,
    size_px: int,
    fit: str,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    shift: PhotoShift | None = None,
) -> NDArray[np.uint8]:
    """What the network sees of a photograph outside training, in one plain view: uint8 (size_px, size_px, 3).

    Args:
        photo: The file's bytes, or a Pillow image.
        size_px: Side of the square.
        fit: See ``render_picture``.
        max_megapixels: Larger photographs are refused.
        shift: Makes the photograph like those of another set before it is resized: the shifted validation.

    Raises:
        DataError: Not a whole, accepted photograph.
    """
    images = decode_for(photo, [Render(fit, size_px)], max_megapixels, shift_change(shift), 0)
    return render_picture(images[0], Render(fit, size_px))


def render_photo(
    photo: Pixels,
    renders: Sequence[Render],
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    change: Change | None = None,
    index: int = 0,
    *,
    looks: bool = True,
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    """The pictures that networks see of a photograph, and what the photograph looks like.

    A picture does not depend on which others are asked for.

    Args:
        photo: The file's bytes, or a Pillow image.
        renders: One or more; the photograph is decoded once.
        max_megapixels: Larger photographs are refused.
        change: Made at full size, before anything is resized: curves and compression act on pixels, not on averages.
        index: Passed on to the change.
        looks: Whether they are wanted; else they are 0.

    Returns:
        A picture per render, and (K,) looks: mean luma (0 to 255) and sharpness.

    Raises:
        DataError: Not a whole, accepted photograph.
    """
    images = decode_for(photo, renders, max_megapixels, change, index)
    pictures = [render_picture(image, render) for image, render in zip(images, renders, strict=True)]
    return pictures, np.array(measure_look(images[0]) if looks else (0.0, 0.0), dtype=np.float32)


def decode_for(
    photo: Pixels, renders: Sequence[Render], max_megapixels: float, change: Change | None = None, index: int = 0
) -> list[Image.Image]:
    """The photograph as it is before each render is made.

    It is decoded once, at full size, so that a file, its bytes and its decoded pixels give the same; then averaged down while
    both sides keep twice the render's size. Renders of one factor share an image.
    """
    whole = decode_photo(photo, max_megapixels=max_megapixels)
    if change is not None:
        return [change(whole, index)] * len(renders)
    factors = [max(1, min(whole.size) // (2 * render.size_px)) for render in renders]
    reduced = {factor: whole.reduce(factor) if factor > 1 else whole for factor in dict.fromkeys(factors)}
    return [reduced[factor] for factor in factors]


def iter_render_batches(
    photos: Sequence[Photo],
    renders: Sequence[Render],
    *,
    read: Callable[[Photo], Pixels],
    looks: bool = True,
    batch_size: int,
    num_workers: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    change: Change | None = None,
) -> Iterator[RenderBatch]:
    """Whole photographs in many views, each read and decoded once, in order, without chance.

    A damaged photograph becomes black squares and is named in ``problems``; the caller must not use its answer. A batch has at
    most ``batch_size`` photographs, fewer where their pictures are large, so that memory stays bounded.
    """
    ends = np.cumsum([3 * render.size_px**2 for render in renders])
    num_look_bytes = 4 * len(LOOK_NAMES)

    def load(index: int, num_bytes: int) -> NDArray[np.uint8]:
        data = read(photos[index])
        pictures, look_K = render_photo(data, renders, max_megapixels, change, index, looks=looks)
        return np.concatenate([*(picture.ravel() for picture in pictures), look_K.view(np.uint8)])

    num_bytes = int(ends[-1]) + num_look_bytes
    batches = _number_batches(len(photos), max(1, min(batch_size, _MAX_BATCH_BYTES // num_bytes)), num_bytes)
    for batch in iter_decoded(batches, load, num_workers, shape=lambda num_bytes: (num_bytes,)):
        flat = batch.images_BHWC
        parts = np.split(flat, ends, axis=1)
        pictures = tuple(
            part.reshape(-1, render.size_px, render.size_px, 3) for part, render in zip(parts[:-1], renders, strict=True)
        )
        look_BK = np.ascontiguousarray(parts[-1]).view(np.float32)
        yield RenderBatch(pictures, look_BK, batch.index_B, batch.problems)


def _number_batches(num_files: int, batch_size: int, size: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    for start in range(0, num_files, batch_size):
        yield np.arange(start, min(start + batch_size, num_files)), size
