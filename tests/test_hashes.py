"""Laws of the hashes and of their search: the search finds what a slow loop finds, the hash ignores what it should ignore."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hectocar.auditing.hashes import Box, ClosePairs, compute_codes, find_close_pairs
from hectocar.errors import DataError

Codes = NDArray[np.uint64]
Thumbs = NDArray[np.uint8]
Triples = list[tuple[int, int, int]]

PINNED = ["31619397ec296ce2", "3b3b94c4f23d7030", "6420c4c2e95c3fb7", "6e6ec090967ea5a1"]


def inner_box(crop: float) -> Box:
    """What is left when a share is cut off at each side."""
    return (crop, crop, 1.0 - 2.0 * crop, 1.0 - 2.0 * crop)


def slow_pairs(query: Codes, base: Codes, radius: int) -> Triples:
    """Each pair by itself, with Python's integers."""
    found = []
    for i, a in enumerate(query.tolist()):
        for j, b in enumerate(base.tolist()):
            distance = (a ^ b).bit_count()
            if distance <= radius:
                found.append((i, j, distance))
    return found


def triples(pairs: ClosePairs) -> Triples:
    assert pairs.query.dtype == pairs.base.dtype == np.int64
    assert pairs.distance.dtype == np.uint8
    assert len(pairs) == len(pairs.query) == len(pairs.base) == len(pairs.distance)
    return list(zip(pairs.query.tolist(), pairs.base.tolist(), pairs.distance.tolist(), strict=True))


def make_scenes(count: int, side_px: int, seed: int) -> NDArray[np.float64]:
    """(count, side, side) pictures from 0 to 255: smooth, as photographs are, with hard edges in them."""
    generator = np.random.default_rng(seed)
    grid = (np.arange(side_px) + 0.5) / side_px
    frequency, phase = generator.uniform(0.5, 6, (count, 12, 2)), generator.uniform(0, 2 * np.pi, (count, 12, 2))
    waves = np.cos(2 * np.pi * frequency[..., None] * grid + phase[..., None])
    scenes = np.einsum("cky,ckx->cyx", waves[:, :, 0] / frequency.sum(-1)[..., None], waves[:, :, 1], optimize=True)
    left, top, shade = generator.uniform(0.1, 0.5, count), generator.uniform(0.1, 0.5, count), generator.normal(0, 1, count)
    box = (abs(grid[:, None] - top[:, None, None] - 0.2) < 0.15) & (abs(grid - left[:, None, None] - 0.2) < 0.2)
    scenes = scenes + box * shade[:, None, None]
    low, high = scenes.min((1, 2), keepdims=True), scenes.max((1, 2), keepdims=True)
    return (scenes - low) / (high - low) * 255


def shrink(scenes: NDArray[np.float64]) -> Thumbs:
    """(N, 32, 32) thumbnails: the mean of each square of pixels."""
    factor = scenes.shape[1] // 32
    return np.round(scenes.reshape(-1, 32, factor, 32, factor).mean((2, 4))).astype(np.uint8)


def plant(codes: Codes, radius: int, num_copies: int, seed: int) -> Triples:
    """Overwrites codes by copies of others with 0 to ``radius`` bits flipped; the pairs, lower place first."""
    generator = np.random.default_rng(seed)
    originals, copies = generator.choice(len(codes), (2, num_copies), replace=False)
    planted = []
    for k, (original, copy) in enumerate(zip(originals.tolist(), copies.tolist(), strict=True)):
        flipped = generator.choice(64, k % (radius + 1), replace=False)
        codes[copy] = codes[original] ^ np.uint64(sum(1 << int(bit) for bit in flipped))
        planted.append((min(original, copy), max(original, copy), len(flipped)))
    return planted


@st.composite
def crowded_codes(draw: st.DrawFn, max_size: int = 24) -> Codes:
    """Codes near a few centres, with repetitions: random ones alone would never be close."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=10).map(lambda bits: sum(1 << bit for bit in set(bits)))
    codes = draw(st.lists(st.builds(int.__xor__, st.sampled_from(centres), flips), max_size=max_size))
    return np.array(codes, dtype=np.uint64)


@given(query=crowded_codes(), base=crowded_codes(), radius=st.integers(0, 16), shared=st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_search_equals_the_slow_loop(query: Codes, base: Codes, radius: int, shared: bool) -> None:
    """For any codes, none included, and any radius: the pairs, their distances and their order are the slow loop's."""
    if shared:
        base = np.concatenate([base, query])
    assert triples(find_close_pairs(query, base, radius)) == slow_pairs(query, base, radius)


