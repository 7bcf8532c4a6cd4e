"""Laws of the random parameters: uniform, independent, reproducible, and distributed as the sources say."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from hectocar.config.schema import AugmentConfig, MixPhase
from hectocar.training.draws import (
    NUM_CROP_DRAWS,
    AugmentParams,
    draw_augment_params,
    draw_crop_box,
    draw_mix_params,
    find_partners,
    uniform_draws,
)

MANY = np.arange(20_000, dtype=np.int64)
INT64 = st.integers(-(2**63), 2**63 - 1)
MIN_P_VALUE = 1e-4  # every seed below is fixed, so a test that passes once passes always


def reference_draw(seed: int, epoch: int, stream: int, image: int, draw: int) -> float:
    """The hash in Python's unbounded integers, one number at a time."""
    word, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def scramble(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & word
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & word
        return x ^ (x >> 31)

    key = 0
    for part in (seed, epoch, stream, image):
        key = scramble(((key ^ (part & word)) + golden) & word)
    return (scramble((key + (draw + 1) * golden) & word) >> 11) / 2**53


@given(seed=INT64, epoch=st.integers(0, 10_000), image=INT64, stream=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_draws_equal_the_hash_in_plain_integers(seed: int, epoch: int, image: int, stream: int) -> None:
    """A draw is a pure function of its five numbers, for any int64, wherever the photograph stands in the batch."""
    draws = uniform_draws(seed, epoch, np.array([7, image, image]), stream, 4)
    expected = [reference_draw(seed, epoch, stream, image, draw) for draw in range(4)]
    assert draws[1].tolist() == draws[2].tolist() == expected
    assert uniform_draws(seed, epoch, np.array([image]), stream, 2)[0].tolist() == expected[:2]


def test_draws_are_pinned() -> None:
    """A changed hash would silently change every resumed run."""
    assert uniform_draws(2025, 3, np.array([41]), 1, 2)[0].tolist() == [0.4189820008323334, 0.030117665657013126]


def test_draws_are_uniform_and_independent() -> None:
    """Over images, epochs, seeds, streams and draws alike: uniform on [0, 1), and no pair is correlated."""
    columns = [uniform_draws(seed, epoch, MANY, stream, 3) for seed in (0, 1) for epoch in (0, 1) for stream in (0, 1)]
    draws = np.concatenate(columns, axis=1)
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert min(stats.kstest(column, "uniform").pvalue for column in draws.T) > MIN_P_VALUE
    correlation = np.corrcoef(np.concatenate([draws[:-1], draws[1:]], axis=1).T)  # neighbouring images too
    np.fill_diagonal(correlation, 0.0)
    assert np.abs(correlation).max() < 5.0 / np.sqrt(len(MANY))
    cells, _, _ = np.histogram2d(draws[:, 0], draws[:, 1], bins=16, range=[[0, 1], [0, 1]])
    assert stats.chisquare(cells.ravel()).pvalue > MIN_P_VALUE


def crop_boxes(config: AugmentConfig, width: int, height: int, count: int = 3000) -> NDArray[np.float64]:
    draws = uniform_draws(1, 0, MANY[:count], 0, NUM_CROP_DRAWS)
    return np.array([draw_crop_box(config, row, width, height) for row in draws])


def box_facts(boxes: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return {"area": width * height, "ratio": width / height, "left": boxes[:, 0], "top": boxes[:, 1]}


@pytest.mark.parametrize(("width", "height"), [(690, 437), (437, 690), (500, 500)])
def test_crop_follows_torchvision(width: int, height: int) -> None:
    """Area, ratio and place of the box have the distribution of torchvision's RandomResizedCrop."""
    config = AugmentConfig()
    ours = box_facts(crop_boxes(config, width, height))
    image = torch.empty(3, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(image, list(config.crop_scale), list(config.crop_ratio)) for _ in range(3000)]
    theirs = box_facts(np.array([(left, top, left + w, top + h) for top, left, h, w in drawn], dtype=np.float64))
    for name in ours:
        assert stats.ks_2samp(ours[name], theirs[name]).pvalue > MIN_P_VALUE, name


@pytest.mark.parametrize(("width", "height"), [(4000, 40), (40, 4000), (9, 1), (1, 1)])
def test_crop_falls_back_as_torchvision(width: int, height: int) -> None:
    """Where no try can fit, the box is the central one that torchvision takes."""
    config = AugmentConfig(crop_scale=(0.9, 1.0))
    top, left, h, w = RandomResizedCrop.get_params(torch.empty(3, height, width), [0.9, 1.0], list(config.crop_ratio))
    assert crop_boxes(config, width, height, 20).tolist() == [[left, top, left + w, top + h]] * 20


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), mode=st.sampled_from(["pixels", "photo"]), image=INT64)
@settings(max_examples=200, deadline=None)
def test_crop_is_a_box_of_whole_pixels_inside(width: int, height: int, mode: str, image: int) -> None:
    """Any photograph, even of one pixel, gives a non-empty box inside itself; the whole one if the crop is off."""
    draws = uniform_draws(0, 0, np.array([image]), 0, NUM_CROP_DRAWS)[0]
    config = AugmentConfig(crop_ratio_of=mode)  # type: ignore[arg-type]
    left, top, right, bottom = draw_crop_box(config, draws, width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert all(side == int(side) for side in (left, top, right, bottom))
    whole = dataclasses.replace(config, crop_scale=(1.0, 1.0), crop_ratio_of="photo")
    assert draw_crop_box(whole, draws, width, height) == (0, 0, width, height)


@pytest.mark.parametrize(("width", "height"), [(1000, 400), (400, 1000)])
def test_photo_mode_keeps_the_shape_of_the_photograph(width: int, height: int) -> None:
    """In ``photo`` mode the ratio is relative to the photograph's own, and the area keeps its range."""
    facts = box_facts(crop_boxes(AugmentConfig(crop_ratio_of="photo"), width, height))
    relative = facts["ratio"] / (width / height)
    assert relative.min() == pytest.approx(0.75, abs=0.02)
    assert relative.max() == pytest.approx(1.333, abs=0.02)
    assert np.median(relative) == pytest.approx(1.0, abs=0.02)
    share = facts["area"] / (width * height)
    assert share.min() == pytest.approx(0.6, abs=0.01)
    assert share.max() == pytest.approx(1.0, abs=0.02)


def assert_rows_equal(left: AugmentParams, right: AugmentParams, rows: NDArray[np.int64]) -> None:
    for field in dataclasses.fields(AugmentParams):
        np.testing.assert_array_equal(getattr(left, field.name)[rows], getattr(right, field.name))


def test_params_depend_on_seed_epoch_and_image_only() -> None:
    """The same photograph gets the same row in any batch and order, twice in one too; another epoch or seed another."""
    config, rows = AugmentConfig(), np.array([5, 2, 2, 900], dtype=np.int64)
    params = draw_augment_params(config, 1, 4, MANY, 160)
    assert_rows_equal(params, draw_augment_params(config, 1, 4, rows, 160), rows)
    for seed, epoch in ((1, 5), (2, 4)):
        assert not np.any(params.angle_deg_B == draw_augment_params(config, seed, epoch, MANY, 160).angle_deg_B)


def test_switching_one_part_off_leaves_the_others() -> None:
    """Each parameter owns its draws, so an ablation changes one thing."""
    with_flip = draw_augment_params(AugmentConfig(), 0, 0, MANY, 160)
    without = draw_augment_params(AugmentConfig(flip_prob=0.0), 0, 0, MANY, 160)
    assert not without.flip_B.any()
    assert_rows_equal(dataclasses.replace(with_flip, flip_B=without.flip_B), without, MANY)


def test_params_have_the_configured_law() -> None:
    """Rates match the probabilities, values are uniform over their range, and all 24 orders are equally likely."""
    config = AugmentConfig(flip_prob=0.3, affine_prob=0.6, color_prob=0.8, erase_prob=0.2)
    params = draw_augment_params(config, 0, 0, MANY, 200)
    for name in ("flip", "affine", "color", "erase"):
        count, prob = int(getattr(params, f"{name}_B").sum()), getattr(config, f"{name}_prob")
        assert stats.binomtest(count, len(MANY), prob).pvalue > MIN_P_VALUE, name
    side_B = params.erase_box_B4[:, 2] - params.erase_box_B4[:, 0]
    assert (side_B.min(), side_B.max()) == (20, 50)
    assert (params.erase_box_B4.min(), params.erase_box_B4.max()) == (0, 200)
    np.testing.assert_array_equal(side_B, params.erase_box_B4[:, 3] - params.erase_box_B4[:, 1])
    ranges = [(params.angle_deg_B, 0.0, 15.0), (params.zoom_B, 1.0, 0.1), (params.shift_B2[:, 0], 0.0, 0.05)]
    ranges += [(params.color_factor_B4[:, op], 0.0 if op == 3 else 1.0, 0.1 if op == 3 else 0.4) for op in range(4)]
    for values, center, half in ranges:
        assert stats.kstest(values, stats.uniform(center - half, 2 * half).cdf).pvalue > MIN_P_VALUE
    orders = [tuple(order) for order in params.color_order_B4.tolist()]
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert sum(counts) == len(MANY)
    assert stats.chisquare(counts).pvalue > MIN_P_VALUE


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_share_follows_the_beta_law(alpha: float) -> None:
    """The share of the own photograph is Beta(alpha, alpha), for a fraction ``prob`` of the photographs."""
    mix = draw_mix_params(MixPhase(epochs=1, kind="mixup", alpha=alpha, prob=0.7), 0, 0, MANY, 160)
    assert mix is not None
    mixed = uniform_draws(0, 0, MANY, 2, 1)[:, 0] < 0.7
    assert stats.binomtest(int(mixed.sum()), len(MANY), 0.7).pvalue > MIN_P_VALUE
    assert stats.kstest(mix.share_B[mixed], stats.beta(alpha, alpha).cdf).pvalue > MIN_P_VALUE
    assert (mix.share_B[~mixed] == 1.0).all()
    assert not mix.box_B4.any()


def test_cutmix_boxes_follow_the_paper() -> None:
    """Box and corrected share have the distribution of Yun et al. 2019, algorithm 1, written out as a loop."""
    size, rng, expected = 160, np.random.default_rng(0), []
    for _ in range(5000):
        cut = int(size * np.sqrt(1.0 - rng.beta(1.0, 1.0)))
        x, y = rng.integers(size), rng.integers(size)
        left, right = np.clip([x - cut // 2, x + cut // 2], 0, size)
        top, bottom = np.clip([y - cut // 2, y + cut // 2], 0, size)
        expected.append((left, top, right, bottom, 1.0 - (right - left) * (bottom - top) / size**2))
    mix = draw_mix_params(MixPhase(epochs=1, kind="cutmix", alpha=1.0), 0, 0, MANY, size)
    assert mix is not None
    for column, ours in enumerate([*mix.box_B4.T, mix.share_B]):
        assert stats.ks_2samp(ours, np.array(expected)[:, column]).pvalue > MIN_P_VALUE


@given(
    kind=st.sampled_from(["cutmix", "mixup"]), alpha=st.floats(0.01, 100.0), prob=st.floats(0.0, 1.0), size=st.integers(1, 300)
)
@settings(max_examples=60, deadline=None)
def test_mix_params_are_sane(kind: str, alpha: float, prob: float, size: int) -> None:
    """For any phase: shares in [0, 1], boxes inside, the share of a box is its area, and nobody is their own partner."""
    phase = MixPhase(epochs=1, kind=kind, alpha=alpha, prob=prob)  # type: ignore[arg-type]
    mix = draw_mix_params(phase, 3, 1, MANY[:50], size)
    assert mix is not None
    assert ((mix.share_B >= 0.0) & (mix.share_B <= 1.0)).all()
    assert ((mix.box_B4 >= 0) & (mix.box_B4 <= size)).all()
    assert sorted(mix.partner_B) == list(range(50))
    assert (mix.partner_B != np.arange(50)).all()
    if kind == "cutmix":
        left, top, right, bottom = mix.box_B4.T
        assert (mix.share_B == 1.0 - (right - left) * (bottom - top) / size**2).all()
    if prob == 0.0:
        assert (mix.share_B == 1.0).all()
    place_B2, share_B2 = find_partners(mix, 50)
    assert (place_B2[:, 0] == np.arange(50)).all()
    assert (share_B2 == np.stack([mix.share_B.astype(np.float32), 1.0 - mix.share_B.astype(np.float32)], axis=1)).all()
    # A label without a share would get the margin all the same.
    assert (place_B2[:, 1] == np.where(mix.share_B < 1.0, mix.partner_B, np.arange(50))).all()


def test_no_mixing_in_a_phase_without_it() -> None:
    """Kind ``none`` gives None; a batch of one has only itself as a partner."""
    assert draw_mix_params(MixPhase(epochs=1, kind="none"), 0, 0, MANY, 160) is None
    alone = draw_mix_params(MixPhase(epochs=1, kind="cutmix"), 0, 0, MANY[:1], 160)
    assert alone is not None
    assert alone.partner_B.tolist() == [0]
