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
from hectocar.photos.render import render_picture
from hectocar.photos.shift import PhotoShift, apply_shift
from hectocar.photos.views import LOOK_NAMES, Render, measure_look

Photo = TypeVar("Photo")
_LOOK_BYTES = 4 * len(LOOK_NAMES)
BATCH_BYTES, GPU_BATCH_BYTES = 128 * 2**20, 512 * 2**20
"""What the pictures of a batch may take, and where a GPU waits for them; a few batches are decoded ahead."""
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
    max_bytes: int = BATCH_BYTES,
) -> Iterator[RenderBatch]:
    """Whole photographs in many views, each read and decoded once, in order, without chance.

    A damaged photograph becomes black squares and is named in ``problems``; the caller must not use its answer. A batch has at
    most ``batch_size`` photographs, fewer where their pictures would take more than ``max_bytes``.
    """
    size = max(1, min(batch_size, max_bytes // sum(3 * render.size_px**2 for render in renders)))
    pictures: dict[int, tuple[NDArray[np.uint8], ...]] = {}

    def number_batches() -> Iterator[tuple[NDArray[np.int64], int]]:
        for start in range(0, len(photos), size):
            rows = np.arange(start, min(start + size, len(photos)))
            shapes = [(len(rows), render.size_px, render.size_px, 3) for render in renders]
            pictures[start // size] = tuple(np.zeros(shape, dtype=np.uint8) for shape in shapes)
            yield rows, _LOOK_BYTES

    def load(index: int, _: int) -> NDArray[np.uint8]:
        made, look_K = render_photo(read(photos[index]), renders, max_megapixels, change, index, looks=looks)
        for batch, picture in zip(pictures[index // size], made, strict=True):
            batch[index % size] = picture
        return look_K.view(np.uint8)

    for batch in iter_decoded(number_batches(), load, num_workers, shape=lambda num_bytes: (num_bytes,)):
        own = pictures.pop(int(batch.index_B[0]) // size)
        yield RenderBatch(own, batch.images_BHWC.view(np.float32), batch.index_B, batch.problems)
