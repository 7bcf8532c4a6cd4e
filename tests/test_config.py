"""Laws of the configuration: every mistake at once with its dotted path, and layers in a fixed order."""

import dataclasses
import json
from pathlib import Path

import pytest

from hectocar.config.reader import config_from_tree, config_to_tree, describe_config, list_presets, read_config
from hectocar.config.schema import Config
from mistakes import mistakes


def write_yaml(folder: Path, text: str) -> Path:
    path = folder / "설정.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """A person mends a file once: unknown keys, types and ranges of all sections come together, each with its dotted path."""
    text = """
    trainin: {epochs: 3}
    data: {num_fold: 5}
    network: {head: arcfase, scale: big}
    augment: {hue: 0.7, shift: -1}
    training:
      sizes:
        - {epochs: 1, size_px: 224, batch_size: 1, learning_rate: 1e-4}
        - {epochs: 1, size_px: 320, batchsize: 8, learning_rate: 1e-4}
    inference: {mirror: 1}
    """
    first, *lines = mistakes(file=write_yaml(tmp_path, text))
    assert first == "the configuration has mistakes:"
    assert sorted(lines) == sorted(
        [
            "unknown key trainin; nearest: training",
            "unknown key data.num_fold; nearest: data.num_folds",
            "network.head is 'arcfase'; allowed: 'arcface', 'softmax'; nearest: arcface",
            "network.scale is 'big'; expected a number",
            "augment.hue is 0.7; allowed: 0 to 0.5 turns",
            "augment.shift is -1.0; allowed: 0 to 0.5 of the side",
            "training.sizes.0.batch_size is 1; allowed: 2 to 65536",
            "unknown key training.sizes.1.batchsize; nearest: training.sizes.1.batch_size",
            "training.sizes.1.batch_size is missing",
            "inference.mirror is 1; expected true or false",
        ]
    )


def test_layers_override_in_order(tmp_path: Path) -> None:
    """Defaults < preset < file < --set, key by key: a layer changes what it names and leaves the rest."""
    file = write_yaml(tmp_path, "training: {epochs: 7, seed: 1}\nnetwork: {scale: 16}\n")
    config = read_config("seed2025", file, ["training.seed=2", "training.seed=3", "data.fold_seed=9"])
    assert (config.training.epochs, config.training.seed, config.network.scale) == (7, 3, 16.0)
    assert (config.data.fold_seed, config.training.clip_norm) == (9, 1.0)
    assert config.training.sizes == read_config("seed2025").training.sizes
    assert config.inference == Config().inference
    assert read_config() == Config()
    assert read_config(None, write_yaml(tmp_path, "# nothing\n")) == Config()


def test_one_place_of_a_list_is_changed() -> None:
    """--set training.sizes.0.batch_size=8 changes one phase of the preset and keeps the others and its other values."""
    before = read_config("seed2025").training.sizes
    after = read_config("seed2025", settings=["training.sizes.0.batch_size=8", "augment.crop_scale.0=0.5"])
    assert after.training.sizes == (dataclasses.replace(before[0], batch_size=8), *before[1:])
    assert after.augment.crop_scale == (0.5, 1.0)
    assert "no such place in a list of 5; allowed: 0 to 4" in mistakes("training.sizes.5.batch_size=8", preset="seed2025")[1]


def test_a_wrong_place_is_one_mistake_among_others() -> None:
    """A place that a list does not have is reported with its whole path, together with all other mistakes."""
    lines = mistakes("training.sizes.5.batch_size=8", "data.num_folds=1", preset="seed2025")
    assert any("training.sizes.5" in line for line in lines)
    assert any(line.startswith("data.num_folds is 1") for line in lines)


def test_one_place_of_a_default_list_is_changed() -> None:
    """Defaults are a layer like the others: their lists have places too."""
    assert read_config(settings=["training.sizes.0.batch_size=8"]).training.sizes[0].batch_size == 8


@pytest.mark.parametrize("preset", [None, *list_presets()])
def test_what_is_written_is_what_was_used(preset: str | None) -> None:
    """Every preset loads, and its tree, through JSON as in a run's config.json, makes an equal configuration."""
    config = read_config(preset)
    tree = config_to_tree(config)
    assert config_from_tree(json.loads(json.dumps(tree))) == config
    assert set(tree) == {"data", "network", "augment", "training", "inference"}


def test_presets_are_found() -> None:
    """The contest recipe comes with the package; an unknown name is answered with those that exist."""
    assert {"seed2025", "laptop"} <= set(list_presets())
    assert mistakes(preset="seed2024") == [f"--preset is 'seed2024'; allowed: {', '.join(list_presets())}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n- 2\n", "a mapping of sections is expected, found list"),
        (b"just words", "a mapping of sections is expected, found str"),
        (b"training: {epochs: 3", "not valid YAML"),
        (b"training: !!python/object:os.system {}", "not valid YAML"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_an_unusable_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing file, another encoding, broken YAML or a list say so with the file's name, and no YAML runs code."""
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    (line,) = mistakes(file=path)
    assert str(path) in line
    assert message in line


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs", "expected dotted.path=value, such as training.epochs=12"),
        ("=3", "expected dotted.path=value"),
        ("training.epochs=[1", "the value is not valid YAML"),
    ],
)
def test_an_unusable_setting_is_quoted(setting: str, message: str) -> None:
    """--set shows what it got and what it expects."""
    (line,) = mistakes(setting)
    assert line.startswith(f"--set {setting!r}: ")
    assert message in line


def test_every_field_is_documented() -> None:
    """`hectocar config` explains each key with its default, and each default is itself allowed."""
    rows = describe_config()
    fields = [f"{name}.{field.name}" for name, section in Config().sections() for field in dataclasses.fields(section)]  # type: ignore[arg-type]
    assert [path for path, _, _ in rows if ".0." not in path] == fields
    assert [path for path, _, meaning in rows if len(meaning) < 10] == []
    assert ("training.epochs", "10", "Passes over the training photographs; all phases stretch or shrink to it.") in rows
