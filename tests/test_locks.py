"""Laws of locks: one writer at a time, the second is told who the first is, and a dead one is in nobody's way."""

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hectocar.disk import locks
from hectocar.disk.locks import hold_lock
from hectocar.disk.processes import this_process
from hectocar.errors import ArtifactError, WriteError

HOLD = """
import sys
from pathlib import Path
from hectocar.disk.locks import hold_lock
sys.argv = ["hectocar", "predict"]
with hold_lock(Path(sys.stdin.readline().strip())):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=["system locks", "none"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Disks with locks of the system's, and disks without: there the file itself must do."""
    if request.param == "none":

        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("hectocar.disk.locks.fcntl.lockf", refuse)
    return str(request.param)


@contextmanager
def holder_of(output: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is told to let go, or is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{output}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_second_writer_is_told_who_the_first_is(kind: str, tmp_path: Path) -> None:
    """Number, command and time of the one that writes; when that has ended the output is free, and no lock is left."""
    out = tmp_path / "new" / "s.csv"
    with holder_of(out) as process:
        words = rf"s\.csv: process {process.pid} \(hectocar predict, since 20\d\d-.*\) is writing it; wait until that ends"
        with pytest.raises(ArtifactError, match=words), hold_lock(out):
            pytest.fail("two hold it")
        with hold_lock(tmp_path / "new" / "other.csv"):
            pass
        process.communicate("go\n")
    with hold_lock(out):
        assert names_in(out.parent) == [".s.csv.lock"]
    assert names_in(tmp_path) == []


def test_a_killed_writer_is_in_nobodys_way(kind: str, tmp_path: Path) -> None:
    """The next one takes its lock over, and takes the file away when it ends."""
    with holder_of(tmp_path / "run") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert names_in(tmp_path) == [".run.lock"]
        with hold_lock(tmp_path / "run"):
            content = json.loads((tmp_path / ".run.lock").read_text())
            assert content["process"] == this_process().token()
    assert names_in(tmp_path) == []


def test_a_number_that_is_given_again_holds_nothing(kind: str, tmp_path: Path) -> None:
    """A lock of a dead process whose number a living one has now is taken over: the start tells them apart."""
    own = this_process()
    left = {"process": f"{own.machine}-{os.getppid()}-1", "command": "hectocar train", "since": "yesterday", "host": "here"}
    (tmp_path / ".run.lock").write_text(json.dumps(left))
    with hold_lock(tmp_path / "run"):
        pass
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "content", ["", "[]", '{"process": 3}', "[" * 4000, "\x00", '{"process": "../x", "command": "", "since": ""}']
)
def test_whatever_a_lock_file_holds_it_is_no_traceback(content: str, kind: str, tmp_path: Path) -> None:
    """A cut or foreign file of that name: where the disk has no locks it counts for a minute, then for nothing."""
    path = tmp_path / ".run.lock"
    path.write_text(content)
    if kind == "none":
        with pytest.raises(ArtifactError, match="begins to write it at this moment"), hold_lock(tmp_path / "run"):
            pass
        os.utime(path, (time.time() - 120,) * 2)
    with hold_lock(tmp_path / "run"):
        pass
    assert names_in(tmp_path) == []


def test_a_lock_of_another_machine_without_locks_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the disk nor the process can be asked, it is named and left alone."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("hectocar.disk.locks.fcntl.lockf", refuse)
    left = {"process": "00000000-7-1", "command": "hectocar train", "since": "yesterday", "host": "node7"}
    (tmp_path / ".run.lock").write_text(json.dumps(left))
    with (
        pytest.raises(ArtifactError, match=r"process 7 on node7 \(hectocar train, since yesterday\)"),
        hold_lock(tmp_path / "run"),
    ):
        pass


def test_threads_of_one_process_do_not_share_it(tmp_path: Path) -> None:
    """The system's locks do not tell threads apart: the process keeps count itself."""
    with hold_lock(tmp_path / "run"):
        with pytest.raises(ArtifactError, match="this very process"), hold_lock(tmp_path / "x" / ".." / "run"):
            pass
        with pytest.raises(ArtifactError, match="this very process"), hold_lock(tmp_path / "run"):
            pass
    with hold_lock(tmp_path / "run"):
        pass
    assert names_in(tmp_path) == []


def _is_refused(path: Path, answers: Any) -> None:
    try:
        with hold_lock(path):
            answers.put("taken")
    except ArtifactError as error:
        answers.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_child_does_not_hold_it(tmp_path: Path) -> None:
    """A child inherits neither the lock nor the belief that it has it, and its end lets nothing go."""
    context = multiprocessing.get_context("fork")
    with hold_lock(tmp_path / "run"):
        answers = context.SimpleQueue()
        for _ in range(2):
            child = context.Process(target=_is_refused, args=(tmp_path / "run", answers))
            child.start()
            assert re.search(rf"process {os.getpid()} ", answers.get())
            child.join()
    assert names_in(tmp_path) == []


def test_many_at_once_never_meet(kind: str, tmp_path: Path) -> None:
    """Processes that come and go, all for one output: each is alone while it has it."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from hectocar.errors import ArtifactError\nfrom hectocar.disk.locks import hold_lock\n"
        + (
            "import errno, hectocar.disk.locks as l\ndef no(*_): raise OSError(errno.ENOLCK, 'x')\nl.fcntl.lockf = no\n"
            if kind == "none"
            else ""
        )
        + "here = Path('here'); wins = 0\nend = time.monotonic() + 1.0\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with hold_lock(Path('run')):\n"
        "            here.mkdir(); wins += 1; here.rmdir()\n"
        "    except ArtifactError: time.sleep(0.001)\n"
        "print(wins)"
    )

    def run(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(4)))
    assert [result.stderr for result in results] == [""] * 4
    assert sum(int(result.stdout) for result in results) > 10
    assert names_in(tmp_path) == []


def test_where_no_lock_can_stand_nothing_can_be_written(tmp_path: Path) -> None:
    """Under a file, or where the user may not write: said before any work."""
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file is no folder"), hold_lock(tmp_path / "file" / "run"):
        pass
    assert names_in(tmp_path) == ["file"]


def test_an_error_lets_it_go(tmp_path: Path) -> None:
    """Whatever ends the work, Ctrl-C included, ends the lock."""
    with pytest.raises(KeyboardInterrupt), hold_lock(tmp_path / "run"):
        raise KeyboardInterrupt
    assert not locks._held
    assert names_in(tmp_path) == []
