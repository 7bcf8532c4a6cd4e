"""A submission joins by id and name, writes the sample's own bytes, refuses what the evaluator would, and reads back."""

import math
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectocar.dataset.photo_list import read_test_table
from hectocar.errors import ArtifactError
from hectocar.scoring import submission as room
from hectocar.scoring.submission import SampleForm, Submission

CARS = Path(__file__).resolve().parents[2] / "shared" / "data" / "cars196"
IDS, COLUMNS = ("T_0", "T_1", "T_2"), ("쏘나타_2012", "X5", "Audi_TT")
PROBS = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
FORM = SampleForm(IDS, COLUMNS, Path("sample.csv"))


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def written(folder: Path, data: str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(data.encode())
    return path


@given(st.permutations(range(3)), st.permutations(range(3)), st.booleans())
def test_rows_are_joined_by_id_and_columns_by_name_in_any_order(rows: list[int], columns: list[int], decomposed: bool) -> None:
    names = [nfd(COLUMNS[column]) if decomposed else COLUMNS[column] for column in columns]
    built = room.build_submission(FORM, [IDS[row] for row in rows], names, PROBS[np.ix_(rows, columns)])
    assert (built.ids, built.columns) == (IDS, COLUMNS)
    np.testing.assert_array_equal(built.probs, PROBS)


def test_the_sample_s_own_unicode_form_is_written(tmp_path: Path) -> None:
    form = SampleForm((nfd("사진_1"),), (nfd("쏘나타"), "X5"), Path("sample.csv"))
    built = room.build_submission(form, ["사진_1"], ["X5", "쏘나타"], [[0.25, 0.75]])
    room.write_submission(built, tmp_path / "out.csv", form)
    assert (tmp_path / "out.csv").read_bytes() == f"\ufeffID,{nfd('쏘나타')},X5\r\n{nfd('사진_1')},0.75,0.25\r\n".encode()


@pytest.mark.parametrize(
    ("ids", "columns", "messages"),
    [
        (("T_0", "T_1"), COLUMNS, ["1 ids missing: 'T_2'", "all 3 of sample.csv are needed"]),
        ((*IDS, "T_3"), COLUMNS, ["1 ids unknown: 'T_3' (nearest: 'T_2')"]),
        (("T_0", "T_1", "T_1"), COLUMNS, ["1 ids given more than once: 'T_1'", "1 ids missing: 'T_2'"]),
        (IDS, ("쏘나타_2012", "X5", "Audi_TTS"), ["'Audi_TT' (nearest: 'Audi_TTS')", "'Audi_TTS' (nearest: 'Audi_TT')"]),
        (IDS, ("쏘나타_2012", "X5"), ["1 class columns missing: 'Audi_TT'; all 3"]),
    ],
)
def test_foreign_ids_and_classes_are_refused(ids: tuple[str, ...], columns: tuple[str, ...], messages: list[str]) -> None:
    with pytest.raises(ArtifactError) as caught:
        room.build_submission(FORM, ids, columns, np.full((len(ids), len(columns)), 1 / len(columns)))
    for message in messages:
        assert message in str(caught.value)


def test_a_wrong_shape_is_a_programmer_s_error() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2\); allowed: \(3, 3\), ids x columns"):
        room.build_submission(FORM, IDS, COLUMNS, PROBS[:, :2])


