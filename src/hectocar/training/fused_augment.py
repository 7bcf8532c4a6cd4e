"""The training augmentation for a GPU: two copies to the device and, compiled, a handful of launches for a whole batch.

It does what augment.py and the normalisation do, which are its reference, but every operation for every photograph, keeping
what was drawn: arithmetic is nearly free there, while each launch and each copy would hold up the step. One table of numbers
goes to the device. Nothing in the graph depends on what was drawn, so there is one for all phases of a schedule.

Shape letters: B photographs, C = 3 colours, H rows, W columns, P columns of the table.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hectocar.photos.shift import PhotoShift
from hectocar.training.augment import map_affine, order_colors
from hectocar.training.draws import CONTRAST, HUE, SATURATION, AugmentParams, MixParams, find_partners

_WIDTHS = {
    "flip": 1, "affine": 1, "x_map": 3, "y_map": 3, "tone": 1, "gamma": 1, "gain": 1, "offset": 1, "color_op": 4,
    "color_factor": 4, "erase_box": 4, "mix_box": 4, "own_outside": 1, "own_inside": 1, "labels": 2, "shares": 2,
}  # fmt: skip
"""Columns of the table. ``own_*``: weight of the own photograph outside of the mixing box and inside."""


def pack_params(
    params: AugmentParams, mix: MixParams | None, shift: PhotoShift | None, label_B: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(B, P): everything that was drawn for a batch, and its labels, in one table.

    Args:
        params: Of the augmentation.
        mix: Of the mixing, or None; the partner must be the next photograph of the batch, as ``draw_mix_params`` has it.
        shift: What bends tones; without one none are bent.
        label_B: Classes, below 2^24, which float32 holds exactly.
    """
    num, step_op_B4 = len(label_B), order_colors(params)
    tone_B = params.tone_B if shift is not None else np.zeros(num, dtype=bool)
    strength_B, made = np.where(tone_B, params.tone_strength_B, 0.0), shift or PhotoShift(1.0, 0.0, 1.0)
    x_map_B3, y_map_B3 = map_affine(params)
    place_B2, share_B2 = find_partners(mix, num)
    own_B = share_B2[:, 0]
    is_box = mix is not None and mix.kind == "cutmix"
    columns = {
        "flip": params.flip_B, "affine": params.affine_B, "x_map": x_map_B3, "y_map": y_map_B3, "tone": tone_B,
        "gamma": made.gamma**strength_B, "gain": made.gain**strength_B, "offset": strength_B * (made.offset / 255.0),
        "color_op": step_op_B4, "color_factor": np.take_along_axis(params.color_factor_B4, params.color_order_B4, axis=1),
        "erase_box": np.where(params.erase_B[:, None], params.erase_box_B4, 0),
        "mix_box": np.zeros((num, 4)) if mix is None else mix.box_B4,
        "own_outside": np.ones(num) if is_box else own_B, "own_inside": np.zeros(num),
        "labels": label_B[place_B2], "shares": share_B2,
    }  # fmt: skip
    return np.concatenate([columns[name].reshape(num, width) for name, width in _WIDTHS.items()], axis=1, dtype=np.float32)


@cache
def compile_augment(backend: str = "inductor") -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """``augment_packed`` as one graph for all sizes and batches."""
    compiled: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.compile(augment_packed, dynamic=True, backend=backend)
    return compiled


