"""A submission scored by hand, in every order and under every reading of the equivalent classes."""

import math
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hectocar.dataset.classes import join_equivalent, read_equivalent_pairs
from hectocar.errors import ArtifactError, DataError
from hectocar.scoring import truth as room
from hectocar.scoring.submission import Submission
from hectocar.scoring.truth import Truth

COLUMNS = ("F150", "Ford_F-150", "X5", "쏘나타")
PAIRS = [("Ford_F-150", "F150"), ("RAV4", "라브4")]
TABLE = Submission(
    ("a", "b", "c", "d"),
    COLUMNS,
    np.array([[0.1, 0.3, 0.6, 0.0], [0.5, 0.1, 0.4, 0.0], [0.2, 0.2, 0.5, 0.1], [0.0, 0.0, 0.0, 1.0]]),
)
ANSWERS = Truth(("d", "c", "b", "a"), ("쏘나타", "X5", "Ford_F-150", "F150"), ("private", "public", "private", "public"))


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode())
    return path


def mean_loss(*probs: float) -> float:
    return -sum(math.log(min(value, 1 - 1e-15)) for value in probs) / len(probs)


def test_a_submission_scored_by_hand_with_splits() -> None:
    report = room.score_submission(TABLE, ANSWERS, PAIRS)
    assert report.strict == pytest.approx(mean_loss(0.1, 0.1, 0.5, 1.0))
    assert report.summed == pytest.approx(mean_loss(0.4, 0.6, 0.5, 1.0))
    assert report.maximum == pytest.approx(mean_loss(0.3, 0.5, 0.5, 1.0))
    assert (report.top1, report.top5, report.num_rows) == (0.75, 1.0, 4)
    assert list(report.by_split) == ["private", "public"]
    public, private = report.by_split["public"], report.by_split["private"]
    assert public.strict == pytest.approx(mean_loss(0.1, 0.5))
    assert private.summed == pytest.approx(mean_loss(0.6, 1.0))
    assert (public.top1, private.top1, public.num_rows, public.by_split) == (0.5, 1.0, 2, {})


def test_without_pairs_an_equivalent_name_counts_as_wrong() -> None:
    report = room.score_submission(TABLE, ANSWERS)
    assert report.strict == report.summed == report.maximum
    assert report.top1 == 0.5


def test_a_merged_class_scores_the_same_under_both_readings() -> None:
    """Whole mass in one column is why write_equivalent_mass is safe: summed = maximum, whichever member is the label."""
    probs = TABLE.probs.copy()
    probs[:, 0] += probs[:, 1]
    probs[:, 1] = 0.0
    merged = room.score_submission(Submission(TABLE.ids, COLUMNS, probs), ANSWERS, PAIRS)
    assert merged.summed == merged.maximum == pytest.approx(room.score_submission(TABLE, ANSWERS, PAIRS).summed)
    assert merged.strict > merged.summed + 8.0


