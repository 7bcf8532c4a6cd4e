"""Laws of the memory plan: it counts what autograd keeps, grows with the batch, and splits what does not fit."""

import math
import resource
from pathlib import Path

import pytest
import torch

from hectocar.config.schema import SizePhase
from hectocar.disk.artifacts import EventLog
from hectocar.network.carnet import CarNet
from hectocar.training import memory
from hectocar.training.memory import choose_chunks, count_activation_bytes, count_fixed_bytes, read_free_bytes, read_peak_bytes
from tiny import CPU, make_config, make_fold, train, write_photos

CONFIG = make_config(sizes=(SizePhase(epochs=1.0, size_px=64, batch_size=32, learning_rate=1e-3),), ema_decay=0.0)


@pytest.fixture(scope="module")
def network() -> CarNet:
    torch.manual_seed(0)
    return CarNet(CONFIG.network, 4)


def test_activations_grow_with_the_area(network: CarNet) -> None:
    """Twice the side keeps about four times as much, and at least every convolution's input."""
    small, large = (count_activation_bytes(network, size_px, "float32") for size_px in (64, 128))
    assert large / small == pytest.approx(4.0, rel=0.1)
    assert small > 3 * 64 * 64 * 4


def test_counting_changes_nothing(network: CarNet) -> None:
    """Weights, running statistics, mode and the random numbers are as they were."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    network.eval()
    count_activation_bytes(network, 64, "float32")
    assert not network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_batch_is_split_as_far_as_it_must(network: CarNet) -> None:
    """Plenty or unknown memory: one part. Room for a tenth of the batch: about ten. None at all: two photographs at a time."""
    fixed = count_fixed_bytes(network, CONFIG)
    whole = 32 * 1.35 * count_activation_bytes(network, 64, "float32")
    assert choose_chunks(CONFIG, network, 0) == {"64x32": 1}
    assert choose_chunks(CONFIG, network, math.ceil((fixed + whole) / 0.8) + 1000) == {"64x32": 1}
    assert choose_chunks(CONFIG, network, int((fixed + whole / 2) / 0.8) + 1000) == {"64x32": 2}
    assert choose_chunks(CONFIG, network, 1) == {"64x32": 16}
    limited = make_config(sizes=CONFIG.training.sizes, ema_decay=0.0, memory_gib=(fixed + whole / 4) / 2**30 + 1e-4)
    assert choose_chunks(limited, network, 2**40)["64x32"] == 4


def test_this_machine_says_what_is_free() -> None:
    """More than nothing, and less than a petabyte."""
    assert 0 < read_free_bytes(CPU) < 2**50


MEMINFO = "MemTotal:       32000000 kB\nMemFree:         1000000 kB\nMemAvailable:   16000000 kB\n"
MACHINE = 16_000_000 * 1024
NO_LIMIT_1 = "9223372036854771712"
GIB = 2**30


def write_system(root: Path, groups: str, files: dict[str, str], meminfo: str = MEMINFO) -> Path:
    """A proc and sys of our own: /proc/meminfo, /proc/self/cgroup and files below /sys/fs/cgroup."""
    for name, text in {"proc/meminfo": meminfo, "proc/self/cgroup": groups, "proc/self/statm": "1000 500 1 1 0 1 0\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


V2 = "0::/work.slice/job.scope\n"
V1 = "9:name=systemd:/\n4:cpu,memory:/docker/abc\n1:cpu:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (V2, {}, MACHINE),
        (V2, {"work.slice/job.scope/memory.max": "max", "work.slice/job.scope/memory.current": str(GIB)}, MACHINE),
        (V2, {"work.slice/job.scope/memory.max": str(4 * GIB), "work.slice/job.scope/memory.current": str(GIB)}, 3 * GIB),
        (V2, {"work.slice/memory.max": str(2 * GIB), "work.slice/memory.current": str(GIB),
              "work.slice/job.scope/memory.max": str(4 * GIB), "work.slice/job.scope/memory.current": str(GIB)}, GIB),
        (V2, {"work.slice/job.scope/memory.high": str(3 * GIB), "work.slice/job.scope/memory.current": str(GIB)}, 2 * GIB),
        ("0::/\n", {"memory.max": str(4 * GIB), "memory.current": str(3 * GIB)}, GIB),
        ("0::/../../host/path\n", {"memory.max": str(4 * GIB), "memory.current": str(3 * GIB)}, GIB),
        (V2, {"work.slice/job.scope/memory.max": str(4 * GIB), "work.slice/job.scope/memory.current": str(4 * GIB),
              "work.slice/job.scope/memory.stat": f"anon 5\ninactive_file {GIB}\nactive_file {GIB}\nfile 7"}, 2 * GIB),
        (V2, {"work.slice/job.scope/memory.max": str(GIB), "work.slice/job.scope/memory.current": str(2 * GIB)}, 1),
        (V1, {"memory/docker/abc/memory.limit_in_bytes": str(5 * GIB), "memory/docker/abc/memory.usage_in_bytes": str(GIB),
              "memory/memory.limit_in_bytes": NO_LIMIT_1, "memory/memory.usage_in_bytes": str(9 * GIB)}, 4 * GIB),
        (V1, {"memory/memory.limit_in_bytes": str(2 * GIB), "memory/memory.usage_in_bytes": str(GIB),
              "memory/memory.stat": "total_inactive_file 4096\ninactive_file 1"}, GIB + 4096),
        (V1, {"memory/memory.limit_in_bytes": NO_LIMIT_1, "memory/memory.usage_in_bytes": "0"}, MACHINE),
    ],
)  # fmt: skip
def test_a_containers_limit_is_seen(
    groups: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest room counts: of the machine, of the process's group, of each group above it; both versions of groups.

    Read files count as free, no limit counts as none, and a limit that is passed already leaves next to nothing, which is
    not "unknown".
    """
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert read_free_bytes(CPU, system=write_system(tmp_path, groups, files)) == expected


