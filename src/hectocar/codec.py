"""The only codec between frozen dataclasses and JSON or YAML trees: strict when it reads, and every mistake at once.

A field may be bool, int, float, str, Literal, a dataclass, ``X | None``, ``int | float``, tuple[X, ...], tuple[X, Y], list[X]
or dict[str, X]; Any is one plain value. Nothing is bent into another type (a whole number is taken for a float), numbers
are finite and of 64 bits, and a class checks its own ranges in ``__post_init__``. How deep a tree may be, the types say.
"""

import dataclasses
import difflib
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from hectocar.disk.artifacts import compute_digest, read_json, write_json
from hectocar.errors import ArtifactError, HectocarError

T = TypeVar("T")
MAX_TEXT = 65_536
"""Characters of a text."""
SEAL = "sha256"
"""The key under which a sealed file keeps the digest of all its others."""
_MAX_LISTED = 20
"""Mistakes that are looked for in one list, and listed in one message: a file of another kind has a million."""
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def decode(
    kind: type[T],
    tree: Any,
    where: str,
    error: type[HectocarError] = ArtifactError,
    *,
    advice: str = "make it again",
    whole: bool = True,
) -> T:
    """A dataclass from a tree of plain values; every field must be there, and nothing else.

    Args:
        kind: The dataclass.
        tree: What ``json.loads`` gives.
        where: Path of the file, or the name of what is read; the message begins with it.
        error: What to raise.
        advice: What to do; the message ends with it.
        whole: Otherwise fields that have a default may be left out.

    Raises:
        HectocarError: Of the given kind, with every mistake and its dotted path.
    """
    problems: list[str] = []
    built = build(kind, tree, "", problems, whole=whole)
    if problems:
        raise error(describe_mistakes(where, problems, advice))
    return cast(T, built)


def encode(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists, all the way down: what ``decode`` reads again, number for number."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    return [encode(item) for item in value] if isinstance(value, (list, tuple)) else value


def write_sealed(path: Path, value: Any) -> None:
    """Writes a dataclass as JSON with the digest of its content."""
    tree = encode(value)
    write_json(path, {**tree, SEAL: compute_digest(tree)})


def read_sealed(kind: type[T], path: Path, advice: str) -> T:
    """Reads what ``write_sealed`` wrote.

    Raises:
        ArtifactError: Missing, damaged, of another program, or changed since; what is wrong with it is named by its key.
    """
    return open_sealed(kind, read_json(path), path, advice)


def open_sealed(kind: type[T], tree: Any, path: Path, advice: str, check: Callable[[T], object] = lambda content: None) -> T:
    """The content of a sealed file whose tree is read already.

    Args:
        kind: The dataclass.
        tree: What stands in the file.
        path: The file.
        advice: What to do; messages end with it.
        check: Raises where parts do not fit each other: what can be named is named before the digest is compared.

    Raises:
        ArtifactError: As ``read_sealed``.
    """
    content = {key: value for key, value in tree.items() if key != SEAL} if isinstance(tree, dict) else tree
    value = decode(kind, content, str(path), advice=advice)
    check(value)
    if tree.get(SEAL) != compute_digest(content):
        raise ArtifactError(f"{path}: its content was changed after it was written ({SEAL} differs); {advice}")
    return value


def describe_mistakes(where: str, problems: Sequence[str], advice: str) -> str:
    """One line for one mistake, else a line for each, the first twenty."""
    if len(problems) == 1:
        return f"{where}: {problems[0]}; {advice}"
    lines = [*problems[:_MAX_LISTED], *([f"... ({len(problems)} in all)"] if len(problems) > _MAX_LISTED else [])]
    return "\n".join([f"{where}: {len(problems)} mistakes; {advice}:", *(f"  {line}" for line in lines)])


def build(kind: type, tree: Any, path: str, problems: list[str], *, whole: bool, root: str = "the content") -> Any:
    """A dataclass from a mapping; on mistakes appends to ``problems`` and returns None.

    Args:
        kind: The dataclass.
        tree: What should be a mapping.
        path: Dotted, empty for the root.
        problems: Gets a line per mistake.
        whole: Every field must be there; otherwise those with a default may be left out.
        root: What the root is called.
    """
    if not isinstance(tree, Mapping):
        problems.append(f"{path or root} is {show(tree)}; expected a mapping with {', '.join(_names(kind))}")
        return None
    hints, before = _hints(kind), len(problems)
    _name_unknown([key for key in tree if key not in hints], path, _names(kind), problems)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key in hints:
            mistakes = len(problems)
            converted = _convert(hints[key], value, _dotted(path, key), problems, whole)
            if len(problems) == mistakes:
                values[key] = converted
    fields = dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    missing = [name for name in (_names(kind) if whole else required) if name not in tree]
    problems += [f"{_dotted(path, name)} is missing" for name in missing]
    if any(name not in values for name in required):
        return None
    try:  # also with mistakes: the ranges of the other values are reported together with them
        built = kind(**values)
        return built if len(problems) == before else None
    except (HectocarError, ValueError) as error:
        problems.extend(_place(line, path) for line in str(error).splitlines())
        return None


def _name_unknown(keys: Sequence[Any], path: str, names: Sequence[str], problems: list[str]) -> None:
    for key in keys[:_MAX_LISTED]:
        near = difflib.get_close_matches(str(key)[:60], names, n=1, cutoff=0.0)
        problems.append(f"unknown key {_dotted(path, key)}; nearest: {_dotted(path, near[0])}")
    if len(keys) > _MAX_LISTED:
        problems.append(f"... ({len(keys)} unknown keys{f' of {path}' if path else ''} in all)")


def _place(line: str, path: str) -> str:
    """A class names itself as `training.sizes[...]` or not at all: puts the path that it was found under instead."""
    parts = path.split(".") if path else []
    names = ["[...]" if part.isdigit() else part for part in parts]
    for start in range(len(parts)):
        own = ".".join(names[start:]).replace(".[...]", "[...]")
        if line.startswith(f"{own}."):
            return f"{path}{line[len(own) :]}"
    return line if not path or line.startswith(f"{path}.") else f"{path}: {line}"


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: hints[name] for name in _names(kind)}


