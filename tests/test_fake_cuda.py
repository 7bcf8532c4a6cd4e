"""What a training step asks of a GPU, counted without one: devices, types, operations, copies, and where the host waits.

tests/golden/device_work.json holds the numbers. More fails; less is a warning to write them anew:
    PYTHONPATH=src python tests/test_fake_cuda.py
The networks are the presets' own, built without weights and not compiled: compiled, the step has fewer operations.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from fake_cuda import CUDA, MATMULS, DeviceWork, FakeCuda, backward, fake_cuda
from hectocar.config.reader import read_config
from hectocar.config.schema import Config
from hectocar.network.carnet import CarNet
from hectocar.network.inference import infer_views, send_pictures
from hectocar.photos.pool import PhotoBatch
from hectocar.photos.shift import PhotoShift
from hectocar.photos.views import find_views, plan_renders
from hectocar.progress import NoProgress
from hectocar.training.ema import WeightAverage
from hectocar.training.loader import FoldData
from hectocar.training.loop import set_margin_balance
from hectocar.training.optimizer import build_optimizer, set_learning_rates
from hectocar.training.recipe import EpochPlan, epoch_plan
from hectocar.training.step import compute_loss, prepare_batch, take_step
from hectocar.training.validation import validate
from tiny import make_config, make_fold, write_photos

RECORD = Path(__file__).parent / "golden" / "device_work.json"
WRITE_ANEW = "call PYTHONPATH=src python tests/test_fake_cuda.py and look at what changed"
PRESETS = ("seed2025", "best")
NUM_CLASSES, NUM_PHOTOS = 396, 33_137
SHIFT = PhotoShift(offset=-42.0, jpeg_quality=92)
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer")  # torch's own deepcopy does
Counts = dict[str, dict[str, int]]
"""By phase and part of the step."""


@dataclass(frozen=True)
class StepWork:
    """One optimizer step in its parts, and what came out."""

    prepare: DeviceWork
    step: DeviceWork
    """Loss, gradients, clipping, optimizer."""
    average: DeviceWork
    tensors: tuple[Tensor, ...]
    loss: Tensor

    def count(self) -> dict[str, int]:
        """Step and average send and read nothing, so only their operations are counted."""
        parts = {"step": self.step, "average": self.average}
        return count(self.prepare, "batch: ") | {f"{name}: operations": work.num_operations for name, work in parts.items()}


class Trainer:
    """A preset's network, optimizer and average on the fake GPU, as ``train_fold`` makes them."""

    def __init__(self, preset: str, fake: FakeCuda) -> None:
        self.config = read_config(preset, None, ["network.weights=none", "network.compile=false"])
        self.fake = fake
        training, rows = self.config.training, np.arange(NUM_PHOTOS)
        shift = SHIFT if self.config.augment.drift_prob > 0.0 else None
        self.data = FoldData(
            [Path("car.jpg")] * NUM_PHOTOS, rows % NUM_CLASSES, NUM_CLASSES, rows[:26_500], rows[26_500:], shift
        )
        self.network = fake.build(lambda: CarNet(self.config.network, NUM_CLASSES, weights="none"))
        self.average = WeightAverage(self.network, training.ema_decay)
        self.optimizer = build_optimizer(self.network, training)
        self.scaler = torch.amp.GradScaler("cuda", enabled=training.precision == "float16")
        set_margin_balance(self.network, self.data, training.margin_balance)
        for parameter in self.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()  # makes the moments, once

    def step(self, plan: EpochPlan) -> StepWork:
        """The inner part of ``train_fold``."""
        row_B = np.arange(plan.batch_size, dtype=np.int64) * 7
        batch = PhotoBatch(np.zeros((plan.batch_size, plan.size_px, plan.size_px, 3), np.uint8), row_B, {})
        self.network.train()
        self.network.set_drop_path(plan.drop_path_share)
        set_learning_rates(self.optimizer, 1e-5, 5e-5)
        with self.fake.count() as prepare:
            tensors = prepare_batch(self.config, plan, batch, self.data, self.network, CUDA)
        forward = partial(compute_loss, self.network.compute_loss, plan, CUDA, self.config.training.precision)
        with self.fake.count() as step:
            loss = take_step(self.config.training, self.network, self.optimizer, forward, tensors, 1, self.scaler)
        with self.fake.count() as average:
            self.average.update(self.network)
        return StepWork(prepare, step, average, tensors, loss)


