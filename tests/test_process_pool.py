"""Laws of decoding by processes: the batches of threads, one clear end for whatever happens, and nothing left behind."""

import errno
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hectocar.dataset.run_inputs import outcome_tree
from hectocar.errors import DataError, HectocarError
from hectocar.photos.process_pool import ProcessPool
from hectocar.progress import NoProgress
from hectocar.training import crops as crops_module
from hectocar.training.crops import TrainingCrops, choose_loader
from hectocar.training.loader import iter_training_batches
from stub_worker import FAILED, KILLED, LEFT, SLOW, STARVED, UNREAD
from tiny import change, make_config, make_fold, train, write_photos

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no shared memory without a name here")
Rows = NDArray[np.int64]


class Notes(NoProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_photos(tmp_path_factory.mktemp("사진"))


@pytest.fixture
def stub() -> Iterator[Callable[[int], ProcessPool]]:
    """Makes pools of processes that read no files."""
    pools: list[ProcessPool] = []

    def start(num_workers: int) -> ProcessPool:
        pools.append(ProcessPool("stub_worker", {"mark": 9}, num_workers, lambda row: f"file {row}"))
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


def rows_of(*batches: list[int]) -> list[Rows]:
    return [np.array(batch, dtype=np.int64) for batch in batches]


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def count_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + 60.0
    while not all(map(is_gone, pids)):
        assert time.monotonic() < end, "processes are left"
        time.sleep(0.02)


def by_threads(files: list[Path], config: Any, batches: list[Rows], size_px: int, epoch: int) -> list[NDArray[np.uint8]]:
    stream = iter_training_batches(
        files, batches, size_px, augment=config.augment, data=config.data, seed=config.training.seed, epoch=epoch
    )
    return [batch.images_BHWC for batch in stream]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_processes_give_the_bits_of_threads(files: list[Path], num_workers: int) -> None:
    """Epoch after epoch, in growing and shrinking sizes, whole and from the middle on; sample numbers beyond the files too."""
    config = change(make_config(), "data", loader="processes", num_workers=num_workers)
    crops = TrainingCrops(files, config, "cpu", NoProgress())
    order = np.random.default_rng(0).permutation(2 * len(files))
    batches = np.split(order.astype(np.int64), [5, 12, 20, 23, 30, 41, 42, 55])
    pids = []
    for epoch, (size_px, first) in enumerate([(32, 0), (64, 0), (24, 6), (48, 3)]):
        expected = by_threads(files, config, batches[first:], size_px, epoch)
        stream = crops.iter_batches(batches[first:], size_px, epoch)
        for rows, images, batch in zip(batches[first:], expected, stream, strict=True):
            assert batch.index_B.tolist() == rows.tolist()
            assert batch.problems == {}
            assert batch.images_BHWC.shape == images.shape
            assert (batch.images_BHWC == images).all()
        assert crops.pool is not None
        pids.append(crops.pool.pids())
    assert len(pids[0]) == num_workers
    assert pids == [pids[0]] * 4, "processes are started once"
    crops.close()
    crops.close()
    wait_until_gone(pids[0])
    with pytest.raises(HectocarError, match="have ended"):
        next(crops.iter_batches(batches, 32, 0))


def test_a_training_is_the_same_by_processes(files: list[Path], tmp_path: Path) -> None:
    """The loader changes neither the result nor the digest of a run, so a run may go on with the other."""
    data, config = make_fold(files), make_config(epochs=1)
    other = change(config, "data", loader="processes", num_workers=2)
    assert train(config, data, tmp_path / "threads") == train(other, data, tmp_path / "processes")
    assert outcome_tree(config, {}) == outcome_tree(other, {})


def test_an_unread_photograph_is_named(files: list[Path], tmp_path: Path) -> None:
    """As with threads, word by word; whoever mends it may go on with the same processes."""
    broken = tmp_path / "아반떼.jpg"
    broken.write_bytes(b"no photograph")
    config = change(make_config(), "data", loader="processes", num_workers=2)
    names, batches, messages = [*files[:4], broken], rows_of([0, 1], [2, 4, 3], [0]), []
    crops = TrainingCrops(names, config, "cpu", NoProgress())
    for stream in (
        crops.iter_batches(batches, 32, 0),
        iter_training_batches(names, batches, 32, augment=config.augment, data=config.data, seed=0, epoch=0),
    ):
        with pytest.raises(DataError) as caught:
            list(stream)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{broken}: changed since the manifest was made: not a photograph")
    broken.write_bytes(files[0].read_bytes())
    assert len(list(crops.iter_batches(batches, 32, 0))) == 3
    crops.close()


def test_batches_come_in_order_however_full_the_queue(stub: Callable[[int], ProcessPool]) -> None:
    """More photographs than a pipe holds, some slow, some unread (black, with their reason); an empty pass gives nothing."""
    pool = stub(3)
    assert list(pool.iter_decoded([], 2, 0)) == []
    batches = [np.arange(start, start + 900) for start in range(0, 9000, 900)]
    batches[1][:3] = SLOW, UNREAD, SLOW
    for rows, batch in zip(batches, pool.iter_decoded(batches, 2, 7), strict=True):
        assert batch.index_B.tolist() == rows.tolist()
        assert batch.problems == ({1: "gone"} if UNREAD in rows else {})
        expected = np.stack([rows % 251, np.full(900, 7), np.full(900, 9)], axis=1) * (rows != UNREAD)[:, None]
        assert (batch.images_BHWC == expected[:, None, None, :]).all()


def test_a_pass_that_is_given_up_disturbs_no_later_one(stub: Callable[[int], ProcessPool]) -> None:
    """What is still being decoded for it is waited for, also where the memory grows; the given-up one refuses to go on."""
    pool = stub(2)
    for size_px in (2, 5, 5):
        closed = pool.iter_decoded(rows_of(*[[SLOW, 1, SLOW]] * 6), size_px, 0)
        next(closed)
        closed.close()  # type: ignore[attr-defined]
        old = pool.iter_decoded(rows_of(*[[SLOW, 2]] * 6), size_px, 0)
        next(old)
        (batch,) = pool.iter_decoded(rows_of([3, 4, 5]), size_px + 1, 1)
        assert batch.images_BHWC[:, -1, -1].tolist() == [[3, 1, 9], [4, 1, 9], [5, 1, 9]]
        with pytest.raises(RuntimeError, match="another pass"):
            next(old)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (KILLED, rf"killed by signal 9 \(9 is often want of memory\) at file {KILLED}; go on with --resume; .*loader=threads"),
        (LEFT, rf"ended with code 3 at file {LEFT}; "),
        (FAILED, rf"^file {FAILED}: cannot be decoded \(ValueError: not foreseen\)$"),
    ],
)
def test_a_process_that_fails_ends_the_training(stub: Callable[[int], ProcessPool], row: int, message: str) -> None:
    """With one message that names the file, and with all processes; never by waiting."""
    pool = stub(2)
    with pytest.raises(HectocarError, match=message):
        list(pool.iter_decoded(rows_of([1, 2], [3, row], [4, 5]), 4, 0))
    wait_until_gone(pool.pids())
    with pytest.raises(HectocarError, match="have ended"):
        list(pool.iter_decoded(rows_of([1]), 4, 0))


