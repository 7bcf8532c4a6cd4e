"""Laws of the label suspects: what a good network contradicts comes first, whatever the order of rows and classes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hectocar.auditing.label_suspects import compute_neighbour_probs, fit_label_noise, rank_label_suspects

Ints, Floats = NDArray[np.int64], NDArray[np.float64]
NUM_CLASSES = 12
NAMES = tuple(f"car {g}" for g in range(NUM_CLASSES))


def make_probs(true_N: Ints, *, sharpness: float, seed: int = 0) -> Floats:
    """Calibrated probabilities: softmax of the log likelihoods of noisy evidence for each class."""
    evidence = np.random.default_rng(seed).normal(size=(len(true_N), NUM_CLASSES))
    evidence[np.arange(len(true_N)), true_N] += sharpness
    weight = np.exp(sharpness * evidence - (sharpness * evidence).max(axis=1, keepdims=True))
    probs: Floats = weight / weight.sum(axis=1, keepdims=True)
    return probs


def turn_labels(true_N: Ints, share: float, seed: int = 1) -> tuple[Ints, NDArray[np.bool_]]:
    """(labels, which were turned): another class, drawn evenly."""
    rng = np.random.default_rng(seed)
    turned = rng.random(len(true_N)) < share
    labels = np.where(turned, (true_N + rng.integers(1, NUM_CLASSES, len(true_N))) % NUM_CLASSES, true_N)
    return labels, turned


def make_truth(num: int, seed: int = 2) -> Ints:
    return np.random.default_rng(seed).integers(0, NUM_CLASSES, num)


def test_one_turned_label_ranks_first() -> None:
    """In separable data the only wrong label is the first suspect, with the class that the photograph shows."""
    true_N = make_truth(300)
    labels = true_N.copy()
    labels[123] = (true_N[123] + 5) % NUM_CLASSES
    suspects = rank_label_suspects(make_probs(true_N, sharpness=6.0), labels, NAMES)
    assert suspects.row[0] == 123
    assert suspects.suggested[0] == true_N[123]
    assert suspects.num_errors == 1
    assert suspects.score[0] > 0.9
    assert NAMES[true_N[123]] in suspects.reason[0]


def test_turned_labels_fill_the_top() -> None:
    """With a network of 80 % top-1, three in four turned labels are among as many top suspects as were turned."""
    true_N = make_truth(3000)
    labels, turned = turn_labels(true_N, 0.03)
    probs = make_probs(true_N, sharpness=2.6)
    assert 0.75 < (probs.argmax(axis=1) == true_N).mean() < 0.9
    top = rank_label_suspects(probs, labels, NAMES).row[: turned.sum()]
    assert turned[top].mean() > 0.75


@pytest.mark.parametrize("sharpness", [1.8, 2.6, 4.0])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_number_of_errors_is_close_to_the_truth(sharpness: float, share: float) -> None:
    """The estimate follows the turned labels and not the network's own mistakes, be it good or weak."""
    true_N = make_truth(4000)
    labels, turned = turn_labels(true_N, share)
    suspects = rank_label_suspects(make_probs(true_N, sharpness=sharpness), labels, NAMES)
    assert abs(suspects.num_errors - turned.sum()) <= 0.2 * turned.sum() + 20
    assert suspects.score.sum() == pytest.approx(suspects.num_errors, abs=0.51)


def test_temperature_of_overconfident_probabilities_is_found() -> None:
    """Squared odds are a temperature of 2, with wrong labels among them or not."""
    true_N = make_truth(4000)
    labels, _ = turn_labels(true_N, 0.05)
    squared = make_probs(true_N, sharpness=2.2) ** 2
    noise = fit_label_noise(squared / squared.sum(axis=1, keepdims=True), labels)
    assert noise.temperature == pytest.approx(2.0, rel=0.1)
    assert noise.rate == pytest.approx(0.05 * NUM_CLASSES / (NUM_CLASSES - 1), abs=0.015)


def test_a_perfect_network_has_no_suspects() -> None:
    """Where every label is the most probable class the list is empty and no error is estimated."""
    labels = make_truth(200)
    suspects = rank_label_suspects(np.eye(NUM_CLASSES)[labels], labels, NAMES)
    assert len(suspects.row) == len(suspects.score) == len(suspects.reason) == suspects.num_errors == 0


def test_no_photographs_have_no_suspects() -> None:
    """An empty data set is an empty answer and no failure."""
    suspects = rank_label_suspects(np.zeros((0, NUM_CLASSES)), np.zeros(0, dtype=np.int64), NAMES)
    assert len(suspects.row) == suspects.num_errors == 0