def list_phases(config: Config) -> dict[str, EpochPlan]:
    """The first epoch of each size and kind of mixing."""
    plans: dict[str, EpochPlan] = {}
    for epoch in range(config.training.epochs):
        plan = epoch_plan(config, epoch)
        plans.setdefault(f"{plan.size_px} px, {plan.mix.kind}", plan)
    return plans


def check_arithmetic(trainer: Trainer, done: StepWork) -> None:
    """bfloat16 in the backbone, float32 in the head's product, loss, weights, gradients and moments."""
    head_width = NUM_CLASSES * trainer.config.network.num_subcenters
    products = [made for made in done.step.outputs if made.name in MATMULS and len(made.shape) > 1]
    exact = {made for made in products if made.dtype != torch.bfloat16}
    assert {made.name for made in products} >= {"convolution", "addmm", "mm"}
    assert {made.dtype for made in exact} == {torch.float32}
    batch, dim = len(done.tensors[0]), trainer.network.embed_dim
    shapes = {(batch, head_width), (batch, dim), (head_width, dim), (dim, head_width)}  # the head's, forward and backward
    assert {made.shape for made in exact} <= shapes
    doubles = {made for work in (done.prepare, done.step, done.average) for made in work.outputs if made.dtype == torch.float64}
    assert {made.shape for made in doubles} <= {()}, (
        "a GPU is 30 to 60 times as slow in float64: the sum of losses alone has it"
    )
    assert (done.loss.dtype, done.loss.device) == (torch.float64, CUDA)
    for parameter in trainer.network.parameters():
        assert (parameter.dtype, parameter.device) == (torch.float32, CUDA)
        assert parameter.grad is None or (parameter.grad.dtype, parameter.grad.device) == (torch.float32, CUDA)
        assert {(moment.dtype, moment.device) for moment in trainer.optimizer.state[parameter].values()} <= {
            (torch.float32, CUDA)
        }


def check_batch(plan: EpochPlan, tensors: tuple[Tensor, ...]) -> None:
    images, labels, shares = tensors
    assert {tensor.device for tensor in tensors} == {CUDA}
    assert images.shape == (plan.batch_size, 3, plan.size_px, plan.size_px)
    assert labels.shape == shares.shape == (plan.batch_size, 2)
    assert (labels.dtype, shares.dtype) == (torch.int64, torch.float32)
    assert images.dtype in (torch.float32, torch.bfloat16)


def measure_training(preset: str) -> Counts:
    """Checks a step of each phase of a preset, and counts it."""
    counts: Counts = {}
    with fake_cuda() as fake:
        trainer = Trainer(preset, fake)
        for name, plan in list_phases(trainer.config).items():
            done = trainer.step(plan)
            check_batch(plan, done.tensors)
            check_arithmetic(trainer, done)
            for part, work in (("step", done.step), ("average", done.average)):
                assert (part, work.copies, work.waits) == (part, [], []), "after the batch stands, nothing is sent or read back"
            assert done.prepare.waits == [], "nothing is read back while a batch is made ready"
            counts[name] = done.count()
    return counts


def measure_inference(folder: Path) -> Counts:
    """A validation of the raw and the averaged weights with one batch, plain and shifted; and a batch in 4 views."""
    files = write_photos(folder)
    data = replace(make_fold(files), shift=SHIFT)
    with fake_cuda() as fake:
        config = read_config("seed2025", None, ["network.weights=none", "network.compile=false"])
        network, average = (fake.build(lambda: CarNet(config.network, data.num_classes, weights="none")) for _ in range(2))
        with fake.count() as validation:
            validate(config, 256, data, {"raw": network, "ema": average}, NoProgress())
        network.eval()
        renders, places = plan_renders(
            find_views(("plain", "mirror", "bright", "large")), 256, config.inference.fit, brightness=110.0
        )
        pictures = [np.zeros((8, render.size_px, render.size_px, 3), np.uint8) for render in renders]
        with fake.count() as prediction:
            infer_views(network, send_pictures(pictures, network), places, config.training.precision)
    for work in (validation, prediction):
        products = {made for made in work.outputs if made.name in MATMULS}
        assert {made.dtype for made in products if made.shape[-1] != data.num_classes * config.network.num_subcenters} == {
            torch.bfloat16
        }
        assert all(wait.startswith("to the host") for wait in work.waits), "results are read, and nothing else"
    return {
        name: count(work)
        for name, work in (
            ("validation, 2 networks, 2 conditions", validation),
            ("prediction, 4 views of 3 renders", prediction),
        )
    }


