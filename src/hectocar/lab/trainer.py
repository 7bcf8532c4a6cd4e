"""The training loop's step, taken out of the loop so that it can be measured: the same functions, the same order."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from hectocar.config.schema import Config
from hectocar.network.carnet import CarNet
from hectocar.network.compiled import compile_loss
from hectocar.photos.pool import PhotoBatch
from hectocar.training.cpu import prepare_training
from hectocar.training.ema import WeightAverage
from hectocar.training.loader import FoldData
from hectocar.training.optimizer import build_optimizer, set_learning_rates
from hectocar.training.recipe import EpochPlan
from hectocar.training.step import compute_loss, prepare_batch, take_step

_RATE = 1e-6


class Trainer:
    """A network of random weights with all that changes it."""

    def __init__(self, config: Config, num_classes: int, device: torch.device) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.training.seed)
        self.network = CarNet(config.network, num_classes, weights="none").to(device).train()
        prepare_training(self.network, device, config.training.precision)
        decay = config.training.ema_decay
        self._average = WeightAverage(self.network, decay) if decay > 0.0 else None
        self._optimizer = build_optimizer(self.network, config.training)
        set_learning_rates(self._optimizer, _RATE, _RATE)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.training.precision == "float16")
        self._loss = compile_loss(self.network) if config.network.compile else self.network.compute_loss

    def prepare(self, plan: EpochPlan, batch: PhotoBatch) -> tuple[Tensor, ...]:
        """Augmented, normalised images (B, 3, H, W), labels and shares (B, 2)."""
        rows = np.arange(int(batch.index_B.max()) + 1, dtype=np.int64)
        data = FoldData([], rows % self.network.num_classes, self.network.num_classes, rows, rows[:0])
        return prepare_batch(self.config, plan, batch, data, self.network, self.device)

    def step(self, plan: EpochPlan, tensors: tuple[Tensor, ...], num_chunks: int = 1) -> None:
        """Loss, gradients, the optimizer's step and that of the averaged weights; returns before a GPU has done it."""
        self.network.set_drop_path(plan.drop_path_share)
        forward = partial(compute_loss, self._loss, plan, self.device, self.config.training.precision)
        take_step(self.config.training, self.network, self._optimizer, forward, tensors, num_chunks, self._scaler)
        if self._average:
            self._average.update(self.network)


def random_batch(batch_size: int, size_px: int, seed: int = 0) -> PhotoBatch:
    """A decoded batch of noise."""
    images = np.random.default_rng(seed).integers(0, 256, (batch_size, size_px, size_px, 3), dtype=np.uint8)
    return PhotoBatch(images, np.arange(batch_size, dtype=np.int64), {})


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
