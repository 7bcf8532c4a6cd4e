"""The training augmentation, once per batch on the device: parameters drawn per photograph, then the pixel work.

Every random number is a hash of (seed, epoch, image index, stream, draw), so a photograph gets the same augmentation
whatever the number of workers, its place in the batch, or the point at which a run was resumed. Every operation is
computed per photograph and skipped where it does nothing, so a photograph without a part comes through that part bit for
bit. Colour operations follow torchvision's ColorJitter, the affine follows torchvision's ``affine``.

Shape letters: B photographs of the batch, N of them that an operation concerns, C = 3 colours (RGB), H rows, W columns,
and a digit for a fixed length. Boxes are left, top, right, bottom in pixels, right and bottom exclusive.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from hectocar.config.schema import AugmentConfig, MixPhase
from hectocar.photos.shift import PhotoShift

_AUGMENT_STREAM = 1  # 0 is the loader's, for crops
_MIX_STREAM = 2

_CROP_TRIES = 10
NUM_CROP_DRAWS = 2 * _CROP_TRIES + 2  # (area, ratio) of each try, then the place of the box

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # columns of color_factor_B4, values of color_order_B4

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_WORD = 2**64 - 1


def _scramble(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit flips every output bit with probability 1/2."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def uniform_draws(seed: int, epoch: int, image_index_B: NDArray[np.int64], stream: int, num_draws: int) -> NDArray[np.float64]:
    """Returns (B, num_draws) numbers in [0, 1), a pure function of the arguments.

    ``stream`` separates uses of one photograph in one epoch: crop, augmentation, mixing. Row b depends on
    ``image_index_B[b]`` only, and draw k does not depend on ``num_draws``.
    """
    key_B = np.zeros(1, dtype=np.uint64)  # an array, because NumPy warns when a scalar wraps
    for part in (seed, epoch, stream):
        key_B = _scramble((key_B ^ np.uint64(part & _WORD)) + _GOLDEN)
    key_B = _scramble((key_B ^ image_index_B.astype(np.int64).view(np.uint64)) + _GOLDEN)
    word_BN = _scramble(key_B[:, None] + np.arange(1, num_draws + 1, dtype=np.uint64) * _GOLDEN)
    # 53 bits fill a double, so that 1.0 cannot come out by rounding.
    return (word_BN >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_crop_box(
    config: AugmentConfig, draws: NDArray[np.float64], width: int, height: int
) -> tuple[float, float, float, float]:
    """Returns the box that torchvision's RandomResizedCrop would cut; whole pixels, always inside the photograph.

    ``draws`` is one photograph's row of ``NUM_CROP_DRAWS`` uniform numbers. A try is kept if its box fits; after ten
    failures it is the largest central box whose ratio is allowed.
    """
    row = draws.tolist()
    ratio_unit = width / height if config.crop_ratio_of == "photo" else 1.0
    min_ratio, max_ratio = config.crop_ratio[0] * ratio_unit, config.crop_ratio[1] * ratio_unit
    min_scale, max_scale = config.crop_scale
    log_low, log_high = math.log(min_ratio), math.log(max_ratio)
    # A box of the full area fits only if it is the photograph itself, which is what the fallback returns.
    for attempt in range(_CROP_TRIES if min_scale < 1.0 else 0):
        area = width * height * (min_scale + (max_scale - min_scale) * row[2 * attempt])
        ratio = math.exp(log_low + (log_high - log_low) * row[2 * attempt + 1])
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = math.floor(row[-2] * (width - box_width + 1))
            top = math.floor(row[-1] * (height - box_height + 1))
            return float(left), float(top), float(left + box_width), float(top + box_height)
    box_width, box_height = width, height
    if width / height < min_ratio:
        box_height = max(1, round(width / min_ratio))
    elif width / height > max_ratio:
        box_width = max(1, round(height * max_ratio))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return float(left), float(top), float(left + box_width), float(top + box_height)


@dataclass(frozen=True)
class AugmentParams:
    """What happens to each photograph of a batch; a value counts only where its flag is set."""

    flip_B: NDArray[np.bool_]
    """Mirror left and right; comes first."""
    affine_B: NDArray[np.bool_]
    """Resample by the three fields below; comes second."""
    angle_deg_B: NDArray[np.float64]
    """Clockwise rotation about the centre."""
    zoom_B: NDArray[np.float64]
    """Above 1 enlarges the car."""
    shift_B2: NDArray[np.float64]
    """Translation right and down, as fractions of the side, after rotation and zoom."""
    tone_B: NDArray[np.bool_]
    """Bend the tones by the shift between training and test photographs; comes third."""
    tone_strength_B: NDArray[np.float64]
    """0 bends nothing, 1 as much as the shift."""
    color_B: NDArray[np.bool_]
    """Change the colours; comes fourth."""
    color_factor_B4: NDArray[np.float64]
    """Brightness, contrast and saturation factors (1 = no change), then the hue shift in turns (0 = no change)."""
    color_order_B4: NDArray[np.int64]
    """The order in which the four are applied, as columns of ``color_factor_B4``."""
    erase_B: NDArray[np.bool_]
    """Blacken the box; comes last."""
    erase_box_B4: NDArray[np.int64]
    """A square, wholly inside the image."""


def _centered(draws: NDArray[np.float64], half_width: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Stretches [0, 1) to [-half_width, half_width)."""
    return (2.0 * draws - 1.0) * half_width


