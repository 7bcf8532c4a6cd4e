"""What the stages of a proof share: the flagship's schedule, photographs, and a network with all that a training step needs."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hectocar.config.reader import read_config
from hectocar.config.schema import Config, SizePhase
from hectocar.network.carnet import CarNet
from hectocar.photos.pool import PhotoBatch
from hectocar.showroom.catalogue import class_names
from hectocar.showroom.photo import render_photo
from hectocar.training.ema import WeightAverage
from hectocar.training.loader import FoldData, iter_training_batches
from hectocar.training.memory import choose_chunks, chunk_key, read_free_bytes
from hectocar.training.optimizer import build_optimizer, set_learning_rates
from hectocar.training.recipe import EpochPlan, epoch_plan
from hectocar.training.step import compute_loss, prepare_batch, take_step

NUM_CLASSES = 396
PHOTO_PX = (690, 437)
"""Width and height of the contest's photographs, in the mean."""
SMALL_BACKBONE = "test_convnext"
DENSE_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}
"""bfloat16 without sparsity, by a word of the GPU's name (NVIDIA's data sheets; H100 is the SXM module's)."""
WARMUP_STEPS = 3


@dataclasses.dataclass(frozen=True)
class LoopSpeed:
    """Steps of the training loop, with or without decoding beside them."""

    images_per_second: float
    ms_per_step: float


