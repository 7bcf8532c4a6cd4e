"""How much of the program a photograph passes through: counted by what really runs, whole files, nothing left out.

A newcomer who reads these files has read the way of a training photograph from the disk to the loss, and of a test photograph
through a finished bundle. The numbers may fall; who lets them rise says why in docs/decisions.md.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

import hectocar
from hectocar import Classifier
from hectocar.calibration.blend import Blend, ViewBlend
from hectocar.calibration.chain import LINKS, Expected, Finish, Level
from hectocar.calibration.floor import DOUBT_NAMES, Floor, FloorLink
from hectocar.calibration.neighbours import NeighbourLink, NeighbourModel, to_unit
from hectocar.calibration.temperature import Temperature, TemperatureLink
from hectocar.config.schema import InferenceConfig, NetworkConfig
from hectocar.dataset.classes import build_class_list
from hectocar.dataset.provenance import FoldResult, Provenance
from hectocar.delivery.bundle import Bank, write_bundle
from hectocar.delivery.members import BundleSpec, Member, ModelSpec
from hectocar.disk.artifacts import hash_file
from hectocar.network.carnet import CarNet
from hectocar.network.weights import save_tensors
from hectocar.training.loader import iter_training_batches
from hectocar.training.recipe import epoch_plan
from hectocar.training.sampler import epoch_batches
from hectocar.training.step import compute_loss, prepare_batch
from tiny import make_config, make_fold, write_photos

SOURCE = Path(hectocar.__file__).parent
NUM_CLASSES = 4


@contextmanager
def counting(met: set[str]) -> Iterator[None]:
    """Collects the files of ours of which a function is called, in any thread."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>" and frame.f_code.co_filename.startswith(str(SOURCE)):
            met.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def count(work: Callable[[], object]) -> dict[str, int]:
    """Lines of each file that is met."""
    met: set[str] = set()
    with counting(met):
        work()
    return {Path(file).relative_to(SOURCE).as_posix(): len(Path(file).read_text("utf-8").splitlines()) for file in met}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, a bank each, and every link of the chain."""
    folder = tmp_path_factory.mktemp("paths")
    network, members, banks = CarNet(NetworkConfig(backbone="test_resnet", weights="none"), NUM_CLASSES), [], {}
    rng = np.random.default_rng(0)
    for fold in range(2):
        file = folder / "run" / f"{fold}.safetensors"
        result = FoldResult(
            epoch=1, weights="raw", size_px=48, log_loss=1.0, top1=0.5, top5=1.0, inputs_digest="", num_chunks={}
        )
        save_tensors(file, dict(network.state_dict()), result)
        members.append(Member(file.name, hash_file(file), fold, 48, 1.0, 0.5))
        banks[0, fold] = Bank(to_unit(rng.standard_normal((40, network.embed_dim))), rng.integers(0, NUM_CLASSES, 40), 10)
    model = ModelSpec("run", network.config, InferenceConfig(), "float32", Provenance("", {}, "", "", {}, {}))
    share, classes = (1.0 / NUM_CLASSES,) * NUM_CLASSES, build_class_list([f"car {k}" for k in range(NUM_CLASSES)])
    zeros, ones, plain = (0.0,) * len(DOUBT_NAMES), (1.0,) * len(DOUBT_NAMES), Temperature(0.0, (), (), ())
    links = (
        ViewBlend(Blend((0.5, 0.5), "geometric")),
        TemperatureLink(plain),
        NeighbourLink(Blend((0.8, 0.2), "arithmetic"), plain),
        FloorLink(Temperature(0.0, zeros, zeros, ones), Floor(-4.0, zeros, zeros, ones)),
    )
    assert {type(link) for link in links} == set(LINKS)
    level = Level(("plain", "bright"), 2.0, Expected(1.0, 0.1, None, None), links)
    spec = BundleSpec(folder / "run", classes, (model,), 100.0, share, share, tuple(members))
    write_bundle([spec], folder / "bundle", finish=Finish((level,), NeighbourModel(5, 0.1, 0.1), 110.0), banks=banks)
    return folder / "bundle"


def test_a_test_photograph_meets_few_files(bundle: Path, tmp_path: Path) -> None:
    """Through two views, two networks, their neighbours and every link."""
    classifier, (car, *_) = Classifier.load(bundle, "cpu"), write_photos(tmp_path)
    lines = count(lambda: classifier.predict(car))
    assert len(lines) <= 19, sorted(lines)
    assert sum(lines.values()) <= 3000, lines


def test_a_training_photograph_meets_few_files(tmp_path: Path) -> None:
    """From the disk to the loss: batches, decoding, crop, augmentation, mixing, network, head, loss."""
    data = make_fold(write_photos(tmp_path))
    config = make_config()
    config = replace(config, augment=replace(config.augment, color_prob=1.0, affine_prob=1.0))
    network = CarNet(config.network, data.num_classes, weights="none").train()

    def work() -> None:
        plan = epoch_plan(config, 0)
        batches = epoch_batches(data.train_rows, plan.batch_size, seed=1, epoch=0)
        photos = iter_training_batches(
            data.files, batches[:1], plan.size_px, augment=config.augment, data=config.data, seed=1, epoch=0
        )
        tensors = prepare_batch(config, plan, next(iter(photos)), data, network, torch.device("cpu"))
        compute_loss(network.compute_loss, plan, torch.device("cpu"), "float32", *tensors)

    lines = count(work)
    assert {"training/step.py", "training/augment.py", "photos/decode.py", "network/carnet.py"} <= set(lines)
    assert len(lines) <= 16, sorted(lines)
    assert sum(lines.values()) <= 2220, lines


def test_serving_loads_nothing_of_fitting_or_data_sets(bundle: Path) -> None:
    """A program that answers photographs loads no module of folds, decisions, scans, audits or training."""
    code = (
        "import sys; from hectocar import Classifier; Classifier.load(sys.argv[1], 'cpu')\n"
        "print(*(name for name in sys.modules if name.startswith('hectocar.')))"
    )
    result = subprocess.run([sys.executable, "-c", code, bundle], check=True, timeout=300, capture_output=True, text=True)
    loaded = {name.removeprefix("hectocar.") for name in result.stdout.split()}
    rooms = {name.split(".")[0] for name in loaded}
    assert rooms & {"auditing", "finishing", "training", "lab", "verbs", "cli", "pages", "showroom"} == set()
    assert {name for name in loaded if name.startswith("dataset.")} == {
        "dataset.classes",
        "dataset.groups",
        "dataset.provenance",
    }


def test_no_room_is_a_sixth_of_the_house() -> None:
    lines = {file: len(file.read_text("utf-8").splitlines()) for file in SOURCE.rglob("*.py")}
    rooms: dict[str, int] = {}
    for file, number in lines.items():
        room = file.relative_to(SOURCE).parts[0]
        rooms[room] = rooms.get(room, 0) + number
    assert max(rooms.values()) <= 0.16 * sum(lines.values()), rooms
