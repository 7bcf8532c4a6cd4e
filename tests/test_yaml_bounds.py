"""YAML here says what JSON could say, within bounds that hold before anything is built; options never pass through it."""

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings

from hectocar.cli import main
from hectocar.config.reader import read_config
from hectocar.config.schema import Config
from hectocar.config.yaml_text import MAX_BYTES, MAX_NODES, parse_mapping, parse_setting, read_yaml
from hectocar.errors import ConfigError
from hectocar.lab.ablation import read_plan
from hectocar.tables import normalize_name
from mistakes import mistakes

TEXTS = (
    "1:30", "190:20:30", "yes", "no", "on", "off", "Yes", "y", "010", "0o10", "0x1F", "0b1", "1_000", "2026-11-24",
    "2025-13-45", "2001-12-14t21:59:43.10-05:00", "٣", "²", "１", "1e", "e5", "tRue", "<<", "=", "1.2.3", "+", "-.", "1,5",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_what_yaml_1_1_would_bend_stays_a_text(text: str) -> None:
    """No sexagesimal number, no date, no octal or underscored number, no yes for true: a text is what stands there."""
    assert parse_mapping(f"a: {text}", "here") == {"a": text}
    assert parse_setting(f"a.b={text}") == {"a": {"b": text}}
    assert re.search("expected a whole number$", mistakes(f"training.epochs={text}")[1])
    assert re.search("expected true or false$", mistakes(f"network.compile={text}")[1])


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-3", -3), ("+3", 3), ("0", 0), ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e5", 1e5), ("true", True),
     ("FALSE", False), ("null", None), ("~", None), ("", None), ("'12'", "12"), ('"true"', "true"), ("[1, a]", [1, "a"])],
)  # fmt: skip
def test_what_a_plain_scalar_means(text: str, value: Any) -> None:
    """Numbers, true, false and null as in JSON; quotes make a text."""
    (found,) = parse_mapping(f"a: {text}", "here").values()
    assert found == value
    assert type(found) is type(value)


VISIBLE = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e300, 1e300) | VISIBLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(VISIBLE.map(normalize_name), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(VISIBLE.map(normalize_name), JSON, max_size=4))
@settings(max_examples=60, deadline=None)
def test_json_is_read_as_json(tree: dict[str, Any]) -> None:
    """Whatever JSON writes means the same here, number for number and text for text."""
    assert parse_mapping(json.dumps(tree, ensure_ascii=False), "here") == tree


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: !!int x", "tags (!name) are not read"),
        ("a: !!int 3", "tags"),
        ("a: !!python/object/apply:os.system ['true']", "tags"),
        ("a: !!binary aGk=", "tags"),
        ("a: !mine x", "tags"),
        ("a: &x 1\nb: *x", "aliases (*name) are not read"),
        ("a: &x [*x]", "aliases"),
        ("a: " + "[" * 3000, "nested more than"),
        ("a: " + "{b: " * 3000, "nested more than"),
        ("- " * 3000, "nested more than"),
        ("? " * 3000, "nested more than"),
        ("a: " + "9" * 5000, "a number of 5000 digits"),
        ("a: " + "9" * 5000 + ".0", "a number of 5002 digits"),
        ("a: [" + "1," * 60_000 + "]", f"more than {MAX_NODES} values"),
        ("\n".join(f"k{n}: 1" for n in range(20_000)), f"more than {MAX_NODES} values"),
        ("a: " + "x" * MAX_BYTES, "larger than 256 KiB"),
        ("a: {b: {c: 1, c: 2}}", "the key 'c' stands twice"),
        ("1: a\n'1': b", "the key '1' stands twice"),
        ("caf\u00e9: 1\ncafe\u0301: 2", "stands twice"),
        ("[a]: 1", "a list or mapping stands as a key"),
        ("{a: 1}: 1", "a list or mapping stands as a key"),
        ("a: \0", "unacceptable character"),
        ("a: \x1b[2J", "unacceptable character"),
        ("a: 1\n---\na: 2", "another document"),
        ("%TAG x\n---\na", "not valid YAML"),
        ("a: [1", "expected ',' or ']'"),
    ],
)  # fmt: skip
def test_what_explodes_or_runs_is_refused_before_it_is_built(text: str, problem: str) -> None:
    """Size, depth, number of values, digits, tags and aliases: each is one short message within a second or so."""
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse_mapping(text, "here")
    assert problem in str(caught.value)
    assert str(caught.value).startswith("here: ")
    assert len(str(caught.value)) < 300
    assert time.process_time() - start < 3.0


