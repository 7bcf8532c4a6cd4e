"""The only reader of YAML: defaults < preset < file < ``--set``, every mistake reported at once with the nearest valid name."""

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

import yaml

from hectocar.codec import build, encode
from hectocar.config import Config
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
) -> Config:
    """Builds the configuration from its layers.

    Args:
        preset: Name of a preset, or None for the defaults.
        file: A YAML file with any part of the tree.
        settings: ``dotted.path=value`` texts, the value in YAML.
        layers: Parts of the tree that come between the file and the settings: the variants of an ablation.

    Raises:
        ConfigError: Names every unknown key, wrong type and impossible value, each with its dotted path.
    """
    tree = config_to_tree(Config())
    problems: list[str] = []
    if preset is not None:
        names = list_presets()
        if preset not in names:
            raise ConfigError(f"--preset is {preset!r}; allowed: {', '.join(names)}")
        layer = _parse((resources.files("hectocar.presets") / f"{preset}.yaml").read_text("utf-8"), f"preset {preset}")
        _merge(tree, layer, "", problems)
    if file is not None:
        _merge(tree, read_yaml(file, "--config"), "", problems)
    for part in layers:
        _merge(tree, part, "", problems)
    for setting in settings:
        _merge(tree, _parse_setting(setting), "", problems)
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


def read_yaml(file: Path, what: str) -> dict[str, Any]:
    """A mapping from a YAML file.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or holds no mapping; ``what`` is named before the path.
    """
    try:
        return _parse(file.read_text("utf-8"), f"{what} {file}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {file}: cannot be read ({error})") from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a mapping of sections is expected, found {type(data).__name__}")
    return data


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``4e-5`` as a text, because it has no dot, and lets a repeated key win; everyone means otherwise."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"the key {repeated[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse_setting(setting: str) -> dict[str, Any]:
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {setting!r}: expected dotted.path=value, such as training.epochs=12")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting!r}: the value is not valid YAML") from error
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def _merge(base: dict[str, Any], layer: Mapping[str, Any], path: str, problems: list[str]) -> None:
    for key, value in layer.items():
        dotted = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value, dotted, problems)
        elif isinstance(value, dict) and isinstance(base.get(key), list):
            _merge_into_list(base[key], value, dotted, problems)
        else:
            base[key] = value


def _merge_into_list(base: list[Any], layer: Mapping[str, Any], path: str, problems: list[str]) -> None:
    # --set training.sizes.0.batch_size=32 changes one phase and keeps the others.
    for key, value in layer.items():
        place = int(key) if str(key).isdigit() else -1
        if not 0 <= place < len(base):
            problems.append(f"{path}.{key}: no such place in a list of {len(base)}; allowed: 0 to {len(base) - 1}")
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
