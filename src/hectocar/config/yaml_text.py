"""The only reader of YAML. It reads what JSON could say: mappings from texts, lists, texts, numbers, true, false, null.

YAML 1.1 has traps that no configuration needs: ``no`` is false, ``1:30`` is 90, ``010`` is 8, ``2026-11-24`` a date. Here
they are texts. Tags and aliases are refused, and size, depth and number of values are bounded before anything is built.
"""

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from hectocar.codec import show
from hectocar.errors import ConfigError
from hectocar.tables import repeated_names

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 10_000
_MAX_DIGITS = 1000
_CORE = "tag:yaml.org,2002:"


def read_yaml(file: Path, what: str) -> dict[str, Any]:
    """A mapping from a YAML file.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or holds no mapping; ``what`` is named before the path.
    """
    where = f"{what} {file}"
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for, a device never ends
            raise ConfigError(f"{where}: cannot be read: it is no file; allowed: the path of a YAML file")
        with file.open("rb") as source:
            raw = source.read(MAX_BYTES + 1)
        return parse_mapping(raw.decode("utf-8-sig"), where)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: cannot be read: it is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{where}: cannot be read ({reason}); give the path of a YAML file") from error


def parse_mapping(text: str, where: str) -> dict[str, Any]:
    """A mapping from YAML text; no text at all is an empty one.

    Raises:
        ConfigError: Not YAML as it is read here, or no mapping; begins with ``where``.
    """
    data = _parse(text, f"{where}: not valid YAML")
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a mapping of sections is expected, found {type(data).__name__}")
    return data


def parse_setting(setting: str) -> dict[str, Any]:
    """``dotted.path=value`` as a nested mapping, the value in YAML.

    Raises:
        ConfigError: No such form, or the value is no YAML.
    """
    path, equals, text = setting.partition("=")
    where = f"--set {show(setting)}"
    if not equals or not path:
        raise ConfigError(f"{where}: expected dotted.path=value, such as training.epochs=12")
    return nest(path, _parse(text, f"{where}: the value is not valid YAML"), where)


def nest(path: str, value: Any, where: str) -> dict[str, Any]:
    """``a.b`` and a value as ``{"a": {"b": value}}``.

    Raises:
        ConfigError: Empty or too many pieces.
    """
    pieces = path.split(".")
    if len(pieces) > MAX_DEPTH or not all(pieces):
        raise ConfigError(f"{where}: {show(path)} is no dotted path, such as training.sizes.0.batch_size")
    for piece in reversed(pieces):
        value = {piece: value}
    assert isinstance(value, dict)
    return value


def _parse(text: str, where: str) -> Any:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{where}: larger than {MAX_BYTES // 1024} KiB, which no configuration needs")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} ({_describe(error)})") from error


def _describe(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())[:200]
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', None) or 'a mistake'}"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as the base class has it

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._num_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            _refuse("aliases (*name) are not read; write the value out", event)
        if getattr(event, "tag", None) is not None:
            _refuse("tags (!name) are not read; write the value itself, a text in quotes", event)
        self._depth, self._num_nodes = self._depth + 1, self._num_nodes + 1
        if self._depth > MAX_DEPTH:
            _refuse(f"nested more than {MAX_DEPTH} deep", event)
        if self._num_nodes > MAX_NODES:
            _refuse(f"more than {MAX_NODES} values", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse("a list or mapping stands as a key; allowed: a text", key)
        keys = [key.value for key, _ in node.value]
        repeated = repeated_names(keys)
        if repeated:
            _refuse(f"the key {repeated[0]!r} stands twice", node)
        return dict(zip(keys, [self.construct_object(value, deep=deep) for _, value in node.value], strict=True))

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        text = node.value.lower()
        if len(text) > _MAX_DIGITS:
            _refuse(f"a number of {len(text)} digits", node)
        if node.tag == f"{_CORE}int":
            return int(text)
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _refuse(problem: str, place: Any) -> None:
    raise yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


for _tag, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    # YAML 1.1 wants a dot in 4e-5; everyone means the number.
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _Loader.add_implicit_resolver(
        f"{_CORE}{_tag}", re.compile(rf"(?:{_pattern})\Z", re.ASCII), ["" if start == "\0" else start for start in _starts]
    )
for _tag in ("int", "float"):
    _Loader.add_constructor(f"{_CORE}{_tag}", _Loader.construct_number)
