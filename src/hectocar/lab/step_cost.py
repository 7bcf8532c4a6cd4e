"""What a training step costs at each size of a plan: memory, images per second, and how a batch must be split to fit."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from hectocar.config.schema import Config, SizePhase
from hectocar.network.arithmetic import autocast
from hectocar.network.carnet import CarNet
from hectocar.network.compiled import compile_loss
from hectocar.network.sizes import check_sizes
from hectocar.training.memory import choose_chunks, chunk_key, read_free_bytes, step_bytes
from hectocar.training.optimizer import accumulate_gradients, build_optimizer, clip_gradients, set_learning_rates

WARMUP_STEPS = 2


@dataclass(frozen=True)
class StepCost:
    """One size phase on one device."""

    phase: SizePhase
    num_chunks: int
    planned_gib: float
    """Counted before the step (training/memory.py)."""
    peak_gib: float | None
    """Measured at the step, on a GPU."""
    images_per_second: float
    """Median over steps: forward, backward and optimizer, without the loader."""
    slowest_per_second: float
    fastest_per_second: float


def measure_step_costs(config: Config, device: torch.device, num_classes: int, num_steps: int) -> list[StepCost]:
    """Times training steps on random images at each size phase, from random weights.

    Args:
        config: The whole configuration.
        device: Where to train.
        num_classes: Outputs of the head.
        num_steps: Timed steps per phase, after a warm-up.

    Raises:
        ConfigError: The backbone cannot be built or does not take a size.
    """
    network = CarNet(config.network, num_classes, weights="none").to(device).train()
    check_sizes(network, [phase.size_px for phase in config.training.sizes])
    chunks = choose_chunks(config, network, read_free_bytes(device))
    optimizer = build_optimizer(network, config.training)
    set_learning_rates(optimizer, 1e-6, 1e-6)
    return [
        _measure_phase(config, network, optimizer, phase, chunks[chunk_key(phase.size_px, phase.batch_size)], num_steps)
        for phase in config.training.sizes
    ]


def _measure_phase(
    config: Config, network: CarNet, optimizer: torch.optim.Optimizer, phase: SizePhase, num_chunks: int, num_steps: int
) -> StepCost:
    device = next(network.parameters()).device
    planned = step_bytes(config, network, phase, num_chunks)
    images = torch.randn(phase.batch_size, 3, phase.size_px, phase.size_px, device=device)
    labels = torch.zeros(phase.batch_size, 1, dtype=torch.int64, device=device)
    tensors = (images.to(memory_format=torch.channels_last), labels, torch.ones_like(labels, dtype=torch.float32))
    whole = compile_loss(network) if config.network.compile and num_chunks == 1 else network.compute_loss

    def forward(*chunk: Tensor) -> Tensor:
        with autocast(device, config.training.precision):
            return whole(*chunk, margin_rad=0.0, label_smoothing=config.training.label_smoothing)

    rates = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for step in range(WARMUP_STEPS + num_steps):
        _wait(device)
        started = time.perf_counter()
        optimizer.zero_grad()
        accumulate_gradients(forward, tensors, num_chunks, lambda loss: loss)
        clip_gradients(network, config.training.clip_norm)
        optimizer.step()
        _wait(device)
        if step >= WARMUP_STEPS:
            rates.append(phase.batch_size / (time.perf_counter() - started))
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return StepCost(phase, num_chunks, planned / 2**30, peak, statistics.median(rates), min(rates), max(rates))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_cost_rows(costs: list[StepCost]) -> list[list[str]]:
    """A table for the screen."""
    rows = [["size px", "batch", "split into", "memory GiB", "peak GiB", "images/s", "from - to"]]
    for cost in costs:
        rows.append(
            [
                str(cost.phase.size_px),
                str(cost.phase.batch_size),
                str(cost.num_chunks),
                f"{cost.planned_gib:.2f}",
                "-" if cost.peak_gib is None else f"{cost.peak_gib:.2f}",
                f"{cost.images_per_second:.1f}",
                f"{cost.slowest_per_second:.1f} - {cost.fastest_per_second:.1f}",
            ]
        )
    return rows
