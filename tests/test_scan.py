"""Laws of the scan's cache: it never changes an answer, never stands in the way, and never touches the photographs."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from hectocar.dataset import scan as scan_module
from hectocar.dataset import scan_cache
from hectocar.dataset import workers as processes
from hectocar.dataset.scan import PhotoScan, scan_files
from hectocar.errors import DataError
from hectocar.photos import decode
from pictures import encode, make_picture, save

NAMES = tuple(f"train/쏘나타/{number}.jpg" for number in range(8))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight photographs, one of them damaged, and a cache folder of the test's own."""
    monkeypatch.setenv("HECTOCAR_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(NAMES):
        save(tmp_path / "data" / name, encode(make_picture(number, 80, 60)))
    save(tmp_path / "data" / NAMES[3], b"no photograph")
    return tmp_path / "data"


def scan(data: Path, names: tuple[str, ...] = NAMES, num_workers: int = 2) -> PhotoScan:
    return scan_files(data, names, max_megapixels=100.0, num_workers=num_workers)


def cache_files(data: Path) -> list[Path]:
    return sorted((data.parent / "cache").iterdir())


def answers(result: PhotoScan) -> list[str]:
    """Rows as text: NaN equals NaN there."""
    return [repr(row) for row in result.rows]


def test_a_second_scan_opens_no_file(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows come from the cache, damaged files included, and are the same to the last bit."""
    first = scan(data)
    monkeypatch.setattr(scan_module, "measure_file", lambda *_: pytest.fail("a file was opened"))
    second = scan(data)
    assert (first.num_reused, second.num_reused) == (0, len(NAMES))
    assert answers(second) == answers(first)
    assert second.rows[3].problem.startswith("not a photograph")


def test_only_what_changed_is_measured_again(data: Path) -> None:
    """Another size or another modification time makes a file new; the others stay."""
    first = scan(data)
    save(data / NAMES[1], encode(make_picture(77, 80, 60)))
    os.utime(data / NAMES[2], ns=(0, 1_000_000_000))
    second = scan(data)
    assert second.num_reused == len(NAMES) - 2
    assert second.rows[1].sha1 != first.rows[1].sha1
    assert second.rows[2].sha1 == first.rows[2].sha1


@pytest.mark.parametrize("damage", ["text", "cut", "flipped", "foreign", "old version"])
def test_a_cache_that_cannot_be_trusted_is_rebuilt(data: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies in the cache's place, the answer is that of a fresh scan, and the cache is whole afterwards."""
    first = scan(data)
    (cache,) = cache_files(data)
    raw = cache.read_bytes()
    if damage == "text":
        cache.write_text("not a table")
    elif damage == "cut":
        cache.write_bytes(raw[: len(raw) // 2])
    elif damage == "flipped":
        middle = len(raw) // 3
        cache.write_bytes(raw[:middle] + bytes(255 - byte for byte in raw[middle : middle + 40]) + raw[middle + 40 :])
    elif damage == "foreign":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"a": [1, 2]}), cache)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(scan_cache, "CACHE_VERSION", "hectocar-scan-0")
            cache.unlink()
            scan(data)
    again = scan(data)
    assert again.num_reused == 0
    assert answers(again) == answers(first)
    assert scan(data).num_reused == len(NAMES)


def test_the_cache_lies_elsewhere_and_can_be_switched_off(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written beside the photographs; HECTOCAR_CACHE=off and an unwritable folder cost time, not the answer."""
    before = sorted(path.as_posix() for path in data.rglob("*"))
    first = scan(data)
    assert sorted(path.as_posix() for path in data.rglob("*")) == before
    (data.parent / "a file").write_text("")
    for setting in ("off", str(data.parent / "a file")):
        monkeypatch.setenv("HECTOCAR_CACHE", setting)
        again = scan(data)
        assert (again.num_reused, answers(again)) == (0, answers(first))


def test_other_folders_of_the_same_data_keep_their_rows(data: Path) -> None:
    """A command that scans the training photographs only does not forget the test set; deleted files are forgotten."""
    scan(data)
    assert scan(data, NAMES[:2]).num_reused == 2
    save(data / "test/0.jpg", encode(make_picture(50, 80, 60)))
    (data / NAMES[7]).unlink()
    assert scan(data, ("test/0.jpg",)).num_reused == 0
    assert scan(data, (*NAMES[:7], "test/0.jpg")).num_reused == 8


def test_a_missing_file_is_a_row_with_a_problem(data: Path) -> None:
    """A file that disappears between listing and reading is named, and is looked for again next time."""
    result = scan(data, (*NAMES, "train/쏘나타/gone.jpg"))
    assert "cannot be read" in result.rows[-1].problem
    save(data / "train/쏘나타/gone.jpg", encode(make_picture(1, 80, 60)))
    assert scan(data, (*NAMES, "train/쏘나타/gone.jpg")).rows[-1].problem == ""


def test_the_number_of_threads_does_not_matter(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, two and five threads give the same rows in the order asked for."""
    monkeypatch.setenv("HECTOCAR_CACHE", "off")
    assert answers(scan(data, num_workers=1)) == answers(scan(data, num_workers=2)) == answers(scan(data, num_workers=5))


def test_processes_answer_as_threads_do(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From some number of photographs on the work is done by processes: the rows are the same."""
    monkeypatch.setenv("HECTOCAR_CACHE", "off")
    expected = answers(scan(data))
    monkeypatch.setattr(scan_module, "PROCESSES_FROM", 2)
    assert answers(scan(data)) == expected


def test_a_killed_process_is_a_message_and_loses_no_work(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies (memory, a crash in a decoder) ends the scan with advice; the next scan goes on."""
    monkeypatch.setattr(scan_module, "PROCESSES_FROM", 2)
    with monkeypatch.context() as patch:
        patch.setattr(processes, "enter_worker", lambda _: os._exit(9))
        with pytest.raises(DataError, match=r"was killed .*--workers 1"):
            scan(data)
    assert len(scan(data)) == len(NAMES)


def test_an_interrupted_scan_goes_on(data: Path) -> None:
    """What was measured before the interruption is not measured again."""

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan_files(data, NAMES, max_megapixels=100.0, num_workers=1, on_photo=stop)
    assert scan(data).num_reused >= 4


def test_two_scans_at_once_do_not_spoil_the_cache(data: Path) -> None:
    """Scans that overlap all answer rightly, and the cache that is left is whole."""
    expected = answers(scan(data))
    cache_files(data)[0].unlink()
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(answers(scan(data)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
    assert scan(data).num_reused == len(NAMES)
    assert len(cache_files(data)) == 1


def test_another_pixel_limit_has_a_cache_of_its_own(data: Path) -> None:
    """A photograph that was refused under one limit is judged anew under another."""
    strict = scan_files(data, NAMES, max_megapixels=0.001)
    assert all(row.problem for row in strict.rows)
    assert [bool(row.problem) for row in scan(data).rows] == [number == 3 for number in range(8)]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ENOMEM])
def test_a_passing_read_error_is_not_remembered(data: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The photograph is named for this time; what the system refused says nothing about the bytes, so it is read again."""
    real = Path.read_bytes

    def refuse(file: Path) -> bytes:
        if file == data / NAMES[0]:
            raise OSError(number, os.strerror(number))
        return real(file)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        assert scan(data).rows[0].problem == f"cannot be read ({os.strerror(number)})"
    second = scan(data)
    assert (second.rows[0].problem, second.num_reused) == ("", len(NAMES) - 1)


def test_want_of_memory_is_not_remembered(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder without memory is no damage of the photograph."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(decode.Image, "open", refuse)
        assert all(row.problem.startswith("not enough memory") for row in scan(data).rows)
    second = scan(data)
    assert second.num_reused == 0
    assert [bool(row.problem) for row in second.rows] == [number == 3 for number in range(8)]


@pytest.mark.parametrize("seconds", [-1, -(2**34), 2**33, 2**34 - 1])
def test_a_time_that_cannot_be_is_not_relied_upon(data: Path, seconds: int) -> None:
    """Before 1970, in the future, beyond 64 bits of nanoseconds: such a file is measured each time, and nothing overflows."""
    os.utime(data / NAMES[0], ns=(seconds * 10**9, seconds * 10**9))
    if (data / NAMES[0]).stat().st_mtime_ns != seconds * 10**9:
        pytest.skip("the file system keeps no such time")
    first = scan(data)
    second = scan(data)
    assert (first.num_reused, second.num_reused) == (0, len(NAMES) - 1)
    assert answers(second) == answers(first)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("sha1", "x"), ("sha1", None), ("pixel_sha1", "00"), ("num_bytes", -1), ("exif_orientation", 9), ("jpeg_quality", 101),
        ("width_px", 0), ("brightness", float("nan")), ("sharpness", float("inf")), ("saturation", 1e300), ("thumb", b"x"),
        ("width_px", "x"), ("brightness", True), ("problem", None), ("path", None), ("mtime_ns", 1.5),
    ],
)  # fmt: skip
def test_values_that_no_scan_gives_are_not_believed(data: Path, column: str, value: object) -> None:
    """One cell of another type or out of its range, and the whole cache starts anew."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = scan(data)
    (cache,) = cache_files(data)
    table = pq.read_table(cache)
    values = table.column(column).to_pylist()
    changed = [value] * len(values) if type(value) is not type(values[0]) and value is not None else [value, *values[1:]]
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(changed)).replace_schema_metadata(table.schema.metadata), cache)
    again = scan(data)
    assert (again.num_reused, answers(again)) == (0, answers(first))


def test_a_user_without_a_home_has_no_cache(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's unknown user is no reason to fail."""

    def homeless() -> NoReturn:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HECTOCAR_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert scan(data).num_reused == scan(data).num_reused == 0


@pytest.mark.parametrize(
    "missing", ["affinity", "os.fork", "start method", "macOS", "semaphores", "shared memory", "processes"]
)
def test_the_scan_runs_on_every_system(data: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no sched_getaffinity, Windows no fork, some containers no semaphores or no room for a process: threads work."""
    expected = answers(scan(data))
    monkeypatch.setenv("HECTOCAR_CACHE", "off")
    monkeypatch.setattr(scan_module, "PROCESSES_FROM", 2)

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    def lack(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("This Python build lacks multiprocessing.synchronize")

    if missing == "affinity":
        monkeypatch.delattr(os, "sched_getaffinity")
    elif missing == "os.fork":
        monkeypatch.delattr(os, "fork")
    elif missing == "start method":
        monkeypatch.setattr(processes, "get_all_start_methods", lambda: ["spawn"])
    elif missing == "macOS":
        monkeypatch.setattr(processes.sys, "platform", "darwin")
    elif missing == "semaphores":
        monkeypatch.setattr(processes, "ProcessPoolExecutor", lack)
    elif missing == "shared memory":
        monkeypatch.setattr(processes, "ProcessPoolExecutor", refuse)
    else:
        monkeypatch.setattr(multiprocessing.get_context("fork").Process, "start", refuse)
    assert answers(scan(data, num_workers=0 if missing == "affinity" else 2)) == expected


_KILLED_SCAN = """
import os, sys, time
from hectocar.dataset import workers as processes
def work(task):
    os.write(1, b"%d\\n" % os.getpid())  # in one piece: two workers write at once
    time.sleep(30)
pool, results = processes.start_pool(work, [0] * 128, 2, processes=True)
list(results)
"""


@pytest.mark.skipif(not processes.can_fork(), reason="this system has no worker processes")
def test_workers_leave_with_a_parent_that_is_killed() -> None:
    """SIGKILL gives a parent no moment to say goodbye; its workers notice, and the pipe that they hold is closed soon."""
    with subprocess.Popen([sys.executable, "-c", _KILLED_SCAN], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        os.kill(workers[0], signal.SIGTERM)  # meant for the parent, which hears it too, and ends the work in order
        os.kill(workers[1], signal.SIGINT)
        time.sleep(0.2)
        assert all(Path(f"/proc/{worker}").exists() for worker in workers if Path("/proc/self").exists())
        parent.kill()
        assert parent.communicate(timeout=20)[0] == ""  # ends when the last worker has closed it
