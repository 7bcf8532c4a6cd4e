"""Laws of the pixel work: every operation equals a plain reference, each photograph is treated as if it were alone."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from hectocar.config.schema import AugmentConfig, MixPhase
from hectocar.photos.shift import PhotoShift
from hectocar.training.augment import augment_batch, mix_batch
from hectocar.training.draws import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    AugmentParams,
    draw_augment_params,
    draw_mix_params,
)

FLOAT_TOLERANCE = 2e-6  # a few roundings of float32
HEAVY = AugmentConfig(shift=0.3, scale=0.5, rotate_degrees=180.0, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
OFF = AugmentConfig(affine_prob=0.0, color_prob=0.0, flip_prob=0.0, erase_prob=0.0)
REFERENCE = {
    BRIGHTNESS: tv.adjust_brightness,
    CONTRAST: tv.adjust_contrast,
    SATURATION: tv.adjust_saturation,
    HUE: tv.adjust_hue,
}


def make_images(num_images: int, size_px: int, seed: int = 0) -> Tensor:
    """Noise, a flat grey, a flat colour, black and white: the last four are where hue and contrast degenerate."""
    images = torch.randint(0, 256, (num_images, 3, size_px, size_px), dtype=torch.uint8, generator=make_generator(seed))
    for row, color in enumerate([(90, 90, 90), (250, 20, 20), (0, 0, 0), (255, 255, 255)][: num_images - 1], start=1):
        images[row] = torch.tensor(color, dtype=torch.uint8)[:, None, None]
    return images


def make_generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_params(num_images: int, **changes: Any) -> AugmentParams:
    """Parameters that change nothing, but for ``changes``."""
    return dataclasses.replace(draw_augment_params(OFF, 0, 0, np.arange(num_images), 32), **changes)


def test_nothing_to_do_is_the_identity_bit_for_bit() -> None:
    """With every part off, by probability or by strength, the output is the input divided by 255."""
    images = make_images(32, 33)
    no_strength = AugmentConfig(
        brightness=0, contrast=0, saturation=0, hue=0, shift=0, scale=0, rotate_degrees=0, flip_prob=0, erase_prob=0,
        affine_prob=1, color_prob=1,
    )  # fmt: skip
    for config in (OFF, no_strength):
        out = augment_batch(images, draw_augment_params(config, 0, 0, np.arange(32), 33))
        assert torch.equal(out, images.to(torch.float32) / 255)


@pytest.mark.parametrize("op", range(4))
def test_color_operation_equals_torchvision(op: int) -> None:
    """Each colour operation is torchvision's, over the whole range of its factor."""
    factors = np.linspace(-0.5, 0.5, 9) if op == HUE else np.linspace(0.0, 2.0, 9)
    images = make_images(9, 40)
    for shift in range(0, 9, 2):  # every kind of image meets weak and strong factors
        factor_B4 = np.tile([1.0, 1.0, 1.0, 0.0], (9, 1))
        factor_B4[:, op] = np.roll(factors, shift)
        params = make_params(9, color_B=np.ones(9, dtype=bool), color_factor_B4=factor_B4)
        for out, image, factor in zip(augment_batch(images, params), images, factor_B4[:, op], strict=True):
            expected = REFERENCE[op](image.to(torch.float32) / 255, float(factor))
            assert (out - expected).abs().max() < FLOAT_TOLERANCE


def test_colors_follow_each_images_own_order() -> None:
    """All 24 orders in one batch equal torchvision's operations called one after another on each image."""
    orders = np.array(list(itertools.permutations(range(4))))
    factor_B4 = np.random.default_rng(0).uniform([0.6, 0.6, 0.6, -0.1], [1.4, 1.4, 1.4, 0.1], (24, 4))
    images = make_images(24, 40)
    color_B = np.ones(24, dtype=bool)
    color_B[[3, 11]] = False
    out = augment_batch(images, make_params(24, color_B=color_B, color_factor_B4=factor_B4, color_order_B4=orders))
    for row in range(24):
        expected = images[row].to(torch.float32) / 255
        for op in orders[row] if color_B[row] else ():
            expected = REFERENCE[op](expected, float(factor_B4[row, op])).clamp(0.0, 1.0)
        assert (out[row] - expected).abs().max() < 2 * FLOAT_TOLERANCE