def test_planted_copies_among_a_hundred_thousand_are_found() -> None:
    """No planted copy is lost, and nothing beyond the radius is returned."""
    codes = np.random.default_rng(3).integers(0, 2**64, 100_000, dtype=np.uint64)
    planted = plant(codes, 8, 4000, seed=4)
    found = triples(find_close_pairs(codes[:20_000], codes, 8))
    assert {pair for pair in planted if pair[0] < 20_000} <= set(found)
    assert all((int(codes[i]) ^ int(codes[j])).bit_count() == distance <= 8 for i, j, distance in found)


def test_sides_may_be_exchanged() -> None:
    """Searching a for b finds the pairs of searching b for a; a set with itself has each pair twice and each code once."""
    generator = np.random.default_rng(7)
    codes = generator.integers(0, 2**64, 2000, dtype=np.uint64)
    plant(codes, 9, 500, seed=8)
    one, other = codes[:700].copy(), codes[700:].copy()
    there, back = triples(find_close_pairs(one, other, 9)), triples(find_close_pairs(other, one, 9))
    assert sorted((j, i, distance) for i, j, distance in back) == there
    both = triples(find_close_pairs(codes, codes, 9))
    assert both == sorted((j, i, distance) for i, j, distance in both)
    assert {(i, i, 0) for i in range(2000)} <= set(both)


def test_the_order_of_codes_does_not_matter() -> None:
    """Shuffled codes have the same pairs under their new places, sorted."""
    codes = np.random.default_rng(9).integers(0, 2**64, 3000, dtype=np.uint64)
    plant(codes, 8, 900, seed=10)
    order = np.random.default_rng(11).permutation(3000)
    shuffled = triples(find_close_pairs(codes[order], codes, 8))
    assert shuffled == sorted(shuffled)
    assert sorted((int(order[i]), j, distance) for i, j, distance in shuffled) == triples(find_close_pairs(codes, codes, 8))


def test_many_equal_codes_cost_their_pairs_only() -> None:
    """Memory stays near the 17 bytes per pair of the result."""
    codes = np.zeros(2500, dtype=np.uint64)
    codes[-20:] = np.uint64(7)
    tracemalloc.start()
    pairs = find_close_pairs(codes, codes, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) == 2500**2
    assert (pairs.distance == 3).sum() == 2 * 20 * 2480
    assert peak < 2 * 17 * len(pairs) + 30e6


def test_the_largest_radius_is_all_pairs() -> None:
    """Complements differ in all 64 bits, and radius 64 has all pairs."""
    codes = np.array([0, 2**64 - 1, 5], dtype=np.uint64)
    assert triples(find_close_pairs(codes[:1], codes[1:], 64)) == [(0, 0, 64), (0, 1, 2)]
    assert triples(find_close_pairs(codes[:1], codes[1:], 63)) == [(0, 1, 2)]


