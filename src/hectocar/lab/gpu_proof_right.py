"""Stages of a proof that ask whether a GPU computes what it should: against the processor, after a cut, in each arithmetic."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hectocar.config.schema import Config
from hectocar.lab.gpu_proof_bench import NUM_CLASSES, Bench
from hectocar.lab.gpu_proof_figures import Recorder
from hectocar.network.carnet import CarNet
from hectocar.network.compiled import compile_loss
from hectocar.network.exact import use_exact_float32
from hectocar.network.weights import load_tensors_with_state
from hectocar.photos.pool import PhotoBatch
from hectocar.photos.shift import PhotoShift
from hectocar.progress import NoProgress, Progress
from hectocar.training.loader import FoldData
from hectocar.training.loop import train_fold
from hectocar.training.optimizer import accumulate_gradients, build_optimizer, set_learning_rates
from hectocar.training.recipe import epoch_plan
from hectocar.training.step import compute_loss, prepare_batch, take_step

NUM_PARITY_STEPS = 20
RESUME_FACTOR = 3.0
CPU = torch.device("cpu")
_SIZE_PX, _BATCH_SIZE = 64, 16
_PLAIN = ("network.drop_path_max=0.0", "training.precision=float32")
"""Without stochastic depth, whose masks come from each device's own generator."""


def prove_parity(record: Recorder, bench: Bench) -> None:
    """The losses of the same training steps on the processor and on the device, in float32; and the augmented pixels."""
    use_exact_float32(bench.device)
    config = bench.read_small(_SIZE_PX, _BATCH_SIZE, *_PLAIN, "augment.drift_prob=0.5")
    pixels = [_prepare(config, bench, device)[0].cpu() for device in (CPU, bench.device)]
    record.add("parity", "augmented pixels, largest difference", float((pixels[0] - pixels[1]).abs().max()), "deviations")
    losses = [_train_steps(config, bench, device) for device in (CPU, bench.device)]
    distance = max(abs(own - other) / own for own, other in zip(*losses, strict=True))
    record.add("parity", f"loss of {NUM_PARITY_STEPS} steps, largest relative difference", distance, note="float32")


def _prepare(config: Config, bench: Bench, device: torch.device) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    network, plan = CarNet(config.network, NUM_CLASSES).to(device), epoch_plan(config, 0)
    shape = (plan.batch_size, plan.size_px, plan.size_px, 3)
    noise = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    data = dataclasses.replace(bench.data, shift=PhotoShift(offset=-42.0, jpeg_quality=92))
    return prepare_batch(config, plan, PhotoBatch(noise, np.arange(len(noise)), {}), data, network, device)


def _train_steps(config: Config, bench: Bench, device: torch.device) -> list[float]:
    torch.manual_seed(1)
    network, plan = CarNet(config.network, NUM_CLASSES).to(device).train(), epoch_plan(config, 0)
    optimizer = build_optimizer(network, config.training)
    set_learning_rates(optimizer, 1e-4, 5e-4)
    tensors = tuple(tensor.to(device) for tensor in _prepare(config, bench, CPU))
    forward = partial(compute_loss, network.compute_loss, plan, device, config.training.precision)
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    steps = range(NUM_PARITY_STEPS)
    return [float(take_step(config.training, network, optimizer, forward, tensors, 1, scaler)) for _ in steps]


class _Cut(NoProgress):
    """Interrupts at the second step of the second epoch."""

    num_steps = 0
    armed = False

    def start(self, what: str, total: int) -> None:
        self.armed = what.startswith("epoch 2/")

    def advance(self, count: int) -> None:
        self.num_steps += self.armed and count > 0
        if self.num_steps == 2:
            raise KeyboardInterrupt


def prove_resume(record: Recorder, bench: Bench) -> None:
    """Two whole trainings and one that is cut in its second epoch and resumed: are the last weights the same bits?

    A GPU may add up in another order each time: then the resumed training may be as far from a whole one as two whole ones are
    from each other.
    """
    steps = ("training.epochs=2", "training.checkpoint_minutes=0", "training.mixes=[{epochs: 1, kind: cutmix}]")
    rows = bench.data.train_rows[: 4 * _BATCH_SIZE]
    data = dataclasses.replace(bench.data, train_rows=rows, valid_rows=rows[:8])
    for precision in ("bfloat16", "float16"):
        config = bench.read_small(_SIZE_PX, _BATCH_SIZE, *steps, f"training.precision={precision}")
        train = partial(_train_whole, config, data, bench.device, bench.folder / f"resume {precision}")
        whole, again = train("whole", NoProgress()), train("again", NoProgress())
        with suppress(KeyboardInterrupt):
            train("cut", _Cut())
        own, resumed = _distance(whole, again), _distance(whole, train("cut", NoProgress()))
        note = "largest difference of a weight, average or moment"
        record.add("resume", f"{precision}, two whole trainings", own, note=note)
        record.add("resume", f"{precision}, resumed and whole", resumed, note=note)
        excess, note = max(0.0, resumed - RESUME_FACTOR * own), f"beyond {RESUME_FACTOR:g} x that of two whole ones"
        record.add(
            "resume", f"{precision}, difference by resuming", excess, note=f"beyond {RESUME_FACTOR:g} x that of two whole ones"
        )


def _train_whole(
    config: Config, data: FoldData, device: torch.device, folder: Path, name: str, progress: Progress
) -> dict[str, Tensor]:
    train_fold(config, data, folder / name, inputs_digest="proof", device=device, progress=progress)
    return load_tensors_with_state(folder / name / "last.safetensors")[0]


def _distance(own: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((own[name].double() - other[name].double()).abs().max()) for name in own)


def prove_precisions(record: Recorder, bench: Bench) -> None:
    """Loss and gradient of one batch: bfloat16 and float16 against float32, and compiled against eager in float32."""
    config = bench.read_small(_SIZE_PX, _BATCH_SIZE, *_PLAIN)
    torch.manual_seed(1)
    network, plan = CarNet(config.network, NUM_CLASSES).to(bench.device).train(), epoch_plan(config, 0)
    tensors = tuple(tensor.to(bench.device) for tensor in _prepare(config, bench, CPU))

    def run(precision: str, whole: Callable[..., Tensor]) -> tuple[float, Tensor]:
        network.zero_grad()
        forward = partial(compute_loss, whole, plan, bench.device, precision)
        loss = accumulate_gradients(forward, tensors, 1, lambda loss: loss)
        gradients = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
        return float(loss), torch.cat(gradients)

    exact = run("float32", network.compute_loss)
    for precision in ("bfloat16", "float16"):
        _add_distance(record, precision, exact, run(precision, network.compute_loss))
    if record.fits("precision", 5.0 if bench.tiny else 60.0):
        started = time.perf_counter()
        compiled = run("float32", compile_loss(network, "eager" if bench.tiny else "inductor"))
        _add_distance(record, "compiled", exact, compiled)
        record.add("precision", "compiled, first call", time.perf_counter() - started, "s")


def _add_distance(record: Recorder, name: str, exact: tuple[float, Tensor], own: tuple[float, Tensor]) -> None:
    record.add("precision", f"{name}, loss", abs(own[0] - exact[0]) / exact[0], note="relative to eager float32")
    distance = float((own[1] - exact[1]).norm() / exact[1].norm())
    record.add("precision", f"{name}, gradient", distance, note="norm of the difference over the norm")