def count(work: DeviceWork, part: str = "") -> dict[str, int]:
    return {
        f"{part}operations": work.num_operations,
        f"{part}copies to the device": len(work.copies),
        f"{part}waits": work.num_waits,
    }


def measure_all(folder: Path) -> dict[str, Counts]:
    return {preset: measure_training(preset) for preset in PRESETS} | {"inference": measure_inference(folder)}


def compare_with_record(name: str, counts: Counts) -> None:
    """More work than recorded fails; less is good news that the record should know."""
    recorded: Counts = json.loads(RECORD.read_text("utf-8"))[name]
    assert recorded.keys() == counts.keys(), f"other phases than recorded: {WRITE_ANEW}"
    less = []
    for phase, own in counts.items():
        assert recorded[phase].keys() == own.keys()
        more = {key: (recorded[phase][key], number) for key, number in own.items() if number > recorded[phase][key]}
        assert more == {}, f"{name}, {phase}: more work for the device than recorded (recorded, now)"
        less += [f"{phase}: {key} {recorded[phase][key]} -> {n}" for key, n in own.items() if n < recorded[phase][key]]
    if less:
        warnings.warn(f"{name}: less work for the device than recorded; {WRITE_ANEW}: {'; '.join(less)}", stacklevel=1)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_training_step_asks_no_more_of_a_gpu_than_recorded(preset: str) -> None:
    """No mixing of devices, the types that were meant, no hidden wait after the batch stands, and the recorded work."""
    compare_with_record(preset, measure_training(preset))


def test_inference_asks_no_more_of_a_gpu_than_recorded(tmp_path: Path) -> None:
    """Validation and prediction read their results, and nothing else."""
    compare_with_record("inference", measure_inference(tmp_path))


def test_the_record_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much passes, more fails, less warns, and another phase is no phase."""
    monkeypatch.setattr("test_fake_cuda.RECORD", tmp_path / "record.json")
    RECORD.write_text(json.dumps({"best": {"256 px": {"operations": 3}}}))
    compare_with_record("best", {"256 px": {"operations": 3}})
    with pytest.raises(AssertionError, match="more work"):
        compare_with_record("best", {"256 px": {"operations": 4}})
    with pytest.warns(UserWarning, match="operations 3 -> 2"):
        compare_with_record("best", {"256 px": {"operations": 2}})
    with pytest.raises(AssertionError, match="other phases"):
        compare_with_record("best", {"384 px": {"operations": 3}})


@pytest.mark.parametrize(
    ("work", "waits"),
    [
        (lambda x: x.cpu(), 1),
        (lambda x: x.to("cpu", non_blocking=True), 1),
        (lambda x: x + torch.ones(2).to(CUDA, non_blocking=True), 1),
        (lambda x: x + torch.ones(2).pin_memory().to(CUDA), 1),
        (lambda x: x + torch.ones(2).pin_memory().to(CUDA, non_blocking=True), 0),
        (lambda x: x.copy_(torch.ones(2)), 1),
        (lambda x: (x * 2.0).sum().view(1), 0),
    ],
)
def test_waits_are_found(work: Callable[[Tensor], Tensor], waits: int) -> None:
    """What makes the host wait for the device is counted, and what does not is not."""
    with fake_cuda() as fake:
        x = torch.empty(2, device=CUDA)
        with fake.count() as found:
            work(x)
        assert found.num_waits == waits


@pytest.mark.parametrize(
    "work", [lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: x.item(), lambda x: float(x), lambda x: x.unique()]
)
def test_what_the_host_must_know_at_once_raises(work: Callable[[Tensor], object]) -> None:
    with fake_cuda() as fake, fake.count(), pytest.raises((DynamicOutputShapeException, DataDependentOutputException)):
        work(torch.empty(1, device=CUDA))


def test_two_devices_in_one_operation_raise() -> None:
    with fake_cuda(), pytest.raises(RuntimeError, match="devices"):
        torch.empty(2, device=CUDA) + torch.ones(2)


def test_gradients_are_torchs_own() -> None:
    """Node by node a real network gets, on a processor, the gradients that torch's engine gives it."""
    images, labels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([[0, 1]] * 4)
    gradients = []
    for run in (Tensor.backward, backward):
        torch.manual_seed(0)
        network = CarNet(make_config("test_convnext").network, NUM_CLASSES, weights="none").train()
        loss = network.compute_loss(images, labels, torch.full((4, 2), 0.5), margin_rad=0.1, label_smoothing=0.1)
        run(loss)
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        RECORD.write_text(json.dumps(measure_all(Path(folder)), indent=1) + "\n", "utf-8")
