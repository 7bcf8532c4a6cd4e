"""The process that loads training crops. Of torch it loads the core, which resizes; no timm, no network of ours."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.codec import decode, encode
from hectocar.config.schema import AugmentConfig, DataConfig
from hectocar.photos.process_worker import Handles, Load, serve
from hectocar.training.loader import load_crop


def pack_settings(files: Sequence[Path], augment: AugmentConfig, data: DataConfig, seed: int) -> Any:
    """All that crops depend on but row, size and epoch; names of files byte by byte, whatever their encoding."""
    names = [os.fsencode(file).decode("latin-1") for file in files]
    return {"files": names, "augment": encode(augment), "data": encode(data), "seed": seed}


def build_load(settings: Any) -> Load:
    """The function that threads call too."""
    files = [Path(os.fsdecode(name.encode("latin-1"))) for name in settings["files"]]
    augment = decode(AugmentConfig, settings["augment"], "settings", advice="")
    data, seed = decode(DataConfig, settings["data"], "settings", advice=""), settings["seed"]

    def load(row: int, size_px: int, epoch: int) -> NDArray[np.uint8]:
        return load_crop(files[row % len(files)], row, size_px, augment=augment, data=data, seed=seed, epoch=epoch)

    return load


def main(handles: Sequence[str]) -> None:
    """What the process runs."""
    serve(build_load, Handles(*map(int, handles)))
