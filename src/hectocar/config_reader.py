"""The only reader of YAML: defaults < preset < file < ``--set``, every mistake reported at once with the nearest valid name."""

import ast
import dataclasses
import difflib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

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
    config = _build(Config, tree, "", found)
    if found:
        raise ConfigError("the configuration has mistakes:\n" + "\n".join(f"  {line}" for line in found))
    assert isinstance(config, Config)
    return config


def config_to_tree(config: Config) -> dict[str, Any]:
    """Nested plain values, with lists for tuples: what is written to a run's config.json."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    tree: dict[str, Any] = plain(dataclasses.asdict(config))
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


def _build(kind: type, tree: Any, path: str, problems: list[str]) -> Any:
    """A dataclass from a mapping; on mistakes appends to ``problems`` and returns None."""
    if not isinstance(tree, Mapping):
        problems.append(f"{path or 'configuration'} is {tree!r}; expected a mapping with {', '.join(_names(kind))}")
        return None
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    before = len(problems)
    for key, value in tree.items():
        dotted = f"{path}.{key}" if path else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), _names(kind), n=1, cutoff=0.0)
            problems.append(f"unknown key {dotted}; nearest: {f'{path}.' if path else ''}{near[0]}")
            continue
        mistakes = len(problems)
        converted = _convert(hints[key], value, dotted, problems)
        if len(problems) == mistakes:
            values[key] = converted
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in tree:
            problems.append(f"{path}.{field.name} is missing")
        if required and field.name not in values:
            return None
    try:  # also with mistakes: the ranges of the other values are reported together with them
        built = kind(**values)
        return built if len(problems) == before else None
    except ConfigError as error:
        problems.extend(str(error).replace(f"{_generic(path)}.", f"{path}.").splitlines())
        return None


def _generic(path: str) -> str:
    head, _, place = path.rpartition(".")
    return f"{head}[...]" if place.isdigit() else path


def _names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _convert(hint: Any, value: Any, path: str, problems: list[str]) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, path, problems)
    if origin is Literal:
        if value in args and type(value) in {type(arg) for arg in args}:
            return value
        near = difflib.get_close_matches(str(value), [str(arg) for arg in args], n=1, cutoff=0.4)
        hint_text = f"; nearest: {near[0]}" if near else ""
        problems.append(f"{path} is {value!r}; allowed: {', '.join(map(repr, args))}{hint_text}")
        return None
    if origin is tuple:
        return _convert_tuple(args, value, path, problems)
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(args[0], value, path, problems)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            value = float("inf")
    if isinstance(value, hint) and not (hint in (int, float) and isinstance(value, bool)):
        if hint is float and not abs(value) < float("inf"):
            problems.append(f"{path} is {value!r}; expected a finite number")
        return value
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(hint, str(hint))
    problems.append(f"{path} is {value!r}; expected {expected}")
    return None


def _convert_tuple(args: tuple[Any, ...], value: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, (list, tuple)):
        problems.append(f"{path} is {value!r}; expected a list")
        return None
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], item, f"{path}.{place}", problems) for place, item in enumerate(value))
    if len(value) != len(args):
        problems.append(f"{path} has {len(value)} values; expected {len(args)}")
        return None
    pairs = zip(args, value, strict=True)
    return tuple(_convert(hint, item, f"{path}.{place}", problems) for place, (hint, item) in enumerate(pairs))


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
