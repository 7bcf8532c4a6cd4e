"""Nearest neighbours against a slow loop, the laws of their vote, and the fit of its three numbers."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hectocar.calibration.fit_neighbours import fit_neighbours
from hectocar.calibration.neighbours import (
    NeighbourModel,
    Neighbours,
    UnitBank,
    find_neighbours,
    neighbour_probs,
)
from hectocar.codec import decode, encode
from hectocar.errors import ArtifactError
from hectocar.scoring import metrics

NUM_CLASSES = 6
PRIOR = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.1])


def exact_rows(count: int, seed: int, columns: int = 12) -> NDArray[np.float32]:
    """Rows of length 2 made of four values +-1: cosines that are exact in any order of summation, and that often tie."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((count, columns), dtype=np.float32)
    places = generator.random((count, columns)).argsort(axis=1)[:, :4]
    np.put_along_axis(rows, places, generator.choice([-1.0, 1.0], (count, 4)).astype(np.float32), 1)
    return rows


def find_slowly(query: Any, bank: Any, k: int, query_group: Any, bank_group: Any) -> tuple[list[list[int]], list[list[float]]]:
    """One pair at a time, sorted by Python."""
    indices, cosines = [], []
    for row, one in enumerate(query.astype(np.float64)):
        pairs = []
        for column, other in enumerate(bank.astype(np.float64)):
            length = math.sqrt(float(one @ one)) * math.sqrt(float(other @ other))
            if query_group is None or query_group[row] != bank_group[column]:
                pairs.append((-float(one @ other) / length if length else 0.0, column))
        best = sorted(pairs)[:k] + [(math.inf, -1)] * (k - len(pairs))
        indices.append([column for _, column in best])
        cosines.append([-value for value, _ in best])
    return indices, cosines


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    """A search whose cosines are exact: copies, zero rows, more neighbours asked for than there are, chunks of any size."""
    num_query, num_bank, seed = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(0, 2**32 - 1))
    bank = exact_rows(num_bank, seed)
    bank[draw(st.integers(0, num_bank - 1))] = 0.0
    bank[num_bank // 2 :] = bank[: num_bank - num_bank // 2] if draw(st.booleans()) else bank[num_bank // 2 :]
    num_groups = draw(st.sampled_from([0, 1, 5]))
    generator = np.random.default_rng(seed)
    return {
        "query_QD": exact_rows(num_query, seed + 1),
        "bank_BD": bank.astype(draw(st.sampled_from([np.float16, np.float32, np.float64]))),
        "k": draw(st.integers(1, 45)),
        "query_group_Q": generator.integers(num_groups, size=num_query) if num_groups else None,
        "bank_group_B": generator.integers(num_groups, size=num_bank) if num_groups else None,
        "chunk_rows": draw(st.sampled_from([1, 3, 4096])),
        "bank_chunk_rows": draw(st.sampled_from([1, 4, 11, 4096])),
    }


@given(searches())
@settings(deadline=None, max_examples=150)
def test_search_equals_a_slow_loop(search: dict[str, Any]) -> None:
    """Same neighbours in the same order, ties by the lower row, for every chunk size, type and group; -1 and -inf fill up."""
    found = find_neighbours(**search)
    groups = search["query_group_Q"], search["bank_group_B"]
    indices, cosines = find_slowly(search["query_QD"], search["bank_BD"], search["k"], *groups)
    assert [found.index_Qk.dtype.name, found.cosine_Qk.dtype.name] == ["int64", "float32"]
    np.testing.assert_array_equal(found.index_Qk, indices)
    np.testing.assert_array_equal(found.cosine_Qk, np.array(cosines))


@pytest.mark.parametrize(("chunk_rows", "bank_chunk_rows"), [(4096, 4096), (100, 333), (17, 64), (600, 20)])
def test_random_rows_are_found_across_slabs_and_chunks(chunk_rows: int, bank_chunk_rows: int) -> None:
    """600 queries fill three slabs of selection; where float32 rounding cannot decide, the cosine is still right to 1e-6."""
    generator = np.random.default_rng(5)
    query, bank = generator.normal(size=(600, 24)), generator.normal(size=(1000, 24)) * 7.0
    found = find_neighbours(query, bank, 30, chunk_rows=chunk_rows, bank_chunk_rows=bank_chunk_rows)
    unit_query, unit_bank = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, bank))
    cosine_QB = unit_query @ unit_bank.T
    expected = np.sort(cosine_QB, axis=1)[:, ::-1][:, :30]
    np.testing.assert_allclose(found.cosine_Qk, expected, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosine_QB, found.index_Qk, 1), expected, atol=1e-6)
    assert (np.diff(found.cosine_Qk, axis=1) <= 0.0).all()
    assert (np.diff(np.sort(found.index_Qk, axis=1), axis=1) > 0).all()


