"""How much memory a training step needs, found before the run; a batch that does not fit is split.

The activations that autograd keeps are counted, not guessed: they grow with the batch in proportion.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from hectocar.config.schema import Config, SizePhase
from hectocar.network.arithmetic import autocast
from hectocar.network.carnet import CarNet, soft_cross_entropy
from hectocar.progress import Progress

PROBE_BATCH = 4
WORKSPACE = 1.35
"""Peak over kept activations: gradients on their way and the kernels' own memory."""
SHARE_OF_FREE = 0.8
"""Of the free memory that a run may plan with."""


@dataclass(frozen=True)
class _GroupFiles:
    """Names in the folder of a control group."""

    limits: tuple[str, ...]
    usage: str
    cache: tuple[str, ...]
    """Lines of memory.stat."""


_VERSION_1 = _GroupFiles(("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_VERSION_2 = _GroupFiles(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))


def count_activation_bytes(network: CarNet, size_px: int, precision: str) -> float:
    """Bytes that autograd keeps per photograph of a training step at a size, every storage counted once."""
    device = next(network.parameters()).device
    kept: dict[int, int] = {}
    held: list[torch.Tensor] = []  # storages must live until all are counted, or an address could come twice
    fixed = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    images = torch.zeros(PROBE_BATCH, 3, size_px, size_px, device=device).to(memory_format=torch.channels_last)
    label_BM = torch.zeros(PROBE_BATCH, 1, dtype=torch.int64, device=device)
    statistics = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    was_training, random_state = network.training, torch.get_rng_state()
    network.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast(device, precision):
        logits_BC, _ = network(images, label_BM)
        soft_cross_entropy(logits_BC, label_BM, torch.ones(PROBE_BATCH, 1, device=device), label_smoothing=0.0)
    network.load_state_dict(statistics)  # BatchNorm has seen a black batch
    network.train(was_training)
    torch.set_rng_state(random_state)
    return sum(kept.values()) / PROBE_BATCH


def count_fixed_bytes(network: CarNet, config: Config) -> int:
    """Bytes of weights, gradients, AdamW's two moments, and the averaged weights."""
    copies = 4 + (config.training.ema_decay > 0.0) + (config.training.sam_rho > 0.0)
    return copies * sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def read_free_bytes(device: torch.device, num_jobs: int = 1, system: Path = Path("/")) -> int:
    """Free memory of a GPU, or what this process may still take of this machine's; 0 where it cannot be known.

    The smallest counts of: the machine's available memory, the room below the memory limits of the process's control
    group and of all groups above it (a container has no other view of them), and the process's own limit (RLIMIT_AS).

    Args:
        device: Where to train.
        num_jobs: Trainings that are about to share it; each has its part.
        system: Where proc and sys lie.
    """
    if device.type == "cuda":
        found = [int(torch.cuda.mem_get_info(device)[0])]
    else:
        found = [*_machine_room(system / "proc"), *_group_rooms(system), *_process_room(system / "proc")]
    return max(1, min(found) // num_jobs) if found else 0


def _machine_room(proc: Path) -> Iterator[int]:
    for line in _read_lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _group_rooms(system: Path) -> Iterator[int]:
    """Room below each limit of the process's control group and the groups above it, of both versions.

    A container may see its own group as the top of the mounted tree while /proc names it by the host's path: the walk up
    from that path, over folders that are not there, ends at the top as well.
    """
    top = system / "sys" / "fs" / "cgroup"
    for line in _read_lines(system / "proc" / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mount, names = (top / "unified" if (top / "unified").is_dir() else top), _VERSION_2
        elif "memory" in controllers.split(","):
            mount, names = top / "memory", _VERSION_1
        else:
            continue
        own = mount.joinpath(*(part for part in path.split("/") if part not in ("", "..")))
        for group in [own, *own.parents][: len(own.parts) - len(mount.parts) + 1]:
            for used in _read_numbers(group / names.usage):
                for limit in (limit for name in names.limits for limit in _read_numbers(group / name)):
                    yield limit - used + _count_file_cache(group / "memory.stat", names.cache)


def _count_file_cache(file: Path, names: tuple[str, ...]) -> int:
    """Bytes of read files, which the kernel gives back when memory runs short; they count as used."""
    words = (line.split() for line in _read_lines(file))
    return sum(int(word[1]) for word in words if word[0] in names)


def _process_room(proc: Path) -> Iterator[int]:
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        for line in _read_lines(proc / "self" / "statm"):
            yield limit - int(line.split()[0]) * resource.getpagesize()


def _read_numbers(file: Path) -> Iterator[int]:
    """The number in a file of the kernel; none for ``max``, which is no limit, and where there is no such file."""
    yield from (int(line) for line in _read_lines(file) if line.isdecimal())


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # another system, or a folder that a container hides
        return []


def step_bytes(config: Config, network: CarNet, phase: SizePhase, num_chunks: int = 1) -> float:
    """Memory of a training step of a phase whose batches are split into chunks."""
    per_photo = count_activation_bytes(network, phase.size_px, config.training.precision)
    return count_fixed_bytes(network, config) + WORKSPACE * per_photo * math.ceil(phase.batch_size / num_chunks)


def choose_chunks(config: Config, network: CarNet, free_bytes: int) -> dict[str, int]:
    """Into how many parts a batch of each (size, batch) must be split to fit; the same effective batch in any case.

    Args:
        config: The whole configuration; ``training.memory_gib`` overrides what is free.
        network: On its device.
        free_bytes: 0 for unknown: nothing is split.
    """
    budget = config.training.memory_gib * 2**30 or SHARE_OF_FREE * free_bytes
    chunks: dict[str, int] = {}
    for phase in config.training.sizes:
        needed = count_activation_bytes(network, phase.size_px, config.training.precision) * WORKSPACE if budget else 0.0
        room = budget - count_fixed_bytes(network, config)
        largest = int(max(room, 0) // needed) if needed else phase.batch_size
        parts = math.ceil(phase.batch_size / max(2, min(largest, phase.batch_size)))  # a part has two photographs or more
        chunks[chunk_key(phase.size_px, phase.batch_size)] = max(1, min(parts, phase.batch_size // 2))
    return chunks


def chunk_key(size_px: int, batch_size: int) -> str:
    return f"{size_px}x{batch_size}"


def describe_chunks(config: Config, num_chunks: dict[str, int], progress: Progress) -> None:
    """Says which batches are split, before the run."""
    for phase in config.training.sizes:
        chunks = num_chunks[chunk_key(phase.size_px, phase.batch_size)]
        if chunks > 1:
            progress.note(
                f"{phase.size_px} px: a batch of {phase.batch_size} does not fit into memory; it is split into {chunks} parts "
                "whose gradients are accumulated (the same effective batch; BatchNorm sees the parts)"
            )


def describe_device(device: torch.device) -> dict[str, str]:
    """What speed and the last bits of a training depend on, beside the versions of packages."""
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        versions = {"cuda": str(torch.version.cuda), "cudnn": str(cudnn)}
        return {"device": torch.cuda.get_device_name(device), **versions}
    return {
        "device": device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def read_peak_bytes(device: torch.device) -> int:
    """The most memory that was in use so far: tensors on a GPU, else the whole process; 0 where it cannot be known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return 0 if resource is None else unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
