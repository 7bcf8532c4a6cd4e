"""Laws of the order of an epoch: everyone once, a pure function of (seed, epoch), and no batch too small for its statistics."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectocar.training.sampler import epoch_batches

ROWS = np.arange(100, 1100, 3, dtype=np.int64)  # 334 rows of a manifest, with gaps where other folds' rows stand


def flat(batch_size: int, *, seed: int = 2025, epoch: int = 0) -> list[int]:
    return [int(row) for batch in epoch_batches(ROWS, batch_size, seed=seed, epoch=epoch) for row in batch]


@given(num_photos=st.integers(1, 400), batch_size=st.integers(2, 130), seed=st.integers(0, 2**63), epoch=st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_everyone_once_in_batches_of_a_fair_size(num_photos: int, batch_size: int, seed: int, epoch: int) -> None:
    """For any set: each photograph once, all batches but the last two full, and those two at least half full."""
    rows = np.arange(num_photos, dtype=np.int64) * 7 + 3
    batches = epoch_batches(rows, batch_size, seed=seed, epoch=epoch)
    assert np.sort(np.concatenate(batches)).tolist() == rows.tolist()
    sizes = [len(batch) for batch in batches]
    if num_photos >= batch_size:
        assert 2 * min(sizes) >= batch_size
    else:
        assert sizes == [num_photos]
    assert all(size == batch_size for size in sizes[:-2])


def test_no_batch_is_of_one_photograph() -> None:
    """For every set of 2 to 200 and every batch of 2 to 64: sizes sum to the set, each is 2 or more, none over batch_size.

    Only batches of two cannot share out what is left over: their last one has three.
    """
    for batch_size in range(2, 65):
        for num_photos in range(2, 201):
            sizes = [len(batch) for batch in epoch_batches(np.arange(num_photos), batch_size, seed=1, epoch=0)]
            assert sum(sizes) == num_photos
            assert min(sizes) >= 2
            if batch_size > 2:
                assert max(sizes) <= batch_size
                assert len(sizes) == math.ceil(num_photos / batch_size)
            else:
                assert sizes == [2] * (num_photos // 2 - num_photos % 2) + [3] * (num_photos % 2)


@pytest.mark.parametrize(
    ("num_photos", "batch_size", "sizes"),
    [
        (12, 4, [4, 4, 4]),
        (13, 4, [4, 4, 3, 2]),
        (15, 4, [4, 4, 4, 3]),
        (5, 4, [3, 2]),
        (4, 4, [4]),
        (3, 4, [3]),
        (1, 4, [1]),
        (33, 32, [17, 16]),
        (5, 2, [2, 3]),
        (4, 3, [2, 2]),
    ],
)
def test_the_rest_is_spread_over_the_last_two(num_photos: int, batch_size: int, sizes: list[int]) -> None:
    """One photograph too many makes two half batches, not a batch of one."""
    batches = epoch_batches(np.arange(num_photos), batch_size, seed=1, epoch=1)
    assert [len(batch) for batch in batches] == sizes


def test_an_epoch_is_a_pure_function_of_seed_and_epoch() -> None:
    """A resumed epoch is the same epoch; the order in which the rows are handed over plays no part."""
    first = epoch_batches(ROWS, 32, seed=2025, epoch=7)
    again = epoch_batches(ROWS[::-1].copy(), 32, seed=2025, epoch=7)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]
    before = ROWS.copy()
    epoch_batches(ROWS, 32, seed=2025, epoch=8)
    assert (before == ROWS).all()


def test_batch_size_does_not_change_the_order() -> None:
    """A smaller batch cuts the same order elsewhere, so that runs of different batch sizes see the same sequence."""
    assert flat(32) == flat(48) == flat(1000)


def test_epochs_and_seeds_differ() -> None:
    """Every epoch and every seed has an order of its own, and (seed, epoch) is no sum: seed 1 epoch 0 is not seed 0 epoch 1."""
    orders = {tuple(flat(32, seed=seed, epoch=epoch)) for seed in range(4) for epoch in range(10)}
    assert len(orders) == 40
    assert tuple(sorted(ROWS.tolist())) not in orders


def test_every_place_is_equally_likely() -> None:
    """Over many epochs a photograph's mean place is the middle: the shuffle has no favourites."""
    num_epochs = 400
    places = np.array([np.argsort(flat(32, epoch=epoch)) for epoch in range(num_epochs)])
    middle = (len(ROWS) - 1) / 2
    standard_error = len(ROWS) / math.sqrt(12 * num_epochs)
    assert np.abs(places.mean(axis=0) - middle).max() < 4.5 * standard_error


def test_the_order_is_pinned() -> None:
    """A changed shuffle would silently change every resumed run."""
    assert [batch.tolist() for batch in epoch_batches(np.arange(10), 4, seed=2025, epoch=3)] == [
        [4, 8, 2, 3],
        [9, 6, 0],
        [5, 7, 1],
    ]