def test_the_process_limit_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ulimit -v` bounds the address space: what is mapped already is not free any more."""
    monkeypatch.setattr(resource, "getrlimit", lambda what: (GIB, GIB) if what == resource.RLIMIT_AS else (0, 0))
    root = write_system(tmp_path, V2, {})
    assert read_free_bytes(CPU, system=root) == GIB - 1000 * resource.getpagesize()


def test_jobs_share_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """N trainings side by side plan with an Nth each, on a processor and on a GPU; next to nothing never becomes unknown."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert read_free_bytes(CPU, 4, write_system(tmp_path, V2, {})) == MACHINE // 4
    full = {"memory.max": "1", "memory.current": "1"}
    assert read_free_bytes(CPU, 4, write_system(tmp_path / "full", V2, full)) == 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * GIB, 80 * GIB))
    assert read_free_bytes(torch.device("cuda"), 5) == 2 * GIB


def test_other_systems_know_nothing_and_end_in_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc, and without the module that Windows lacks: unknown, so that nothing is split."""
    monkeypatch.setattr(memory, "resource", None)
    assert read_free_bytes(CPU, system=tmp_path) == 0


def test_an_epochs_event_says_how_fast_and_how_large(tmp_path: Path) -> None:
    """The start names the device; each epoch its images/s and the most memory so far, which never falls."""
    train(make_config(epochs=2), make_fold(write_photos(tmp_path)), tmp_path / "fold0")
    events = list(EventLog(tmp_path / "fold0" / "events.jsonl").read())
    assert [event["kind"] for event in events if event["kind"] in ("started", "epoch")] == ["started", "epoch", "epoch"]
    assert {"device", "threads", "instructions"} <= events[0].keys()
    epochs = [event for event in events if event["kind"] == "epoch"]
    assert all(event["images_per_second"] > 0.0 for event in epochs)
    assert 2**20 < epochs[0]["peak_bytes"] <= epochs[1]["peak_bytes"] <= read_peak_bytes(torch.device("cpu"))