def changed(row: int, values: list[float]) -> np.ndarray:
    probs = PROBS.copy()
    probs[row] = values
    return probs


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Submission(IDS[:2], COLUMNS, PROBS[:2]), "1 ids missing: 'T_2'"),
        (Submission(IDS, COLUMNS[:2], PROBS[:, :2]), "1 class columns missing: 'Audi_TT'"),
        (Submission((*IDS, "U"), COLUMNS, PROBS[[0, 1, 2, 2]]), "1 ids unknown: 'U'; allowed: only those of sample.csv"),
        (Submission((*IDS, "T_0"), COLUMNS, PROBS[[0, 1, 2, 2]]), "1 ids given more than once: 'T_0'"),
        (Submission(IDS[::-1], COLUMNS, PROBS), "id 1 is 'T_2'; allowed: 'T_0', the order of the sample"),
        (Submission(IDS, COLUMNS[::-1], PROBS), "class column 1 is 'Audi_TT'; allowed: '쏘나타_2012'"),
        (Submission(IDS, tuple(map(nfd, COLUMNS)), PROBS), "class column in another Unicode form than the sample's"),
        (Submission(IDS, COLUMNS, changed(1, [math.nan, 0, 1])), "1 values not finite: T_1, '쏘나타_2012': nan"),
        (Submission(IDS, COLUMNS, changed(2, [0, math.inf, 1])), "1 values not finite: T_2, 'X5': inf"),
        (Submission(IDS, COLUMNS, changed(0, [-0.5, 0.5, 1])), "1 values outside [0, 1]: T_0, '쏘나타_2012': -0.5"),
        (Submission(IDS, COLUMNS, changed(0, [0, 1.5, 0])), "1 values outside [0, 1]: T_0, 'X5': 1.5; allowed: 0 to 1"),
        (Submission(IDS, COLUMNS, changed(1, [0, 0, 0])), "1 rows hold only zeros: T_1"),
        (
            Submission(IDS, COLUMNS, changed(1, [0.5, 0.5, 2e-6])),
            "1 rows do not sum to 1: T_1: 1.000002; allowed: 1 within 1e-06",
        ),
    ],
)
def test_every_violation_is_named_and_nothing_is_written(tmp_path: Path, found: Submission, message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        room.check_submission(found, FORM)
    assert message in str(caught.value)
    with pytest.raises(ArtifactError, match="was not written"):
        room.write_submission(found, tmp_path / "out.csv", FORM)
    assert list(tmp_path.iterdir()) == []


def test_all_violations_are_listed_at_once_with_five_offenders_and_the_count() -> None:
    probs = np.zeros((20, 3))
    probs[:12] = math.nan
    with pytest.raises(ArtifactError) as caught:
        room.check_submission(Submission(tuple(f"T_{row}" for row in range(20)), COLUMNS, probs), FORM)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the submission does not fit sample.csv (3 problems); build it with build_submission:"
    assert [line.strip().split(":")[0] for line in lines[1:]] == [
        "17 ids unknown",
        "36 values not finite",
        "8 rows hold only zeros",
    ]
    assert "(17 in all)" in lines[1]
    assert lines[2].count("nan") == 5


def test_sums_within_the_tolerance_pass() -> None:
    room.check_submission(Submission(IDS, COLUMNS, PROBS * (1 - 9e-7)), FORM)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.02, 1.0]),
    st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=4),
)
def test_written_values_read_back_and_writing_again_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, spread: float, odd: list[str]
) -> None:
    names = [f"c{place}{name}" for place, name in enumerate([*odd, '","', "가\n나", "plain"])]
    probs = np.random.default_rng(seed).dirichlet(np.full(len(names), spread), size=5)
    first, second = (tmp_path_factory.mktemp("out") / name for name in ("a.csv", "b.csv"))
    before = Submission(("v", "w,1", "엑스", '"y', "z "), tuple(names), probs)
    room.write_submission(before, first)
    after = room.read_submission(first)
    assert (after.ids, after.columns) == (before.ids, before.columns)
    np.testing.assert_allclose(after.probs, probs, rtol=5e-9)
    room.check_submission(after, SampleForm(before.ids, before.columns, first))
    room.write_submission(after, second)
    assert first.read_bytes() == second.read_bytes()


