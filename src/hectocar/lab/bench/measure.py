"""A run of ``hectocar bench``: cases, sizes and backbones in turn, everybody in a process of its own, round by round."""

import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from hectocar.codec import list_choices
from hectocar.disk.artifacts import describe_environment, utc_now
from hectocar.errors import ConfigError, DataError
from hectocar.lab.bench.cases import CASES, OURS, PACKAGES, PEERS, Entry, Job
from hectocar.lab.bench.contestant import Process, Round, find_missing
from hectocar.lab.bench.figures import Bench, Comparison, Contestant, draw_order
from hectocar.lab.bench.own import bench_config
from hectocar.lab.bench.photographs import prepare_photographs
from hectocar.network.arithmetic import choose_device, has_fast_precision
from hectocar.network.carnet import CarNet
from hectocar.network.sizes import check_sizes
from hectocar.photos.pool import count_workers
from hectocar.progress import Progress
from hectocar.training.memory import describe_device


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """What a person asked for."""

    cases: Sequence[str] = ()
    """None: all of them."""
    against: Sequence[str] = ()
    """Peers; none: all of them."""
    sizes: Sequence[int] = ()
    """None: the size of each case."""
    backbones: Sequence[str] = ("mobilenetv2_100",)
    photos: Path | None = None
    resize: tuple[int, int] | None = None
    num_photos: int = 64
    """Of a round; rounded up to whole batches."""
    batch_size: int = 32
    num_steps: int = 2
    num_rounds: int = 5
    precision: str = "bfloat16"
    compiled: bool = False
    device: str = "auto"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for option, values, allowed in (("CASE", self.cases, tuple(CASES)), ("--against", self.against, PEERS)):
            for value in values:
                if value not in allowed:
                    raise ConfigError(f"{option} is {value!r}; allowed: {list_choices(value, allowed)}")

    def chosen(self) -> dict[str, dict[str, Entry]]:
        """Who takes part in which case: we always do."""
        names = dict.fromkeys(self.cases or CASES)
        wanted = {OURS, *(self.against or PEERS)}
        return {name: {who: entry for who, entry in CASES[name].entries.items() if who in wanted} for name in names}


def run_bench(plan: BenchPlan, progress: Progress) -> Bench:
    """Measures all that the plan names.

    Raises:
        ConfigError: No such device, backbone or size.
        DataError: No readable photographs, or our own side failed.
    """
    device = choose_device(plan.device)
    precision = plan.precision if has_fast_precision(device, plan.precision) else "float32"
    count = -(-plan.num_photos // plan.batch_size) * plan.batch_size
    workers = count_workers(plan.workers)
    base = Job(
        "", (), plan.batch_size, plan.num_steps, workers, device=str(device), precision=precision, compiled=plan.compiled,
        seed=plan.seed,
    )  # fmt: skip
    jobs = list(_list_jobs(plan, base))
    macs = {(job.backbone, job.size_px): count_macs(job) for job in jobs if job.backbone}
    with tempfile.TemporaryDirectory(prefix="hectocar-bench-") as folder:
        photos = None
        if any(CASES[job.case].takes_photos for job in jobs):
            photos = prepare_photographs(plan.photos, count, plan.resize, plan.seed, Path(folder), progress)
        comparisons = []
        for number, job in enumerate(jobs):
            files = photos.files if photos and CASES[job.case].takes_photos else ()
            if job.case == "scan":
                files = tuple(dict.fromkeys(files))
            comparison = compare(
                replace(job, files=files), plan.chosen()[job.case], plan.num_rounds, plan.seed + number, progress
            )
            comparisons.append(replace(comparison, macs=macs.get((job.backbone, job.size_px), 0)))
    return Bench(
        made=utc_now(),
        machine=describe_machine(device),
        packages=describe_packages(),
        photographs=photos.words if photos else "none",
        batch_size=plan.batch_size,
        num_workers=workers,
        seed=plan.seed,
        comparisons=tuple(comparisons),
    )


def _list_jobs(plan: BenchPlan, base: Job) -> Iterator[Job]:
    for name in plan.chosen():
        case = CASES[name]
        for size_px in (plan.sizes or (case.size_px,)) if case.size_px else (0,):
            for backbone in plan.backbones if case.has_network else ("",):
                yield replace(base, case=name, size_px=size_px, backbone=backbone)


def count_macs(job: Job) -> int:
    """Multiplications of a forward pass per photograph: those of convolutions and matrix products.

    Raises:
        ConfigError: The backbone cannot be built, or does not take the size.
    """
    network = CarNet(bench_config(job).network, 2).eval()
    check_sizes(network, [job.size_px])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, job.size_px, job.size_px))
    return int(counter.get_total_flops()) // 2


def compare(job: Job, entries: dict[str, Entry], num_rounds: int, seed: int, progress: Progress) -> Comparison:
    """Starts everybody's process, lets each warm up for a round, and then asks all in every round, in another order each.

    Raises:
        DataError: Our own side failed: there is nothing to compare.
    """
    progress.start(f"{job.case} {job.size_px or ''} {job.backbone}".strip(), (num_rounds + 1) * len(entries))
    problems = {name: find_missing(entry) for name, entry in entries.items()}
    first: dict[str, Round] = {}
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Process(entries[name], job)) for name in entries if not problems[name]}

        def ask(name: str) -> Round:
            answer = processes[name].ask()
            if answer.problem and name == OURS:
                raise DataError(f"bench {job.case}: hectocar's own side failed: {answer.problem}")
            problems[name] = answer.problem
            progress.advance(1)
            return answer

        for name in processes:
            first[name] = ask(name)
        order = draw_order([name for name in processes if not problems[name]], num_rounds, seed)
        for names in order:
            for name in names:
                if not problems[name]:
                    seconds[name].append(ask(name).seconds)
    contestants = tuple(
        Contestant(
            name, entry.num_workers or job.num_workers, problems[name], first[name].seconds if name in first else 0.0,
            () if problems[name] else tuple(seconds[name]),
        )
        for name, entry in entries.items()
    )  # fmt: skip
    answers = [np.asarray(one.answer) for one in first.values() if len(one.answer)]
    return Comparison(
        job.case, job.size_px, job.backbone, job.precision if job.backbone else "", job.num_images, contestants, order,
        largest_difference=float(np.abs(answers[0] - answers[1]).max()) if len(answers) == 2 else None,
    )  # fmt: skip


def describe_machine(device: torch.device) -> dict[str, str]:
    """What a figure depends on, beside the versions of packages."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0.0
    facts = {
        "system": platform.system(),
        "processor": _processor_name(),
        "cores": str(count_workers(0)),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gib": f"{memory:.0f}",
    }
    return facts | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}) | describe_device(device)


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe_packages() -> dict[str, str]:
    """Versions of everybody's packages that are here."""
    found = describe_environment()
    for name in PACKAGES.values():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
