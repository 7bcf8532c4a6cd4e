"""Stages of a proof that ask how fast each part is: the step, the loader, both together, convolutions and compilation."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from hectocar.config.schema import SizePhase
from hectocar.lab.gpu_proof_bench import Bench
from hectocar.lab.gpu_proof_figures import COMPILED, EAGER, Recorder, clock
from hectocar.network.compiled import compile_loss
from hectocar.photos.pool import count_workers
from hectocar.training.recipe import EpochPlan

NUM_WORKERS = 16
LADDER_SECONDS = 70.0
"""What the ladder needs, which comes after the compilation."""


def phases_by_work(bench: Bench) -> list[SizePhase]:
    """The sizes that most of a fold's arithmetic goes into first."""
    return sorted(bench.phases, key=lambda phase: -phase.epochs * phase.size_px**2)


def prove_steps(record: Recorder, bench: Bench) -> None:
    """The step of each size, not compiled: alone, and with the preparation of a ready batch."""
    for phase in phases_by_work(bench):
        with record.guard(EAGER):
            if record.fits(f"{EAGER} {phase.size_px} px", 1.0 if bench.tiny else 12.0):
                _measure_step(record, bench, phase, EAGER, bench.network.compute_loss, 2 if bench.tiny else 6)


def prove_compiled(record: Recorder, bench: Bench) -> None:
    """Each size compiled: how long that takes, the step, and the loop with the loader included."""
    whole = compile_loss(bench.network, "eager" if bench.tiny else "inductor")
    counters = torch._dynamo.utils.counters["stats"]
    for phase in phases_by_work(bench):
        with record.guard(COMPILED):
            if not record.fits(f"{COMPILED} {phase.size_px} px", 2.0 if bench.tiny else 80.0 + LADDER_SECONDS):
                continue
            before = counters["unique_graphs"]
            _measure_step(record, bench, phase, COMPILED, whole, 2 if bench.tiny else 8)
            record.add(COMPILED, f"{phase.size_px} px, graphs", float(counters["unique_graphs"] - before))
            _measure_loop(record, bench, phase, whole)


def _measure_step(
    record: Recorder, bench: Bench, phase: SizePhase, stage: str, whole: Callable[..., Tensor], repeats: int
) -> None:
    plan, label = bench.plan(phase), f"{phase.size_px} px"
    batch = bench.random_batch(plan)
    tensors = bench.prepare(plan, batch)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    started = time.perf_counter()
    bench.step(plan, tensors, whole)
    bench.wait()
    record.add(stage, f"{label}, first step", time.perf_counter() - started, "s", note="compilation included, if there is one")
    timing = clock(lambda: bench.step(plan, tensors, whole), bench.wait, repeats)
    rate = plan.batch_size / timing.seconds
    record.add_timing(stage, f"{label}, step", timing, f"batch {plan.batch_size}, without loader and preparation")
    record.add(stage, f"{label}, speed", rate, "images/s")
    record.add(stage, f"{label}, model-FLOP utilisation", bench.flop_share(phase.size_px, rate), note="loader not included")
    if stage == EAGER:
        record.add_timing(stage, f"{label}, preparation", clock(lambda: bench.prepare(plan, batch), bench.wait, repeats))
    if bench.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(bench.device) / 2**30
        record.add(stage, f"{label}, peak memory", peak, "GiB")


