"""One boundary: every command ends in a result or in one message and an exit code, whatever happens below."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hectocar.cli import main
from hectocar.cli.boundary import Terminated
from hectocar.cli.commands import COMMANDS
from hectocar.errors import ConfigError, WriteError
from tiny import write_photos

ARGUMENTS = {
    "audit": ["D", "--out", "o"], "folds": ["D"], "train": ["D", "--out", "o"], "predict": ["M", "p.jpg", "--out", "o.csv"],
    "score": ["s.csv", "a.csv"], "bundle": ["R", "--out", "o"], "finish": ["R", "--out", "o"], "preview": ["D"],
    "showroom": ["o"], "demo": [], "ablate": ["recipe", "D", "--out", "o"], "plan": [], "bench": [], "config": [],
}  # fmt: skip


class Panic(BaseException):
    """As Rust libraries raise it, outside of Exception."""


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException | Callable[[], Any], command: str = "config") -> None:
    """Lets a command raise an error, or do something."""

    def work(_: Any) -> None:
        if isinstance(error, BaseException):
            raise error
        error()

    monkeypatch.setattr(COMMANDS[command], "run", work)


def cause(error: BaseException, reason: BaseException) -> BaseException:
    error.__cause__ = reason
    return error


def oserror(number: int, *names: str) -> OSError:
    first, second = (*names, None, None)[:2]
    return OSError(number, os.strerror(number), first, None, second)


def raised_by(work: Callable[[], Any]) -> BaseException:
    try:
        work()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


ERRORS: list[tuple[BaseException, str]] = [
    (ConfigError("--x is 1; allowed: 2"), "--x is 1; allowed: 2"),
    (oserror(errno.ENOSPC, "o/x"), "o/x cannot be written: no room is left on the disk; make room; nothing was written; call"),
    (oserror(errno.ENOSPC), "a file cannot be written: no room is left on the disk; make room"),
    (oserror(errno.EFBIG), "the file would be larger than is allowed here (`ulimit -f`)"),
    (oserror(errno.EDQUOT, "q"), "your share of the disk is used up"),
    (
        cause(WriteError("o/x cannot be written: full"), oserror(errno.ENOSPC)),
        "o/x cannot be written: full; make room; nothing was",
    ),
    (oserror(errno.EACCES, "secret"), "secret may not be read or written by you; change its permissions"),
    (oserror(errno.EROFS, "cd"), "cd lies on a disk that cannot be written"),
    (oserror(errno.EISDIR, "dir"), "dir is a folder; allowed: a file"),
    (oserror(errno.ENOTDIR, "f/x"), "f/x lies below a file"),
    (oserror(errno.ENAMETOOLONG, "y" * 300), "has a name too long for this disk"),
    (oserror(errno.ENOENT, "gone"), "gone does not exist"),
    (oserror(errno.ELOOP, "l"), "l is a link that leads back to itself"),
    (oserror(errno.EMFILE, "m"), "too many files are open; give a smaller --workers"),
    (oserror(errno.EIO, "d"), "the disk reports an error"),
    (oserror(errno.EXDEV, "a", "b"), "a and b cannot be read or written"),
    (OSError("broken data stream when reading image file"), "cannot be read or written: broken data stream"),
    (oserror(errno.ENOMEM), "not enough memory"),
    (MemoryError(), "not enough memory (the system gave none)"),
    (raised_by(lambda: np.empty((2**22, 2**21))), "not enough memory (Unable to allocate"),
    (raised_by(lambda: torch.empty(2**46)), "not enough memory ("),
    (RecursionError("maximum recursion depth exceeded"), "an input is nested too deeply"),
    (raised_by(lambda: "\udcff".encode()), "is not valid Unicode ('utf-8' codec can't encode"),
    (raised_by(lambda: b"\xff".decode()), "is not valid Unicode"),
    (ModuleNotFoundError("No module named 'x'", name="x"), "the package 'x' is missing here"),
    (KeyError("finish"), "unexpected KeyError: 'finish'; a fault of hectocar or a damaged input; --debug shows the traceback"),
    (ZeroDivisionError(), "unexpected ZeroDivisionError: no message"),
    (AssertionError(), "unexpected AssertionError"),
    (ValueError("x" * 9000), "unexpected ValueError: xxxx"),
    (Panic("called unwrap on None"), "unexpected Panic: called unwrap on None"),
    (ExceptionGroup("two", [ValueError("a"), KeyError("b")]), "unexpected ExceptionGroup: two"),
    (StopIteration(), "unexpected StopIteration"),
    (raised_by(lambda: torch.zeros(2, 3) @ torch.zeros(2, 3)), "unexpected RuntimeError: "),
]


@pytest.mark.parametrize(("error", "message"), ERRORS, ids=[f"{type(e).__name__}-{n}" for n, (e, _) in enumerate(ERRORS)])
def test_whatever_is_raised_is_one_message_and_exit_code_2(
    error: BaseException, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says which file and what to do; there is no traceback unless --debug asks for one, before or after."""
    fail_with(monkeypatch, error)
    assert main(["config"]) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert message in said
    assert said.startswith("hectocar: ")
    assert said.count("\n") == 1
    assert len(said) < 600
    assert "Traceback" not in said
    for arguments in (["--debug", "config"], ["config", "--debug"]):
        assert main(arguments) == 2
        debugged = capsys.readouterr().err
        assert "Traceback (most recent call last)" in debugged
        assert debugged.endswith(said)


