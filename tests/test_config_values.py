"""Laws of the values: none is bent into another type, and each refusal has the dotted path and what is expected."""

from pathlib import Path
from typing import Any

import pytest

from hectocar.config.reader import describe_config, read_config
from hectocar.config.schema import MarginPhase, MixPhase, SizePhase
from hectocar.errors import ConfigError
from mistakes import mistakes


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("training.epochs=true", "training.epochs is True; expected a whole number"),
        ("training.epochs=3.0", "training.epochs is 3.0; expected a whole number"),
        ("training.epochs='3'", "training.epochs is '3'; expected a whole number"),
        ("training.epochs=", "training.epochs is None; expected a whole number"),
        ("training.epochs=0", "training.epochs is 0; allowed: 1 to 10000"),
        ("network.scale=false", "network.scale is False; expected a number"),
        ("network.scale=.nan", "network.scale is nan; expected a finite number"),
        ("network.scale=.inf", "network.scale is inf; expected a finite number"),
        ("network.scale=1e999", "network.scale is inf; expected a finite number"),
        ("network.backbone=3", "network.backbone is 3; expected a text"),
        ("network.compile=1", "network.compile is 1; expected true or false"),
        ("network.pool_stages=true", "network.pool_stages is True; allowed: 1, 2"),
        ("network.pool=[gem]", "network.pool is ['gem']; allowed: 'gem', 'avg'"),
        ("augment.crop_scale=0.6", "augment.crop_scale is 0.6; expected a list"),
        ("augment.crop_scale=[0.6]", "augment.crop_scale has 1 values; expected 2"),
        ("augment.crop_scale=[0.6, .nan]", "augment.crop_scale.1 is nan; expected a finite number"),
        ("augment.crop_scale=[0.9, 0.6]", "augment.crop_scale is (0.9, 0.6); allowed: two numbers, 0 < low <= high <= 1"),
        ("training.sizes=[]", "training.sizes is (); allowed: at least one phase"),
        ("training.sizes=[3]", "training.sizes.0 is 3; expected a mapping with epochs, size_px, batch_size, learning_rate"),
        ("training=3", "training is 3; expected a mapping with epochs, seed"),
        ("data.exclude=[1]", "data.exclude.0 is 1; expected a text"),
    ],
)
def test_a_wrong_value_says_what_is_expected(setting: str, expected: str) -> None:
    """No value is bent into another type: true is no number, 3.0 is no whole number, and nothing infinite gets in."""
    lines = mistakes(setting)
    assert len(lines) == 2
    assert lines[1].startswith(expected)


def test_a_giant_whole_number_is_refused() -> None:
    """A number that no float can hold is a wrong value and not a traceback."""
    assert len(mistakes(f"network.scale=1{'0' * 400}")) == 2


def test_impossible_combinations_have_a_path_that_can_be_set() -> None:
    """A softmax head has no margin; the message names the key under which the margin can be changed."""
    assert mistakes("network.head=softmax")[1].startswith("training.margins is [0.1]; allowed: margin_rad 0 in every phase")


@pytest.mark.parametrize(
    "settings",
    [
        ("training.epochs=x", "training.clip_norm=-1"),
        ("training.epoch=3", "training.clip_norm=-1"),
        ("training.sizes=[{epochs: 1, size_px: 1, batch_size: 8, learning_rate: 1}]", "training.clip_norm=-1"),
    ],
)
def test_a_wrong_type_does_not_hide_a_wrong_range(settings: tuple[str, ...]) -> None:
    """Mistakes of different sorts in one section are reported together too."""
    lines = mistakes(*settings)
    assert any(line.startswith("training.clip_norm is -1.0; allowed: ") for line in lines)
    assert len(lines) == 3


@pytest.mark.parametrize("text", ["4e-5", "4E-5", "4.e-5", "4.0e-5", "0.00004", "+4e-05", "40e-6"])
def test_numbers_in_scientific_form(text: str) -> None:
    """`4e-5` is the number that everyone means, though YAML 1.1 calls it a text; a text that looks so in quotes stays one."""
    assert read_config(settings=[f"training.weight_decay={text}"]).training.weight_decay == 4e-5
    assert "expected a number" in mistakes(f"training.weight_decay='{text}'")[1]


@pytest.mark.parametrize(
    ("phase", "values"),
    [
        (SizePhase, {"epochs": 1, "size_px": 16, "batch_size": 8, "learning_rate": 1e-4}),
        (SizePhase, {"epochs": 1, "size_px": 64, "batch_size": 8, "learning_rate": 0.0}),
        (MarginPhase, {"epochs": 0, "margin_rad": 0.1}),
        (MarginPhase, {"epochs": 1, "margin_rad": 1.6}),
        (MixPhase, {"epochs": 1, "kind": "mixup", "alpha": 0.0}),
        (MixPhase, {"epochs": 1, "kind": "mixup", "prob": 1.1}),
    ],
)
def test_a_section_checks_itself(phase: type, values: dict[str, Any]) -> None:
    """Made from Python, without YAML, a section refuses the same values."""
    with pytest.raises(ConfigError, match="; allowed: "):
        phase(**values)


def test_a_key_that_stands_twice_is_named(tmp_path: Path) -> None:
    """YAML would let the last one win without a word."""
    file = tmp_path / "twice.yaml"
    file.write_text("training:\n  epochs: 3\n  epochs: 4\n")
    with pytest.raises(ConfigError, match="the key 'epochs' stands twice"):
        read_config(file=file)


def test_the_fields_of_phases_are_described_too() -> None:
    """`hectocar config` lists what stands inside a list of phases, under the path that --set takes."""
    rows = {path: doc for path, _, doc in describe_config()}
    assert "Photographs per optimiser step" in rows["training.sizes.0.batch_size"]