def test_codes_are_the_textbook_hash() -> None:
    """The code is that of a cosine transform written out as sums, bit by bit from the top, the mean's bit 0."""
    thumb = shrink(make_scenes(1, 64, seed=1))[0].astype(float)
    place = np.arange(32)
    waves = [np.cos(np.pi * (place + 0.5) * k / 32) for k in range(8)]
    spectrum = [float((thumb * waves[k // 8][:, None] * waves[k % 8]).sum()) for k in range(64)]
    median = sorted(spectrum[1:])[31]
    expected = sum(1 << (63 - k) for k in range(1, 64) if spectrum[k] > median)
    assert compute_codes(thumb.astype(np.uint8)[None]).tolist() == [expected]


def test_codes_are_pinned() -> None:
    """Stored codes must stay comparable: a change of the hash shows here."""
    thumbs = shrink(make_scenes(2, 32, seed=2))
    codes = [compute_codes(thumbs), compute_codes(thumbs, box=inner_box(0.06), mirror=True)]
    assert [f"{code:016x}" for pair in codes for code in pair.tolist()] == PINNED


def test_a_block_of_thumbnails_is_like_one() -> None:
    """A code depends on its own thumbnail only, wherever it stands; no thumbnails have no codes."""
    thumbs = shrink(make_scenes(1100, 32, seed=3))
    codes = compute_codes(thumbs)
    assert codes.dtype == np.uint64
    assert codes[[0, 1023, 1024, 1099]].tolist() == [int(compute_codes(thumbs[k, None])[0]) for k in (0, 1023, 1024, 1099)]
    assert len(compute_codes(thumbs[:0])) == 0


@pytest.mark.parametrize("crop", [0.0, 0.06, 0.12])
def test_mirrored_codes_are_those_of_mirrored_thumbnails(crop: float) -> None:
    """Flipping the picture and flipping the sign of odd frequencies is one thing, and done twice it is nothing."""
    thumbs = shrink(make_scenes(500, 32, seed=4))
    flipped = np.ascontiguousarray(thumbs[:, :, ::-1])
    assert (compute_codes(flipped, box=inner_box(crop)) == compute_codes(thumbs, box=inner_box(crop), mirror=True)).all()
    assert (compute_codes(flipped, box=inner_box(crop), mirror=True) == compute_codes(thumbs, box=inner_box(crop))).all()
    assert (compute_codes(flipped) != compute_codes(thumbs)).all()


@pytest.mark.parametrize("percent", [3, 6, 9, 12])
def test_cropped_codes_are_near_those_of_cropped_pictures(percent: int) -> None:
    """A picture that was cropped before it was shrunk is near the code with that crop, and nearer than the plain code."""
    side_px = 800
    scenes = make_scenes(12, side_px, seed=5)
    cut = side_px * percent // 100
    inner = scenes[:, cut : side_px - cut, cut : side_px - cut]
    bounds = np.linspace(0, inner.shape[1], 33).astype(int)
    sums = np.add.reduceat(np.add.reduceat(inner, bounds[:-1], axis=1), bounds[:-1], axis=2)
    cropped = np.round(sums / np.outer(np.diff(bounds), np.diff(bounds))).astype(np.uint8)
    truth, plain = compute_codes(cropped), compute_codes(shrink(scenes))
    found = compute_codes(shrink(scenes), box=inner_box(percent / 100))
    assert np.bitwise_count(truth ^ found).max() <= 6
    assert np.bitwise_count(truth ^ found).sum() < np.bitwise_count(truth ^ plain).sum()


@given(gain=st.floats(0.3, 1.0), offset=st.integers(0, 75))
@settings(max_examples=25, deadline=None)
def test_brightness_and_contrast_leave_the_code(gain: float, offset: int) -> None:
    """Gain and offset move no bit but those that rounding to 256 levels moves; an offset alone moves none."""
    thumbs = shrink(make_scenes(40, 32, seed=6) * 0.7)
    codes = compute_codes(thumbs)
    changed = np.round(thumbs * gain + offset).astype(np.uint8)
    assert np.bitwise_count(compute_codes(changed) ^ codes).max() <= 6
    assert (compute_codes(thumbs + np.uint8(offset)) == codes).all()


def test_flat_and_symmetric_pictures_have_no_chance_bits() -> None:
    """Frequencies that a picture lacks are not decided by rounding: flat ones have code 0 and stripes depend on no gain."""
    flat = np.full((3, 32, 32), [[[0]], [[77]], [[255]]], dtype=np.uint8)
    for crop in (0.0, 0.03, 0.12):
        assert compute_codes(flat, box=inner_box(crop)).tolist() == [0, 0, 0]
    stripes = np.broadcast_to(np.arange(32, dtype=np.uint8) // 4 % 2, (32, 32))
    codes = compute_codes(np.stack([stripes * np.uint8(k) for k in (1, 3, 200)]))
    assert len(set(codes.tolist())) == 1


def test_wrong_arguments_are_named() -> None:
    """Each error states what is allowed."""
    thumbs, codes = np.zeros((2, 32, 32), dtype=np.uint8), np.zeros(2, dtype=np.uint64)
    with pytest.raises(DataError, match=r"must be \(N, 32, 32\) uint8, not \(2, 32, 32\) float64"):
        compute_codes(thumbs.astype(float))
    with pytest.raises(DataError, match=r"\(N, 32, 32\) uint8, not \(2, 31, 32\)"):
        compute_codes(thumbs[:, 1:])
    for box in ((-0.1, 0.0, 1.0, 1.0), (0.0, 0.5, 1.0, 0.6), (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, float("nan"), 1.0)):
        with pytest.raises(DataError, match=r"box must be \(left, top, width, height\) inside 0 to 1"):
            compute_codes(thumbs, box=box)
    for radius in (-1, 65):
        with pytest.raises(DataError, match="radius must be 0 to 64 bits"):
            find_close_pairs(codes, codes, radius)
    with pytest.raises(DataError, match=r"codes must be \(N,\) uint64, not \(2,\) int64"):
        find_close_pairs(codes, codes.astype(np.int64), 3)
    with pytest.raises(DataError, match=r"codes must be \(N,\) uint64, not \(1, 2\)"):
        find_close_pairs(codes[None], codes, 3)