def test_want_of_memory_is_called_so(stub: Callable[[int], ProcessPool]) -> None:
    with pytest.raises(MemoryError, match=f"file {STARVED}: .*no 7 GiB"):
        list(stub(1).iter_decoded(rows_of([STARVED]), 4, 0))


def test_a_process_killed_from_outside_is_noticed(stub: Callable[[int], ProcessPool]) -> None:
    """Also one that has nothing to do; and a program that cannot start at all says so."""
    pool = stub(3)
    stream = pool.iter_decoded(rows_of(*[[1]] * 9), 4, 0)
    next(stream)
    os.kill(pool.pids()[1], signal.SIGKILL)
    wait_until_gone([pool.pids()[1]])
    with pytest.raises(HectocarError, match="killed by signal 9"):
        list(stream)
    nobody = ProcessPool("stub_worker_that_is_not_there", {}, 1, str)
    with pytest.raises(HectocarError, match="ended with code 1"):
        list(nobody.iter_decoded(rows_of([1]), 4, 0))


def test_processes_end_with_the_pool_that_nobody_holds(stub: Callable[[int], ProcessPool]) -> None:
    """As after an error in the training; no descriptor is left either."""
    before = count_handles()
    pool = ProcessPool("stub_worker", {"mark": 0}, 2, str)
    stream, pids = pool.iter_decoded(rows_of([1], [2]), 4, 0), pool.pids()
    images = next(stream).images_BHWC
    del pool, stream
    gc.collect()
    wait_until_gone(pids)
    assert (images[0, 0, 0] == [1, 0, 0]).all(), "pixels outlive the pool"
    del images
    assert count_handles() == before


