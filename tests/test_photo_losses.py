"""Where a submission's loss comes from: exact sums, an order that depends on nothing but names, and a text for the screen."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hectocar.errors import ArtifactError, DataError
from hectocar.scoring.metrics import log_loss_grouped_per_row
from hectocar.scoring.photo_losses import ClassLoss, PhotoLosses, compute_photo_losses
from hectocar.scoring.submission import Submission
from hectocar.scoring.truth import Truth, score_submission

COLUMNS = ("F150", "Ford_F-150", "X5", "쏘나타", "Unseen")
PAIRS = [("Ford_F-150", "F150")]
TABLE = Submission(
    ("a", "b", "c", "d"),
    COLUMNS,
    np.array([[0.1, 0.3, 0.6, 0, 0], [0.5, 0.1, 0.4, 0, 0], [0.2, 0.2, 0.5, 0.1, 0], [0.0, 0.0, 0.0, 1.0, 0]]),
)
ANSWERS = Truth(("d", "c", "b", "a"), ("쏘나타", "X5", "Ford_F-150", "F150"))


def draw(seed: int, num_rows: int = 30) -> tuple[Submission, Truth]:
    rng = np.random.default_rng(seed)
    ids = tuple(f"T_{row:02d}" for row in range(num_rows))
    probs = rng.dirichlet(np.full(5, 0.4), size=num_rows)
    probs[num_rows // 2 :] = probs[0]  # equal losses
    return Submission(ids, COLUMNS, probs), Truth(ids, tuple(COLUMNS[k] for k in rng.integers(0, 4, num_rows)))


def test_costs_computed_by_hand() -> None:
    """Equivalent columns are added, for the loss, the probability and the predicted class."""
    costs = compute_photo_losses(TABLE, ANSWERS, PAIRS)
    assert [(photo.image_id, photo.label, photo.true_class, photo.predicted) for photo in costs.photos] == [
        ("a", "F150", "F150 = Ford_F-150", "X5"),
        ("c", "X5", "X5", "X5"),
        ("b", "Ford_F-150", "F150 = Ford_F-150", "F150 = Ford_F-150"),
        ("d", "쏘나타", "쏘나타", "쏘나타"),
    ]
    assert [photo.prob for photo in costs.photos] == pytest.approx([0.4, 0.5, 0.6, 1.0])
    assert [photo.predicted_prob for photo in costs.photos] == pytest.approx([0.6, 0.5, 0.6, 1.0])
    assert [photo.loss for photo in costs.photos] == pytest.approx([-math.log(p) for p in (0.4, 0.5, 0.6, 1.0)], abs=1e-12)
    ford, x5, sonata, unseen = costs.classes
    assert (ford.name, ford.num_rows, ford.num_right, ford.wrong, ford.num_wrong) == ("F150 = Ford_F-150", 2, 1, "X5", 1)
    assert ford.log_loss == pytest.approx(-(math.log(0.4) + math.log(0.6)) / 2)
    assert (x5.name, x5.top1, x5.wrong, x5.num_wrong) == ("X5", 1.0, "", 0)
    assert sonata.name == "쏘나타"
    assert unseen == ClassLoss("Unseen", 0, 0.0, 0.0, 0, "", 0)
    assert (unseen.log_loss, unseen.top1) == (None, None)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_class_losses_sum_to_the_total(seed: int, merge: bool) -> None:
    """Classes and photographs are two cuts through the same loss, the one that the score table calls summed."""
    submission, answers = draw(seed)
    pairs = PAIRS if merge else []
    costs, report = compute_photo_losses(submission, answers, pairs), score_submission(submission, answers, pairs)
    assert math.fsum(cost.loss_sum for cost in costs.classes) == pytest.approx(costs.loss_sum, rel=1e-12)
    assert costs.loss_sum / len(costs.photos) == pytest.approx(report.summed, rel=1e-12)
    assert math.fsum(cost.share for cost in costs.classes) == pytest.approx(1.0, rel=1e-12)
    assert sum(cost.num_rows for cost in costs.classes) == len(costs.photos) == report.num_rows
    if not merge:
        assert sum(cost.num_right for cost in costs.classes) / report.num_rows == pytest.approx(report.top1)
    label = np.array([COLUMNS.index(name) for name in answers.labels])
    expected = log_loss_grouped_per_row(submission.probs, label, [0, 0 if merge else 1, 2, 3, 4], "sum")
    found = {photo.image_id: photo.loss for photo in costs.photos}
    assert [found[name] for name in answers.ids] == pytest.approx(expected.tolist(), rel=1e-12, abs=1e-15)


@given(st.integers(0, 2**32 - 1), st.permutations(range(5)))
def test_no_order_of_rows_columns_or_answers_changes_a_digit(seed: int, columns: list[int]) -> None:
    """The same files in another order give exactly the same costs, in the same order."""
    submission, answers = draw(seed)
    rng = np.random.default_rng(seed)
    rows, order = rng.permutation(len(submission.ids)), rng.permutation(len(answers.ids))
    shuffled = Submission(
        tuple(submission.ids[row] for row in rows),
        tuple(COLUMNS[column] for column in columns),
        submission.probs[np.ix_(rows, columns)],
    )
    other = Truth(tuple(answers.ids[k] for k in order), tuple(answers.labels[k] for k in order))
    assert compute_photo_losses(shuffled, other, PAIRS) == compute_photo_losses(submission, answers, PAIRS)


def test_equal_losses_stand_in_the_order_of_their_ids() -> None:
    """Whatever the file's order: ids and class names decide."""
    ids = ("c", "a", "b")
    even = Submission(ids, ("Y", "X"), np.full((3, 2), 0.5))
    costs = compute_photo_losses(even, Truth(ids, ("Y", "X", "Y")))
    assert [photo.image_id for photo in costs.photos] == ["a", "b", "c"]
    assert {photo.predicted for photo in costs.photos} == {"X"}
    assert [cost.name for cost in costs.classes] == ["Y", "X"]  # two rows against one
    one_each = compute_photo_losses(Submission(("a", "b"), ("Y", "X"), np.eye(2)), Truth(("a", "b"), ("Y", "X")))
    assert [cost.name for cost in one_each.classes] == ["X", "Y"]


