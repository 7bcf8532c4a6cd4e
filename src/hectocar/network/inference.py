"""Batches of photographs -> logits and embeddings, without chance. Validation, prediction and service all come here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hectocar.config.schema import DataConfig, InferenceConfig
from hectocar.network.arithmetic import autocast, is_half, normalize_batch, to_device
from hectocar.network.carnet import CarNet
from hectocar.network.folding import prepare_inference
from hectocar.photos.batches import BATCH_BYTES, GPU_BATCH_BYTES, RenderBatch, iter_render_batches, shift_change
from hectocar.photos.decode import read_photo_bytes
from hectocar.photos.pool import raise_unread
from hectocar.photos.shift import PhotoShift
from hectocar.photos.views import Render

_CPU_SLICE_PIXELS = 8 * 160 * 160
"""In float32; twice as many in half precision."""


@dataclass(frozen=True)
class Outputs:
    """One row per photograph, in the order asked for; rows named in ``problems`` were not read and hold zeros."""

    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    problems: dict[int, str]


def send_pictures(pictures: Sequence[NDArray[np.uint8]], network: CarNet) -> list[Tensor]:
    """The pictures (B, S, S, 3) of each render on the device of the networks, sent once for all of them."""
    device = next(network.parameters()).device
    return [to_device(picture, device) for picture in pictures]


def choose_batch_bytes(network: CarNet) -> int:
    """What the pictures of a batch may take for a network where it stands."""
    return GPU_BATCH_BYTES if next(network.parameters()).device.type == "cuda" else BATCH_BYTES


@torch.inference_mode()
def infer_views(
    network: CarNet,
    pictures: Sequence[Tensor],
    views: Sequence[tuple[int, bool]],
    precision: str,
    embed: Sequence[int] = (0,),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits of each view of a batch, and the embeddings of some.

    Args:
        network: In evaluation mode.
        pictures: (B, 3, S, S) uint8 per render, on the network's device (see ``send_pictures``).
        views: (place in ``pictures``, mirrored or not) of each view.
        precision: See ``training.precision``.
        embed: The views whose embeddings are wanted.

    Returns:
        Logits (V, B, C) and embeddings (E, B, D), float32.
    """
    results: dict[int, tuple[Tensor, Tensor]] = {}
    for place in dict.fromkeys(place for place, _ in views):
        images = normalize_batch(pictures[place], network.pixels)
        for number, (used, mirror) in enumerate(views):
            if used == place:
                results[number] = _forward(network, images.flip(3) if mirror else images, precision)
    logits = torch.stack([results[number][0] for number in range(len(views))])
    embeddings = torch.stack([results[number][1] for number in embed])
    return logits.cpu().numpy(), embeddings.cpu().numpy()


def _forward(network: CarNet, images_BCHW: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    # A processor is fastest, and needs least memory, where the activations of a slice stay near its caches.
    device, pixels = images_BCHW.device, images_BCHW.shape[2] * images_BCHW.shape[3]
    slice_pixels = _CPU_SLICE_PIXELS * (2 if is_half(device, precision) else 1)
    size = max(1, slice_pixels // pixels) if device.type == "cpu" else len(images_BCHW)
    with autocast(device, precision):
        results = [network(part) for part in torch.split(images_BCHW, size)]
    return torch.cat([logits for logits, _ in results]).float(), torch.cat([embed for _, embed in results]).float()


def infer_photos(
    networks: Sequence[CarNet],
    files: Sequence[Path],
    *,
    size_px: int,
    inference: InferenceConfig,
    data: DataConfig,
    precision: str,
    on_photo: Callable[[int, int], None] | None = None,
    shift: PhotoShift | None = None,
    unreadable: Literal["raise", "take"] = "raise",
) -> list[Outputs]:
    """Reads each photograph once, shifted where a shift is given, and passes it through every network.

    Args:
        networks: Are left as they are.
        files: Photographs.
        size_px: Side of the square that the networks see.
        inference: Fit, batch and mirroring.
        data: Limits and threads.
        precision: See ``training.precision``.
        on_photo: Gets (done, total).
        shift: Makes each photograph like those of another set.
        unreadable: ``take`` leaves a photograph that cannot be read to the caller, named in ``problems``. Nobody else may
            judge what was not read.

    Returns:
        One ``Outputs`` per network.

    Raises:
        DataError: A photograph cannot be read; it is named.
    """
    batches = iter_render_batches(
        files,
        [Render(inference.fit, size_px)],
        read=read_photo_bytes,
        looks=False,
        batch_size=inference.batch_size,
        num_workers=data.num_workers,
        max_megapixels=data.max_megapixels,
        change=shift_change(shift),
    )
    if unreadable == "raise":
        batches = raise_unread(batches, files)
    ready = [prepare_inference(network, precision) for network in networks]
    return _collect(ready, batches, len(files), inference.mirror, precision, on_photo)


def _collect(
    networks: Sequence[CarNet],
    batches: Iterable[RenderBatch],
    num_photos: int,
    mirror: bool,
    precision: str,
    on_photo: Callable[[int, int], None] | None,
) -> list[Outputs]:
    logits = [np.zeros((num_photos, network.num_classes), dtype=np.float32) for network in networks]
    embeddings = [np.zeros((num_photos, network.embed_dim), dtype=np.float32) for network in networks]
    problems: dict[int, str] = {}
    views = [(0, False), (0, True)] if mirror else [(0, False)]
    done = 0
    for batch in batches:
        pictures = send_pictures(batch.pictures, networks[0])
        for place, network in enumerate(networks):
            view_logits, view_embeddings = infer_views(network, pictures, views, precision, range(len(views)))
            read_B = np.array([b not in batch.problems for b in range(len(batch.index_B))])
            logits[place][batch.index_B[read_B]] = view_logits.mean(axis=0)[read_B]
            embeddings[place][batch.index_B[read_B]] = view_embeddings.mean(axis=0)[read_B]
        problems.update({int(batch.index_B[b]): reason for b, reason in batch.problems.items()})
        done += len(batch.index_B)
        if on_photo:
            on_photo(done, num_photos)
    return [Outputs(logits[k], embeddings[k], problems) for k in range(len(networks))]