SCRIPT = """
import sys
import numpy as np
from hectocar.photos.process_pool import ProcessPool
from stub_worker import SLOW

pool = ProcessPool("stub_worker", {"mark": 0}, 2, str)  # no guard of __main__: nothing runs this file again
stream = pool.iter_decoded([np.full(64, SLOW)] * 10_000, 4, 0)
next(stream)
print(*pool.pids(), flush=True)
for batch in stream:
    pass
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_their_parent(tmp_path: Path, end: signal.Signals) -> None:
    """Ctrl-C reaches the parent only; whatever ends it, processes follow without a word, and nothing stays in /dev/shm."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, "utf-8")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    maps = Path(f"/proc/{pids[0]}/maps").read_text("utf-8")
    assert "photographs (deleted)" in maps, "the shared memory has a name"
    assert "/dev/shm" not in maps
    os.killpg(parent.pid, end)
    _, errors = parent.communicate(timeout=60)
    wait_until_gone(pids)
    assert parent.returncode == -end
    assert errors.count("Traceback") == (end == signal.SIGINT), errors
    assert "resource_tracker" not in errors


@pytest.mark.parametrize("refused", ["memory", "growth", "process", "system"])
def test_threads_stand_in_where_processes_are_refused(files: list[Path], monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """Said once; the batches are the same, and no process stays."""
    config, notes = change(make_config(), "data", loader="processes", num_workers=2), Notes()
    crops, batches = TrainingCrops(files, config, "cpu", notes), rows_of([1, 2], [3])

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if refused == "growth":
        assert len(list(crops.iter_batches(batches, 16, 0))) == 2
    if refused in ("memory", "growth"):
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    elif refused == "process":
        monkeypatch.setattr(subprocess, "Popen", refuse)
    else:
        monkeypatch.delattr(os, "memfd_create")
    for epoch in (1, 2):
        images = [batch.images_BHWC.copy() for batch in crops.iter_batches(batches, 32, epoch)]
        assert all(map(np.array_equal, images, by_threads(files, config, batches, 32, epoch)))
    (text,) = notes.texts
    assert text.startswith("photographs are decoded by threads: processes are refused here (")
    wait_until_gone(crops.pool.pids() if crops.pool else [])


def test_a_decoding_process_loads_no_network() -> None:
    """Of torch the core alone, which resizes: sixteen processes would need seconds and gigabytes for timm and the rest."""
    code = "import sys, hectocar.training.crop_worker; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True, text=True)
    loaded = set(result.stdout.split())
    assert {"timm", "safetensors", "torchvision", "hectocar.network.carnet", "hectocar.training.augment"} & loaded == set()
    assert "hectocar.training.loader" in loaded


@pytest.mark.parametrize(
    ("loader", "device", "cores", "memory", "expected"),
    [
        ("auto", "cuda", 5, True, "processes"),
        ("auto", "cuda", 4, True, "threads"),
        ("auto", "cuda", 16, False, "threads"),
        ("auto", "cpu", 64, True, "threads"),
        ("threads", "cuda", 16, True, "threads"),
        ("processes", "cpu", 1, True, "processes"),
    ],
)
def test_the_rule_of_auto(
    monkeypatch: pytest.MonkeyPatch, loader: str, device: str, cores: int, memory: bool, expected: str
) -> None:
    """Processes where more than four workers feed a GPU, on a system that can share memory with them."""
    monkeypatch.setattr(crops_module, "can_share_memory", lambda: memory)
    config = change(make_config(), "data", loader=loader, num_workers=cores)
    assert choose_loader(config.data, device) == expected
