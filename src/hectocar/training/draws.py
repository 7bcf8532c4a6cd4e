"""The chance of a training batch: what happens to each photograph, drawn before any pixel is touched. No torch in here.

Every random number is a hash of (seed, epoch, image index, stream, draw), so a photograph gets the same augmentation
whatever the number of workers, its place in the batch, or the point at which a run was resumed.

Shape letters: B photographs of the batch, and a digit for a fixed length. Boxes are left, top, right, bottom in pixels, right
and bottom exclusive.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from hectocar.config.schema import AugmentConfig, MixPhase

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


def draw_crop_box(config: AugmentConfig, draws: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
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
            return left, top, left + box_width, top + box_height
    box_width, box_height = width, height
    if width / height < min_ratio:
        box_height = max(1, round(width / min_ratio))
    elif width / height > max_ratio:
        box_width = max(1, round(height * max_ratio))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


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
    return MixParams(kind=phase.kind, partner_B=np.roll(np.arange(num_images), -1), share_B=share_B, box_B4=box_B4)


def find_partners(mix: MixParams | None, num_images: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(B, 2) whose labels make each target, and their shares; its own twice if unmixed: the margin goes to all of them."""
    place_B, own_B = np.arange(num_images), np.ones(num_images) if mix is None else mix.share_B
    partner_B = place_B if mix is None else np.where(own_B < 1.0, mix.partner_B, place_B)
    share_B = own_B.astype(np.float32)
    return np.stack([place_B, partner_B], axis=1), np.stack([share_B, 1.0 - share_B], axis=1)
