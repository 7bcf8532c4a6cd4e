"""The training augmentation, once per batch on the device: the pixel work, by parameters drawn before (draws.py).

Every operation is computed per photograph and skipped where it does nothing, so a photograph without a part comes through
that part bit for bit. Colour operations follow torchvision's ColorJitter, the affine follows torchvision's ``affine``.

Shape letters: B photographs of the batch, N of them that an operation concerns, C = 3 colours (RGB), H rows, W columns,
and a digit for a fixed length.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hectocar.photos.shift import PhotoShift
from hectocar.training.draws import BRIGHTNESS, CONTRAST, HUE, SATURATION, AugmentParams, MixParams

NO_COLOR = -1


def augment_batch(images_BCHW: Tensor, params: AugmentParams, shift: PhotoShift | None = None) -> Tensor:
    """Mirrors, warps, bends tones, recolours and erases; takes uint8 in any layout, returns new float32 in [0, 1], contiguous.

    Erased pixels are black, as in albumentations' CoarseDropout. The input is left as it was.
    """
    assert images_BCHW.dtype == torch.uint8
    planes_BCHW = images_BCHW.contiguous()  # most of the work below is by colour plane
    if params.flip_B.any():
        flip_B = _send(params.flip_B, images_BCHW.device)
        planes_BCHW = torch.where(flip_B[:, None, None, None], planes_BCHW.flip(-1), planes_BCHW)
    out_BCHW = planes_BCHW.to(torch.float32).div_(255.0)
    _warp_images(out_BCHW, params)
    if shift is not None:
        _bend_tones(out_BCHW, params, shift)
    _recolor_images(out_BCHW, params)
    for row in np.flatnonzero(params.erase_B):
        left, top, right, bottom = params.erase_box_B4[row].tolist()
        out_BCHW[row, :, top:bottom, left:right] = 0.0
    return out_BCHW


def _send(values: NDArray[Any], device: torch.device) -> Tensor:
    """Copies an array to the device; what was computed in float64 continues in float32."""
    return torch.from_numpy(values.astype(np.float32) if values.dtype == np.float64 else values).to(device)


def map_affine(params: AugmentParams) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From output to input, in grid_sample's unit, in which the image spans -1 to 1: undoes shift, then rotation and zoom.

    Returns:
        Two (B, 3) arrays: what to multiply the output's x, its y and 1 with, for the input's x and for its y.
    """
    angle_B, (right_B, down_B) = np.deg2rad(params.angle_deg_B), 2.0 * params.shift_B2.T
    cos_B, sin_B = np.cos(angle_B) / params.zoom_B, np.sin(angle_B) / params.zoom_B
    x_map_B3 = np.stack([cos_B, sin_B, -cos_B * right_B - sin_B * down_B], axis=1)
    y_map_B3 = np.stack([-sin_B, cos_B, sin_B * right_B - cos_B * down_B], axis=1)
    return x_map_B3, y_map_B3


