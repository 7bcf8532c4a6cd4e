"""Laws of the folds: a group stays whole, a class is spread as evenly as its size allows, and rows are found by image id."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hectocar.dataset.decisions import group_photos
from hectocar.dataset.folds import UNUSED_FOLD, Folds, assign_folds, classes_missing_in_folds, load_folds
from hectocar.errors import ArtifactError, DataError

Ints = NDArray[np.int64]


def class_counts(labels: Ints, fold_N: Ints, num_folds: int) -> Ints:
    """(folds, classes) photographs."""
    return np.array([np.bincount(labels[fold_N == fold], minlength=labels.max() + 1) for fold in range(num_folds)])


def make_labels(*sizes: int) -> Ints:
    """Classes of the given sizes, their photographs in a random order."""
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))


@pytest.mark.parametrize("num_folds", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 2025])
def test_single_photographs_are_spread_within_one(num_folds: int, seed: int) -> None:
    """Without duplicates the folds' shares of a class differ by one photograph at most, and no fold is left empty."""
    labels = make_labels(1, 2, 5, 7, 57, 90, 3)
    fold_N = assign_folds(labels, np.arange(len(labels)), np.arange(len(labels)), num_folds=num_folds, seed=seed)
    counts = class_counts(labels, fold_N, num_folds)
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= len(np.unique(labels))
    assert set(fold_N) == set(range(num_folds))


def test_small_classes_are_named() -> None:
    """A class smaller than the number of folds cannot be in each; it is listed with its size, and no other is."""
    labels = make_labels(1, 5, 4, 60)
    fold_N = assign_folds(labels, np.arange(70), np.arange(70), num_folds=5, seed=3)
    assert classes_missing_in_folds(labels, fold_N, 5) == [(0, 1), (2, 4)]


@st.composite
def grouped_photographs(draw: st.DrawFn) -> tuple[Ints, Ints, Ints, int]:
    """(labels, groups, used rows, number of folds): duplicates lie within a class, as byte-identical ones mostly do."""
    sizes_of_groups = draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=8), min_size=1, max_size=5))
    labels, groups, next_group = [], [], 0
    for label, sizes in enumerate(sizes_of_groups):
        for size in sizes:
            labels += [label] * size
            groups += [next_group] * size
            next_group += 1
    order = np.array(draw(st.permutations(range(len(labels)))), dtype=np.int64)
    used = np.array(draw(st.lists(st.sampled_from(range(len(labels))), unique=True)), dtype=np.int64)
    return np.array(labels)[order], np.array(groups)[order], used, draw(st.integers(2, 5))