def test_flip_mirrors_left_and_right() -> None:
    """A flip moves pixels and changes none, and only where it was drawn."""
    images = make_images(6, 31)
    flip_B = np.array([True, False, True, False, False, True])
    out = augment_batch(images, make_params(6, flip_B=flip_B))
    for row in range(6):
        expected = tv.horizontal_flip(images[row]) if flip_B[row] else images[row]
        assert torch.equal(out[row], expected.to(torch.float32) / 255)


def test_affine_equals_torchvision_on_a_mirrored_border() -> None:
    """After the flip, torchvision's affine about the centre; beyond the edge the image is continued by its mirror image."""
    size, rng = 32, np.random.default_rng(1)
    images = torch.randint(0, 256, (12, 3, size, size), dtype=torch.uint8, generator=make_generator(1))
    flip_B, affine_B = np.arange(12) % 2 == 0, np.arange(12) % 3 != 0
    angle_B, zoom_B, shift_B2 = rng.uniform(-40, 40, 12), rng.uniform(0.7, 1.4, 12), rng.uniform(-0.2, 0.2, (12, 2))
    params = make_params(12, flip_B=flip_B, affine_B=affine_B, angle_deg_B=angle_B, zoom_B=zoom_B, shift_B2=shift_B2)
    out = augment_batch(images, params)
    for row in range(12):
        expected = images[row].to(torch.float32) / 255
        expected = tv.horizontal_flip(expected) if flip_B[row] else expected
        if affine_B[row]:
            wide = tv.pad(expected, [size] * 4, padding_mode="symmetric")
            translate = (size * shift_B2[row]).tolist()
            moved = tv.affine(wide, angle_B[row], translate, zoom_B[row], [0.0, 0.0], InterpolationMode.BILINEAR)
            expected = moved[:, size:-size, size:-size]
            # The two grids round differently: up to 1e-5 of a pixel, in noise whose neighbours differ by up to 1.
            assert (out[row] - expected).abs().max() < 5e-5
        else:
            assert torch.equal(out[row], expected)


def test_erase_blackens_the_box_and_nothing_else() -> None:
    """Erasing equals a loop over pixels."""
    images = make_images(8, 24).clamp(min=1)
    params = draw_augment_params(dataclasses.replace(OFF, erase_prob=0.6), 3, 0, np.arange(8), 24)
    assert 0 < params.erase_B.sum() < 8
    expected = images.numpy() / np.float32(255)
    for row, y, x in itertools.product(range(8), range(24), range(24)):
        left, top, right, bottom = params.erase_box_B4[row]
        if params.erase_B[row] and left <= x < right and top <= y < bottom:
            expected[row, :, y, x] = 0.0
    np.testing.assert_array_equal(augment_batch(images, params).numpy(), expected)


@pytest.mark.parametrize("size_px", [37, 64])
@pytest.mark.parametrize("config", [AugmentConfig(), HEAVY])
def test_each_photograph_is_augmented_as_if_alone(config: AugmentConfig, size_px: int) -> None:
    """Bit for bit: a batch equals its photographs one by one, a permuted batch is the permuted result, on any threads."""
    images, index_B = make_images(23, size_px), np.arange(23, dtype=np.int64) * 1_000_003
    out = augment_batch(images, draw_augment_params(config, 7, 2, index_B, size_px))
    for row in range(23):
        params = draw_augment_params(config, 7, 2, index_B[row : row + 1], size_px)
        assert torch.equal(augment_batch(images[row : row + 1], params)[0], out[row])
    order = np.random.default_rng(0).permutation(23)
    permuted = augment_batch(images[torch.from_numpy(order)], draw_augment_params(config, 7, 2, index_B[order], size_px))
    assert torch.equal(permuted, out[torch.from_numpy(order)])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(augment_batch(images, draw_augment_params(config, 7, 2, index_B, size_px)), out)
    finally:
        torch.set_num_threads(threads)


def test_layout_does_not_matter_and_the_input_survives() -> None:
    """Channels-last input gives the same contiguous output, and neither input is written to."""
    images = make_images(9, 40)
    before, params = images.clone(), draw_augment_params(HEAVY, 0, 0, np.arange(9), 40)
    out = augment_batch(images, params)
    from_channels_last = augment_batch(images.contiguous(memory_format=torch.channels_last), params)
    assert torch.equal(out, from_channels_last)
    assert out.is_contiguous()
    assert from_channels_last.is_contiguous()
    assert torch.equal(images, before)


