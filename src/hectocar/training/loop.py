"""The training loop: one function from the first photograph to the best checkpoint, to be read from top to bottom.

Legend: B batch, M labels per photograph (two where photographs are mixed).
"""

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hectocar.config.schema import Config
from hectocar.dataset.provenance import join_parts
from hectocar.disk.artifacts import EventLog
from hectocar.network.carnet import CarNet
from hectocar.network.compiled import compile_loss
from hectocar.network.sizes import check_sizes, list_sizes
from hectocar.progress import Progress
from hectocar.training.checkpoint import TrainingState, load_checkpoint, read_epochs, save_checkpoint
from hectocar.training.cpu import prepare_training
from hectocar.training.crops import TrainingCrops
from hectocar.training.ema import WeightAverage
from hectocar.training.label_noise import drop_label_noise
from hectocar.training.loader import FoldData
from hectocar.training.memory import (
    choose_chunks,
    chunk_key,
    describe_chunks,
    describe_device,
    read_free_bytes,
    read_peak_bytes,
)
from hectocar.training.mining import mine_similar
from hectocar.training.optimizer import build_optimizer, set_learning_rates
from hectocar.training.recipe import epoch_plan, step_learning_rates
from hectocar.training.sampler import epoch_batches
from hectocar.training.soup import average_checkpoints
from hectocar.training.step import compute_loss, prepare_batch, take_step
from hectocar.training.validation import check_finite, check_split, describe_epoch, validate
from hectocar.training.writer import TensorWriter

STEPS_PER_LOOK = 20
"""Steps between two checks that the loss is finite."""


