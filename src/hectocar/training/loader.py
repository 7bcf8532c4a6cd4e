"""Training batches: threads decode, crop and resize to uint8; all other augmentation happens later, on the device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.config.schema import AugmentConfig, DataConfig
from hectocar.dataset.teaching import SoftTargets
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.pool import PhotoBatch, iter_decoded, raise_unread
from hectocar.photos.render import resize_photo
from hectocar.photos.shift import PhotoShift
from hectocar.training.draws import NUM_CROP_DRAWS, draw_crop_box, uniform_draws

_CROP_STREAM = 0
"""Number of the random stream that crops draw from; the augmentations on the device use others."""


@dataclass(frozen=True)
class FoldData:
    """What one fold trains on: all photographs of the manifest by row, and which rows are shown and held out."""

    files: Sequence[Path]
    labels: NDArray[np.int64]
    num_classes: int
    train_rows: NDArray[np.int64]
    valid_rows: NDArray[np.int64]
    shift: PhotoShift | None = None
    """Validate a second time on held-out photographs made like those of another set."""
    pairs: Sequence[tuple[int, int]] = ()
    """Classes whose names are similar: what similar-car batches are drawn from until the first validation."""
    soft: SoftTargets | None = None
    """A second class in the targets of photographs that are trained on."""


def load_crop(
    file: Path, row: int, size_px: int, *, augment: AugmentConfig, data: DataConfig, seed: int, epoch: int
) -> NDArray[np.uint8]:
    """One random crop as uint8 (size_px, size_px, 3); the same (seed, epoch, row) gives the same crop.

    Raises:
        DataError: The photograph is damaged.
    """
    # A crop of crop_scale[0] of the area still needs size_px: decode no smaller than that, with a reserve of 2.
    image = decode_photo(read_photo_bytes(file), max_megapixels=data.max_megapixels, min_side_px=2 * size_px)
    draws = uniform_draws(seed, epoch, np.array([row], dtype=np.int64), _CROP_STREAM, NUM_CROP_DRAWS)[0]
    return resize_photo(image, size_px, draw_crop_box(augment, draws, *image.size))


def iter_training_batches(
    files: Sequence[Path],
    batches: Sequence[NDArray[np.int64]],
    size_px: int,
    *,
    augment: AugmentConfig,
    data: DataConfig,
    seed: int,
    epoch: int,
) -> Iterator[PhotoBatch]:
    """Yields the crops of each batch of samples (see sampler.py), in order, decoded ahead.

    Raises:
        DataError: A photograph that was whole when the manifest was made is damaged now; it is named.
    """

    def load(row: int, side_px: int) -> NDArray[np.uint8]:
        return load_crop(files[row % len(files)], row, side_px, augment=augment, data=data, seed=seed, epoch=epoch)

    return raise_unread(iter_decoded(((rows, size_px) for rows in batches), load, data.num_workers), files)
