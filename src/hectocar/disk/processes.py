"""Which process wrote something, and whether it still lives: its number alone is given away again."""

import functools
import hashlib
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_TOKEN = re.compile(r"([0-9a-f]{8})-(\d+)-([0-9a-f]*)")


@dataclass(frozen=True)
class Process:
    """A process, as it is told from all others, also from one that gets its number later."""

    machine: str
    """Eight digits of host and process namespace: elsewhere the number means nothing."""
    pid: int
    started: str
    """When, in hexadecimal digits that only compare; empty where the system does not say."""

    def token(self) -> str:
        """For file names: letters, digits and dashes."""
        return f"{self.machine}-{self.pid}-{self.started}"

    def is_local(self) -> bool:
        """Whether this machine can tell if it lives."""
        return self.machine == _machine()

    def is_dead(self) -> bool:
        """Certainly dead; a process of another machine never is."""
        if not self.is_local():
            return False
        started = _find_start(self.pid)
        return started is None or (bool(started and self.started) and started != self.started)


def read_token(text: str) -> Process | None:
    """What ``Process.token`` wrote; None for anything else."""
    found = _TOKEN.fullmatch(text)
    return Process(found[1], int(found[2]), found[3]) if found else None


def this_process() -> Process:
    """The one that asks."""
    return _describe_own(os.getpid())


@functools.cache
def _describe_own(pid: int) -> Process:
    return Process(_machine(), pid, _find_start(pid) or "")


@functools.cache
def _machine() -> str:
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path: pid:[4026531836]
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _find_start(pid: int) -> str | None:
    """When the process of a number started: None where there is none, empty where the system does not say."""
    if sys.platform == "win32":
        return _find_windows_start(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:  # another user's: it lives
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return _ask_ps(pid)
    return None if fields[0] in b"ZX" else f"{int(fields[19]):x}"  # a zombie has written its last


def _ask_ps(pid: int) -> str:
    try:
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return hashlib.sha256(found.stdout.strip()).hexdigest()[:12] if found.stdout.strip() else ""


def _find_windows_start(pid: int) -> str | None:
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return None if kernel.GetLastError() == 87 else ""  # ERROR_INVALID_PARAMETER: no such process
    times, code = [ctypes.c_uint64() for _ in range(4)], ctypes.c_uint32()
    kernel.GetProcessTimes(handle, *map(ctypes.byref, times))
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return f"{times[0].value:x}" if code.value == 259 else None  # STILL_ACTIVE
