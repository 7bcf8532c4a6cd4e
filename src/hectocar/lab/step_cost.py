"""What the loop's training step costs at each size of a plan: memory, images per second, how a batch must be split to fit."""

import statistics
import time
from dataclasses import dataclass

import torch

from hectocar.config.schema import Config, SizePhase
from hectocar.lab.trainer import Trainer, random_batch, wait_for
from hectocar.network.sizes import check_sizes
from hectocar.training.memory import choose_chunks, chunk_key, read_free_bytes, step_bytes
from hectocar.training.recipe import EpochPlan, epoch_plan

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
    """Median over steps: augmentation, forward, backward, optimizer, averaged weights; without the loader."""
    slowest_per_second: float
    fastest_per_second: float


def measure_step_costs(config: Config, device: torch.device, num_classes: int, num_steps: int) -> list[StepCost]:
    """Times training steps on random pictures at each size phase, from random weights.

    A phase that ``training.epochs`` rounds away is left out.

    Args:
        config: The whole configuration.
        device: Where to train.
        num_classes: Outputs of the head.
        num_steps: Timed steps per phase, after a warm-up.

    Raises:
        ConfigError: The backbone cannot be built or does not take a size.
    """
    trainer = Trainer(config, num_classes, device)
    check_sizes(trainer.network, [phase.size_px for phase in config.training.sizes])
    chunks = choose_chunks(config, trainer.network, read_free_bytes(device))
    plans = [epoch_plan(config, epoch) for epoch in range(config.training.epochs)]
    costs = []
    for phase in config.training.sizes:
        plan = next((plan for plan in plans if (plan.size_px, plan.batch_size) == (phase.size_px, phase.batch_size)), None)
        if plan is not None:
            num_chunks = chunks[chunk_key(phase.size_px, phase.batch_size)]
            costs.append(_measure_phase(trainer, phase, plan, num_chunks, num_steps))
    return costs


def _measure_phase(trainer: Trainer, phase: SizePhase, plan: EpochPlan, num_chunks: int, num_steps: int) -> StepCost:
    device, rates = trainer.device, []
    planned = step_bytes(trainer.config, trainer.network, phase, num_chunks)
    batch = random_batch(phase.batch_size, phase.size_px)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for step in range(WARMUP_STEPS + num_steps):
        wait_for(device)
        started = time.perf_counter()
        trainer.step(plan, trainer.prepare(plan, batch), num_chunks)
        wait_for(device)
        if step >= WARMUP_STEPS:
            rates.append(phase.batch_size / (time.perf_counter() - started))
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return StepCost(phase, num_chunks, planned / 2**30, peak, statistics.median(rates), min(rates), max(rates))


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
