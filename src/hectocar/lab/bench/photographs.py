"""The photographs of a benchmark: a person's or the showroom's, as they are or brought to one size in a temporary folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hectocar.dataset.finder import find_below
from hectocar.errors import DataError
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.progress import Progress
from hectocar.showroom.catalogue import catalogue
from hectocar.showroom.photo import render_photo

SHOWROOM_SIZE = (690, 437)
"""Mean of the contest's photographs."""
_QUALITY = 90
_RENDERED = 32
"""Photographs of the showroom; a round goes over them as often as it must."""


@dataclass(frozen=True)
class Photographs:
    """Files of a round, in order, and what they are."""

    files: tuple[Path, ...]
    words: str


def prepare_photographs(
    source: Path | None, count: int, resize: tuple[int, int] | None, seed: int, folder: Path, progress: Progress
) -> Photographs:
    """Chooses the photographs of a round.

    Args:
        source: A folder, searched at any depth; None renders cars of the showroom.
        count: Photographs of a round; where there are fewer, some come again.
        resize: (width, height) in pixels to save copies at, as JPEGs of quality 90.
        seed: Which are chosen.
        folder: Gets what is rendered or saved.
        progress: Receives a bar.

    Raises:
        DataError: None that can be read.
    """
    if source is None:
        chosen = _render(folder, min(count, _RENDERED), resize or SHOWROOM_SIZE, progress)
        words = "photographs of the showroom"
    else:
        chosen = _choose(source, count, seed)
        words = "photographs of --photos"
        if resize is not None:
            chosen = _save_copies(chosen, folder, resize, progress)
    sizes = np.array([Image.open(file).size for file in chosen])
    shape = f"{sizes[:, 0].mean():.0f} x {sizes[:, 1].mean():.0f} px in the mean"
    kib = float(np.mean([file.stat().st_size for file in chosen])) / 1024
    files = tuple(chosen[k % len(chosen)] for k in range(count))
    return Photographs(files, f"{len(chosen)} {words}, {shape}, {kib:.0f} KiB; {count} a round")


def _choose(source: Path, count: int, seed: int) -> list[Path]:
    if not source.is_dir():
        raise DataError(f"--photos {source}: no such folder")
    found = [source / path for path in find_below(source).photos]
    chosen: list[Path] = []
    for place in np.random.default_rng(seed).permutation(len(found)).tolist():
        try:
            decode_photo(read_photo_bytes(found[place]))
        except DataError:
            continue
        chosen.append(found[place])
        if len(chosen) == count:
            break
    if not chosen:
        raise DataError(f"--photos {source}: no readable photograph in it")
    return chosen


def _render(folder: Path, count: int, size: tuple[int, int], progress: Progress) -> list[Path]:
    progress.start("rendering cars", count)
    files, names = [], list(catalogue())
    for number in range(count):
        picture = render_photo(names[number % len(names)], number, width_px=size[0], height_px=size[1])
        files.append(_save(picture, folder / f"{number:05d}.jpg"))
        progress.advance(1)
    return files


def _save_copies(files: list[Path], folder: Path, size: tuple[int, int], progress: Progress) -> list[Path]:
    progress.start(f"saving copies of {size[0]} x {size[1]} px", len(files))
    copies = []
    for number, file in enumerate(files):
        picture = decode_photo(read_photo_bytes(file)).resize(size, Image.Resampling.LANCZOS)
        copies.append(_save(picture, folder / f"{number:05d}.jpg"))
        progress.advance(1)
    return copies


def _save(picture: Image.Image, file: Path) -> Path:
    picture.save(file, format="JPEG", quality=_QUALITY)
    return file
