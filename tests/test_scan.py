"""Laws of the scan's cache: it never changes an answer, never stands in the way, and never touches the photographs."""

import os
import threading
from pathlib import Path

import pytest

from hectocar.errors import DataError
from hectocar.photos import scan as scan_module
from hectocar.photos.scan import PhotoScan, scan_files
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
            patch.setattr(scan_module, "CACHE_VERSION", "hectocar-scan-0")
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
        patch.setattr(scan_module, "_ignore_interrupt", lambda: os._exit(9))
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
