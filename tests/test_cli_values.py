"""One rule for numbers on the command line: the digits 0 to 9, finite, within a range; every other text is one message."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from hectocar.cli import main
from hectocar.cli.parser import build_parser
from hectocar.cli.values import fold_choice, path, plain_text, real_number, whole_number
from hectocar.errors import DataError
from hectocar.showroom import ShowroomSpec

NO_NUMBERS = (
    "²",
    "٣",
    "１",
    "1_000",
    " 1",
    "1 ",
    "+1",
    "0x1",
    "1.0",
    "1e1",
    "",
    "x",
    "--",
    "9" * 5000,
    "-" * 50,
    "\x1b[2J",
    "007",
    "½",
)
NO_REALS = (
    "inf",
    "-inf",
    "nan",
    "NaN",
    "1e400",
    "1_0",
    "٣.0",
    "0x1p3",
    "",
    "1,5",
    " 1",
    "infinity",
    "9" * 400,
    "-1",
    "0",
    "0.0",
)


def options() -> Iterator[tuple[str, argparse.Action]]:
    """Every option of every command that takes a converted value, with the command's name."""
    commands = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        yield from ((name, action) for action in parser._actions if action.nargs != 0)


NUMERIC = [(name, action) for name, action in options() if isinstance(action.default, (int, float)) or action.metavar == "N"]
COMMON = {
    "audit": ["DATA", "--out", "o"], "train": ["DATA", "--out", "o"], "predict": ["MODEL", "PHOTO"],
    "score": ["a.csv", "b.csv"], "preview": ["DATA"], "showroom": ["o"], "ablate": ["recipe", "DATA", "--out", "o"], "plan": [],
    "bench": [],
}  # fmt: skip


def test_every_number_has_a_range_of_its_own() -> None:
    """No option is left to int() or float(): each number goes through the one rule, and no text reaches Path() unread."""
    assert {action.option_strings[0] for _, action in NUMERIC} == {
        "--max-megapixels", "--workers", "--fold", "--views", "--folds", "--top", "--photos", "--seed", "--classes",
        "--train-per-class", "--test-per-class", "--faults", "--jobs", "--steps",
        "--size", "--num-photos", "--batch", "--rounds", "--seconds", "--relabel",
    }  # fmt: skip
    assert [(name, action.dest) for name, action in options() if action.type in (int, float, str, argparse.FileType)] == []
    with_paths = [action for _, action in options() if "DIR" in str(action.metavar) or "CSV" in str(action.metavar)]
    assert all(action.type is path for action in with_paths)


@pytest.mark.parametrize(("command", "action"), NUMERIC, ids=[f"{name} {action.option_strings[0]}" for name, action in NUMERIC])
def test_what_is_no_number_in_range_is_one_message(
    command: str, action: argparse.Action, capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the option, what it got and what is allowed; nothing is written, nothing is looked at."""
    monkeypatch.chdir(tmp_path)
    option = action.option_strings[0]
    wrong = ("²", "٣", "1_0", "nan", "inf", "1e400", "", "x", "-1", "9" * 30, "9" * 5000)
    for text in wrong:
        assert main([command, *COMMON[command], f"{option}={text}"]) == 2, text
        said = capsys.readouterr().err
        assert said.startswith(f"hectocar: {option} is ")
        assert "; allowed: " in said
        assert said.count("\n") == 1
        assert len(said) < 300
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_whole_number(text: str) -> None:
    """int() would take many of them."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"^is .*; allowed: a whole number, 0 or more$"):
        whole_number(0)(text)


@pytest.mark.parametrize("text", NO_REALS)
def test_what_is_no_number(text: str) -> None:
    """float() would take many of them."""
    with pytest.raises(argparse.ArgumentTypeError, match="; allowed: a number of more than 0, up to 1000"):
        real_number(0.0, 1000.0)(text)


@given(st.integers(-(2**70), 2**70))
@settings(max_examples=200, deadline=None)
def test_every_whole_number_is_itself_or_refused(number: int) -> None:
    """A number in range is that number; one out of range is refused, however large."""
    convert = whole_number(-5, 10**6)
    if -5 <= number <= 10**6:
        assert convert(str(number)) == number
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="allowed: -5 to 1000000"):
            convert(str(number))


@given(st.floats(min_value=1e-6, max_value=1000.0))
def test_every_number_in_range_is_itself(number: float) -> None:
    """What Python writes is read again, digit for digit."""
    assert real_number(0.0, 1000.0)(repr(number)) == number


@given(st.text(max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_value_or_a_message(text: str) -> None:
    """No text at all makes a type raise anything but its message."""
    kinds: tuple[Callable[[str], object], ...] = (whole_number(0, 9), real_number(0.0, 9.0), fold_choice, plain_text, path)
    for convert in kinds:
        with contextlib.suppress(argparse.ArgumentTypeError):
            convert(text)


def test_folds_are_numbers_or_all() -> None:
    """`all` is the only word."""
    assert (fold_choice("all"), fold_choice("0"), fold_choice("12")) == (None, 0, 12)
    with pytest.raises(argparse.ArgumentTypeError, match="is 'ALL'; allowed: a whole number, 0 or more, or all"):
        fold_choice("ALL")


def test_the_showroom_takes_what_the_command_line_takes() -> None:
    """The ranges of the options are those of the renderer, so that a message names the option and not a field."""
    fields = {"classes": "num_classes", "train_per_class": "train_per_class", "test_per_class": "test_per_class",
              "faults": "num_faults", "seed": "seed"}  # fmt: skip
    for name, action in NUMERIC:
        if name != "showroom":
            continue
        assert callable(action.type)
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            action.type("-1")
        low, high = (int(text) for text in str(caught.value).rpartition("allowed: ")[2].split(" to "))
        for value in (low, high):
            ShowroomSpec(**{fields[action.dest]: value})
        for value in (low - 1, high + 1):
            with pytest.raises(DataError):
                ShowroomSpec(**{fields[action.dest]: value})


@pytest.mark.parametrize(
    "device", ["meta", "gpu", "cuda:²", "cuda:-1", "cuda:99999999999", "cpu:0", "", "CPU", "vulkan", "fpga", "lazy"]
)
def test_a_device_that_cannot_compute_is_refused(device: str, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """meta holds no numbers: a training on it would end in nothing. It is refused before a folder is made."""
    (tmp_path / "train").mkdir()
    assert main(["train", str(tmp_path), "--preset", "demo", "--out", str(tmp_path / "run"), "--device", device]) == 2
    assert "--device is " in (said := capsys.readouterr().err)
    assert "allowed: auto, cpu, cuda" in said
    assert not (tmp_path / "run").exists()
