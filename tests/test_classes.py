"""Laws of the class list: one order on every machine, and equivalent names are one class or a clear refusal."""

import itertools
import json
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectocar.codec import decode, encode
from hectocar.dataset.classes import ClassList, build_class_list, read_equivalent_pairs
from hectocar.dataset.manifest import find_equivalent_pairs
from hectocar.errors import ArtifactError, DataError
from hectocar.tables import nearest_names, normalize_name

NAMES = ("쏘나타_2020", "K5_2018", "아반떼_N", "A6_C8", "a4_b9", "더_뉴_K9", "911_992")
ANY_NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
GOOD = {"names": ["a", "b", "c"], "members": [["a", "c"], ["b"]]}


def nfd(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def test_order_is_by_code_point() -> None:
    """Digits, capitals, small letters, Hangul: no locale and no listing of a disk has a say in the order of columns."""
    expected = ("911_992", "A6_C8", "K5_2018", "a4_b9", "더_뉴_K9", "쏘나타_2020", "아반떼_N")
    for order in itertools.islice(itertools.permutations(NAMES), 0, None, 401):
        assert build_class_list(order).names == expected
    assert build_class_list(NAMES).members == tuple((name,) for name in expected)
    assert build_class_list(NAMES).trained_index()["K5_2018"] == 2


@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), unique_by=normalize_name, min_size=1, max_size=9
    )
)
@settings(max_examples=60, deadline=None)
def test_any_names_make_the_same_list_in_any_order_and_form(names: list[str]) -> None:
    """NFC and NFD, forwards and backwards, a list of names is one class list."""
    classes = build_class_list(names)
    assert build_class_list([nfd(name) for name in reversed(names)]) == classes
    assert list(classes.names) == sorted(normalize_name(name) for name in names)
    assert decode(ClassList, json.loads(json.dumps(encode(classes))), "model.json") == classes


def test_names_that_differ_in_form_only_are_refused() -> None:
    """Two folders that a person cannot tell apart are named, not merged."""
    with pytest.raises(DataError, match=r"differ only in Unicode form: 쏘나타_2020; rename one"):
        build_class_list([*NAMES, nfd("쏘나타_2020")])


def test_equivalents_join_transitively_and_in_any_order() -> None:
    """a = b and c = b make one class of three names, whatever the order and the form of the pairs."""
    pairs = [("K5_2018", "911_992"), ("쏘나타_2020", "K5_2018"), ("쏘나타_2020", "911_992"), ("A6_C8", "a4_b9")]
    expected = (("911_992", "K5_2018", "쏘나타_2020"), ("A6_C8", "a4_b9"), ("더_뉴_K9",), ("아반떼_N",))
    for order in itertools.permutations(pairs):
        classes = build_class_list(NAMES, [(nfd(second), first) for first, second in order])
        assert classes.members == expected
    index = classes.trained_index()
    assert index["911_992"] == index["K5_2018"] == index["쏘나타_2020"] == 0
    assert classes.num_trained == 4
    assert classes.label(1) == "A6_C8 = a4_b9"
    columns = classes.member_columns()
    assert [[classes.names[place] for place in group] for group in columns] == [list(group) for group in expected]


def test_half_a_pair_is_refused_with_the_nearest_name() -> None:
    """A pair with one known name is a slip of the pen and names its neighbour; a pair of strangers belongs to other data."""
    with pytest.raises(DataError, match=r"1 names whose partner is a class .*'쏘나타_2021' \(nearest: '쏘나타_2020'\)"):
        build_class_list(NAMES, [("K5_2018", "쏘나타_2021")])
    assert build_class_list(NAMES, [("Panda", "Punto")]) == build_class_list(NAMES)


def test_nearest_names() -> None:
    """A hint is a name that exists, or the plain word that there is none."""
    assert nearest_names("K5_2019", NAMES).split(", ")[0] == "K5_2018"
    assert nearest_names("????", NAMES) == "none is similar"


def test_json_round_trip() -> None:
    """What an artefact stores is the whole list: names, order and equivalents."""
    classes = build_class_list(NAMES, [("A6_C8", "a4_b9")])
    assert decode(ClassList, json.loads(json.dumps(encode(classes), ensure_ascii=True)), "model.json") == classes


@pytest.mark.parametrize(
    "damage",
    [
        {"names": ["b", "a", "c"]},
        {"names": ["a", "b", "b"]},
        {"names": ["a", "b"]},
        {"names": []},
        {"names": [], "members": []},
        {"names": None},
        {"members": [["a", "c"]]},
        {"members": [["a", "c"], ["b"], ["b"]]},
        {"members": [["a", "c"], ["d"]]},
        {"members": [1, 2]},
        {"members": [["a", "c"], [], ["b"]]},
    ],
)
def test_damaged_json_is_refused(damage: dict[str, Any]) -> None:
    """A list that is unsorted, repeated, incomplete or of another type would shift the columns: it is an error."""
    assert decode(ClassList, GOOD, "model.json").num_trained == 2
    with pytest.raises(ArtifactError, match=r"model\.json: "):
        decode(ClassList, GOOD | damage, "model.json")


@pytest.mark.parametrize("data", [None, [], "names", {"names": ["a"]}, 3])
def test_other_json_is_refused(data: Any) -> None:
    """Whatever JSON stands there, the answer is an ArtifactError and not a traceback."""
    with pytest.raises(ArtifactError, match=r"expected a mapping with names, members|members is missing"):
        decode(ClassList, data, "model.json")


def test_pairs_are_read_from_a_csv(tmp_path: Path) -> None:
    """A csv as Excel saves it (a byte order mark, CRLF) gives its pairs; one with a header only gives none."""
    path = tmp_path / "equivalent_classes.csv"
    path.write_bytes("class_a,class_b\r\nK5_2018,쏘나타_2020\r\n".encode("utf-8-sig"))
    assert read_equivalent_pairs(path) == find_equivalent_pairs(tmp_path, ()) == [("K5_2018", "쏘나타_2020")]
    path.write_text("class_a,class_b\n")
    assert find_equivalent_pairs(tmp_path, ()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"class_a,class_b\nx,y\nx\n", "not 2 cells in line 3"),
        (b"class_a,class_b\nx,\n", "empty cell in line 2, column class_b"),
        (b"a,b\nx,y\n", "column class_a, class_b is not there once"),
        ("class_a,class_b\n쏘,".encode() + nfd("쏘").encode(), "paired with itself in line 2: '쏘'"),
        (b"class_a,class_b\n\xff\xfe,y\n", "line 2: not UTF-8 text"),
    ],
)
def test_a_wrong_csv_of_pairs_names_its_line(tmp_path: Path, text: bytes, message: str) -> None:
    """Each mistake is reported with the file and the line in which a person can mend it."""
    path = tmp_path / "pairs.csv"
    path.write_bytes(text)
    with pytest.raises(DataError) as caught:
        read_equivalent_pairs(path)
    assert str(caught.value).startswith(f"equivalent classes {path}")
    assert message in str(caught.value)


def test_the_contest_pairs_are_the_published_ones(tmp_path: Path) -> None:
    """Without a csv beside the data the five pairs of the contest hold, and all their names are contest classes."""
    names = (resources.files("hectocar.contest") / "class_names.txt").read_text("utf-8").splitlines()
    classes = build_class_list(names, find_equivalent_pairs(tmp_path, names))
    assert (len(classes.names), classes.num_trained) == (396, 391)
    assert list(classes.names) == sorted(names)
    assert classes.label(classes.trained_index()["RAV4_2016_2018"]) == "RAV4_2016_2018 = 라브4_4세대_2013_2018"
