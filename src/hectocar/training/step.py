"""One training step: a decoded batch becomes tensors, a loss, gradients, and a change of the weights."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hectocar.config.schema import Config
from hectocar.config.training import TrainingConfig
from hectocar.network.arithmetic import autocast, normalize_batch, to_device
from hectocar.network.carnet import CarNet, PixelStatistics
from hectocar.photos.pool import PhotoBatch
from hectocar.photos.shift import PhotoShift
from hectocar.training.augment import augment_batch, mix_batch
from hectocar.training.draws import MixParams, draw_augment_params, draw_mix_params, find_partners
from hectocar.training.fused_augment import augment_packed, compile_augment, pack_params
from hectocar.training.loader import FoldData
from hectocar.training.optimizer import accumulate_gradients, clip_gradients, step_uphill
from hectocar.training.recipe import EpochPlan
from hectocar.training.soft_targets import soften_batch


def prepare_batch(
    config: Config, plan: EpochPlan, batch: PhotoBatch, data: FoldData, network: CarNet, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Augments, mixes and normalises a batch on the device.

    Returns:
        Normalised images (B, 3, H, W), labels (B, M) and their shares (B, M), rows summing to 1. M is 2, and 4 with
        soft targets.
    """
    rows_B = batch.index_B % len(data.labels)
    mix = draw_mix_params(plan.mix, config.training.seed, plan.epoch, batch.index_B, plan.size_px)
    # Two labels also where nothing is mixed, the second with no share: one shape, and so one graph, for all phases.
    place_B2, share_B2 = find_partners(mix, len(rows_B))
    if device.type == "cuda":
        tensors = _prepare_on_gpu(config, plan, batch, mix, data.shift, data.labels[rows_B], network.pixels, device)
    else:
        images = normalize_batch(augment_and_mix(config, plan, batch, mix, data.shift, device), network.pixels)
        tensors = (images, torch.from_numpy(data.labels[rows_B[place_B2]]).to(device), torch.from_numpy(share_B2).to(device))
    return soften_batch(data.soft, rows_B[place_B2], *tensors) if data.soft else tensors


def _prepare_on_gpu(
    config: Config, plan: EpochPlan, batch: PhotoBatch, mix: MixParams | None, shift: PhotoShift | None,
    label_B: NDArray[np.int64], pixels: PixelStatistics, device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """With two copies to the device; what is drawn is computed while it still works on the step before."""
    params = draw_augment_params(config.augment, config.training.seed, plan.epoch, batch.index_B, plan.size_px)
    table = torch.from_numpy(pack_params(params, mix, shift, label_B)).pin_memory().to(device, non_blocking=True)
    augment = compile_augment() if config.network.compile else augment_packed
    return augment(to_device(batch.images_BHWC, device).permute(0, 2, 3, 1), table, pixels.mean_1311, pixels.std_1311)


def augment_and_mix(
    config: Config, plan: EpochPlan, batch: PhotoBatch, mix: MixParams | None, shift: PhotoShift | None, device: torch.device
) -> Tensor:
    """The pixels of a training batch as they are before normalisation: (B, 3, H, W) in [0, 1]."""
    params = draw_augment_params(config.augment, config.training.seed, plan.epoch, batch.index_B, plan.size_px)
    images = augment_batch(to_device(batch.images_BHWC, device), params, shift)
    return images if mix is None else mix_batch(images, mix)


def compute_loss(
    whole: Callable[..., Tensor], plan: EpochPlan, device: torch.device, precision: str, *tensors: Tensor
) -> Tensor:
    """Mean loss of (images, labels, shares) in the arithmetic of ``precision``."""
    with autocast(device, precision):
        return whole(*tensors, margin_rad=plan.margin_rad, label_smoothing=plan.label_smoothing)


def take_step(
    training: TrainingConfig, network: CarNet, optimizer: torch.optim.Optimizer, forward: Callable[..., Tensor],
    tensors: tuple[Tensor, ...], num_chunks: int, scaler: torch.amp.GradScaler,
) -> Tensor:  # fmt: skip
    """Gradients of a batch, whole or in chunks, clipped, and the optimizer's step.

    Args:
        training: How: clipping and sharpness-awareness.
        network: In training mode.
        optimizer: Of its parameters, with the learning rates of this step.
        forward: Mean loss of the tensors.
        tensors: See ``prepare_batch``.
        num_chunks: Into how many parts the batch is split.
        scaler: Of float16; disabled it does nothing.

    Returns:
        The mean loss before the step: a scalar on the device, float64.
    """
    optimizer.zero_grad()
    loss = accumulate_gradients(forward, tensors, num_chunks, scaler.scale)
    if training.sam_rho > 0.0:
        with step_uphill(network, training.sam_rho):
            accumulate_gradients(forward, tensors, num_chunks, scaler.scale)
    scaler.unscale_(optimizer)
    clip_gradients(network, training.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    return loss
