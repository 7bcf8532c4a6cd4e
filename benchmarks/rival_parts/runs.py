"""Environments of rivals and their runs: pinned packages by uv, one process per run, its peak memory, what stopped it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hectocar.errors import ArtifactError, HectocarError

RUNNERS = Path(__file__).parents[1] / "rival_runners"
INSTALL_SECONDS = 1800
_PAGE_SECONDS = 1.0


class RivalError(HectocarError):
    """A rival could not be installed or did not end well; the others go on."""


@dataclass(frozen=True)
class Rival:
    """A program to be compared with."""

    runner: str
    """Below RUNNERS."""
    packages: tuple[str, ...]
    """Pinned; none means this very environment."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"as it is": {}})
    file: str = ""
    """The option that names the rival's own script, where it is one."""
    environment: str = ""
    """Shared with the rival of this name; empty means its own."""


def make_environment(name: str, packages: tuple[str, ...], envs: Path) -> Path:
    """The Python of an environment with these packages, made by uv unless it stands there; what was installed is listed in
    ENVS/NAME/installed.txt.

    Raises:
        RivalError: uv is not there, or says that it cannot be done.
    """
    if not packages:
        return Path(sys.executable)
    folder = envs / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8").startswith(_pins(packages)):
        return python.absolute()
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise RivalError(f"{name}: uv is not there; install it beside this Python: `python -m pip install uv`")
    call = [uv, "venv", "--quiet", "--clear", "--python", f"{sys.version_info.major}.{sys.version_info.minor}", str(folder)]
    _install(name, call)
    _install(name, [uv, "pip", "install", "--quiet", "--python", str(python), *packages])
    stamp.write_text(_pins(packages) + _install(name, [uv, "pip", "freeze", "--python", str(python)]), encoding="utf-8")
    return python.absolute()


def _pins(packages: tuple[str, ...]) -> str:
    return f"# {' '.join(packages)}\n"


def _install(name: str, call: list[str]) -> str:
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RivalError(f"{name}: not installed within {INSTALL_SECONDS // 60} minutes: {' '.join(call[1:])}") from error
    if done.returncode:
        raise RivalError(f"{name}: not installed: {' '.join(done.stderr.split())}")
    return done.stdout


def run_job(folder: Path, job: Mapping[str, Any], runner: Path, python: Path) -> dict[str, float]:
    """Runs a rival once; one that has ended well with the same job is not run again.

    Args:
        folder: Of this run alone; answers.npz, usage.json and log.txt lie there afterwards.
        job: Fields of ``rival_runners.common.Job`` but ``out``.
        runner: The program that gets the job.
        python: Of the rival's environment.

    Returns:
        minutes, cpu_minutes and epochs of its training, peak_gib of the whole run.

    Raises:
        ArtifactError: Another job was run there.
        RivalError: It did not end well; the end of its log is named.
    """
    path, answers, usage = folder / "job.json", folder / "answers.npz", folder / "usage.json"
    text = json.dumps(job, indent=1, sort_keys=True)
    if answers.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise ArtifactError(f"{folder}: another job was run there (job.json differs); give another --out")
        figures: dict[str, float] = json.loads(usage.read_text(encoding="utf-8"))
        return figures
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    folder.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    quiet = {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [python, runner, path.absolute()], stdout=log, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, **quiet},
            start_new_session=True,
        )  # fmt: skip
        try:
            peak_bytes = _watch(process)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the rival's own script and its loaders
            process.wait()
    if process.returncode or not answers.is_file():
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        answers.unlink(missing_ok=True)
        raise RivalError(f"{folder.name}: ended with {process.returncode}: {last[:300]} (see {folder / 'log.txt'})")
    figures = json.loads(usage.read_text(encoding="utf-8")) | {"peak_gib": peak_bytes / 2**30}
    usage.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def _watch(process: "subprocess.Popen[bytes]") -> int:
    """Waits; the most bytes that the process and its children had in memory at once, shared pages counted once."""
    peak, pause = 0, threading.Event()
    while process.poll() is None:
        peak = max(peak, _tree_bytes(process.pid))
        pause.wait(_PAGE_SECONDS)
    return peak


def _tree_bytes(pid: int) -> int:
    total, waiting = 0, [pid]
    while waiting:
        place = Path("/proc") / str(waiting.pop())
        try:
            lines = (place / "smaps_rollup").read_text().splitlines()
            total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            for children in place.glob("task/*/children"):
                waiting += [int(child) for child in children.read_text().split()]
        except OSError:  # it has just ended
            continue
    return total