def draw_augment_params(
    config: AugmentConfig, seed: int, epoch: int, image_index_B: NDArray[np.int64], size_px: int
) -> AugmentParams:
    """Draws one row per photograph for square images of ``size_px``.

    Each parameter owns its columns of the draws, so switching one part off leaves the others as they were.
    """
    draws_BN = uniform_draws(seed, epoch, image_index_B, _AUGMENT_STREAM, 21)
    jitter = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    factor_B4 = _centered(draws_BN[:, 7:11], jitter)
    factor_B4[:, :HUE] += 1.0
    low, high = config.erase_side
    side_B = np.clip(np.rint(size_px * (low + (high - low) * draws_BN[:, 16])), 1, size_px)
    corner_B2 = np.floor(draws_BN[:, 17:19] * (size_px - side_B + 1)[:, None])
    return AugmentParams(
        flip_B=draws_BN[:, 0] < config.flip_prob,
        # An affine without any strength would still resample, and blur by a rounding error.
        affine_B=(draws_BN[:, 1] < config.affine_prob) & (max(config.shift, config.scale, config.rotate_degrees) > 0.0),
        angle_deg_B=_centered(draws_BN[:, 2], config.rotate_degrees),
        zoom_B=1.0 + _centered(draws_BN[:, 3], config.scale),
        shift_B2=_centered(draws_BN[:, 4:6], config.shift),
        tone_B=draws_BN[:, 19] < config.drift_prob,
        tone_strength_B=config.drift_strength[0] + np.diff(config.drift_strength) * draws_BN[:, 20],
        color_B=draws_BN[:, 6] < config.color_prob,
        color_factor_B4=factor_B4,
        color_order_B4=np.argsort(draws_BN[:, 11:15], axis=1).astype(np.int64),
        erase_B=draws_BN[:, 15] < config.erase_prob,
        erase_box_B4=np.concatenate([corner_B2, corner_B2 + side_B[:, None]], axis=1).astype(np.int64),
    )


@dataclass(frozen=True)
class MixParams:
    """Which photograph of the batch is mixed into which, and how much of each is left."""

    kind: Literal["cutmix", "mixup"]
    partner_B: NDArray[np.int64]
    """Place in the batch of the other photograph."""
    share_B: NDArray[np.float64]
    """Share of the own photograph, and of its label; exactly 1 where nothing is mixed."""
    box_B4: NDArray[np.int64]
    """CutMix: the part taken from the partner; empty where nothing is."""