@given(photographs=grouped_photographs(), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_groups_stay_whole_and_each_class_reaches_each_fold(photographs: tuple[Ints, Ints, Ints, int], seed: int) -> None:
    """For any groups: none is split, the unused get UNUSED_FOLD and no other does, a class of enough groups is in each fold."""
    labels, groups, used, num_folds = photographs
    num_groups = len(np.unique(groups[used]))
    if num_groups < num_folds:
        with pytest.raises(DataError, match=rf"{num_groups} distinct photographs cannot make {num_folds} folds"):
            assign_folds(labels, groups, used, num_folds=num_folds, seed=seed)
        return
    fold_N = assign_folds(labels, groups, used, num_folds=num_folds, seed=seed)
    assert set(np.flatnonzero(fold_N != UNUSED_FOLD)) == set(used)
    for group in np.unique(groups[used]):
        assert len(set(fold_N[used][groups[used] == group])) == 1
    for label in np.unique(labels[used]):
        rows = used[labels[used] == label]
        num_reached = len(set(fold_N[rows]))
        assert num_reached == min(num_folds, len(np.unique(groups[rows])))
        largest = np.bincount(groups[rows]).max()
        assert np.ptp(class_counts(labels, fold_N, num_folds)[:, label]) <= largest
    assert (fold_N == assign_folds(labels, groups, np.sort(used)[::-1], num_folds=num_folds, seed=seed)).all()


def test_a_group_across_classes_stays_whole() -> None:
    """The same bytes under two class names are held out together, or the network is tested on what it was shown."""
    labels, groups = np.repeat([0, 1], 50), np.tile(np.arange(50), 2)
    fold_N = assign_folds(labels, groups, np.arange(100), num_folds=5, seed=0)
    assert (fold_N[:50] == fold_N[50:]).all()
    assert (class_counts(labels, fold_N, 5) == 10).all()


def test_folds_depend_on_the_seed_alone() -> None:
    """One seed deals the same folds each time, another seed other ones, and no fold is like the order of the files."""
    labels = make_labels(40, 40, 40)
    first, again, other = (
        assign_folds(labels, np.arange(120), np.arange(120), num_folds=4, seed=seed) for seed in (2025, 2025, 2026)
    )
    assert (first == again).all()
    assert 0.5 < (first != other).mean() < 0.95
    assert 0.1 < (first[1:] == first[:-1]).mean() < 0.5


def test_the_deal_is_pinned() -> None:
    """A changed deal would make every earlier run's held-out photographs training photographs."""
    labels = np.arange(24) % 3
    fold_N = assign_folds(labels, np.arange(24) // 2, np.arange(20), num_folds=3, seed=2025)
    assert fold_N.tolist() == [2, 2, 1, 1, 0, 0, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0, 2, 2, 0, 0, -1, -1, -1, -1]


def test_split_holds_out_one_fold_and_never_the_unused() -> None:
    """Training and held-out photographs are apart, all folds held out in turn are the used ones, the unused are in neither."""
    folds = Folds(image_id=tuple("abcdef"), group=np.arange(6), fold=np.array([0, 1, -1, 0, 1, 2]))
    held_out = []
    for fold in range(3):
        train_rows, valid_rows = folds.split(fold)
        assert not set(train_rows) & set(valid_rows)
        assert sorted([*train_rows, *valid_rows]) == [0, 1, 3, 4, 5]
        held_out += valid_rows.tolist()
    assert sorted(held_out) == [0, 1, 3, 4, 5]


def test_equal_keys_are_one_group() -> None:
    """Groups are numbered by first appearance: the same digests give the same groups."""
    assert group_photos(["x", "y", "x", "", "y", "z"], list("abcdef"), ()).tolist() == [0, 1, 0, 2, 1, 3]
    alike = (["", "p", "", "q", "p", "r"], list("012315"))
    assert group_photos(list("uvwxyz"), list("abcdef"), (), alike).tolist() == [0, 1, 2, 3, 1, 4]


def test_saved_folds_are_found_by_image_id(tmp_path: Path) -> None:
    """Rows are joined by id and never by place: another order of photographs gets its own folds back."""
    path = tmp_path / "folds.parquet"
    names = ("쏘나타/1.jpg", "b/2.jpg", "c/3.jpg")
    Folds(image_id=names, group=np.array([5, 6, 7]), fold=np.array([2, -1, 0])).save(path)
    loaded = load_folds(path, names[::-1])
    assert loaded.image_id == names[::-1]
    assert loaded.group.tolist() == [7, 6, 5]
    assert loaded.fold.tolist() == [0, -1, 2]
    assert loaded.fold.dtype == loaded.group.dtype == np.int64


def test_foreign_or_damaged_folds_are_refused(tmp_path: Path) -> None:
    """Folds of other photographs, of another table or of no table at all say so, with the file's name."""
    path = tmp_path / "folds.parquet"
    names = ("a", "b")
    Folds(image_id=names, group=np.array([0, 1]), fold=np.array([0, 1])).save(path)
    with pytest.raises(ArtifactError, match=r"folds\.parquet: not the folds of these photographs .*'b'.*make the run again"):
        load_folds(path, ("a", "c"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="not the folds of these photographs"):
        load_folds(path, names)
    pq.write_table(pa.table({"image_id": ["a", "b"], "fold": [0, 1]}), path)
    with pytest.raises(ArtifactError, match="not the folds of these photographs"):
        load_folds(path, names)
    with pytest.raises(ArtifactError, match="not the folds of these photographs"):
        load_folds(tmp_path / "none.parquet", names)
