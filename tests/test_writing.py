"""Laws of writing: whole or not at all, no litter that stays, and one message where the disk refuses."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

from hectocar.disk import processes, writing
from hectocar.disk.artifacts import EventLog, save_arrays
from hectocar.disk.processes import Process, read_token, this_process
from hectocar.disk.writing import check_room, make_folder, replace_file
from hectocar.errors import WriteError


@pytest.fixture(autouse=True)
def forget_what_was_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_swept", set())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_limited(code: str, folder: Path, limit: int = 20_000) -> subprocess.CompletedProcess[str]:
    """Runs code in a process that may not write files above a limit."""
    head = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    return subprocess.run(
        [sys.executable, "-c", head + code], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("a" * 100_000),
    "safetensors": lambda path: save_file({"a": torch.zeros(50_000)}, path),
    "parquet": lambda path: pq.write_table(pa.table({"a": np.random.default_rng(0).random(50_000)}), path),
    "png": lambda path: Image.effect_noise((400, 400), 100.0).save(path, format="PNG"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_no_room_is_one_message_from_every_library(name: str, tmp_path: Path) -> None:
    """safetensors, pyarrow and Pillow each tell a full disk in their own words; the user gets ours, and the old file."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "thing"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(WriteError) as caught:
            replace_file(path, WRITERS[name])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{path} cannot be written: the file grows larger than 20.0 kB, this shell's limit" in str(caught.value)
    assert "what stood there before is kept" in str(caught.value)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["thing"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        SafetensorError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "x" })'),
        OSError(errno.ENOSPC, "No space left on device", "/somewhere/that/is/copied"),
    ],
)
def test_a_full_disk_names_what_it_needs(error: Exception, tmp_path: Path) -> None:
    """The message says what could not be written, how much it needs, what was kept and what to do."""

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(
        WriteError, match=r"no room left on its disk \(it needs 2\.5 MB or more, .* are free\); what stood there before is kept"
    ):
        replace_file(tmp_path / "thing", write, num_bytes=2_500_000)
    with pytest.raises(WriteError, match=r"no room left on its disk \(it needs 4 bytes or more"):
        make_folder(tmp_path / "bundle", lambda folder: write(folder / "x"))
    with pytest.raises(WriteError) as caught:
        make_folder(tmp_path / "bundle", lambda folder: replace_file(folder / "x", write))
    assert str(caught.value).startswith(f"{tmp_path / 'bundle' / 'x'} cannot be written: no room left"), (
        "not the temporary name"
    )
    assert names_in(tmp_path) == []


def test_other_failures_keep_their_own_words(tmp_path: Path) -> None:
    """A source that cannot be read is not a place that cannot be written; a mistake of the program is no message at all."""
    with pytest.raises(FileNotFoundError, match="absent"):
        replace_file(tmp_path / "thing", lambda _: (tmp_path / "absent").read_bytes())
    with pytest.raises(ZeroDivisionError):
        replace_file(tmp_path / "thing", lambda _: 1 / 0)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("x" * 300, "name is too long; .* it has 300"),
        ("쏘" * 100, "name is too long"),
        ("file/x.csv", "file is no folder"),
        ("folder", "Is a directory"),
    ],
)
def test_a_place_that_cannot_be_is_named(place: str, words: str, tmp_path: Path) -> None:
    """Too long a name, a place under a file, a folder: one message, and no litter."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=words):
        replace_file(tmp_path / place, lambda path: path.write_text("x"))
    assert names_in(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("name", ["x" * 255, "쏘" * 85, "k" * 251 + ".csv"])
def test_a_name_may_have_255_bytes(name: str, tmp_path: Path) -> None:
    """The temporary name beside it is short enough for every name that the disk takes."""
    replace_file(tmp_path / name, lambda path: path.write_text("x"))
    make_folder(tmp_path / "in" / name, lambda path: (path / "y").write_text("y"))
    assert names_in(tmp_path) == sorted([name, "in"])
    assert names_in(tmp_path / "in") == [name]


def test_an_event_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The log of a training is written through the same door."""
    result = run_limited(
        "from pathlib import Path\nfrom hectocar.disk.artifacts import EventLog\nfrom hectocar.errors import WriteError\n"
        "try: EventLog(Path('events.jsonl')).write('x', text='a' * 30_000)\n"
        "except WriteError as error: print(error)",
        tmp_path,
    )
    assert result.stdout.startswith("events.jsonl cannot be written: the file grows larger"), result.stderr
    EventLog(tmp_path / "events.jsonl").write("next")
    assert [event["kind"] for event in EventLog(tmp_path / "events.jsonl").read()] == ["next"]