def test_permuting_the_bank_changes_nothing_but_indices() -> None:
    generator = np.random.default_rng(6)
    query, bank = generator.normal(size=(50, 16)), generator.normal(size=(300, 16))
    order = generator.permutation(300)
    whole, mixed = find_neighbours(query, bank, 10), find_neighbours(query, bank[order], 10, bank_chunk_rows=71)
    np.testing.assert_array_equal(order[mixed.index_Qk], whole.index_Qk)
    np.testing.assert_allclose(mixed.cosine_Qk, whole.cosine_Qk, atol=1e-6)


def test_permuting_the_queries_permutes_the_answer() -> None:
    query, bank, order = exact_rows(50, 1), exact_rows(300, 2), np.random.default_rng(7).permutation(50)
    whole, mixed = find_neighbours(query, bank, 10), find_neighbours(query[order], bank, 10, chunk_rows=8)
    np.testing.assert_array_equal(mixed.index_Qk, whole.index_Qk[order])
    np.testing.assert_array_equal(mixed.cosine_Qk, whole.cosine_Qk[order])


def test_the_own_group_is_never_a_neighbour() -> None:
    """Out of fold the query and its duplicates lie in the bank; without groups a photograph's nearest one is itself."""
    bank = np.random.default_rng(8).normal(size=(200, 16)).astype(np.float32)
    group = np.arange(200) // 3 * 1_000_003 - 5
    assert (find_neighbours(bank, bank, 1).index_Qk[:, 0] == np.arange(200)).all()
    found = find_neighbours(bank, bank, 199, query_group_Q=group, bank_group_B=group, bank_chunk_rows=30)
    allowed = group[found.index_Qk] != group[:, None]
    assert (allowed | (found.index_Qk < 0)).all()
    assert (found.index_Qk >= 0).sum(axis=1).tolist() == [197] * 198 + [198] * 2
    alone = find_neighbours(bank, bank, 2, query_group_Q=np.zeros(200, int), bank_group_B=np.zeros(200, int))
    assert (alone.index_Qk == -1).all()
    assert np.isneginf(alone.cosine_Qk).all()


def test_length_does_not_matter_and_cosine_stays_within_one() -> None:
    """Rounding would take a copy's cosine past 1; squares of 1e30 overflow float32 and squares of 1e-30 vanish in it."""
    bank = np.random.default_rng(9).normal(size=(300, 512)).astype(np.float32)
    for factor in (1e-30, 1.0, 1e30):
        found = find_neighbours(bank * np.float32(factor), bank, 2)
        assert (found.index_Qk[:, 0] == np.arange(300)).all()
        assert found.cosine_Qk.max() <= 1.0
        np.testing.assert_allclose(found.cosine_Qk[:, 0], 1.0, atol=1e-6)
    assert find_neighbours(-bank, bank, 300).cosine_Qk.min() >= -1.0


def test_zero_rows_have_cosine_zero_and_ties_go_by_the_bank() -> None:
    found = find_neighbours(np.zeros((2, 4)), np.eye(4)[[0, 0, 1, 1, 2, 3]], 3, bank_chunk_rows=5)
    assert found.index_Qk.tolist() == [[0, 1, 2]] * 2
    assert found.cosine_Qk.tolist() == [[0.0] * 3] * 2


def test_a_float16_bank_is_found_like_its_float32_self() -> None:
    bank = np.random.default_rng(10).normal(size=(200, 64)).astype(np.float16)
    half, single = find_neighbours(bank, bank, 9), find_neighbours(bank.astype(np.float32), bank.astype(np.float32), 9)
    np.testing.assert_array_equal(half.index_Qk, single.index_Qk)
    np.testing.assert_array_equal(half.cosine_Qk, single.cosine_Qk)


