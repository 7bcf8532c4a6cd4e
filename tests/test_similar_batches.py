"""Laws of the other orders of an epoch: similar cars meet, small classes come again, and nobody is left out."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectocar.config.schema import MixPhase
from hectocar.training.draws import draw_mix_params
from hectocar.training.sampler import epoch_batches


@given(
    sizes=st.lists(st.integers(1, 30), min_size=3, max_size=12),
    batch_size=st.integers(2, 40),
    prob=st.floats(0.01, 1.0),
    balance=st.sampled_from([0.0, 0.5, 1.0]),
    epoch=st.integers(0, 50),
)
@settings(max_examples=80, deadline=None)
def test_every_photograph_is_shown(sizes: list[int], batch_size: int, prob: float, balance: float, epoch: int) -> None:
    """Each row at least once and, without balance, exactly once; no sample twice; batches as large as without pairs."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.flatnonzero(np.arange(len(labels)) % 7 != 3)  # some rows belong to another fold
    pairs = [(0, 1), (1, 2)]
    plain = epoch_batches(rows, batch_size, seed=1, epoch=epoch, label_M=labels, balance=balance)
    batches = epoch_batches(
        rows, batch_size, seed=1, epoch=epoch, label_M=labels, pairs=pairs, similar_prob=prob, balance=balance
    )
    samples = np.concatenate(batches)
    assert len(np.unique(samples)) == len(samples)
    assert np.array_equal(np.unique(samples % len(labels)), rows)
    if balance == 0.0:
        assert len(samples) == len(rows)
    assert [len(batch) for batch in batches] == [len(batch) for batch in plain]


def test_pairs_meet_in_about_as_many_batches_as_asked() -> None:
    """At probability 1 the first batches hold nothing but pairs; at 0.3 about three in ten do; at 0 the order is plain."""
    labels = np.arange(2000) % 50
    pairs = [(2 * k, 2 * k + 1) for k in range(25)]

    def share_of_pairs(batch: np.ndarray) -> float:
        own = set((labels[batch]).tolist())
        return sum((label ^ 1) in own for label in labels[batch].tolist()) / len(batch)

    rows = np.arange(2000)
    full = epoch_batches(rows, 32, seed=1, epoch=0, label_M=labels, pairs=pairs, similar_prob=1.0)
    assert all(share_of_pairs(batch) == 1.0 for batch in full[:40])
    assert all(len(set(labels[batch].tolist())) == 8 for batch in full[:20])
    some = [
        share_of_pairs(batch) == 1.0 and len(set(labels[batch].tolist())) <= 10
        for epoch in range(20)
        for batch in epoch_batches(rows, 32, seed=1, epoch=epoch, label_M=labels, pairs=pairs, similar_prob=0.3)
    ]
    assert np.mean(some) == pytest.approx(0.3, abs=0.05)
    plain = epoch_batches(rows, 32, seed=1, epoch=0)
    unused = epoch_batches(rows, 32, seed=1, epoch=0, label_M=labels, pairs=pairs, similar_prob=0.0)
    assert all(np.array_equal(a, b) for a, b in zip(plain, unused, strict=True))


@pytest.mark.parametrize(("balance", "small"), [(0.0, 10), (0.5, 20), (1.0, 40)])
def test_balance_repeats_small_classes(balance: float, small: int) -> None:
    """A class of 10 beside one of 40 is shown 10, 20 or 40 times, its photographs equally often, the large one once."""
    labels = np.repeat([0, 1], [40, 10])
    samples = np.concatenate(epoch_batches(np.arange(50), 8, seed=1, epoch=0, label_M=labels, balance=balance))
    shown = np.bincount(samples % 50, minlength=50)
    assert shown[:40].tolist() == [1] * 40
    assert shown[40:].sum() == small
    assert np.ptp(shown[40:]) <= 1


LABELS = np.repeat(np.arange(64), 63)  # 4,032 photographs of 32 pairs of similar cars
PAIRS = [(2 * k, 2 * k + 1) for k in range(32)]


def similar_epoch(batch_size: int, seed: int) -> list[np.ndarray]:
    rows = np.arange(len(LABELS))
    return epoch_batches(rows, batch_size, seed=seed, epoch=0, label_M=LABELS, pairs=PAIRS, similar_prob=1.0)


@functools.cache
def find_partners(num_photos: int) -> np.ndarray:
    """Places of the photographs that those of a batch are mixed with."""
    mix = draw_mix_params(MixPhase(epochs=1, kind="mixup"), 1, 0, np.arange(num_photos), 32)
    assert mix is not None
    return mix.partner_B


def count_same_class_partners(batch: np.ndarray) -> int:
    """Photographs of a batch that are mixed with one of their own class."""
    own = LABELS[batch]
    return int((own == own[find_partners(len(batch))]).sum())


def count_same_class_in_parts(batch: np.ndarray) -> int:
    """Pairs of one class that stand in one part, where a batch is cut into parts of about eight."""
    same = LABELS[batch][:, None] == LABELS[batch]
    part = np.arange(len(batch)) * max(2, len(batch) // 8) // len(batch)
    return int(np.triu(same & (part[:, None] == part), 1).sum())


@pytest.mark.parametrize("statistic", [count_same_class_partners, count_same_class_in_parts])
@pytest.mark.parametrize("batch_size", [224, 96, 48, 32])
def test_the_order_inside_a_similar_batch_is_random(batch_size: int, statistic: Callable[[np.ndarray], int]) -> None:
    """Over an epoch, same-class partners, and classes in one part, are as many as in random orders of the same batches.

    The bound is four standard deviations of 100 random orders; laid class by class, partners were 90 and more away.
    """
    rng = np.random.default_rng(7)
    batches = [batch for seed in range(2) for batch in similar_epoch(batch_size, seed)]
    at_random = [sum(statistic(rng.permutation(batch)) for batch in batches) for _ in range(100)]
    distance = (sum(map(statistic, batches)) - np.mean(at_random)) / np.std(at_random)
    assert abs(distance) < 4.0
    laid_out = [batch[np.argsort(LABELS[batch], kind="stable")] for batch in batches]
    assert (sum(map(statistic, laid_out)) - np.mean(at_random)) / np.std(at_random) > 20.0


def test_shuffling_changes_no_batchs_content_and_no_plain_batch() -> None:
    """What a batch holds depends on the pairs alone, and an epoch is a pure function: the same again gives the same order."""
    first, again = (similar_epoch(48, 5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    rows = np.arange(len(LABELS))
    order = np.concatenate(epoch_batches(rows, 48, seed=5, epoch=0))
    rarely = epoch_batches(rows, 48, seed=5, epoch=0, label_M=LABELS, pairs=PAIRS, similar_prob=1e-9)
    assert np.array_equal(np.concatenate(rarely), order)