def augment_packed(images_BHWC: Tensor, table_BP: Tensor, mean_1311: Tensor, std_1311: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Augments, mixes and normalises a batch.

    Args:
        images_BHWC: uint8, square.
        table_BP: See ``pack_params``.
        mean_1311: See ``PixelStatistics``.
        std_1311: Likewise.

    Returns:
        What ``prepare_batch`` returns: images (B, C, H, W) in channels-last order, labels (B, 2), shares (B, 2).
    """
    parts = dict(zip(_WIDTHS, torch.split(table_BP, list(_WIDTHS.values()), dim=1), strict=True))
    images = images_BHWC.permute(0, 3, 1, 2)
    images = torch.where(_wide(parts["flip"]) > 0.0, images.flip(-1), images).to(torch.float32) / 255.0
    images = torch.where(_wide(parts["affine"]) > 0.0, _warp(images, parts["x_map"], parts["y_map"]), images)
    bent = images.pow(_wide(parts["gamma"])) * _wide(parts["gain"]) + _wide(parts["offset"])
    images = torch.where(_wide(parts["tone"]) > 0.0, bent.clamp(0.0, 1.0), images)
    for step in range(4):
        images = _recolor(images, parts["color_op"][:, step : step + 1], parts["color_factor"][:, step : step + 1])
    images = torch.where(_is_inside(images, parts["erase_box"]), 0.0, images)
    own = torch.where(_is_inside(images, parts["mix_box"]), _wide(parts["own_inside"]), _wide(parts["own_outside"]))
    images = torch.where(own < 1.0, images * own + images.roll(-1, 0) * (1.0 - own), images)
    images = ((images - mean_1311) / std_1311).contiguous(memory_format=torch.channels_last)
    return images, parts["labels"].long(), parts["shares"].contiguous()


def _wide(column_B1: Tensor) -> Tensor:
    return column_B1[:, :, None, None]


def _warp(images_BCHW: Tensor, x_map_B3: Tensor, y_map_B3: Tensor) -> Tensor:
    size_px = images_BCHW.shape[-1]
    centers = (torch.arange(size_px, device=images_BCHW.device, dtype=torch.float32) * 2.0 + 1.0) / size_px - 1.0
    axes = [
        (map_B3[:, 0:1] * centers)[:, None, :] + (map_B3[:, 1:2] * centers + map_B3[:, 2:3])[:, :, None]
        for map_B3 in (x_map_B3, y_map_B3)
    ]
    grid_BHW2 = torch.stack(axes, dim=-1)
    warped = F.grid_sample(images_BCHW, grid_BHW2, mode="bilinear", padding_mode="reflection", align_corners=False)
    return warped.clamp(0.0, 1.0)


def _recolor(images_BCHW: Tensor, op_B1: Tensor, factor_B1: Tensor) -> Tensor:
    """One step of colour: the operation that is due for each photograph."""
    op, factor = _wide(op_B1), _wide(factor_B1)
    red, green, blue = images_BCHW.unbind(1)
    grey = (red * 0.2989 + green * 0.587 + blue * 0.114)[:, None]
    mean = grey.mean(dim=(2, 3), keepdim=True)
    other = torch.where(op == CONTRAST, mean, torch.where(op == SATURATION, grey, 0.0))  # brightness: black
    changed = torch.where(op == HUE, _turn_hue(red, green, blue, factor_B1), images_BCHW * factor + other * (1.0 - factor))
    return torch.where(op < 0.0, images_BCHW, changed.clamp(0.0, 1.0))


def _turn_hue(red: Tensor, green: Tensor, blue: Tensor, turns_B1: Tensor) -> Tensor:
    """See augment.py's; planes (B, H, W) -> (B, C, H, W)."""
    high, low = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    per_chroma = 1.0 / chroma.clamp(min=1e-12)
    sixths = torch.where(high == green, (blue - red) * per_chroma + 2.0, (red - green) * per_chroma + 4.0)
    sixths = torch.where(high == red, (green - blue) * per_chroma, sixths) + 6.0 * turns_B1[:, :, None]
    sixths = sixths - (sixths * (1.0 / 6.0)).floor() * 6.0
    shares = ((sixths - 3.0).abs() - 1.0, 2.0 - (sixths - 2.0).abs(), 2.0 - (sixths - 4.0).abs())
    return torch.stack([share.clamp(0.0, 1.0) * chroma + low for share in shares], dim=1)


def _is_inside(images_BCHW: Tensor, box_B4: Tensor) -> Tensor:
    """(B, 1, H, W): whether a pixel lies in the box of its photograph."""
    height, width = images_BCHW.shape[2:]
    y_H1 = torch.arange(height, device=images_BCHW.device, dtype=torch.float32)[:, None]
    x_1W = torch.arange(width, device=images_BCHW.device, dtype=torch.float32)[None, :]
    left, top, right, bottom = (_wide(side) for side in torch.split(box_B4, 1, dim=1))
    return (x_1W >= left) & (x_1W < right) & (y_H1 >= top) & (y_H1 < bottom)