def draw_tables(
    seed: int, num_rows: int = 400, width: int = 12
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Labels and cosines of neighbours, of which the nearer are right more often, some missing; and the queries' labels."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(NUM_CLASSES, num_rows, p=PRIOR)
    cosine = np.sort(generator.random((num_rows, width)).astype(np.float32), axis=1)[:, ::-1].copy()
    right = generator.random(cosine.shape) < cosine**2
    label = np.where(right, truth[:, None], generator.integers(NUM_CLASSES, size=cosine.shape))
    missing = np.arange(width) >= generator.integers(0, 5 * width, num_rows)[:, None]
    return np.where(missing, -1, label), np.where(missing, -np.inf, cosine).astype(np.float32), truth


def vote_slowly(label: Any, cosine: Any, k: int, temperature: float, smoothing: float) -> list[list[float]]:
    rows = []
    for names, values in zip(label[:, :k].tolist(), cosine[:, :k].tolist(), strict=True):
        powers = [
            (name, math.exp((value - values[0]) / temperature)) for name, value in zip(names, values, strict=True) if name >= 0
        ]
        total = math.fsum(power for _, power in powers)
        votes = [
            math.fsum(power for name, power in powers if name == c) / total if total else PRIOR[c] for c in range(NUM_CLASSES)
        ]
        rows.append([(1 - smoothing) * vote + smoothing * share for vote, share in zip(votes, PRIOR, strict=True)])
    return rows


@pytest.mark.parametrize(("k", "temperature", "smoothing"), [(1, 1.0, 0.0), (5, 0.05, 0.1), (12, 3.0, 1.0), (12, 1e-320, 0.3)])
def test_vote_equals_a_slow_loop_and_sums_to_one(k: int, temperature: float, smoothing: float) -> None:
    label, cosine, _ = draw_tables(1)
    assert (label[:, 0] < 0).any()
    probs = neighbour_probs(label, cosine, PRIOR, k=k, temperature=temperature, smoothing=smoothing)
    np.testing.assert_allclose(probs, vote_slowly(label, cosine, k, temperature, smoothing), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-12)
    assert probs.dtype == np.float64
    assert probs.min() >= 0.0
    assert probs.max() <= 1.0


def test_permuting_the_classes_permutes_the_columns() -> None:
    label, cosine, truth = draw_tables(2)
    order = np.array([3, 0, 5, 1, 2, 4])  # class c is called order[c]
    renamed, prior = np.where(label < 0, -1, order[label]), np.empty(NUM_CLASSES)
    prior[order] = PRIOR
    model = NeighbourModel(7, 0.1, 0.05)
    np.testing.assert_allclose(model.apply(renamed, cosine, prior)[:, order], model.apply(label, cosine, PRIOR), rtol=1e-12)
    fits = fit_neighbours(label, cosine, truth, PRIOR), fit_neighbours(renamed, cosine, order[truth], prior)
    assert dataclasses.astuple(fits[1]) == pytest.approx(dataclasses.astuple(fits[0]), rel=1e-4)


def test_labels_of_several_folds_stack() -> None:
    """Each fold's rows are taken from its own bank; after that nothing depends on which bank they came from."""
    folds = [
        Neighbours(np.array([[1, 0], [2, -1]]), np.array([[0.9, 0.1], [0.5, -np.inf]], dtype=np.float32)) for _ in range(2)
    ]
    label = np.concatenate([fold.take_labels(bank) for fold, bank in zip(folds, ([4, 5, 3], [0, 1, 2]), strict=True)])
    assert label.tolist() == [[5, 4], [3, -1], [1, 0], [2, -1]]
    probs = neighbour_probs(
        label, np.concatenate([fold.cosine_Qk for fold in folds]), PRIOR, k=1, temperature=1.0, smoothing=0.0
    )
    assert probs.argmax(axis=1).tolist() == [5, 3, 1, 2]


def in_sample_loss(model: NeighbourModel, weight: NDArray[np.float64], seed: int) -> float:
    label, cosine, truth = draw_tables(seed)
    return float(np.average(metrics.log_loss_per_row(model.apply(label, cosine, PRIOR), truth), weights=weight))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", [3, 4])
def test_no_other_model_fits_better(seed: int, weighted: bool) -> None:
    """Against a fine grid over the whole range of all three numbers, and steps of 2 % around the optimum."""
    label, cosine, truth = draw_tables(seed)
    weight = np.random.default_rng(seed).random(len(label)) ** 3 if weighted else np.ones(len(label))
    best = fit_neighbours(label, cosine, truth, PRIOR, ks=(1, 3, 7, 12, 50), weight_Q=weight if weighted else None)
    loss = in_sample_loss(best, weight, seed)
    assert loss < in_sample_loss(NeighbourModel(1, 1.0, 1.0), weight, seed) - 0.1
    others = [
        NeighbourModel(k, t, s) for k in (1, 3, 7, 12) for t in np.geomspace(1e-3, 10, 13) for s in (1e-4, 0.01, 0.1, 0.5)
    ]
    for factor in (0.98, 1.02):
        others.append(dataclasses.replace(best, temperature=best.temperature * factor))
        others.append(dataclasses.replace(best, smoothing=best.smoothing * factor))
    assert loss <= min(in_sample_loss(other, weight, seed) for other in others)


def test_a_weight_of_zero_leaves_a_query_out_and_a_query_without_neighbours_moves_nothing() -> None:
    label, cosine, truth = draw_tables(5)
    kept = np.arange(len(label)) % 3 > 0
    part = fit_neighbours(label[kept], cosine[kept], truth[kept], PRIOR)
    assert dataclasses.astuple(fit_neighbours(label, cosine, truth, PRIOR, weight_Q=kept)) == pytest.approx(
        dataclasses.astuple(part), rel=1e-4
    )
    found = label[:, 0] >= 0
    assert fit_neighbours(label[found], cosine[found], truth[found], PRIOR) == fit_neighbours(label, cosine, truth, PRIOR)


def test_neighbours_that_are_never_wrong_end_at_the_bounds() -> None:
    label, cosine = np.zeros((5, 3), dtype=np.int64), np.full((5, 3), 0.5)
    model = fit_neighbours(label, cosine, np.zeros(5, dtype=np.int64), PRIOR, ks=(1, 3))
    assert dataclasses.astuple(model) == pytest.approx((1, 1.0, 1 / (1 + math.exp(14))))
    assert model.apply(label, cosine, PRIOR)[:, 0].min() > 0.999999


def test_model_survives_json_and_damage_is_refused() -> None:
    model = fit_neighbours(*draw_tables(6), PRIOR, ks=tuple(np.array([3, 5])))
    assert decode(NeighbourModel, json.loads(json.dumps(encode(model))), "model.json") == model
    good = encode(model)
    damaged: list[Any] = [
        None,
        [],
        {},
        {**good, "more": 1},
        {"k": 3, "temperature": 0.1},
        *({**good, "k": k} for k in (0, 2.0, True, "3")),
    ]
    damaged += [{**good, "temperature": t} for t in (0.0, -1.0, math.nan, math.inf, "0.1", None, True)]
    damaged += [{**good, "smoothing": s} for s in (-0.1, 1.1, math.nan, None)]
    for data in damaged:
        with pytest.raises(ArtifactError, match=r"(?s)model\.json: .*(allowed|expected|missing|unknown)"):
            decode(NeighbourModel, data, "model.json")


ROWS: Any = np.eye(3)
LABEL: Any = np.array([[0, 1], [2, -1]])
COSINE: Any = np.array([[0.9, 0.2], [0.3, -np.inf]])


def find(**changes: Any) -> Neighbours:
    return find_neighbours(**{"query_QD": ROWS, "bank_BD": ROWS, "k": 1, **changes})


def vote(**changes: Any) -> NDArray[np.float64]:
    good = {"label_Qk": LABEL, "cosine_Qk": COSINE, "prior_C": PRIOR, "k": 1, "temperature": 1.0, "smoothing": 0.1}
    return neighbour_probs(**{**good, **changes})


def fit(**changes: Any) -> NeighbourModel:
    good = {"label_Qk": LABEL, "cosine_Qk": COSINE, "query_label_Q": [0, 1], "prior_C": PRIOR}
    return fit_neighbours(**{"ks": (1, 2), **good, **changes})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find(k=0), "k is 0; allowed: whole numbers from 1"),
        (lambda: find(chunk_rows=0), "chunk_rows is 0; allowed"),
        (lambda: find(bank_chunk_rows=2.0), "bank_chunk_rows is 2.0; allowed"),
        (lambda: find(query_QD=np.eye(4)), "query_QD has 4 columns and bank_BD 3; allowed: the same"),
        (lambda: find(query_QD=np.ones(3)), r"query_QD has shape \(3,\) .* allowed: \(rows, columns\)"),
        (lambda: find(bank_BD=np.zeros((0, 3))), r"bank_BD has shape \(0, 3\)"),
        (lambda: find(bank_BD=np.eye(3, dtype=int)), "type int64; allowed: .* floats"),
        (
            lambda: find(bank_BD=np.where(ROWS > 0, np.nan, 0), bank_chunk_rows=1),
            r"bank_BD\[0\] has length nan; allowed: finite",
        ),
        (lambda: find(query_QD=[[1.0, 0.0, 0.0], [0.0, np.inf, 0.0]], chunk_rows=1), r"query_QD\[1\] has length inf"),
        (lambda: find(query_group_Q=[0, 1, 2]), "one side only; allowed"),
        (
            lambda: find(query_group_Q=[0, 1], bank_group_B=[0, 1, 2]),
            r"query_group_Q has shape \(2,\) .* allowed: \(3,\) integers",
        ),
        (lambda: find(query_group_Q=[0, 1, 2], bank_group_B=[0.0, 1, 2]), "bank_group_B .* float64; allowed"),
        (lambda: find().take_labels([0, 1]), r"bank_label_B has shape \(2,\)"),
        (lambda: find().take_labels([0, 1, -1]), r"bank_label_B\[2\] is -1; allowed: 0 or more"),
        (lambda: vote(k=3), "k is 3; allowed: 1 to the number of neighbours, 2"),
        (lambda: vote(temperature=0.0), "temperature is 0.0; allowed: a finite number above 0"),
        (lambda: vote(smoothing=1.5), "smoothing is 1.5; allowed: 0 to 1"),
        (lambda: vote(prior_C=PRIOR * 2), "prior_C .* allowed: .* sum 1"),
        (lambda: vote(prior_C=[1.5, -0.5, 0.0]), "prior_C has .* allowed: .* 0 or more"),
        (lambda: vote(prior_C=[0.5, 0.5]), "label_Qk goes from -1 to 2; allowed: -1 for none, 0 to 1"),
        (lambda: vote(label_Qk=LABEL.astype(float)), "float64.* allowed: the same shape"),
        (
            lambda: vote(cosine_Qk=COSINE[:, ::-1]),
            r"cosine_Qk\[0, 1\] is 0.9 where the label is 1; allowed: finite and falling",
        ),
        (lambda: vote(cosine_Qk=np.zeros((2, 2))), r"cosine_Qk\[1, 1\] is 0.0 where the label is -1; allowed: .* -inf"),
        (lambda: vote(cosine_Qk=np.full((2, 2), np.nan)), r"cosine_Qk\[0, 0\] is nan"),
        (lambda: fit(query_label_Q=[0, 6]), "query_label_Q goes from 0 to 6; allowed: 0 to 5"),
        (lambda: fit(query_label_Q=[0]), r"query_label_Q has shape \(1,\)"),
        (lambda: fit(prior_C=[1.0, 0.0, 0.0]), "prior_C is 0 for a class of query_label_Q; allowed: above 0"),
        (lambda: fit(ks=(3, 5)), r"ks is \(3, 5\); allowed: a number from 1 to .* 2"),
        (lambda: fit(ks=(0,)), "ks is 0; allowed"),
        (lambda: fit(weight_Q=[1.0, -1.0]), r"weight_Q has shape \(2,\); allowed: .* 0 or more"),
        (lambda: fit(weight_Q=[0.0, 0.0]), "no query with a weight has a neighbour"),
        (lambda: fit(label_Qk=np.full((2, 2), -1), cosine_Qk=np.full((2, 2), -np.inf)), "no query .* allowed: at least one"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_allowed(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("num_queries", [1, 2, 9])
def test_a_prepared_bank_answers_to_the_same_bits(kind: type, num_queries: int) -> None:
    """Prepared once, whole or its first rows: the same neighbours and cosines, so that no digit of a submission moves."""
    rng = np.random.default_rng(0)
    bank, query = rng.normal(size=(700, 33)).astype(kind), rng.normal(size=(num_queries, 33)).astype(np.float16)
    bank[5], bank[9] = 0.0, bank[8]
    groups = {"query_group_Q": np.arange(num_queries), "bank_group_B": rng.integers(0, 50, 700)}
    prepared = UnitBank.prepare(bank)
    for count, options in ((700, {}), (700, groups), (100, {}), (700, {"bank_chunk_rows": 256})):
        fresh = find_neighbours(query, bank[:count], 12, **options)
        again = find_neighbours(query, prepared.first(count), 12, **options)
        assert np.array_equal(again.index_Qk, fresh.index_Qk)
        assert np.array_equal(again.cosine_Qk, fresh.cosine_Qk)
    assert np.shares_memory(prepared.first(100).unit_BD, prepared.unit_BD)


def test_a_bank_that_is_not_finite_cannot_be_prepared() -> None:
    with pytest.raises(ValueError, match=r"bank_BD\[1\]"):
        UnitBank.prepare(np.array([[1.0, 2.0], [np.nan, 1.0]]))
