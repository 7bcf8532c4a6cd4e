"""Laws of files on the disk: whole or not at all, the user's permissions, and a log that outlives a cut."""

import json
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectocar.disk.artifacts import EventLog, compute_digest, describe_environment, hash_file, read_json, write_json
from hectocar.disk.writing import replace_file
from hectocar.errors import ArtifactError


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_replace_file_writes_whole_files(tmp_path: Path) -> None:
    """New and old files alike end with the new content, missing folders are made, and nothing else is left behind."""
    path = tmp_path / "runs" / "결과" / "표.txt"
    for text in ("first", "second, which is longer", "3"):
        replace_file(path, partial(Path.write_text, data=text))
        assert path.read_text() == text
        assert names_in(path.parent) == [path.name]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    """Half of a file never stands under its name: an error, or Ctrl-C, keeps the old one and removes the temporary one."""
    path = tmp_path / "best.safetensors"

    def write_half(target: Path) -> None:
        assert target.parent == path.parent  # the same disk, or the move would be a copy
        target.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        replace_file(path, write_half)
    assert names_in(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        replace_file(path, write_half)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    """A colleague can read a run if the user's umask says so, and the umask is left as it was."""
    before = os.umask(mask)
    try:
        write_json(tmp_path / "config.json", {})
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == mode


def test_json_round_trip_is_readable(tmp_path: Path) -> None:
    """Korean stays Korean in the file, and what is read is what was written."""
    path, data = tmp_path / "classes.json", {"names": ["쏘나타"], "share": 0.1, "none": None, "nested": [[1, 2], {"a": True}]}
    write_json(path, data)
    assert read_json(path) == data
    assert "쏘나타" in path.read_text("utf-8")


def test_json_without_a_meaning_elsewhere_is_not_written(tmp_path: Path) -> None:
    """NaN is no JSON: other programs could not read the file, so the old one stays."""
    path = tmp_path / "metrics.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == {"loss": 1.0}
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", None])
def test_unreadable_json_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A missing, cut or foreign file is an ArtifactError that begins with its path."""
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as JSON (")


TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3))


@given(data=st.dictionaries(TEXT, JSON, max_size=5))
@settings(max_examples=50, deadline=None)
def test_digest_is_of_the_content(data: dict[str, object]) -> None:
    """The order of keys plays no part in a digest, a detour through JSON neither, and a further key changes it."""
    digest = compute_digest(data)
    assert digest == compute_digest(dict(reversed(data.items())))
    assert digest == compute_digest(json.loads(json.dumps(data)))
    assert digest != compute_digest(data | {"one more key": 0})


def test_hash_file_is_sha256(tmp_path: Path) -> None:
    """The digest is the one that `sha256sum` prints."""
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert hash_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_environment_names_what_a_figure_depends_on() -> None:
    """Each version is a text, so that provenance can be written as JSON."""
    environment = describe_environment()
    assert {"python", "machine", "hectocar", "torch", "timm", "numpy"} <= environment.keys()
    assert all(isinstance(version, str) and version for version in environment.values())


def test_event_log_appends(tmp_path: Path) -> None:
    """A log that does not exist yet is empty; events come back in order, with time, kind and fields, also after a reopening."""
    path = tmp_path / "fold0" / "events.jsonl"
    assert EventLog(path).read() == []
    EventLog(path).write("epoch", epoch=0, log_loss=1.5)
    EventLog(path).write("damaged", file="쏘나타.jpg")
    events = EventLog(path).read()
    assert [(event.pop("kind"), bool(event.pop("time"))) for event in events] == [("epoch", True), ("damaged", True)]
    assert events == [{"epoch": 0, "log_loss": 1.5}, {"file": "쏘나타.jpg"}]


def cut_log(path: Path) -> tuple[EventLog, bytes, bytes]:
    """A log with one whole event, and the bytes of its line and of the line of another event."""
    log = EventLog(path)
    log.write("one")
    first = path.read_bytes()
    log.write("two", file="쏘.jpg")
    return log, first, path.read_bytes().removeprefix(first)


def test_a_cut_last_line_is_passed_over(tmp_path: Path) -> None:
    """Power fails in the middle of a line: all the lines before it are still read."""
    log, first, second = cut_log(tmp_path / "events.jsonl")
    for num_bytes in range(second.index("쏘".encode())):
        log.path.write_bytes(first + second[:num_bytes])
        assert [event["kind"] for event in log.read()] == ["one"]


def test_a_cut_inside_a_korean_letter_is_passed_over(tmp_path: Path) -> None:
    """The cut may fall on any byte, also between the three of a Korean letter."""
    log, first, second = cut_log(tmp_path / "events.jsonl")
    log.path.write_bytes(first + second[: second.index("쏘".encode()) + 1])
    assert [event["kind"] for event in log.read()] == ["one"]


def test_a_cut_loses_its_own_line_only(tmp_path: Path) -> None:
    """The event that is written after a cut starts a line of its own."""
    log, first, second = cut_log(tmp_path / "events.jsonl")
    log.path.write_bytes(first + second[:20])
    log.write("three")
    assert [event["kind"] for event in log.read()] == ["one", "three"]


def test_any_text_survives(tmp_path: Path) -> None:
    """A message may hold any line separator of Unicode and is one event still."""
    log = EventLog(tmp_path / "events.jsonl")
    log.write("note", text="a\nb\u2028c\x85d")
    assert [event["text"] for event in log.read()] == ["a\nb\u2028c\x85d"]


def test_arrays_that_find_no_room_leave_nothing_for_the_collector(tmp_path: Path) -> None:
    """An error while arrays are written leaves no view of a dead buffer: collecting it crashed Python 3.12."""
    code = (
        "import gc, resource\nfrom pathlib import Path\nimport numpy as np\n"
        "from hectocar.disk.artifacts import save_arrays\nfrom hectocar.errors import WriteError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "try: save_arrays(Path('a.npz'), table=np.zeros(1000))\n"
        "except WriteError as error: kept = error; kept.cycle = kept\n"
        "del kept; gc.collect(); print('collected')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "collected\n", "")
    assert list(tmp_path.iterdir()) == []