def draw_mix_params(phase: MixPhase, seed: int, epoch: int, image_index_B: NDArray[np.int64], size_px: int) -> MixParams | None:
    """Draws partners and shares, or None in a phase without mixing.

    The share follows Beta(alpha, alpha) (Zhang et al. 2018, mixup). A CutMix box is placed and clipped as in Yun et al.
    2019, algorithm 1, and its share is corrected to the area that was really pasted. The partner is the next photograph
    of the batch: the order of an epoch is random already.
    """
    if phase.kind == "none":
        return None
    num_images = len(image_index_B)
    draws_BN = uniform_draws(seed, epoch, image_index_B, _MIX_STREAM, 4)
    mixed_B = draws_BN[:, 0] < phase.prob
    share_B = np.where(mixed_B, betaincinv(phase.alpha, phase.alpha, draws_BN[:, 1]), 1.0)
    box_B4 = np.zeros((num_images, 4), dtype=np.int64)
    if phase.kind == "cutmix":
        half_B1 = np.floor(size_px * np.sqrt(1.0 - share_B))[:, None] // 2
        center_B2 = np.floor(draws_BN[:, 2:4] * size_px)
        box_B4 = np.concatenate([center_B2 - half_B1, center_B2 + half_B1], axis=1).clip(0, size_px).astype(np.int64)
        area_B = (box_B4[:, 2] - box_B4[:, 0]) * (box_B4[:, 3] - box_B4[:, 1])
        share_B = 1.0 - area_B / size_px**2
    partner_B = np.roll(np.arange(num_images, dtype=np.int64), -1)
    return MixParams(kind=phase.kind, partner_B=partner_B, share_B=share_B, box_B4=box_B4)


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


def _warp_images(images_BCHW: Tensor, params: AugmentParams) -> None:
    """Rotates, zooms and shifts the chosen images in place, bilinear.

    What lies outside is mirrored in: black corners would tell the network how far the photograph was turned.
    """
    chosen_N = np.flatnonzero(params.affine_B)
    if len(chosen_N) == 0:
        return
    device, size_px = images_BCHW.device, images_BCHW.shape[-1]
    assert images_BCHW.shape[-2] == size_px, "the map below has one unit for both axes"
    angle_N, zoom_N = np.deg2rad(params.angle_deg_B[chosen_N]), params.zoom_B[chosen_N]
    right_N, down_N = 2.0 * params.shift_B2[chosen_N].T  # in grid_sample's unit, in which the image spans -1 to 1
    cos_N, sin_N = np.cos(angle_N) / zoom_N, np.sin(angle_N) / zoom_N
    # From output to input: undo the shift, then the rotation and the zoom.
    x_map_N3 = np.stack([cos_N, sin_N, -cos_N * right_N - sin_N * down_N], axis=1)
    y_map_N3 = np.stack([-sin_N, cos_N, sin_N * right_N - cos_N * down_N], axis=1)
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


def _recolor_images(images_BCHW: Tensor, params: AugmentParams) -> None:
    """Applies the colour operations in place, each image in its own order, clamped to [0, 1] after each.

    Before each of the four steps the images are sorted by the operation that is due, so that every operation works in
    place on one slice.
    """
    neutral_4 = np.array([0.0 if op == HUE else 1.0 for op in range(4)])
    active_B4 = params.color_B[:, None] & (params.color_factor_B4 != neutral_4)
    rows_N = np.flatnonzero(active_B4.any(axis=1))
    if len(rows_N) == 0:
        return
    device = images_BCHW.device
    work_NCHW = images_BCHW.index_select(0, _send(rows_N, device))
    for step in range(4):
        op_N = params.color_order_B4[rows_N, step]
        op_N = np.where(active_B4[rows_N, op_N], op_N, -1)  # -1: nothing to do, and the image must not change by a bit
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
