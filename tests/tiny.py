"""Data and configuration so small that a training takes a second: textures in four colours and a timm test model.

`test_efficientnet` has BatchNorm statistics and strided depthwise convolutions; its DropPaths never act, for want of
shortcuts, so tests that are about drop path take `test_convnext` or `mobilenetv2_035`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hectocar.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    MarginPhase,
    MixPhase,
    NetworkConfig,
    SizePhase,
    TrainingConfig,
)
from hectocar.progress import NoProgress, Progress
from hectocar.training.loader import FoldData
from hectocar.training.loop import train_fold

CPU = torch.device("cpu")
NUM_CLASSES, NUM_PER_CLASS = 4, 8
COLORS = ((200, 60, 60), (60, 180, 70), (70, 80, 200), (180, 170, 60))


def write_photos(folder: Path, suffix: str = ".jpg", seed: int = 0) -> list[Path]:
    """Writes train/<class>/<n><suffix>, 64 x 48 px, a coarse random texture over the class's colour; returns the files."""
    rng = np.random.default_rng(seed)
    files = []
    for label in range(NUM_CLASSES):
        class_folder = folder / "train" / f"car {label}"
        class_folder.mkdir(parents=True)
        for number in range(NUM_PER_CLASS):
            coarse = rng.integers(-60, 60, (12, 16, 3)) + np.array(COLORS[label])
            pixels = np.kron(coarse.clip(0, 255).astype(np.uint8), np.ones((4, 4, 1), dtype=np.uint8))
            files.append(class_folder / f"{number}{suffix}")
            Image.fromarray(pixels).save(files[-1], **({"quality": 90} if suffix == ".jpg" else {}))
    return files


def make_fold(files: list[Path]) -> FoldData:
    """The last two photographs of each class are held out."""
    rows = np.arange(len(files), dtype=np.int64)
    held_out = rows % NUM_PER_CLASS >= NUM_PER_CLASS - 2
    return FoldData(files, rows // NUM_PER_CLASS, NUM_CLASSES, rows[~held_out], rows[held_out])


def make_config(backbone: str = "test_efficientnet", network: dict[str, Any] | None = None, **training: Any) -> Config:
    """Two epochs, two sizes, CutMix then MixUp, drop path and an average; five steps an epoch with a short tail."""
    settings: dict[str, Any] = {
        "epochs": 2,
        "sizes": (
            SizePhase(epochs=1.0, size_px=32, batch_size=5, learning_rate=2e-3),
            SizePhase(epochs=1.0, size_px=48, batch_size=5, learning_rate=1e-3),
        ),
        "margins": (MarginPhase(epochs=1.0, margin_rad=0.1), MarginPhase(epochs=1.0, margin_rad=0.05)),
        "mixes": (MixPhase(epochs=1.0, kind="cutmix", prob=0.6), MixPhase(epochs=1.0, kind="mixup", alpha=0.4)),
        "ema_decay": 0.9,
        "precision": "float32",
        "warmup_epochs": 0.5,
        "cosine": "step",
        "drop_path_start": 0.5,
    }
    return Config(
        data=DataConfig(num_workers=1, num_folds=4),
        network=NetworkConfig(backbone=backbone, weights="none", drop_path_max=0.3, **(network or {})),
        augment=AugmentConfig(),
        training=TrainingConfig(**(settings | training)),
    )


def change(config: Config, section: str, **values: Any) -> Config:
    """A copy with some fields of a section changed."""
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def train(config: Config, data: FoldData, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Trains or resumes a fold on the processor."""
    progress = progress or NoProgress()
    return train_fold(config, data, folder, inputs_digest="tiny", device=CPU, progress=progress)