def _names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _dotted(path: str, key: Any) -> str:
    name = key if isinstance(key, str) and len(key) <= 60 and key.isprintable() else show(key)
    return f"{path}.{name}" if path else name


def _convert(hint: Any, value: Any, path: str, problems: list[str], whole: bool) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, path, problems, whole=whole)
    if origin is Literal:
        return _choose(args, value, path, problems)
    if origin in (tuple, list):
        return origin(_convert_items(origin, args, value, path, problems, whole))
    if origin is dict:
        return _convert_dict(args[1], value, path, problems, whole)
    if origin in (Union, types.UnionType):
        kinds = [arg for arg in args if arg is not types.NoneType]
        if value is None and len(kinds) < len(args):
            return None
        if len(kinds) > 1 and all(dataclasses.is_dataclass(kind) for kind in kinds):
            return _convert_kind(kinds, value, path, problems, whole)
        return _convert(next((kind for kind in kinds if type(value) is kind), kinds[0]), value, path, problems, whole)
    if hint is Any and (value is None or type(value) in _WORDS):
        return _convert_plain(type(value), value, path, problems) if value is not None else None
    if hint is Any:
        problems.append(f"{path} is {show(value)}; expected a number, a text, true, false or null")
        return None
    if hint not in _WORDS:
        raise TypeError(f"{path}: the codec knows no {hint}")
    return _convert_plain(hint, value, path, problems)


def _convert_kind(kinds: Sequence[Any], value: Any, path: str, problems: list[str], whole: bool) -> Any:
    """One of several dataclasses, by its field ``kind``."""
    of_kind = {get_args(_hints(kind)["kind"])[0]: kind for kind in kinds}
    found = value.get("kind") if isinstance(value, Mapping) else None
    chosen = of_kind.get(found) if isinstance(found, str) else None
    if chosen is None:
        problems.append(f"{_dotted(path, 'kind')} is {show(found)}; allowed: {list_choices(found, of_kind)}")
        return None
    return build(chosen, value, path, problems, whole=whole)


def _convert_plain(hint: Any, value: Any, path: str, problems: list[str]) -> Any:
    if hint is float and type(value) is int:
        value = float(value) if abs(value) < 2**1023 else float("inf")
    if type(value) is not hint:
        problems.append(f"{path} is {show(value)}; expected {_WORDS[hint]}")
    elif hint is float and not abs(value) < float("inf"):
        problems.append(f"{path} is {value!r}; expected a finite number")
    elif hint is int and not -(2**63) <= value < 2**63:
        problems.append(f"{path} is {show(value)}; expected a whole number of at most 64 bits")
    elif hint is str and len(value) > MAX_TEXT:
        problems.append(f"{path} is {show(value)}; expected a text of at most {MAX_TEXT} characters")
    elif hint is str and not value.isascii() and value != value.encode("utf-8", "ignore").decode():
        problems.append(f"{path} is {show(value)}; expected a text that UTF-8 can write")
    return value


def _choose(allowed: tuple[Any, ...], value: Any, path: str, problems: list[str]) -> Any:
    if any(value == choice and type(value) is type(choice) for choice in allowed):
        return value
    problems.append(f"{path} is {show(value)}; allowed: {list_choices(value, allowed)}")
    return None


def list_choices(value: Any, allowed: Iterable[Any]) -> str:
    """What is allowed, and the nearest of it to a value that is not."""
    choices = list(allowed)
    near = difflib.get_close_matches(str(value)[:60], [str(choice) for choice in choices], n=1, cutoff=0.4)
    return ", ".join(map(repr, choices)) + (f"; nearest: {near[0]}" if near else "")


def _convert_items(
    origin: Any, args: tuple[Any, ...], value: Any, path: str, problems: list[str], whole: bool
) -> Iterable[Any]:
    if not isinstance(value, (list, tuple)):
        problems.append(f"{path} is {show(value)}; expected a list")
        return ()
    kinds: Sequence[Any] = args
    if origin is list or (len(args) == 2 and args[1] is Ellipsis):
        kinds = [args[0]] * len(value)
    if len(value) != len(kinds):
        problems.append(f"{path} has {len(value)} values; expected {len(args)}")
        return ()
    items, before = [], len(problems)
    for place, (kind, item) in enumerate(zip(kinds, value, strict=True)):
        if len(problems) - before > _MAX_LISTED:
            break
        items.append(_convert(kind, item, f"{path}.{place}", problems, whole))
    return items


def _convert_dict(kind: Any, value: Any, path: str, problems: list[str], whole: bool) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        problems.append(f"{path} is {show(value)}; expected a mapping")
        return {}
    items, before = {}, len(problems)
    for key, item in value.items():
        if len(problems) - before > _MAX_LISTED:
            break
        items[_convert_plain(str, key, f"a key of {path}", problems)] = _convert(
            kind, item, _dotted(path, key), problems, whole
        )
    return items


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 10**20 else f"a number of {x.bit_length()} bits"  # Python refuses to print 5,000 digits


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 80


def show(value: Any) -> str:
    """A value for a message: whole where it is short, its beginning and end where it is not."""
    return _SHORT.repr(value)