def _warp_images(images_BCHW: Tensor, params: AugmentParams) -> None:
    """Rotates, zooms and shifts the chosen images in place, bilinear.

    What lies outside is mirrored in: black corners would tell the network how far the photograph was turned.
    """
    chosen_N = np.flatnonzero(params.affine_B)
    if len(chosen_N) == 0:
        return
    device, size_px = images_BCHW.device, images_BCHW.shape[-1]
    assert images_BCHW.shape[-2] == size_px, "the map below has one unit for both axes"
    x_map_N3, y_map_N3 = (map_B3[chosen_N] for map_B3 in map_affine(params))
    centers = (torch.arange(size_px, device=device, dtype=torch.float32) * 2.0 + 1.0) / size_px - 1.0
    grid_NHW2 = torch.empty(len(chosen_N), size_px, size_px, 2, device=device)
    # A row term plus a column term, not affine_grid's matrix product: faster, and the same to the bit in any batch.
    for axis, map_N3 in enumerate((_send(x_map_N3, device), _send(y_map_N3, device))):
        column_N1W = (map_N3[:, 0:1] * centers)[:, None, :]
        row_NH1 = (map_N3[:, 1:2] * centers + map_N3[:, 2:3])[:, :, None]
        torch.add(column_N1W, row_NH1, out=grid_NHW2[..., axis])
    index_N = _send(chosen_N, device)
    warped_NCHW = F.grid_sample(
        images_BCHW.index_select(0, index_N), grid_NHW2, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    # The four bilinear weights may sum to a rounding error more than 1.
    images_BCHW.index_copy_(0, index_N, warped_NCHW.clamp_(0.0, 1.0))


def _bend_tones(images_BCHW: Tensor, params: AugmentParams, shift: PhotoShift) -> None:
    """Moves the chosen images in place along the curve of ``PhotoShift``, each as far as its strength says."""
    chosen_N = np.flatnonzero(params.tone_B)
    if len(chosen_N) == 0:
        return
    index_N = _send(chosen_N, images_BCHW.device)
    strength_N111 = _send(params.tone_strength_B[chosen_N], images_BCHW.device)[:, None, None, None]
    bent_NCHW = images_BCHW.index_select(0, index_N)
    if shift.gamma != 1.0:
        bent_NCHW = bent_NCHW.pow_(shift.gamma**strength_N111)
    bent_NCHW = bent_NCHW.mul_(shift.gain**strength_N111).add_(strength_N111 * (shift.offset / 255.0))
    images_BCHW.index_copy_(0, index_N, bent_NCHW.clamp_(0.0, 1.0))


def order_colors(params: AugmentParams) -> NDArray[np.int64]:
    """(B, 4): the colour operation of each step; NO_COLOR where nothing is to do, and the image must not change by a bit."""
    neutral_4 = np.array([0.0 if op == HUE else 1.0 for op in range(4)])
    active_B4 = params.color_B[:, None] & (params.color_factor_B4 != neutral_4)
    order_B4 = params.color_order_B4
    return np.where(np.take_along_axis(active_B4, order_B4, axis=1), order_B4, NO_COLOR)


def _recolor_images(images_BCHW: Tensor, params: AugmentParams) -> None:
    """Applies the colour operations in place, each image in its own order, clamped to [0, 1] after each.

    Before each of the four steps the images are sorted by the operation that is due, so that every operation works in
    place on one slice.
    """
    step_op_B4 = order_colors(params)
    rows_N = np.flatnonzero((step_op_B4 != NO_COLOR).any(axis=1))
    if len(rows_N) == 0:
        return
    device = images_BCHW.device
    work_NCHW = images_BCHW.index_select(0, _send(rows_N, device))
    for step in range(4):
        op_N = step_op_B4[rows_N, step]
        sorted_N = np.argsort(op_N, kind="stable")
        rows_N, op_N = rows_N[sorted_N], op_N[sorted_N]
        work_NCHW = work_NCHW.index_select(0, _send(sorted_N, device))
        factor_N = _send(params.color_factor_B4[rows_N, op_N], device)
        bounds = np.searchsorted(op_N, range(5)).tolist()
        for op, (start, stop) in enumerate(pairwise(bounds)):
            if start < stop:
                _apply_color(work_NCHW[start:stop], op, factor_N[start:stop])
        work_NCHW.clamp_(0.0, 1.0)
    images_BCHW.index_copy_(0, _send(rows_N, device), work_NCHW)


def _compute_grey(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    """Luma of ITU-R 601, with torchvision's digits."""
    return (red * 0.2989).add_(green * 0.587).add_(blue * 0.114)


def _apply_color(images_NCHW: Tensor, op: int, factor_N: Tensor) -> None:
    """Changes the images in place, by ``factor_N``: brightness, contrast, saturation, or hue."""
    factor_N111 = factor_N[:, None, None, None]
    if op == BRIGHTNESS:
        images_NCHW.mul_(factor_N111)
    elif op == CONTRAST:
        # The mean of the grey image is the grey of the mean colour. Means of planes, never of a whole image: a sum to one
        # number is split between threads, and its last bit would depend on the batch and on the machine.
        grey_N = _compute_grey(*images_NCHW.flatten(2).mean(2).unbind(1))
        images_NCHW.mul_(factor_N111).add_(((1.0 - factor_N) * grey_N)[:, None, None, None])
    elif op == SATURATION:
        grey_N1HW = _compute_grey(*images_NCHW.unbind(1))[:, None]
        images_NCHW.mul_(factor_N111).add_(grey_N1HW.mul_(1.0 - factor_N111))
    elif op == HUE:
        _shift_hue(images_NCHW, factor_N)


def _shift_hue(images_NCHW: Tensor, turns_N: Tensor) -> None:
    """Turns the hue in HSV with value and saturation kept, in place, without forming the HSV image."""
    red, green, blue = images_NCHW.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    per_chroma = chroma.clamp(min=1e-12).reciprocal_()  # a grey pixel has differences of 0: any finite number will do
    sixths = (red - green).mul_(per_chroma).add_(4.0)
    sixths = torch.where(high == green, (blue - red).mul_(per_chroma).add_(2.0), sixths)
    sixths = torch.where(high == red, (green - blue).mul_(per_chroma), sixths)
    sixths.add_(6.0 * turns_N[:, None, None])
    sixths.sub_((sixths * (1.0 / 6.0)).floor_().mul_(6.0))
    # Red's share of the chroma grows with the distance from cyan on the hue hexagon; green's and blue's fall with the
    # distance from green and from blue.
    red.copy_(sixths.sub(3.0).abs_().sub_(1.0).clamp_(0.0, 1.0).mul_(chroma).add_(low))
    green.copy_(sixths.sub(2.0).abs_().neg_().add_(2.0).clamp_(0.0, 1.0).mul_(chroma).add_(low))
    blue.copy_(sixths.sub_(4.0).abs_().neg_().add_(2.0).clamp_(0.0, 1.0).mul_(chroma).add_(low))


def mix_batch(images_BCHW: Tensor, mix: MixParams) -> Tensor:
    """Pastes or blends each image's partner into it; returns new images, unchanged where the share is 1."""
    if mix.kind == "mixup":
        share_B111 = _send(mix.share_B, images_BCHW.device)[:, None, None, None]
        partners_BCHW = images_BCHW.index_select(0, _send(mix.partner_B, images_BCHW.device))
        return partners_BCHW.mul_(1.0 - share_B111).addcmul_(images_BCHW, share_B111)
    out_BCHW = images_BCHW.clone()
    for row in np.flatnonzero(mix.share_B < 1.0):
        left, top, right, bottom = mix.box_B4[row].tolist()
        out_BCHW[row, :, top:bottom, left:right] = images_BCHW[mix.partner_B[row], :, top:bottom, left:right]
    return out_BCHW