def test_a_billion_laughs_are_not_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Thirty doublings of a list stay thirty lines, in a configuration and in a plan."""
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30))]
    bomb = tmp_path / "bomb.yaml"
    bomb.write_text("\n".join(lines))
    for command in (["plan", "--config", str(bomb)], ["ablate", str(bomb), str(tmp_path), "--out", str(tmp_path / "o")]):
        assert main(command) == 2
        assert "aliases (*name) are not read; write the value out" in capsys.readouterr().err


def test_keys_are_texts() -> None:
    """A key is what stands there: `1`, `true` and `~` are no number, truth or nothing, as in JSON."""
    assert parse_mapping("{1: a, true: b, ~: c, 2026-11-24: d}", "here") == {"1": "a", "true": "b", "~": "c", "2026-11-24": "d"}
    assert "unknown key 1; nearest: " in mistakes("1=a")[1]


@pytest.mark.parametrize(
    "setting",
    [".".join("a" * 10_000) + "=1", "training..epochs=3", ".training=3", "training.=3", "=3", "x", "",
     "training.epochs=" + "[" * 900],
)  # fmt: skip
def test_a_setting_that_is_none_is_one_short_message(setting: str) -> None:
    """Too many or empty pieces, no equals sign, a value that is no YAML."""
    with pytest.raises(ConfigError, match=r"^--set ") as caught:
        read_config(settings=[setting])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("place", ["²", "٣", "-1", "1", "00", "x", "9" * 5000])
def test_a_place_in_a_list_is_a_plain_number(place: str) -> None:
    """str.isdigit() takes the digits of every script, and int() not all of them."""
    assert "no such place in a list of 1; allowed: 0 to 0" in mistakes(f"training.sizes.{place}.batch_size=8")[1]


@pytest.mark.parametrize(
    "kind", ["folder", "pipe", "socket", "missing", "nul", "long", "loop", "below a file", "latin", "utf-16"]
)
def test_a_file_that_is_none_is_one_message(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--config never waits for a pipe, and says which file cannot be read and why."""
    path = tmp_path / "c.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        path = Path("/dev/null")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind in ("latin", "utf-16"):
        path.write_bytes("network: {backbone: é}".encode("latin-1" if kind == "latin" else "utf-16"))
    elif kind == "below a file":
        path.write_text("")
        path /= "c.yaml"
    elif kind == "long":
        path = tmp_path / ("x" * 5000)
    text = "a\0b" if kind == "nul" else str(path)
    for command in (["plan", "--config", text], ["ablate", text, str(tmp_path), "--out", str(tmp_path / "o")]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "Traceback" not in said
        assert not re.search("unexpected", said)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    """Editors of one system write it."""
    (tmp_path / "c.yaml").write_text("\ufefftraining: {epochs: 7}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "c.yaml", "--config") == {"training": {"epochs": 7}}


PATHS = (
    "2026-11-24", "audits #1", "null", "1e5", "a: b", "*x", "[x", "{y", "&z", "!t", "yes", "1:30", "%d", "- a", "'q'", '"', "~",
    "한글 감사", "#", "a\\b", " lead", "trail ", "@", "`", "x=y", "a\nb",
)  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_an_option_means_exactly_that_path(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--audit and --weights never pass through YAML, in any command that has them; they win over --set."""
    seen: list[Config] = []

    def stop(*args: Any, **_: Any) -> None:
        seen.append(next(value for value in args if isinstance(value, Config)))
        raise ConfigError("seen")

    monkeypatch.setattr("hectocar.training.run.create_run", stop)
    monkeypatch.chdir(tmp_path)
    arguments = ["train", ".", "--preset", "demo", "--out", "o", f"--audit={name}", f"--weights={name}"]
    assert main([*arguments, "--set", "data.audit=other", "--set", "network.weights=none"]) == 2
    assert (seen[0].data.audit, seen[0].network.weights) == (name, name)
    plan = read_plan("recipe-small", ["data.audit=other"], {"data.audit": name, "network.weights": name})
    assert {(config.data.audit, config.network.weights) for config in plan.variants.values()} == {(name, name)}


def leaves(kind: type, path: str = "") -> Iterator[tuple[str, Any, int]]:
    """(dotted path, type, number of values) of every number in the configuration."""
    for name, hint in get_type_hints(kind).items():
        arguments, here = get_args(hint), f"{path}{name}"
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{here}.")  # type: ignore[arg-type]
        elif hint in (int, float):
            yield here, hint, 0
        elif arguments and arguments[0] in (int, float) and not isinstance(arguments[0], str):
            yield here, arguments[0], 1 if arguments[-1] is Ellipsis else len(arguments)
        elif arguments and dataclasses.is_dataclass(arguments[0]):
            yield from leaves(arguments[0], f"{here}.0.")


@pytest.mark.parametrize(("path", "kind", "count"), list(leaves(Config)))
def test_every_number_has_an_upper_and_a_lower_bound(path: str, kind: type, count: int) -> None:
    """Nothing huge, negative without meaning, infinite or not a number reaches the work; the message names the key."""
    huge = [f"-{2**62}", "9" * 25] if kind is int else ["-1e300", "1e300", "-1e-3", ".nan", ".inf", "-.inf", "9" * 400]
    for text in huge:
        value = f"[{', '.join([text] * count)}]" if count else text
        lines = mistakes(f"{path}={value}")
        assert any(line.startswith((f"{path} ", f"{path}.")) and re.search("allowed|expected", line) for line in lines[1:]), (
            lines
        )
        assert all(len(line) < 400 for line in lines)


@pytest.mark.parametrize(
    "setting", ["data.num_folds=1000000000", "training.seed=-1", "data.fold_seed=-1", "training.seed=9223372036854775808"]
)
def test_seeds_and_folds_are_in_range(setting: str) -> None:
    """What NumPy and torch would refuse much later, or never end with."""
    assert len(mistakes(setting)) == 2


def test_the_largest_seed_works_everywhere() -> None:
    """The whole range that is allowed is understood by all that draws numbers."""
    import numpy as np
    import torch

    from hectocar.training.draws import uniform_draws

    seed = read_config(settings=[f"training.seed={2**63 - 1}", f"data.fold_seed={2**63 - 1}"]).training.seed
    torch.Generator().manual_seed(seed)
    assert 0.0 <= np.random.default_rng([seed, 0]).random() < 1.0
    assert (uniform_draws(seed, 0, np.arange(3), 1, 2) < 1.0).all()


PLAN = "title: T\nbase: {{data: {{num_folds: 2}}}}\nvariants:\n  base: {{}}\n  {name}: {{}}\n"
NAMES = ("../x", "a/b", "a\\b", "..", ".x", "x.", "x ", "BASE", "ba\u017fe", "runs.csv", "Table.md", "a" * 121, "한" * 50,
         "a\tb", "a\u202eb", "a\u200bb", "", "a\u0085b", "\ud7ff\ue000")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_variants_name_is_a_folders_name_everywhere(name: str, tmp_path: Path) -> None:
    """Nothing invisible, nothing that leaves the folder, nothing that another system takes for the same name."""
    (tmp_path / "p.yaml").write_text(PLAN.format(name=json.dumps(name)), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot be a folder's name|stands twice|not valid YAML"):
        read_plan(str(tmp_path / "p.yaml"))


def test_two_spellings_of_one_name_are_refused(tmp_path: Path) -> None:
    """Composed and decomposed are one folder on a Mac, small and capital letters on Windows too."""
    (tmp_path / "p.yaml").write_text(PLAN.format(name="가") + "  \u1100\u1161: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="stands twice"):
        read_plan(str(tmp_path / "p.yaml"))


@pytest.mark.parametrize("name", ["a [new]", "k=2", "$\\frac", "noise 0.1, K 3", "한글", "[red]", ":car:", "a  b", "#1", "*x*"])
def test_other_names_are_taken_as_they_are(name: str, tmp_path: Path) -> None:
    """Markup of a terminal or of a formula is a name like others."""
    if "\\" not in name:
        (tmp_path / "p.yaml").write_text(PLAN.format(name=json.dumps(name)), encoding="utf-8")
        assert list(read_plan(str(tmp_path / "p.yaml")).variants) == ["base", name]


@pytest.mark.parametrize(
    "line",
    ["title: 3", "title: [x]", f"title: {'x' * 400}", "base: 3", "base: []", "seeds: [-1]", "seeds: [9223372036854775808]",
     "seeds: [true]", "seeds: [1.0]", "folds: [0, 0]", "seeds: {}", "preset: [demo]", "preset: ../demo", "variants: [a, b]",
     "variants: {a: {}, b: 3}",
     f"seeds: [{'1, ' * 300}1]"],
)  # fmt: skip
def test_each_part_of_a_plan_is_checked(line: str, tmp_path: Path) -> None:
    """Wrong types and ranges are named with the key, shortly."""
    tree = yaml.safe_load(PLAN.format(name="other"))
    key = line.partition(":")[0]
    tree.pop(key, None)
    lines = [*(f"{name}: {json.dumps(value)}" for name, value in tree.items()), line]
    (tmp_path / "p.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{key} is ") as caught:
        read_plan(str(tmp_path / "p.yaml"))
    assert len(str(caught.value)) < 500