def train_fold(
    config: Config, data: FoldData, folder: Path, *, inputs_digest: str, device: torch.device, progress: Progress,
    free_bytes: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains one fold, or goes on exactly where its last checkpoint stands.

    Args:
        config: The whole configuration.
        data: Photographs and split.
        folder: Gets events.jsonl, last.safetensors (to resume) and best.safetensors (lowest validation log loss, or
            the last epoch: ``training.select``).
        inputs_digest: Of all that the result depends on; a checkpoint of other inputs is refused.
        device: Where to train.
        progress: Receives bars and lines.
        free_bytes: Memory to plan the training steps with, 0 for unknown; None: what the device has free now.

    Returns:
        The validation of what was kept: epoch, size_px, weights (raw or ema), log_loss, top1, top5.

    Raises:
        HectocarError: The split has too few photographs, one or a checkpoint is damaged, or the loss is no longer finite.
    """
    with TensorWriter.for_device(device) as writer:
        return _train(config, data, folder, writer, inputs_digest, device, progress, free_bytes)


def _train(
    config: Config, data: FoldData, folder: Path, writer: TensorWriter, inputs_digest: str, device: torch.device,
    progress: Progress, free_bytes: int | None,
) -> dict[str, Any]:  # fmt: skip
    training = config.training
    check_split(data)
    last, log = folder / "last.safetensors", EventLog(folder / "events.jsonl")
    torch.manual_seed(training.seed)
    network = CarNet(config.network, data.num_classes, weights="none" if last.exists() else None).to(device)
    prepare_training(network, device, training.precision)
    check_sizes(network, list_sizes(config))
    average = WeightAverage(network, training.ema_decay) if training.ema_decay > 0.0 else None
    optimizer = build_optimizer(network, training)
    # Also where float32 stands in for float16: a power of two changes no digit there, and a checkpoint may move to a GPU.
    scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "float16")
    whole_batch_loss = compile_loss(network) if config.network.compile else network.compute_loss
    state = TrainingState(inputs_digest, pairs=list(data.pairs)[: training.max_similar_pairs])
    if last.exists():
        state = load_checkpoint(last, inputs_digest, network, average.network if average else None, optimizer, scaler)
        if average:
            average.num_updates = state.num_ema_updates
        log.write("resumed", epoch=state.epoch, step=state.step, **describe_device(device))
    else:
        state.num_chunks = choose_chunks(config, network, read_free_bytes(device) if free_bytes is None else free_bytes)
        state.inputs_digest = join_parts(inputs_digest, state.num_chunks)
        describe_chunks(config, state.num_chunks, progress)
        log.write("started", **describe_device(device))
    set_margin_balance(network, data, training.margin_balance)

    def save(epoch: int, step: int, loss_sum: float, seconds: float) -> None:
        state.epoch, state.step, state.loss_sum, state.seconds = epoch, step, loss_sum, seconds
        state.num_ema_updates = average.num_updates if average else 0
        state.scaler = scaler.state_dict()
        save_checkpoint(writer, last, state, network, average.network if average else None, optimizer)

    crops, started = TrainingCrops(data.files, config, device.type, progress), time.monotonic() - state.seconds
    for epoch in range(state.epoch, training.epochs):
        plan = epoch_plan(config, epoch)
        finetune_starts = state.step == 0 and epoch == training.epochs - training.finetune_epochs
        if finetune_starts and average and training.finetune_ema_restart:
            average.restart(network)
        if state.step == 0 and epoch + 1 == training.noise_epoch:
            state.dropped_rows = drop_label_noise(config, plan, data, network, average, log, progress)
        batches = epoch_batches(
            np.setdiff1d(data.train_rows, state.dropped_rows), plan.batch_size, seed=training.seed, epoch=epoch,
            label_M=data.labels, pairs=state.pairs, similar_prob=training.similar_prob, balance=training.balance,
        )  # fmt: skip
        num_chunks = state.num_chunks[chunk_key(plan.size_px, plan.batch_size)]
        first_step, saved_at, began = state.step, time.monotonic(), time.monotonic()
        loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=device)
        network.train()
        network.set_drop_path(plan.drop_path_share)
        progress.start(f"epoch {epoch + 1}/{training.epochs} at {plan.size_px} px", sum(map(len, batches)))
        progress.advance(sum(len(rows) for rows in batches[:first_step]))
        for step, batch in enumerate(crops.iter_batches(batches[first_step:], plan.size_px, epoch), start=first_step):
            # Drop-path draws from torch's generator: seeding it per step makes a resumed step the same step.
            torch.manual_seed(hash((training.seed, epoch, step)) & 0x7FFF_FFFF_FFFF_FFFF)
            set_learning_rates(optimizer, *step_learning_rates(config, plan, step, len(batches)))
            tensors = prepare_batch(config, plan, batch, data, network, device)
            # The last two batches of an epoch are smaller: not worth a compilation of their own.
            whole = whole_batch_loss if len(batch.index_B) == plan.batch_size else network.compute_loss
            forward = partial(compute_loss, whole, plan, device, training.precision)
            loss_sum += take_step(training, network, optimizer, forward, tensors, num_chunks, scaler)
            if average:
                average.update(network)
            progress.advance(len(batch.index_B))
            save_now = time.monotonic() - saved_at >= 60.0 * training.checkpoint_minutes and step + 1 < len(batches)
            if save_now or step % STEPS_PER_LOOK == 0 or step + 1 == len(batches):
                check_finite(float(loss_sum), epoch, step)  # reading it makes a GPU wait, so not at every step
            if save_now:
                save(epoch, step + 1, float(loss_sum), time.monotonic() - started)
                saved_at = time.monotonic()
        speed = sum(map(len, batches[first_step:])) / (time.monotonic() - began)
        results: dict[str, dict[str, Any]] = {}
        networks = {"raw": network} if training.validate_raw or not average else {}
        networks |= {"ema": average.network} if average else {}
        held_out = None
        if plan.validate:
            validation = validate(config, plan.size_px, data, networks, progress)
            results, held_out = validation.results, validation.logits_NG
        state.pairs = mine_similar(config, data, held_out, list(networks.values())[-1], state.pairs, epoch, log, progress)
        seconds = time.monotonic() - started
        for weights, result in results.items():
            result |= {"epoch": epoch + 1, "weights": weights}
            if is_kept(training.select, weights == list(networks)[-1], result, state.best):
                state.best = result
                writer.save(folder / "best.safetensors", networks[weights].state_dict(), state.bind(result))
            if epoch >= training.epochs - training.soup_epochs:
                path = folder / "soup" / f"epoch {epoch + 1} {weights}.safetensors"
                writer.save(path, networks[weights].state_dict(), state.bind(result))
        train_loss = float(loss_sum) / len(batches)
        # Before the checkpoint, and once: an epoch that is done again after a cut between the two has its event already.
        if epoch + 1 not in (event.epoch for event in read_epochs(log)):
            figures = {"images_per_second": speed, "peak_bytes": read_peak_bytes(device)}
            log.write(
                "epoch", epoch=epoch + 1, size_px=plan.size_px, train_loss=train_loss, seconds=seconds, **figures, **results
            )
        save(epoch + 1, 0, 0.0, seconds)
        progress.note(describe_epoch(epoch, training.epochs, plan, train_loss, results, seconds))
    crops.close()
    if not state.averaged and (training.soup_epochs > 1 or training.pretrained_mix):
        writer.wait()
        state.best = average_checkpoints(config, data, folder, network, state, log, progress)
        state.averaged = True
        save(training.epochs, 0, 0.0, time.monotonic() - started)
    writer.wait()
    shutil.rmtree(folder / "soup", ignore_errors=True)
    return state.best


def is_kept(select: str, is_last: bool, result: dict[str, Any], best: dict[str, Any]) -> bool:
    """Whether an epoch's weights take the place of the best: by their validation, or because they are the last so far.

    Args:
        select: ``training.select``.
        is_last: Whether these are the weights that ``last`` keeps: the average where there is one.
        result: Of their validation.
        best: What stands now; empty before the first.
    """
    if select == "last":
        return is_last
    return not best or bool(result["log_loss"] < best["log_loss"])


def set_margin_balance(network: CarNet, data: FoldData, power: float) -> None:
    """Larger margins for small classes: (mean size / own size)^power, at most 2 (after Cao et al. 2019, LDAM)."""
    if power > 0.0:
        count_C = np.maximum(np.bincount(data.labels[data.train_rows], minlength=data.num_classes), 1)
        network.head.scale_margins(np.minimum((count_C.mean() / count_C) ** power, 2.0).astype(np.float32))
