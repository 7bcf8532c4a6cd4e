"""Laws of the codec: what is written is what is read, nothing is bent, and every mistake is named at once by its key."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectocar.codec import MAX_TEXT, decode, encode, read_sealed, write_sealed
from hectocar.disk.artifacts import read_json
from hectocar.errors import ArtifactError, ConfigError, DataError


@dataclass(frozen=True)
class Wheel:
    size_px: int
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.size_px <= 64:
            raise ValueError(f"size_px is {self.size_px}; allowed: 1 to 64")


@dataclass(frozen=True)
class Car:
    name: str
    kind: Literal["sedan", "suv"]
    wheels: tuple[Wheel, ...]
    box: tuple[int, float]
    spare: Wheel | None
    notes: dict[str, float]
    tags: list[str]
    sold: bool
    count: int | float


GOOD: dict[str, Any] = {
    "name": "쏘나타",
    "kind": "suv",
    "wheels": [{"size_px": 3, "share": 0.5}, {"size_px": 4, "share": 2}],
    "box": [1, 2],
    "spare": None,
    "notes": {"a.b": 0.1},
    "tags": [],
    "sold": False,
    "count": 7,
}
WHEELS = st.builds(Wheel, st.integers(1, 64), st.floats(allow_nan=False, allow_infinity=False))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
CARS = st.builds(
    Car,
    name=TEXTS,
    kind=st.sampled_from(["sedan", "suv"]),
    wheels=st.lists(WHEELS, max_size=3).map(tuple),
    box=st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(-1e300, 1e300)),
    spare=st.none() | WHEELS,
    notes=st.dictionaries(TEXTS, st.floats(-1e300, 1e300), max_size=3),
    tags=st.lists(TEXTS, max_size=3),
    sold=st.booleans(),
    count=st.integers(-5, 5) | st.floats(-5.0, 5.0),
)


def mistakes_of(tree: Any) -> str:
    with pytest.raises(ArtifactError) as caught:
        decode(Car, tree, "car.json")
    return str(caught.value)


@given(car=CARS)
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_what_is_read(car: Car) -> None:
    """Through JSON and back every value is equal and of the same type, to the last bit of a float."""
    again = decode(Car, json.loads(json.dumps(encode(car), allow_nan=False)), "car.json")
    assert again == car
    assert repr(again) == repr(car)


def test_a_whole_number_is_taken_for_a_float_and_nothing_else_is_bent() -> None:
    """2 becomes 2.0 where a float is asked for; where both are allowed it stays what it is."""
    car = decode(Car, GOOD, "car.json")
    assert (car.box, car.wheels[1].share, car.count) == ((1, 2.0), 2.0, 7)
    assert [type(value) for value in (*car.box, car.wheels[1].share, car.count)] == [int, float, float, int]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": None}, "name is None; expected a text"),
        ({"name": "x" * (MAX_TEXT + 1)}, f"expected a text of at most {MAX_TEXT} characters"),
        ({"name": "\ud800"}, "expected a text that UTF-8 can write"),
        ({"kind": "suf"}, "kind is 'suf'; allowed: 'sedan', 'suv'; nearest: suv"),
        ({"kind": []}, "kind is []; allowed: 'sedan', 'suv'"),
        ({"wheels": {}}, "wheels is {}; expected a list"),
        ({"wheels": [3]}, "wheels.0 is 3; expected a mapping with size_px, share"),
        ({"wheels": [{"size_px": 99, "share": 1.0}]}, "wheels.0: size_px is 99; allowed: 1 to 64"),
        ({"wheels": [{"size_px": 9}]}, "wheels.0.share is missing"),
        ({"wheels": [{"size": 9, "share": 1.0}]}, "unknown key wheels.0.size; nearest: wheels.0.size_px"),
        ({"box": [1]}, "box has 1 values; expected 2"),
        ({"box": [1.0, 2.0]}, "box.0 is 1.0; expected a whole number"),
        ({"box": [True, 2.0]}, "box.0 is True; expected a whole number"),
        ({"box": [2**63, 2.0]}, "expected a whole number of at most 64 bits"),
        ({"box": [1, math.nan]}, "box.1 is nan; expected a finite number"),
        ({"box": [1, -math.inf]}, "box.1 is -inf; expected a finite number"),
        ({"box": [1, 10**400]}, "box.1 is inf; expected a finite number"),
        ({"box": [10**5000, 1]}, "box.0 is a number of 16610 bits; expected a whole number of at most 64 bits"),
        ({"spare": False}, "spare is False; expected a mapping with size_px, share"),
        ({"notes": {"a": "b"}}, "notes.a is 'b'; expected a number"),
        ({"notes": []}, "notes is []; expected a mapping"),
        ({"tags": [None]}, "tags.0 is None; expected a text"),
        ({"sold": 0}, "sold is 0; expected true or false"),
        ({"count": None}, "count is None; expected a whole number"),
        ({"nmae": 1}, "unknown key nmae; nearest: name"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(changes: dict[str, Any], expected: str) -> None:
    """The message has the file, the dotted path, what stands there, what is allowed, what to do."""
    message = mistakes_of(GOOD | changes)
    assert message.startswith("car.json: ")
    assert expected in message
    assert "; make it again" in message
    assert len(message) < 400


def test_all_mistakes_come_at_once() -> None:
    """Types, ranges, missing and unknown keys of all depths stand in one message, each on its line."""
    tree = GOOD | {"wheels": [{"size_px": 0, "share": "x"}, {"size_px": 65, "share": 1.0}], "sold": 1, "more": 1}
    del tree["name"]
    first, *lines = mistakes_of(tree).splitlines()
    assert first == "car.json: 6 mistakes; make it again:"
    assert sorted(line.strip() for line in lines) == [
        "name is missing",
        "sold is 1; expected true or false",
        "unknown key more; nearest: name",
        "wheels.0.share is 'x'; expected a number",
        "wheels.0: size_px is 0; allowed: 1 to 64",
        "wheels.1: size_px is 65; allowed: 1 to 64",
    ]


@pytest.mark.parametrize("tree", [None, [], "car", 3, {}, {str(k): k for k in range(1000)}, {"wheels": ["x"] * 1_000_000}])
def test_a_foreign_tree_makes_a_short_message(tree: Any) -> None:
    """Whatever stands there, the answer fits a screen and comes at once."""
    message = mistakes_of(tree)
    assert len(message.splitlines()) <= 22
    assert len(message) < 4000


def test_the_kind_of_error_is_the_callers() -> None:
    """A configuration's mistake is a ConfigError, a table's a DataError."""
    for error in (ConfigError, DataError):
        with pytest.raises(error, match="size_px is missing"):
            decode(Wheel, {"share": 1.0}, "wheel", error)


def change_leaf(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**tree, key: value}


@pytest.mark.parametrize("value", [None, -1, "x", [], {}, True, 4, 0.5])
@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Wheel)])
def test_a_sealed_file_is_what_was_written_or_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    """A value of the right type and range in a file that was changed by hand is found out, too."""
    path = tmp_path / "wheel.json"
    write_sealed(path, Wheel(3, 1.5))
    assert read_sealed(Wheel, path, "make it again") == Wheel(3, 1.5)
    path.write_text(json.dumps(change_leaf(json.loads(path.read_text()), key, value)))
    with pytest.raises(ArtifactError, match=rf"wheel\.json: ({key}|its content was changed)"):
        read_sealed(Wheel, path, "make it again")


def test_a_seal_that_is_missing_or_wrong_is_refused(tmp_path: Path) -> None:
    """Without its digest a file is not believed."""
    path = tmp_path / "wheel.json"
    for seal in ({}, {"sha256": None}, {"sha256": "0" * 64}):
        path.write_text(json.dumps({"size_px": 3, "share": 1.5, **seal}))
        with pytest.raises(ArtifactError, match="its content was changed after it was written"):
            read_sealed(Wheel, path, "make it again")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "1" * 5000, "NaN", '"\\ud800"']
)
def test_json_that_explodes_is_refused(content: str, tmp_path: Path) -> None:
    """Nested a hundred thousand deep, or a number of 5,000 digits: one message that names the file."""
    path = tmp_path / "wheel.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"wheel\.json: "):
        read_sealed(Wheel, path, "make it again")


def test_a_giant_json_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Half a gigabyte of JSON is no artefact: the size is looked at first."""
    path = tmp_path / "wheel.json"
    with path.open("wb") as file:
        file.truncate(500 * 2**20)
    with pytest.raises(ArtifactError, match=r"wheel\.json: cannot be read as JSON \(.* larger than"):
        read_json(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactError, match=r"cannot be read as JSON \(it is no file"):
        read_json(path)