def test_room_is_checked_beforehand(tmp_path: Path) -> None:
    """What will certainly not fit is refused before the work, with what it needs and what there is."""
    check_room(tmp_path / "not" / "there" / "yet", 1000, "the checkpoints", largest_bytes=1000)
    with pytest.raises(WriteError, match=r"run: the checkpoints need 1000000000\.0 GB, and .* are free there; make room, or "):
        check_room(tmp_path / "run", 10**18, "the checkpoints")
    result = run_limited(
        "from pathlib import Path\nfrom hectocar.errors import WriteError\nfrom hectocar.disk.writing import check_room\n"
        "try: check_room(Path('run'), 30_000, 'the checkpoints', largest_bytes=30_000)\n"
        "except WriteError as error: print(error)",
        tmp_path,
    )
    assert "need a file of 30.0 kB, and this shell allows files of 20.0 kB" in result.stdout, result.stderr


def kill_while_writing(folder: Path, name: str) -> Process:
    """A process that is killed with half a file and half a folder written; returns who it was."""
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom hectocar.disk.processes import this_process\n"
        "from hectocar.disk.writing import make_folder, replace_file\n"
        "print(this_process().token(), flush=True)\n"
        "def die(path): path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        f"def fill(path): (path / 'inner').mkdir(); replace_file(Path({name!r}), die)\n"
        "make_folder(Path('folder'), fill)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == -9, result.stderr
    owner = read_token(result.stdout.strip())
    assert owner is not None
    return owner


def test_what_a_kill_leaves_is_swept_by_the_next_writer(tmp_path: Path) -> None:
    """Half files and half folders of dead processes go; those of living ones, and all that is not ours, stay."""
    owner = kill_while_writing(tmp_path, "table.csv")
    assert owner.is_dead()
    left = names_in(tmp_path)
    assert len(left) == 2
    assert all(name.endswith(".part") for name in left)
    mine = [
        f".table.csv.{this_process().token()}-99999.part",
        ".vimrc.part",
        ".x.part",
        "big.part",
        f".y.{owner.token()}-1.part.txt",
    ]
    for name in mine:
        (tmp_path / name).write_text("kept")
    replace_file(tmp_path / "other.csv", lambda path: path.write_text("x"))
    assert names_in(tmp_path) == sorted([*mine, "other.csv"])


def test_another_machines_leftovers_are_kept_for_a_week(tmp_path: Path) -> None:
    """On a shared disk nobody can see whether the writer of another machine lives: only age tells."""
    young, old = (tmp_path / f".{name}.00000000-1-ab-0.part" for name in ("young", "old"))
    for path, days in ((young, 1), (old, 8)):
        path.write_text("x")
        os.utime(path, (time.time() - days * 86_400,) * 2)
    replace_file(tmp_path / "x", lambda path: path.write_text("x"))
    assert names_in(tmp_path) == [young.name, "x"]


def test_a_number_that_is_given_again_is_another_process() -> None:
    """A process is its number and its start: a living stranger of the same number does not keep the dead alive."""
    own = this_process()
    assert not own.is_dead()
    assert read_token(own.token()) == own
    if own.started:
        assert Process(own.machine, own.pid, "abc123").is_dead()
    assert not Process("00000000", own.pid, "abc123").is_dead(), "of another machine nothing is known"
    assert Process(own.machine, 2**31 - 5, own.started).is_dead()
    assert Process(own.machine, 10**30, own.started).is_dead()
    assert read_token("../../etc") is None


def test_a_zombie_is_dead() -> None:
    """A killed process that nobody has waited for writes no more."""
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    process = Process(this_process().machine, child.pid, processes._find_start(child.pid) or "")
    assert not process.is_dead()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.is_dead()
    child.wait()
    assert process.is_dead()


def test_a_folder_that_cannot_be_renamed_over_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mounted disk as --out: its things are put there one by one, the one that makes it whole last."""
    folder = tmp_path / "disk"
    folder.mkdir()
    inode = folder.stat().st_ino
    monkeypatch.setattr(Path, "is_mount", lambda path: path == folder)
    moved: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, target: (moved.append(path.name), rename(path, target))[1])

    def fill(path: Path) -> None:
        for name in ("a", "config.json", "z"):
            (path / name).write_text(name)

    make_folder(folder, fill, last="config.json")
    assert names_in(folder) == ["a", "config.json", "z"]
    assert moved[-1] == "config.json"
    assert folder.stat().st_ino == inode


def test_a_temporary_name_is_never_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who guesses the temporary name and lays a link there gets nothing written through it."""
    (tmp_path / "victim").write_text("kept")
    monkeypatch.setattr(writing, "_suffix", lambda: ".guessed.part")
    (tmp_path / ".x.guessed.part").symlink_to(tmp_path / "victim")
    with pytest.raises(WriteError, match="exists"):
        replace_file(tmp_path / "x", lambda path: path.write_text("x"))
    assert (tmp_path / "victim").read_text() == "kept"


def test_arrays_know_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known to be written is in the message, not what happened to fit."""

    def refuse(file: object, **arrays: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", refuse)
    with pytest.raises(WriteError, match=r"it needs 800\.\d kB or more"):
        save_arrays(tmp_path / "part.npz", probs=np.zeros(100_000))
