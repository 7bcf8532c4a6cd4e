"""Layers of the configuration: defaults < preset < file < ``--set`` < options, every mistake reported at once."""

import ast
import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hectocar.codec import build, encode, show
from hectocar.config.schema import Config
from hectocar.config.yaml_text import nest, parse_mapping, parse_setting, read_yaml
from hectocar.errors import ConfigError


def list_presets() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files("hectocar.presets")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_config(
    preset: str | None = None,
    file: Path | None = None,
    settings: Sequence[str] = (),
    layers: Sequence[Mapping[str, Any]] = (),
    *,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Builds the configuration from its layers.

    Args:
        preset: Name of a preset, or None for the defaults.
        file: A YAML file with any part of the tree.
        settings: ``dotted.path=value`` texts, the value in YAML.
        layers: Parts of the tree that come between the file and the settings: the variants of an ablation.
        overrides: Values by dotted path, over all else: options of the command line, which are no YAML.

    Raises:
        ConfigError: Names every unknown key, wrong type and impossible value, each with its dotted path.
    """
    tree = config_to_tree(Config())
    problems: list[str] = []
    if preset is not None:
        names = list_presets()
        if preset not in names:
            raise ConfigError(f"--preset is {show(preset)}; allowed: {', '.join(names)}")
        layer = parse_mapping((resources.files("hectocar.presets") / f"{preset}.yaml").read_text("utf-8"), f"preset {preset}")
        _merge(tree, layer, "", problems)
    if file is not None:
        _merge(tree, read_yaml(file, "--config"), "", problems)
    for part in layers:
        _merge(tree, part, "", problems)
    for setting in settings:
        _merge(tree, parse_setting(setting), "", problems)
    for path, value in (overrides or {}).items():
        _merge(tree, nest(path, value, "an option"), "", problems)
    return config_from_tree(tree, problems)


def config_from_tree(tree: Mapping[str, Any], problems: Sequence[str] = ()) -> Config:
    """Builds the configuration from nested mappings (YAML, or the config.json of a run).

    Raises:
        ConfigError: As ``read_config``; ``problems`` found before are reported with the others.
    """
    found = list(problems)
    config = build(Config, tree, "", found, whole=False, root="configuration")
    if found:
        raise ConfigError("the configuration has mistakes:\n" + "\n".join(f"  {line}" for line in found))
    assert isinstance(config, Config)
    return config


def config_to_tree(config: Config) -> dict[str, Any]:
    """Nested plain values, with lists for tuples: what is written to a run's config.json."""
    tree: dict[str, Any] = encode(config)
    return tree


def _merge(base: dict[str, Any], layer: Mapping[str, Any], path: str, problems: list[str]) -> None:
    for key, value in layer.items():
        dotted = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value, dotted, problems)
        elif isinstance(value, dict) and isinstance(base.get(key), list):
            _merge_into_list(base[key], value, dotted, problems)
        else:
            base[key] = value


_PLACE = re.compile(r"0|[1-9][0-9]{0,5}", re.ASCII)


def _merge_into_list(base: list[Any], layer: Mapping[str, Any], path: str, problems: list[str]) -> None:
    # --set training.sizes.0.batch_size=32 changes one phase and keeps the others.
    for key, value in layer.items():
        place = int(key) if _PLACE.fullmatch(key) else -1
        if not 0 <= place < len(base):
            allowed = f"0 to {len(base) - 1}" if base else "none"
            problems.append(f"{path}.{key}: no such place in a list of {len(base)}; allowed: {allowed}")
        elif isinstance(value, dict) and isinstance(base[place], dict):
            _merge(base[place], value, f"{path}.{key}", problems)
        else:
            base[place] = value


def describe_config() -> list[tuple[str, str, str]]:
    """(dotted path, default, docstring) of every field, for ``hectocar config``."""
    rows: list[tuple[str, str, str]] = []
    for name, section in Config().sections():
        docs = _field_docs(type(section))
        for field in dataclasses.fields(typing.cast(Any, section)):
            value = getattr(section, field.name)
            phases = isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0])
            rows.append((f"{name}.{field.name}", "one phase" if phases else repr(value), docs.get(field.name, "")))
            if phases:
                inner = _field_docs(type(value[0]))
                rows += [
                    (f"{name}.{field.name}.0.{item.name}", repr(getattr(value[0], item.name)), inner.get(item.name, ""))
                    for item in dataclasses.fields(value[0])
                ]
    return rows


def _field_docs(kind: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for line, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr):
            docs[line.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return docs