def _measure_loop(record: Recorder, bench: Bench, phase: SizePhase, whole: Callable[..., Tensor]) -> None:
    plan, label = bench.plan(phase), f"{phase.size_px} px"
    num_steps = 2 if bench.tiny else max(12, 1600 // plan.batch_size)
    ready = bench.run_loop(plan, whole, num_steps, decode=False)
    decoded = bench.run_loop(plan, whole, num_steps, decode=True)
    waiting = max(0.0, 1.0 - ready.ms_per_step / decoded.ms_per_step)
    record.add(COMPILED, f"{label}, loop on a ready batch", ready.ms_per_step, "ms", note="preparation included")
    record.add(COMPILED, f"{label}, loop with loader", decoded.ms_per_step, "ms")
    record.add(COMPILED, f"{label}, loop speed", decoded.images_per_second, "images/s", note="loader included")
    share = bench.flop_share(phase.size_px, decoded.images_per_second)
    record.add(COMPILED, f"{label}, loop utilisation", share, note="model-FLOP utilisation, loader included")
    record.add(COMPILED, f"{label}, waiting for data", waiting, note="share of the step")


def prove_loader(record: Recorder, bench: Bench) -> None:
    """Decoded crops per second by the number of threads or processes, nothing else running."""
    cores, most = count_workers(0), 2 if bench.tiny else NUM_WORKERS
    sizes = sorted(bench.phases, key=lambda phase: phase.size_px)
    for phase in (sizes[0], sizes[-2]):
        rates = {}
        for num_workers in sorted({1, min(4, most), most}):
            plan, seconds = bench.plan(phase), 0.3 if bench.tiny else 2.5
            rates[num_workers] = _decode_for(bench, plan, num_workers, seconds)
            record.add("loader", f"{phase.size_px} px, {num_workers} workers", rates[num_workers], "images/s")
        share = rates[most] / most / rates[1] if cores >= most else None
        record.add("loader", f"{phase.size_px} px, scaling", share, note=f"{most} workers over {most} x one, {cores} cores")


def _decode_for(bench: Bench, plan: EpochPlan, num_workers: int, seconds: float) -> float:
    batches = bench.decode(plan, 100_000, num_workers)
    next(batches)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        count += len(next(batches).index_B)
    return count / (time.perf_counter() - started)


@contextmanager
def _decoding_beside(bench: Bench, plan: EpochPlan) -> Iterator[None]:
    """All cores decode, and nobody takes the photographs."""
    stop = threading.Event()

    def decode() -> None:
        for _ in bench.decode(plan, 100_000):
            if stop.is_set():
                return

    thread = threading.Thread(target=decode)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def prove_lock(record: Recorder, bench: Bench) -> None:
    """The price of the interpreter's lock: the loop on a ready batch, alone and while photographs are decoded beside it."""
    phase = bench.phases[len(bench.phases) // 2]
    plan, num_steps = bench.plan(phase), 2 if bench.tiny else 15
    whole = bench.network.compute_loss
    alone = bench.run_loop(plan, whole, num_steps, decode=False)
    with _decoding_beside(bench, plan):
        beside = bench.run_loop(plan, whole, num_steps, decode=False)
    record.add("lock", f"{phase.size_px} px, step alone", alone.ms_per_step, "ms", note="eager, preparation included")
    record.add("lock", f"{phase.size_px} px, step beside decoding", beside.ms_per_step, "ms")
    record.add("lock", "price", beside.ms_per_step / alone.ms_per_step - 1.0, note="share of a step")


def prove_depthwise(record: Recorder, bench: Bench) -> None:
    """The 7x7 depthwise convolutions of the four stages, against copying their input: 1 is as fast as memory allows."""
    size_px, batch_size = (64, 2) if bench.tiny else (512, 48)
    dtype = torch.float32 if bench.device.type == "cpu" else torch.bfloat16
    for channels, reduction in ((128, 4), (256, 8), (512, 16), (1024, 32)):
        side = size_px // reduction
        images = torch.randn(batch_size, channels, side, side, device=bench.device, dtype=dtype)
        images = images.to(memory_format=torch.channels_last).requires_grad_()
        weight = torch.randn(channels, 1, 7, 7, device=bench.device, dtype=dtype, requires_grad=True)
        out = F.conv2d(images, weight, padding=3, groups=channels)
        gradient = torch.randn_like(out)
        parts: dict[str, Callable[[], object]] = {
            "copy": partial(torch.clone, images.detach()),
            "forward": partial(F.conv2d, images, weight, padding=3, groups=channels),
            "input gradient": partial(torch.autograd.grad, out, images, gradient, retain_graph=True),
            "weight gradient": partial(torch.autograd.grad, out, weight, gradient, retain_graph=True),
        }
        timings = {name: clock(work, bench.wait, 3 if bench.tiny else 7) for name, work in parts.items()}
        for name, timing in timings.items():
            share = timings["copy"].seconds / timing.seconds
            record.add_timing("depthwise", f"{channels} channels, {name}", timing, f"efficiency {share:.2f}")
