"""The heart: what every epoch looks like, as a pure function of the configuration. Every schedule is here and nowhere else.

Epochs count from 0 inside the program and from 1 in what a person reads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hectocar.config.schema import Config, MixPhase, TrainingConfig

WARMUP_START = 0.01
"""Warm-up begins at this share of the learning rate."""


class _Phase(Protocol):
    @property
    def epochs(self) -> float: ...


PhaseT = TypeVar("PhaseT", bound=_Phase)


@dataclass(frozen=True)
class EpochPlan:
    """All that the loop needs to know about one epoch."""

    epoch: int
    """Counted from 0."""
    size_px: int
    batch_size: int
    phase_learning_rate: float
    """Backbone learning rate of the size phase, as the recipe's table gives it."""
    learning_rate: float
    """Backbone learning rate at the epoch's start after cosine, before warm-up."""
    head_learning_rate: float
    """The same for the head."""
    margin_rad: float
    label_smoothing: float
    mix: MixPhase
    drop_path: float
    """Stochastic depth of the deepest block."""
    drop_path_share: float
    """The same as a share of ``network.drop_path_max``."""
    finetune: bool
    """Whether the epoch belongs to the fine-tuning stage."""
    validate: bool
    """Whether the held-out photographs are looked at after the epoch."""


def phase_at(phases: Sequence[PhaseT], epoch: int, num_epochs: int) -> PhaseT:
    """The phase that an epoch falls into.

    Phase lengths are relative: they stretch or shrink so that together they fill the training, and borders are rounded
    to whole epochs (a phase that rounds to nothing is skipped).
    """
    total = sum(phase.epochs for phase in phases)
    end = 0.0
    for phase in phases:
        end += phase.epochs
        if epoch < round(end / total * num_epochs):
            return phase
    return phases[-1]


def cosine_factor(training: TrainingConfig, progress_epochs: float) -> float:
    """Share of the learning rate after ``progress_epochs``: cosine annealing to 0 with T_max = all epochs."""
    if training.cosine == "none":
        return 1.0
    if training.cosine == "epoch":
        progress_epochs = math.floor(progress_epochs)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress_epochs / training.epochs)))


def warmup_factor(training: TrainingConfig, progress_epochs: float) -> float:
    """Linear from WARMUP_START to 1 over the warm-up epochs."""
    if progress_epochs >= training.warmup_epochs:
        return 1.0
    return WARMUP_START + (1.0 - WARMUP_START) * progress_epochs / training.warmup_epochs


def epoch_plan(config: Config, epoch: int) -> EpochPlan:
    """Everything about one epoch.

    Args:
        config: The whole configuration.
        epoch: From 0 to ``training.epochs`` - 1.

    Raises:
        ValueError: No such epoch.
    """
    training = config.training
    if not 0 <= epoch < training.epochs:
        raise ValueError(f"epoch is {epoch}; allowed: 0 to {training.epochs - 1}")
    size = phase_at(training.sizes, epoch, training.epochs)
    rate = size.learning_rate * cosine_factor(training, epoch)
    ramp = epoch / max(1, training.epochs - 1)
    finetune = epoch >= training.epochs - training.finetune_epochs
    plain = finetune and training.finetune_plain
    drop_path_share = training.drop_path_start + (1.0 - training.drop_path_start) * ramp
    return EpochPlan(
        epoch=epoch,
        size_px=size.size_px,
        batch_size=size.batch_size,
        phase_learning_rate=size.learning_rate,
        learning_rate=rate,
        head_learning_rate=rate * training.head_multiplier,
        margin_rad=0.0 if plain else phase_at(training.margins, epoch, training.epochs).margin_rad,
        label_smoothing=0.0 if plain else training.label_smoothing,
        mix=phase_at(training.mixes, epoch, training.epochs),
        drop_path=config.network.drop_path_max * drop_path_share,
        drop_path_share=drop_path_share,
        finetune=finetune,
        validate=is_validated(training, epoch),
    )


def step_learning_rates(config: Config, plan: EpochPlan, step: int, num_steps: int) -> tuple[float, float]:
    """Backbone and head learning rate of one optimiser step of an epoch, warm-up included."""
    progress = plan.epoch + step / num_steps
    rate = plan.phase_learning_rate * cosine_factor(config.training, progress) * warmup_factor(config.training, progress)
    return rate, rate * config.training.head_multiplier


def plan_rows(config: Config) -> list[list[str]]:
    """The table of ``hectocar plan``: a header row, then one row per epoch."""
    header = ["epoch", "size px", "batch", "phase lr", "backbone lr", "head lr", "margin rad", "mix", "smoothing", "drop path"]
    rows = [header]
    for epoch in range(config.training.epochs):
        plan = epoch_plan(config, epoch)
        mix = plan.mix
        rows.append(
            [
                str(epoch + 1),
                str(plan.size_px),
                str(plan.batch_size),
                f"{plan.phase_learning_rate:.1e}",
                f"{plan.learning_rate:.2e}",
                f"{plan.head_learning_rate:.2e}",
                f"{plan.margin_rad:.2f}",
                "-" if mix.kind == "none" else f"{mix.kind} a={mix.alpha:g} p={mix.prob:g}",
                f"{plan.label_smoothing:.2f}",
                f"{plan.drop_path:.2f}",
            ]
        )
    return rows


def is_validated(training: TrainingConfig, epoch: int) -> bool:
    """Whether the held-out photographs are asked after an epoch, counted from 0: always after the last."""
    last, every = training.validate_last_epochs, training.validate_every
    return last == 0 or epoch >= training.epochs - last or (every > 0 and (epoch + 1) % every == 0)