class Bench:
    """A preset on a device; in small, sizes are an eighth and the network is a toy."""

    def __init__(self, device: torch.device, folder: Path, *, tiny: bool, photos: Path | None = None) -> None:
        self.device, self.folder, self.tiny = device, folder, tiny
        self.config = self.read()
        self.phases: tuple[SizePhase, ...] = self.config.training.sizes
        files = write_photos(folder / "photos", 24 if tiny else 320, photos)
        self.files = files * (1 if tiny else 8)
        rows = np.arange(len(self.files), dtype=np.int64)
        self.data = FoldData(self.files, rows % NUM_CLASSES, NUM_CLASSES, rows, rows[: 8 if tiny else 512])

    def read(self, *settings: str) -> Config:
        """The preset seed2025 from random weights, not compiled, with settings over it."""
        base = ["network.weights=none", "network.compile=false"]
        if self.tiny:
            sizes = ((5, 32), (5, 48), (6, 64), (8, 80), (6, 96))
            phases = (f"{{epochs: {e}, size_px: {px}, batch_size: 8, learning_rate: 1.0e-4}}" for e, px in sizes)
            base += [f"network.backbone={SMALL_BACKBONE}", f"training.sizes=[{', '.join(phases)}]"]
        return read_config("seed2025", None, [*base, *settings])

    def read_small(self, size_px: int, batch_size: int, *settings: str) -> Config:
        """The same with the toy network at one size."""
        phase = f"{{epochs: 1, size_px: {size_px}, batch_size: {batch_size}, learning_rate: 1.0e-4}}"
        return self.read(f"network.backbone={SMALL_BACKBONE}", f"training.sizes=[{phase}]", *settings)

    @cached_property
    def network(self) -> CarNet:
        torch.manual_seed(self.config.training.seed)
        return CarNet(self.config.network, NUM_CLASSES).to(self.device).train()

    @cached_property
    def average(self) -> WeightAverage:
        return WeightAverage(self.network, self.config.training.ema_decay)

    @cached_property
    def optimizer(self) -> torch.optim.AdamW:
        optimizer = build_optimizer(self.network, self.config.training)
        set_learning_rates(optimizer, 1e-6, 1e-6)
        return optimizer

    @cached_property
    def num_chunks(self) -> dict[str, int]:
        return choose_chunks(self.config, self.network, read_free_bytes(self.device))

    @cached_property
    def macs_per_pixel(self) -> float:
        """Multiply-accumulates of the backbone's forward pass per pixel, counted by torch on tensors without numbers."""
        size_px = 64 if self.tiny else 224
        with torch.device("meta"):
            network = CarNet(self.config.network, NUM_CLASSES, weights="none").eval()
            counter: Any = FlopCounterMode(display=False)
            with torch.no_grad(), counter:
                network.backbone.forward_features(torch.zeros(1, 3, size_px, size_px))
        return float(counter.get_total_flops()) / 2.0 / size_px**2

    def flop_share(self, size_px: int, images_per_second: float) -> float | None:
        """Model-FLOP utilisation: 6 x MACs x images/s over the dense peak; None where the peak is not known."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        peak = next((tflops for word, tflops in DENSE_TFLOPS.items() if word in name), None)
        return None if peak is None else 6.0 * self.macs_per_pixel * size_px**2 * images_per_second / (peak * 1e12)

    def plan(self, phase: SizePhase) -> EpochPlan:
        """The first epoch of a size."""
        plans = (epoch_plan(self.config, epoch) for epoch in range(self.config.training.epochs))
        return next(plan for plan in plans if (plan.size_px, plan.batch_size) == (phase.size_px, phase.batch_size))

    def random_batch(self, plan: EpochPlan) -> PhotoBatch:
        """Noise in the shape of a decoded batch."""
        rng = np.random.default_rng(0)
        shape = (plan.batch_size, plan.size_px, plan.size_px, 3)
        return PhotoBatch(rng.integers(0, 256, shape, dtype=np.uint8), np.arange(plan.batch_size, dtype=np.int64), {})

    def prepare(self, plan: EpochPlan, batch: PhotoBatch) -> tuple[Tensor, ...]:
        """As training does it."""
        return prepare_batch(self.config, plan, batch, self.data, self.network, self.device)

    def step(self, plan: EpochPlan, tensors: tuple[Tensor, ...], whole: Callable[..., Tensor]) -> None:
        """As training does it: loss, gradients, clipping, optimizer, average."""
        num_chunks = self.num_chunks[chunk_key(plan.size_px, plan.batch_size)]
        forward = partial(compute_loss, whole, plan, self.device, self.config.training.precision)
        scaler = torch.amp.GradScaler(self.device.type, enabled=False)  # bfloat16 needs none
        take_step(self.config.training, self.network, self.optimizer, forward, tensors, num_chunks, scaler)
        self.average.update(self.network)

    def decode(self, plan: EpochPlan, num_batches: int, num_workers: int = 0) -> Iterator[PhotoBatch]:
        """Batches as the loader makes them."""
        rows = np.resize(self.data.train_rows, (num_batches, plan.batch_size))
        data = dataclasses.replace(self.config.data, num_workers=num_workers)
        return iter_training_batches(
            self.files, list(rows), plan.size_px, augment=self.config.augment, data=data, seed=1, epoch=plan.epoch
        )

    def run_loop(self, plan: EpochPlan, whole: Callable[..., Tensor], num_steps: int, *, decode: bool) -> LoopSpeed:
        """Preparation and step, one after the other, on decoded photographs or again and again on one ready batch."""
        num_batches = num_steps + WARMUP_STEPS
        batches = self.decode(plan, num_batches) if decode else itertools.repeat(self.random_batch(plan), num_batches)
        started = 0.0
        for number, batch in enumerate(batches):
            if number == WARMUP_STEPS:
                self.wait()
                started = time.perf_counter()
            self.step(plan, self.prepare(plan, batch), whole)
        self.wait()
        seconds = (time.perf_counter() - started) / num_steps
        return LoopSpeed(plan.batch_size / seconds, 1e3 * seconds)

    def wait(self) -> None:
        """Until the device has done all that it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def drop_network(self) -> None:
        """Frees what the network and its optimizer hold on the device."""
        for name in ("network", "average", "optimizer"):
            self.__dict__.pop(name, None)


def write_photos(folder: Path, count: int, photos: Path | None) -> list[Path]:
    """JPEGs of the contest's size: the first of a folder's, resized, or else rendered cars, each under its own noise."""
    folder.mkdir(parents=True)
    given = sorted(photos.rglob("*.jpg"))[:count] if photos else []
    rng = np.random.default_rng(0)
    cars: list[NDArray[np.float32]] = []
    files = []
    for number in range(count):
        if given:
            with Image.open(given[number % len(given)]) as image:
                picture = image.convert("RGB").resize(PHOTO_PX, Image.Resampling.BICUBIC)
        else:
            if number < 4:  # rendering one takes as long as a hundred photographs' decoding
                car = render_photo(class_names(4)[number], number, width_px=PHOTO_PX[0], height_px=PHOTO_PX[1])
                cars.append(np.asarray(car, dtype=np.float32))
            noisy = cars[number % len(cars)] + rng.normal(0.0, 6.0, (PHOTO_PX[1], PHOTO_PX[0], 3))
            picture = Image.fromarray(noisy.clip(0.0, 255.0).astype(np.uint8))
        files.append(folder / f"{number:04d}.jpg")
        picture.save(files[-1], quality=88)
    return files
