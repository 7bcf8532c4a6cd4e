"""Whole photographs -> fixed-size uint8 batches, without chance: the input of validation, prediction and service."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.photos.decode import (
    DEFAULT_MAX_MEGAPIXELS,
    PhotoBatch,
    decode_photo,
    fit_photo,
    iter_decoded,
    read_photo_bytes,
)
from hectocar.photos.shift import PhotoShift, apply_shift


def view_photo(
    data: bytes,
    size_px: int,
    fit: str,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    shift: PhotoShift | None = None,
) -> NDArray[np.uint8]:
    """The one way from a file's bytes to what the network sees outside training: uint8 (size_px, size_px, 3).

    Args:
        data: The file's bytes.
        size_px: Side of the square.
        fit: See ``fit_photo``.
        max_megapixels: Larger photographs are refused.
        shift: Makes the photograph like those of another set before it is resized: the shifted validation.

    Raises:
        DataError: The bytes are not a whole, accepted photograph.
    """
    if shift is not None:  # at full size: the curve and the compression act on pixels, not on averages of them
        return fit_photo(apply_shift(decode_photo(data, max_megapixels=max_megapixels), shift), size_px, fit)
    return fit_photo(decode_photo(data, max_megapixels=max_megapixels, min_side_px=2 * size_px), size_px, fit)


def iter_photo_batches(
    files: Sequence[Path],
    *,
    size_px: int,
    fit: str,
    batch_size: int,
    num_workers: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    shift: PhotoShift | None = None,
) -> Iterator[PhotoBatch]:
    """Whole photographs, in order, without chance: the input of validation, prediction and service.

    A damaged photograph becomes a black square and is named in ``problems``; the caller must not use its answer.
    """

    def load(index: int, side_px: int) -> NDArray[np.uint8]:
        return view_photo(read_photo_bytes(files[index]), side_px, fit, max_megapixels, shift)

    starts = range(0, len(files), batch_size)
    batches = ((np.arange(start, min(start + batch_size, len(files))), size_px) for start in starts)
    return iter_decoded(batches, load, num_workers)