def test_the_bytes_are_those_of_the_sample(tmp_path: Path) -> None:
    probs = np.array([[0.0, -0.0, 1.0], [1e-15, 0.5, 0.5], [0.1, 0.2, 0.7]])
    room.write_submission(Submission(IDS, COLUMNS, probs), tmp_path / "out.csv")
    text = "\ufeffID,쏘나타_2012,X5,Audi_TT\r\nT_0,0,0,1\r\nT_1,1e-15,0.5,0.5\r\nT_2,0.1,0.2,0.7\r\n"
    assert (tmp_path / "out.csv").read_bytes() == text.encode()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, submission: Submission) -> None:
        path.write_bytes(b"half of")
        raise OSError(28, "No space left on device")

    target = tmp_path / "out.csv"
    target.write_text("old")
    with pytest.raises(ArtifactError, match="was not written"):
        room.write_submission(Submission(IDS, COLUMNS, PROBS * 2), target)
    monkeypatch.setattr(room, "_write_rows", fail)
    with pytest.raises(ArtifactError, match=r"cannot be written: no room left"):
        room.write_submission(Submission(IDS, COLUMNS, PROBS), target)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("T_0,0.5,abc,\n", r"line 2 \(T_0\), column 'X5': 'abc', line 2 \(T_0\), column 'Audi_TT': ''; allowed: numbers"),
        ("T_0,1,0,0\nT_1,1_0,0,１\n", r"line 3 \(T_1\), column '쏘나타_2012': '1_0', line 3 \(T_1\), column 'Audi_TT': '１'"),
        ("T_0,1,0\n", r"line 2 \(T_0\) has 3 cells; allowed: 4"),
        ("T_0,1,0,0,0\n", r"line 2 \(T_0\) has 5 cells"),
        ("T_0,1,0,0\nT_0,1,0,0\n", r"ID empty or repeated: 'T_0' \(line 3\)"),
        ("", "no rows below its header"),
    ],
)
def test_a_submission_that_is_no_table_of_numbers_is_refused_with_the_cell(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        room.read_submission(written(tmp_path, f"ID,쏘나타_2012,X5,Audi_TT\n{body}"))


def test_quoted_cells_and_plain_line_ends_are_read(tmp_path: Path) -> None:
    table = room.read_submission(written(tmp_path, 'ID,"X5","a,b"\n"T_0","0.25"," 0.75"\n'))
    assert (table.ids, table.columns, table.probs.tolist()) == (("T_0",), ("X5", "a,b"), [[0.25, 0.75]])


def test_merged_mass_goes_whole_to_the_first_member() -> None:
    widened = room.write_equivalent_mass([[0.7, 0.3], [0.0, 1.0]], [[2, 0], [1]], 3)
    assert widened.tolist() == [[0.0, 0.3, 0.7], [0.0, 1.0, 0.0]]
    for members in ([[0], [1]], [[0, 1], [1, 2]], [[0, 1, 2], []]):
        with pytest.raises(ValueError, match="each column 0 to 2 exactly once"):
            room.write_equivalent_mass([[0.7, 0.3]], members, 3)
    with pytest.raises(ValueError, match=r"shape \(1, 2\); allowed: \(rows, 1 trained"):
        room.write_equivalent_mass([[0.7, 0.3]], [[0, 1, 2]], 3)


MEMBERS, FREQUENCY = [[4, 1], [0], [2, 3, 5], [7, 6]], [9, 3, 6, 1, 1, 3, 0, 0]


@given(st.integers(0, 2**32 - 1), st.sampled_from(room.EQUIVALENT_POLICIES))
def test_every_policy_keeps_the_mass_of_every_class(seed: int, policy: room.EquivalentPolicy) -> None:
    """Rows sum to 1, and the members of a trained class hold together what the class had."""
    probs = np.random.default_rng(seed).dirichlet(np.full(4, 0.3), size=6)
    widened = room.write_equivalent_mass(probs, MEMBERS, 8, policy=policy, frequency_C=FREQUENCY)
    np.testing.assert_allclose(widened.sum(axis=1), 1.0, rtol=1e-12)
    joined = np.stack([widened[:, members].sum(axis=1) for members in MEMBERS], axis=1)
    np.testing.assert_allclose(joined, probs, rtol=1e-12)


def test_each_policy_deals_by_its_rule() -> None:
    """First member, evenly, as often as the name occurs; evenly where none of the names occurs."""
    probs = [[0.1, 0.2, 0.3, 0.4]]
    shares = {
        "whole": [0.2, 0, 0.3, 0, 0.1, 0, 0, 0.4],
        "split": [0.2, 0.05, 0.1, 0.1, 0.05, 0.1, 0.2, 0.2],
        "frequency": [0.2, 0.075, 0.18, 0.03, 0.025, 0.09, 0.2, 0.2],
    }
    for policy, expected in shares.items():
        widened = room.write_equivalent_mass(probs, MEMBERS, 8, policy=policy, frequency_C=FREQUENCY)  # type: ignore[arg-type]
        np.testing.assert_allclose(widened, [expected], rtol=1e-12)
    np.testing.assert_array_equal(
        room.write_equivalent_mass(probs, MEMBERS, 8), room.write_equivalent_mass(probs, MEMBERS, 8, policy="whole")
    )


def test_a_wrong_policy_or_frequency_is_refused() -> None:
    probs = [[0.1, 0.2, 0.3, 0.4]]
    with pytest.raises(ValueError, match="policy is 'half'; allowed: whole, split, frequency"):
        room.write_equivalent_mass(probs, MEMBERS, 8, policy="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frequency_C is None; allowed: a count for each contest column"):
        room.write_equivalent_mass(probs, MEMBERS, 8, policy="frequency")
    for frequency in ([1.0] * 7, [-1.0] * 8, [math.nan] * 8):
        with pytest.raises(ValueError, match=r"frequency_C has shape .*; allowed: \(8,\) of finite numbers of 0 or more"):
            room.write_equivalent_mass(probs, MEMBERS, 8, policy="frequency", frequency_C=frequency)


@pytest.mark.realdata
@pytest.mark.skipif(not CARS.is_dir(), reason="needs ../shared/data/cars196")
def test_the_real_sample_and_test_table_belong_together(tmp_path: Path) -> None:
    form, table = room.read_sample(CARS / "sample_submission.csv"), read_test_table(CARS / "test.csv")
    assert table.ids == form.ids
    assert all((CARS / path).is_file() for path in table.img_paths)
    probs = np.zeros((len(form.ids), len(form.columns)))
    probs[:, 0] = 1.0
    room.write_submission(room.build_submission(form, form.ids, form.columns, probs), tmp_path / "out.csv", form)
    ours, theirs = (
        (path / name).read_bytes().splitlines() for path, name in ((tmp_path, "out.csv"), (CARS, "sample_submission.csv"))
    )
    assert ours[0] == theirs[0]
    assert ours[-1] == theirs[-1].replace(b",0", b",1", 1)