def test_debug_shows_what_is_wrong_with_the_arguments_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the words cannot be parsed."""
    assert main(["train", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_file_of_a_command_is_named_where_the_error_names_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A write to a full disk says nothing of the file: the message says where the command writes."""
    fail_with(monkeypatch, oserror(errno.ENOSPC), "train")
    assert main(["train", "D", "--out", "runs/a"]) == 2
    assert capsys.readouterr().err == (
        "hectocar: a file of runs/a cannot be written: no room is left on the disk; make room; "
        "all up to the last checkpoint is kept; call the same command again with --resume\n"
    )


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_says_in_its_own_words_how_to_go_on(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends with 130, SIGTERM with 143, and only train speaks of --resume."""
    for error, code in ((KeyboardInterrupt(), 130), (Terminated(signal.SIGTERM), 143)):
        fail_with(monkeypatch, error, command)
        assert main([command, *ARGUMENTS[command]]) == code
        said = capsys.readouterr().err
        assert said.startswith("hectocar: interrupted; ")
        assert "call the same command again" in said
        assert said.count("\n") == 1
        assert ("--resume" in said) == (command == "train")


def test_a_prediction_without_a_file_keeps_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is kept beside --out is not there without it."""
    fail_with(monkeypatch, KeyboardInterrupt(), "predict")
    assert main(["predict", "M", "p.jpg"]) == 130
    assert "nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_interruption_and_handlers_are_put_back(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cleans up on Ctrl-C cleans up on SIGTERM and when the terminal closes; a caller's handlers stay the caller's."""
    cleaned: list[str] = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5.0)
        except KeyboardInterrupt:
            cleaned.append("cleaned")
            raise

    fail_with(monkeypatch, work)
    around = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        assert main(["config"]) == 128 + number
        assert cleaned == ["cleaned"]
        assert capsys.readouterr().err.startswith("hectocar: interrupted; ")
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, around)