@given(seed=st.integers(0, 2**31), size_px=st.integers(1, 48), num_images=st.integers(1, 7))
@example(seed=45, size_px=23, num_images=5)  # a white pixel that the bilinear weights took to 1 + 1e-7
@settings(max_examples=25, deadline=None)
def test_output_stays_in_range(seed: int, size_px: int, num_images: int) -> None:
    """However strong the augmentation and small the image: float32 in [0, 1], never NaN."""
    images = make_images(num_images, size_px, seed)
    out = augment_batch(images, draw_augment_params(HEAVY, seed, 0, np.arange(num_images), size_px))
    assert out.dtype == torch.float32
    assert ((out >= 0.0) & (out <= 1.0)).all()


@pytest.mark.parametrize("kind", ["cutmix", "mixup"])
def test_mixing_equals_a_loop(kind: str) -> None:
    """Pasting and blending equal NumPy loops, unmixed photographs come through exactly, the input is left alone."""
    images = make_images(16, 24).to(torch.float32) / 255
    before = images.clone()
    phase = MixPhase(epochs=1, kind=kind, alpha=0.8, prob=0.6)  # type: ignore[arg-type]
    mix = draw_mix_params(phase, 0, 0, np.arange(16), 24)
    assert mix is not None
    assert 0 < (mix.share_B == 1.0).sum() < 16
    out = mix_batch(images, mix)
    for row, (partner, share) in enumerate(zip(mix.partner_B, mix.share_B, strict=True)):
        own, other = before[row].numpy().copy(), before[partner].numpy()
        if kind == "mixup":
            expected = own.astype(np.float64) * share + other.astype(np.float64) * (1.0 - share)
            np.testing.assert_allclose(out[row].numpy(), expected, atol=FLOAT_TOLERANCE)
        else:
            left, top, right, bottom = mix.box_B4[row]
            own[:, top:bottom, left:right] = other[:, top:bottom, left:right]
            np.testing.assert_array_equal(out[row].numpy(), own)
        assert share < 1.0 or torch.equal(out[row], before[row])
    assert torch.equal(images, before)


def test_cutmix_share_is_the_area_that_is_left() -> None:
    """Counting pixels of photographs of one colour each gives exactly the share that weighs the labels."""
    size = 37
    images = torch.arange(20, dtype=torch.float32)[:, None, None, None].expand(20, 3, size, size)
    mix = draw_mix_params(MixPhase(epochs=1, kind="cutmix"), 5, 0, np.arange(20), size)
    assert mix is not None
    own_B = (mix_batch(images, mix)[:, 0] == images[:, 0]).sum(dim=(1, 2)).numpy()
    np.testing.assert_allclose(mix.share_B, own_B / size**2, rtol=1e-15)


def test_drift_follows_the_shifts_own_curve() -> None:
    """At strength 1 every grey level goes where the audit's curve sends it, to a rounding; other photographs stay."""
    shift = PhotoShift(gain=0.9, offset=-20.0, gamma=1.3, jpeg_quality=80)
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(64, 3, 16, 16)
    config = dataclasses.replace(OFF, drift_prob=0.5, drift_strength=(1.0, 1.0))
    params = draw_augment_params(config, 1, 0, np.arange(64), 16)
    out = augment_batch(levels, params, shift)
    curve = torch.from_numpy(shift.tone_curve().astype(np.float32)).view(1, 16, 16)
    assert 16 < params.tone_B.sum() < 48
    for row, bent in enumerate(params.tone_B):
        wanted = curve if bent else levels[row].float()
        assert (out[row] * 255.0 - wanted).abs().max() <= (0.5001 if bent else 1e-4)


def test_drift_strength_spreads_evenly_and_needs_a_shift() -> None:
    """Strengths fill their range; without a shift nothing changes; 0 bends nothing."""
    config = dataclasses.replace(OFF, drift_prob=1.0, drift_strength=(0.5, 1.5))
    strengths = draw_augment_params(config, 1, 0, np.arange(4000), 16).tone_strength_B
    assert 0.5 <= strengths.min() < 0.51
    assert 1.49 < strengths.max() < 1.5
    assert abs(strengths.mean() - 1.0) < 0.02
    images = make_images(6, 16)
    params = draw_augment_params(config, 1, 0, np.arange(6), 16)
    plain = augment_batch(images, draw_augment_params(OFF, 1, 0, np.arange(6), 16))
    assert torch.equal(augment_batch(images, params), plain)
    still = draw_augment_params(dataclasses.replace(config, drift_strength=(0.0, 0.0)), 1, 0, np.arange(6), 16)
    shift = PhotoShift(offset=-40.0, gamma=1.2)
    torch.testing.assert_close(augment_batch(images, still, shift), plain, atol=1e-6, rtol=0)