def test_a_perfect_submission_has_shares_of_almost_nothing_and_no_wrong_answer() -> None:
    ids = ("a", "b")
    costs = compute_photo_losses(Submission(ids, ("X", "Y"), np.eye(2)), Truth(ids, ("X", "Y")))
    assert costs.loss_sum < 1e-14
    assert {cost.wrong for cost in costs.classes} == {""}
    assert PhotoLosses((), ()).describe_top(3) == "0 of 0 photographs carry 0.0% of the loss"


def test_names_that_look_like_a_merged_class_are_not_mixed_with_it() -> None:
    """A column may be called what two merged columns are called together."""
    columns = ("A", "B", "A = B")
    ids = ("a", "b")
    table = Submission(ids, columns, np.array([[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]))
    costs = compute_photo_losses(table, Truth(ids, ("A", "A = B")), [("A", "B")])
    assert sorted(cost.num_rows for cost in costs.classes) == [1, 1]
    assert {photo.image_id: photo.prob for photo in costs.photos} == pytest.approx({"a": 0.4, "b": 0.4})


def test_the_tables_for_the_screen_line_up_and_hide_control_characters() -> None:
    """A Korean letter is two columns wide; an escape sequence in a name does not reach the terminal."""
    nasty = "evil\x1b[31m\nname"
    columns = (nasty, *COLUMNS[1:])
    answers = Truth(ANSWERS.ids, tuple(nasty if name == "F150" else name for name in ANSWERS.labels))
    costs = compute_photo_losses(Submission(TABLE.ids, columns, TABLE.probs), answers)
    classes, photos = costs.class_table(2), costs.photo_table(3)
    assert (len(classes), len(photos)) == (3, 4)
    assert all(line.isprintable() for line in (*classes, *photos))
    assert "evil\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}name" in photos[1]
    assert classes[0].split() == ["share", "rows", "log", "loss", "top-1", "class", "most", "frequent", "wrong", "answer"]
    assert len(costs.class_table(0)) == len(costs.photo_table(0)) == 1
    *lines, korean = compute_photo_losses(TABLE, ANSWERS, PAIRS).photo_table(4)
    ends = [line.rindex("%") for line in lines[1:]]
    assert ends == [ends[0]] * 3
    assert korean.rindex("%") == ends[0] - len("쏘나타")


def test_a_foreign_submission_is_refused_as_the_score_is() -> None:
    with pytest.raises(ArtifactError, match="1 ids missing"):
        compute_photo_losses(TABLE, Truth(("a", "b", "c", "e"), ANSWERS.labels))
    with pytest.raises(DataError, match="no class column"):
        compute_photo_losses(TABLE, Truth(ANSWERS.ids, ("X6", "X5", "X5", "X5")))
