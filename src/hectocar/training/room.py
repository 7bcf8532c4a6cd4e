"""What checkpoints take on the disk, known before the first step: a training that cannot be kept is not begun."""

from collections.abc import Sequence
from pathlib import Path

import torch

from hectocar.config.schema import Config
from hectocar.disk.writing import check_room
from hectocar.network.carnet import CarNet


def check_checkpoint_room(config: Config, num_classes: int, fold_folders: Sequence[Path]) -> None:
    """Counts what the folds will add: last (weights, average, two moments of AdamW), best, the last epochs' weights that
    are averaged, and a second copy of the largest while it is replaced.

    Raises:
        WriteError: The disk has less, or files may not become that large.
    """
    with torch.device("meta"):
        network = CarNet(config.network, num_classes, weights="none")
    weights_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    moments_bytes = 2 * sum(parameter.nbytes for parameter in network.parameters())
    training = config.training
    num_sets = 2 if training.ema_decay > 0.0 else 1
    last_bytes = weights_bytes * num_sets + moments_bytes
    soup_bytes = weights_bytes * (num_sets * training.soup_epochs + 1) if training.soup_epochs > 1 else 0
    new_bytes = sum(
        size
        for folder in fold_folders
        for name, size in (("last.safetensors", last_bytes), ("best.safetensors", weights_bytes))
        if not (folder / name).exists()
    )
    if new_bytes:
        what = f"the checkpoints of {len(fold_folders)} fold{'s' if len(fold_folders) > 1 else ''}"
        check_room(fold_folders[0].parent, new_bytes + last_bytes + soup_bytes, what, largest_bytes=last_bytes)