def test_under_nohup_a_closed_terminal_interrupts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP that the caller ignores stays ignored: the command goes on to its end, and it stays so afterwards."""
    around = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fail_with(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert main(["config"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, around)


def test_a_callers_own_handler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that calls main() and listens to SIGTERM goes on to hear it."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        fail_with(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert main(["config"]) == 0
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_main_works_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the main thread may set handlers; elsewhere there are none to set."""
    codes: list[int] = []
    fail_with(monkeypatch, lambda: None)
    thread = threading.Thread(target=lambda: codes.append(main(["config"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_help_is_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    """--help prints and ends with 0, as a function too."""
    assert main(["--help"]) == 0
    assert "COMMAND" in capsys.readouterr().out
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        assert "--debug" in capsys.readouterr().out


NOWHERE = ["", "a\0b", "nowhere/at/all", "x" * 5000]
WITH_CONFIG, WITH_DATA = ("folds", "train", "preview", "plan"), ("audit", "folds", "train", "bundle", "finish", "preview")
SWEEP = [
    *(([command, *ARGUMENTS[command], "--nonsense"], "unrecognized arguments") for command in COMMANDS),
    *(([command, *ARGUMENTS[command], "--debug=3"], "ignored explicit argument") for command in COMMANDS),
    *(([command], "arguments are required") for command in COMMANDS if ARGUMENTS[command]),
    *(([command, *ARGUMENTS[command], "--set", "x"], "dotted.path=value") for command in (*WITH_CONFIG, "ablate")),
    *(([command, *ARGUMENTS[command], "--preset", "\x1b[31m"], "\\x1b[31m") for command in WITH_CONFIG),
    *(([command, *ARGUMENTS[command], "--config", path], "") for command in WITH_CONFIG for path in NOWHERE),
    *(([command, path, "--out", "o"], "") for command in WITH_DATA for path in NOWHERE),
    *((["predict", path, path], "") for path in NOWHERE),
    *((["score", path, path], "") for path in NOWHERE),
    *((["ablate", path, path, "--out", "o"], "") for path in NOWHERE),
    *(([command, "D", "--out", ""], "--out is ''; allowed: ") for command in WITH_DATA),
    (["showroom", ""], "allowed: a text that is not empty"),
    (["trian"], "invalid choice: 'trian'"),
    (["predict", "M", "p", "--equivalent", "best"], "invalid choice: 'best'"),
    (["finish", "R", "--out", "o", "--views", ","], "--views"),
    ([], "arguments are required: COMMAND"),
    (["train", "D", "--out", "o", "--fold", "99"], "--fold is 99; allowed: 0 to 4, or all"),
]


def test_no_wrong_word_is_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command, wrong in every way: exit code 2, one message that says what is wrong, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    for arguments, words in SWEEP:
        assert main(arguments) == 2, arguments
        out, said = capsys.readouterr()
        assert words in said, (arguments, said)
        assert out == ""
        assert said.startswith("hectocar: ")
        assert "unexpected" not in said, (arguments, said)
        assert "Traceback" not in said
        assert said.count("hectocar: ") == 1
        assert "\x1b" not in said
        assert not list(tmp_path.iterdir()), arguments


def start(*arguments: str, code: str = "", **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "hectocar"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **options.pop("env", {})}
    return subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, **options)


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    """`hectocar config | head -1` is no failure: exit code 0 and not a word, at the interpreter's end either."""
    with start("config", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")


def test_a_terminated_program_is_gone_at_once_with_its_workers() -> None:
    """SIGTERM to the command alone: its worker processes end too, in the middle of their work, and nothing is a traceback."""
    code = (
        "import multiprocessing, sys, time; from concurrent.futures import ProcessPoolExecutor\n"
        "from hectocar.cli import command_line as cli\n"
        "def work(args):\n"
        "    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('fork')) as pool:\n"
        "        tasks = [pool.submit(time.sleep, 600) for _ in range(2)]\n"
        "        try: print('ready', flush=True); tasks[0].result()\n"
        "        except BaseException: pool.shutdown(wait=False, cancel_futures=True); raise\n"
        "cli.COMMANDS['config'].run = work\n"
        "sys.exit(cli.main(['config']))"
    )
    with start(code=code, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(1.0)  # a signal between the last look at signals and the wait for a lock is seen when the wait ends
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.startswith(b"hectocar: interrupted; ")
    assert b"Traceback" not in said


def test_a_worker_that_lost_its_signal_is_ended_all_the_same() -> None:
    """Python forgets a SIGTERM that reaches a forked process before it has begun to run: as if the worker ignored it."""
    code = (
        "import multiprocessing, signal, sys, time\n"
        "from hectocar.cli import command_line as cli\n"
        "def sleep():\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN); ready.set(); time.sleep(600)\n"
        "context = multiprocessing.get_context('fork'); ready = context.Event()\n"
        "def work(args):\n"
        "    context.Process(target=sleep).start(); ready.wait(); raise KeyboardInterrupt\n"
        "cli.COMMANDS['config'].run = work\n"
        "sys.exit(cli.main(['config']))"
    )
    with start(code=code, stdout=subprocess.PIPE) as process:
        process.communicate(timeout=60)
    assert process.returncode == 130


def test_a_run_of_few_photographs_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With all folds trained, no further fold helps: the message blames the number of photographs, not the folds."""
    for place, file in enumerate(write_photos(tmp_path / "data")):
        if place % 8 >= 4 or place >= 16:
            file.unlink()
    for empty in (tmp_path / "data/train").iterdir():
        if not any(empty.iterdir()):
            empty.rmdir()
    tiny = ["--preset", "demo", "--fold", "all", "--device", "cpu"]
    for setting in ("network.backbone=test_efficientnet", "training.epochs=1", "training.warmup_epochs=0", "data.num_folds=2"):
        tiny += ["--set", setting]
    run = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "data"), *tiny, "--out", run]) == 0
    capsys.readouterr()
    assert main(["finish", run, "--out", str(tmp_path / "b"), "--device", "cpu"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(
        f"hectocar: {run}: trained with 8 photographs; fitting needs 10 or more; give more photographs, or"
    )
    assert not (tmp_path / "b").exists()