@given(st.permutations(range(4)), st.permutations(range(4)), st.permutations(range(4)))
def test_no_order_of_rows_columns_or_answers_changes_a_score(rows: list[int], columns: list[int], order: list[int]) -> None:
    shuffled = Submission(
        tuple(TABLE.ids[row] for row in rows), tuple(COLUMNS[column] for column in columns), TABLE.probs[np.ix_(rows, columns)]
    )
    assert ANSWERS.split is not None
    answers = Truth(*(tuple(part[place] for place in order) for part in (ANSWERS.ids, ANSWERS.labels, ANSWERS.split)))
    expected, found = room.score_submission(TABLE, ANSWERS, PAIRS), room.score_submission(shuffled, answers, PAIRS)
    for mine, theirs in (
        (found, expected),
        *((found.by_split[name], expected.by_split[name]) for name in ("public", "private")),
    ):
        numbers = [[part.strict, part.summed, part.maximum, part.top1, part.top5] for part in (mine, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-12)


def test_rows_need_not_sum_to_1_and_labels_may_be_decomposed() -> None:
    doubled = Submission(TABLE.ids, COLUMNS, TABLE.probs / 2)
    decomposed = Truth(ANSWERS.ids, tuple(unicodedata.normalize("NFD", name) for name in ANSWERS.labels))
    assert room.score_submission(doubled, decomposed, PAIRS).strict == room.score_submission(TABLE, ANSWERS, PAIRS).strict


def test_the_table_has_a_line_for_the_whole_and_for_each_split() -> None:
    lines = room.score_submission(TABLE, ANSWERS, PAIRS).table()
    assert [line.split() for line in lines] == [
        ["rows", "strict", "summed", "maximum", "top-1", "top-5"],
        ["all", "4", "1.32458", "0.53007", "0.64757", "75.00%", "100.00%"],
        ["split", "private", "2", "1.15129", "0.25541", "0.34657", "100.00%", "100.00%"],
        ["split", "public", "2", "1.49787", "0.80472", "0.94856", "50.00%", "100.00%"],
    ]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("ids", "labels", "error", "messages"),
    [
        (("a", "b", "c", "e"), ANSWERS.labels, ArtifactError, ["1 ids missing: 'e'", "1 ids unknown: 'd'"]),
        (("a", "b", "c"), ANSWERS.labels[:3], ArtifactError, ["1 ids unknown: 'd'", "only those of the answers"]),
        (
            ANSWERS.ids,
            ("X5", "X6", "X5", "소나타"),
            DataError,
            ["2 labels", "'X6' (nearest: 'X5')", "'소나타' (nearest: '쏘나타')"],
        ),
    ],
)
def test_answers_of_another_contest_are_refused(
    ids: tuple[str, ...], labels: tuple[str, ...], error: type[Exception], messages: list[str]
) -> None:
    with pytest.raises(error) as caught:
        room.score_submission(TABLE, Truth(ids, labels))
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1])
def test_a_value_that_the_evaluator_refuses_is_not_scored(value: float) -> None:
    probs = TABLE.probs.copy()
    probs[1, 2] = value
    with pytest.raises(ArtifactError, match=rf"cannot be scored.*\n.*1 values .*: b, 'X5': {value}"):
        room.score_submission(Submission(TABLE.ids, COLUMNS, probs), ANSWERS)


def test_groups_join_chains_and_pass_over_pairs_of_another_contest() -> None:
    names = ["a", "b", "c", "d", "e"]
    assert join_equivalent(names, [("d", "c"), ("e", "b"), ("b", "d"), ("x", "y")]) == [0, 1, 1, 1, 1]
    assert join_equivalent(names, []) == [0, 1, 2, 3, 4]
    assert join_equivalent(["가", "나"], [(unicodedata.normalize("NFD", "가"), "나")]) == [0, 0]


def test_half_a_pair_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"1 names whose partner is a class column .*'F-150' \(nearest: 'Ford_F-150'\)"):
        join_equivalent(COLUMNS, [("F150", "F-150")])


def test_answers_are_read_with_and_without_split(tmp_path: Path) -> None:
    with_split = room.read_truth(written(tmp_path, "\ufeffID,label,split\r\na,X5,public\r\nb,쏘나타,private\r\n"))
    assert with_split == Truth(("a", "b"), ("X5", "쏘나타"), ("public", "private"))
    assert room.read_truth(written(tmp_path, "ID,label\na,X5\n")) == Truth(("a",), ("X5",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ID,class\na,X5\n", "column label is not there once; the header is 'ID,class'; allowed: ID,label"),
        ("ID,label\na,X5\na,X5\n", r"ID empty or repeated: 'a' \(line 3\)"),
        ("ID,label\na,\n", "empty cell in line 2, column label"),
        ("ID,label,split\na,X5,\n", "empty cell in line 2, column split"),
    ],
)
def test_broken_answers_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        room.read_truth(written(tmp_path, text))


def test_pairs_are_read_and_may_be_none(tmp_path: Path) -> None:
    assert read_equivalent_pairs(written(tmp_path, "class_a,class_b\r\nF150,Ford_F-150\r\n")) == [("F150", "Ford_F-150")]
    assert read_equivalent_pairs(written(tmp_path, "class_a,class_b\n")) == []
    with pytest.raises(DataError, match="paired with itself in line 2: 'F150'"):
        read_equivalent_pairs(written(tmp_path, "class_a,class_b\nF150,F150\n"))
    with pytest.raises(DataError, match="column class_b is not there once"):
        read_equivalent_pairs(written(tmp_path, "class_a,klass_b\na,b\n"))
