"""Stages of a proof that run the whole program: the ladder of a fold in short, prediction, and memory over epochs."""

import dataclasses
import time
from typing import Any

import torch

from hectocar.config.schema import SizePhase
from hectocar.disk.artifacts import EventLog
from hectocar.lab.gpu_proof_bench import Bench
from hectocar.lab.gpu_proof_figures import COMPILED, EAGER, Recorder
from hectocar.network.inference import infer_photos, infer_views, send_pictures
from hectocar.photos.batches import iter_render_batches
from hectocar.photos.decode import read_photo_bytes
from hectocar.photos.views import VIEWS, plan_renders
from hectocar.progress import NoProgress
from hectocar.training.loop import train_fold

FOLD_PHOTOS, HELD_OUT_PHOTOS = 26_500, 6_637
TEST_PHOTOS = 8_258
NUM_MEMORY_EPOCHS = 10


def prove_ladder(record: Recorder, bench: Bench) -> None:
    """An epoch of each size that was compiled, by ``train_fold`` itself; a fold of 30 epochs is extrapolated from their speeds.

    The networks share the compiled graphs of the stage before, so that compilation is no part of the speed. A size that was
    not compiled counts with its eager step.
    """
    bench.drop_network()
    done = [phase for phase in bench.phases if record.find(COMPILED, f"{phase.size_px} px, loop speed")]
    events = _run_ladder(bench, done or list(bench.phases), compiled=bool(done) and not bench.tiny)
    seconds, rest, before = 0.0, 0.0, 0.0
    for phase in bench.phases:
        event = events.get(phase.size_px)
        eager = record.find(EAGER, f"{phase.size_px} px, speed")
        rate = float(event["images_per_second"]) if event else (eager.value or 0.0 if eager else 0.0)
        if event:
            rest, before = event["seconds"] - before - len(bench.data.train_rows) / rate, event["seconds"]
            record.add("ladder", f"{phase.size_px} px, speed", rate, "images/s", note="decoding and augmentation included")
            record.add("ladder", f"{phase.size_px} px, rest of the epoch", rest, "s", note="validation of 64, checkpoints")
        seconds += phase.epochs * (FOLD_PHOTOS / rate + rest)
    num_epochs = sum(phase.epochs for phase in bench.phases)
    how = (
        f"EXTRAPOLATED to {num_epochs:g} epochs of {FOLD_PHOTOS} photographs from an epoch of {len(bench.data.train_rows)} at "
        f"each of {len(events)} sizes{'' if done and not bench.tiny else ', not compiled'}; other sizes from their eager step"
    )
    record.add("ladder", "training of a fold", seconds / 60.0, "min", note=how)
    validated = record.find("views", "one view, speed")
    if validated is not None and validated.value:
        minutes = (seconds + num_epochs * HELD_OUT_PHOTOS / validated.value) / 60.0
        note = "the same and a validation after each epoch, of one set of weights at the largest size's speed"
        record.add("ladder", "fold with validation", minutes, "min", note=note)


def _run_ladder(bench: Bench, phases: list[SizePhase], *, compiled: bool) -> dict[int, dict[str, Any]]:
    """The event of each size's epoch."""
    sizes = ", ".join(
        f"{{epochs: 1, size_px: {p.size_px}, batch_size: {p.batch_size}, learning_rate: {p.learning_rate}}}" for p in phases
    )
    settings = (f"training.sizes=[{sizes}]", f"training.epochs={len(phases)}", f"network.compile={str(compiled).lower()}")
    data = dataclasses.replace(bench.data, valid_rows=bench.data.valid_rows[:64])
    folder = bench.folder / "ladder"
    train_fold(bench.read(*settings), data, folder, inputs_digest="proof", device=bench.device, progress=NoProgress())
    return {event["size_px"]: event for event in EventLog(folder / "events.jsonl").read() if event["kind"] == "epoch"}


def prove_views(record: Recorder, bench: Bench) -> None:
    """Prediction at the largest size: one view through the program's own loop, and a batch in all views."""
    size_px = bench.phases[-1].size_px
    files = bench.files[: 24 if bench.tiny else 1024]
    config, network = bench.config, bench.network
    inference = dataclasses.replace(config.inference, batch_size=8 if bench.tiny else config.inference.batch_size)

    def predict(count: int) -> float:
        started = time.perf_counter()
        infer_photos(
            [network],
            files[:count],
            size_px=size_px,
            inference=inference,
            data=config.data,
            precision=config.training.precision,
        )
        return time.perf_counter() - started

    predict(inference.batch_size)
    rate = len(files) / predict(len(files))
    record.add("views", "one view, speed", rate, "images/s", note=f"{size_px} px, decoding included")
    note = f"EXTRAPOLATED from {len(files)} photographs; start-up apart"
    record.add("views", f"one view of {TEST_PHOTOS} photographs", TEST_PHOTOS / rate, "s", note=note)
    renders, places = plan_renders(tuple(VIEWS.values()), size_px, inference.fit, brightness=110.0)
    network.eval()
    batches = iter_render_batches(
        files[: 24 if bench.tiny else 96], renders, read=read_photo_bytes, batch_size=inference.batch_size
    )
    started, count = 0.0, 0
    for number, batch in enumerate(batches):
        if number == 1:
            started = time.perf_counter()
        infer_views(network, send_pictures(batch.pictures, network), places, config.training.precision)
        count += len(batch.index_B) if number else 0
    network.train()
    if count:
        note = f"{size_px} px, batches of {len(batch.index_B)}, decoding included"
        record.add("views", f"{len(places)} views, speed", count / (time.perf_counter() - started), "images/s", note=note)


class _Memory(NoProgress):
    """Notes the memory in use at the end of each epoch, by place."""

    def __init__(self, places: dict[str, torch.device]) -> None:
        self.places = places
        self.used_mib: dict[str, list[float]] = {name: [] for name in places}

    def note(self, text: str) -> None:
        if text.startswith("epoch "):
            for name, device in self.places.items():
                self.used_mib[name].append(read_used_mib(device))


def prove_memory(record: Recorder, bench: Bench) -> None:
    """Ten epochs of the toy network: what the device's allocator and the process hold after each."""
    config = bench.read_small(64, 16, f"training.epochs={NUM_MEMORY_EPOCHS}", "training.checkpoint_minutes=1000")
    rows = bench.data.train_rows[: 16 if bench.tiny else 320]
    data = dataclasses.replace(bench.data, train_rows=rows, valid_rows=rows[:8])
    memory = _Memory({"process": torch.device("cpu")} | ({} if bench.device.type == "cpu" else {"device": bench.device}))
    train_fold(config, data, bench.folder / "memory", inputs_digest="proof", device=bench.device, progress=memory)
    for name, used_mib in memory.used_mib.items():
        record.add("memory", f"{name}, after epoch 3", used_mib[2], "MiB")
        record.add("memory", f"{name}, growth to epoch {len(used_mib)}", used_mib[-1] / used_mib[2] - 1.0, note="toy network")


def read_used_mib(device: torch.device) -> float:
    """What the tensors on a GPU, or the process on the host, take now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        return next(float(line.split()[1]) / 1024.0 for line in status if line.startswith("VmRSS:"))