def test_rows_in_another_order_give_the_same_photographs() -> None:
    """A permutation of the photographs permutes the answer and changes no score."""
    true_N = make_truth(500)
    labels, _ = turn_labels(true_N, 0.05)
    probs = make_probs(true_N, sharpness=2.5)
    order = np.random.default_rng(3).permutation(500)
    first, other = rank_label_suspects(probs, labels, NAMES), rank_label_suspects(probs[order], labels[order], NAMES)
    assert order[other.row].tolist() == first.row.tolist()
    assert other.suggested.tolist() == first.suggested.tolist()
    np.testing.assert_allclose(other.score, first.score, rtol=1e-3, atol=1e-6)


def test_classes_in_another_order_give_the_same_photographs() -> None:
    """Numbers of classes are names: another numbering renames the suggestions, and the arrays given stay as they were."""
    true_N = make_truth(500)
    labels, _ = turn_labels(true_N, 0.05)
    probs = make_probs(true_N, sharpness=2.5)
    before = probs.copy()
    number = np.random.default_rng(4).permutation(NUM_CLASSES)
    first = rank_label_suspects(probs, labels, NAMES)
    renumbered = np.empty_like(probs)
    renumbered[:, number] = probs
    other = rank_label_suspects(renumbered, number[labels], NAMES)
    assert other.row.tolist() == first.row.tolist()
    assert other.suggested.tolist() == number[first.suggested].tolist()
    np.testing.assert_array_equal(probs, before)


def test_scores_fall_and_rows_are_listed_once() -> None:
    """The surest suspect comes first; only labels that the probabilities contradict are listed."""
    true_N = make_truth(800)
    labels, _ = turn_labels(true_N, 0.1)
    probs = make_probs(true_N, sharpness=2.0)
    suspects = rank_label_suspects(probs, labels, NAMES)
    assert (np.diff(suspects.score) <= 0.0).all()
    assert suspects.score.min() >= 0.0
    assert suspects.score.max() <= 1.0
    assert sorted(suspects.row) == np.flatnonzero(probs.argmax(axis=1) != labels).tolist()
    assert (suspects.suggested == probs.argmax(axis=1)[suspects.row]).all()


def test_neighbours_are_of_the_same_space_and_never_oneself() -> None:
    """Shares count the nearest photographs of the same network only; a photograph alone in its space has none."""
    embed = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.5, 0.5]])
    labels = np.array([0, 1, 2, 2, 3, 4])
    shares = compute_neighbour_probs(embed, labels, np.array([0, 0, 0, 0, 1, 2]), 5, num_neighbours=1)
    assert shares[0].tolist() == [0, 1, 0, 0, 0]
    assert shares[1].tolist() == [1, 0, 0, 0, 0]
    assert shares[2].tolist() == shares[3].tolist() == [0, 0, 1, 0, 0]
    assert shares[4].sum() == shares[5].sum() == 0.0


def test_neighbour_shares_equal_a_full_sort() -> None:
    """The chunked search gives what sorting all cosines gives, and shares of a row add up to 1."""
    rng = np.random.default_rng(5)
    embed, labels = rng.normal(size=(1500, 8)), make_truth(1500)
    space = rng.integers(0, 2, 1500)
    shares = compute_neighbour_probs(embed, labels, space, NUM_CLASSES, num_neighbours=7)
    unit = embed / np.linalg.norm(embed, axis=1, keepdims=True)
    for row in range(0, 1500, 97):
        cosine = np.where(space == space[row], unit @ unit[row], -2.0)
        cosine[row] = -2.0
        nearest = np.argsort(-cosine)[:7]
        np.testing.assert_allclose(shares[row], np.bincount(labels[nearest], minlength=NUM_CLASSES) / 7)


def test_reasons_name_neighbours_and_angle() -> None:
    """What is known beside the probabilities stands in the reason, in per cent and degrees."""
    true_N = make_truth(100)
    labels = true_N.copy()
    labels[7] = (true_N[7] + 1) % NUM_CLASSES
    shares = np.eye(NUM_CLASSES)[true_N]
    suspects = rank_label_suspects(
        make_probs(true_N, sharpness=6.0), labels, NAMES, neighbour_probs_NG=shares, subcenter_angle_N=np.full(100, np.pi / 3)
    )
    assert "0% are of its folder, 100% of the other" in suspects.reason[0]
    assert "60 degrees" in suspects.reason[0]


def test_arrays_that_do_not_fit_are_refused() -> None:
    """The message says what was given and what is allowed."""
    probs, labels = np.full((3, NUM_CLASSES), 1 / NUM_CLASSES), np.zeros(3, dtype=np.int64)
    with pytest.raises(ValueError, match=r"probs_NG is \(3, 12\); allowed: \(2, 12\)"):
        rank_label_suspects(probs, labels[:2], NAMES)
    with pytest.raises(ValueError, match=r"labels_N is 0 to 12; allowed: 0 to 11"):
        rank_label_suspects(probs, np.array([0, 1, 12]), NAMES)
    with pytest.raises(ValueError, match="probabilities, not logits"):
        rank_label_suspects(20.0 * probs, labels, NAMES)
