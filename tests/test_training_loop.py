"""Laws of the loop: chance comes from the seed alone, validation has none, the best epoch is kept, divergence is named."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hectocar.config.schema import MarginPhase, SizePhase
from hectocar.disk.artifacts import EventLog
from hectocar.errors import ConfigError, DataError
from hectocar.network.arithmetic import normalize_batch
from hectocar.network.carnet import CarNet
from hectocar.network.weights import load_tensors_with_state
from hectocar.photos.batches import view_photo
from hectocar.progress import NoProgress
from hectocar.training.ema import WeightAverage
from hectocar.training.loader import FoldData
from hectocar.training.recipe import epoch_plan
from hectocar.training.validation import Validation, validate
from tiny import change, make_config, make_fold, train, write_photos


class Notebook(NoProgress):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.totals: list[tuple[str, int]] = []
        self.counts: list[int] = []
        self.notes: list[str] = []

    def start(self, what: str, total: int) -> None:
        self.totals.append((what, total))
        self.counts.append(0)

    def advance(self, count: int, detail: str = "") -> None:
        self.counts[-1] += count

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FoldData:
    return make_fold(write_photos(tmp_path_factory.mktemp("tiny")))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    return load_tensors_with_state(folder / "last.safetensors")[0]


def read_epochs(folder: Path) -> list[dict[str, Any]]:
    return [event for event in EventLog(folder / "events.jsonl").read() if event["kind"] == "epoch"]


def find_different(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(precision: str, data: FoldData, tmp_path: Path) -> None:
    """Training is a pure function of its inputs: to the last bit, whatever torch's generator held before."""
    config = make_config(precision=precision)
    first = train(config, data, tmp_path / "first")
    torch.manual_seed(99)
    torch.rand(7)
    assert train(config, data, tmp_path / "second") == first
    assert not find_different(read_tensors(tmp_path / "first"), read_tensors(tmp_path / "second"))
    train(change(config, "training", seed=1), data, tmp_path / "other")
    assert "network/head.centers" in find_different(read_tensors(tmp_path / "first"), read_tensors(tmp_path / "other"))


def test_the_number_of_workers_changes_no_bit(data: FoldData, tmp_path: Path) -> None:
    """One decoding thread or five: the same weights, optimizer and validation."""
    config = make_config()
    assert train(config, data, tmp_path / "1") == train(change(config, "data", num_workers=5), data, tmp_path / "5")
    assert not find_different(read_tensors(tmp_path / "1"), read_tensors(tmp_path / "5"))


def test_reports_count_every_photograph_once(data: FoldData, tmp_path: Path) -> None:
    """The bars end full: each epoch shows every training photograph and validates every held-out one; one line each."""
    notebook = Notebook()
    train(make_config(), data, tmp_path, notebook)
    assert notebook.counts == [total for _, total in notebook.totals] == [24, 8, 24, 8]
    assert [note.split()[:4] for note in notebook.notes] == [["epoch", "1/2", "32", "px"], ["epoch", "2/2", "48", "px"]]


def test_the_best_checkpoint_has_the_lowest_log_loss_of_raw_and_average(data: FoldData, tmp_path: Path) -> None:
    """best.safetensors holds the weights, raw or averaged, whose log loss is the lowest of all epochs, and says which."""
    config = make_config(epochs=3, ema_decay=0.5)
    best = train(config, data, tmp_path)
    results = [event[name] for event in read_epochs(tmp_path) for name in ("raw", "ema")]
    assert len(results) == 6
    assert best == min(results, key=lambda result: result["log_loss"])
    tensors, state = load_tensors_with_state(tmp_path / "best.safetensors")
    assert {key: state[key] for key in best} == best
    assert (state["inputs_digest"], state["num_chunks"]) == ("tiny", {"32x5": 1, "48x5": 1})
    network = CarNet(config.network, data.num_classes)
    network.load_state_dict(tensors)
    size_px = epoch_plan(config, best["epoch"] - 1).size_px
    again = validate(config, size_px, data, {"raw": network}, NoProgress()).results["raw"]
    assert again == {key: best[key] for key in again}


@pytest.mark.parametrize("raw_is_better", [True, False])
def test_the_better_of_raw_and_average_is_chosen(
    raw_is_better: bool, data: FoldData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the log loss decides between the two, not the accuracy; in a later epoch an equal log loss changes nothing."""
    raw = {"size_px": 32, "log_loss": 1.0 if raw_is_better else 2.0, "top1": 0.0, "top5": 1.0}
    ema = {"size_px": 32, "log_loss": 2.0 if raw_is_better else 1.0, "top1": 1.0, "top5": 1.0}
    monkeypatch.setattr(
        "hectocar.training.loop.validate", lambda *args: Validation({"raw": dict(raw), "ema": dict(ema)}, np.zeros((8, 4)))
    )
    best = train(make_config(), data, tmp_path)
    assert (best["weights"], best["epoch"]) == ("raw" if raw_is_better else "ema", 1)
    state = load_tensors_with_state(tmp_path / "best.safetensors")[1]
    assert (state["weights"], state["epoch"]) == (best["weights"], 1)


def test_validation_uses_no_augmentation(data: FoldData) -> None:
    """Its numbers are those of whole photographs shown plainly to the network at rest, twice the same, in any epoch."""
    config = make_config()
    network = CarNet(config.network, data.num_classes).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    networks = {"raw": network, "ema": WeightAverage(network, 0.9).network}
    size_px = epoch_plan(config, 0).size_px
    first = validate(config, size_px, data, networks, NoProgress()).results
    assert validate(config, size_px, data, networks, NoProgress()).results == first
    assert first["raw"] == first["ema"]
    assert network.training
    assert not find_different(before, network.state_dict())
    views = np.stack([view_photo(data.files[row].read_bytes(), size_px, "stretch") for row in data.valid_rows])
    labels = torch.from_numpy(data.labels[data.valid_rows])
    with torch.no_grad():
        logits, _ = network.eval()(normalize_batch(torch.from_numpy(views).permute(0, 3, 1, 2), network.pixels))
    assert first["raw"]["log_loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert first["raw"]["top1"] == float((logits.argmax(dim=1) == labels).float().mean())


def test_inference_size_overrides_the_epochs(data: FoldData, tmp_path: Path) -> None:
    """inference.size_px is the size of every validation; without it each epoch validates at its own."""
    train(change(make_config(), "inference", size_px=40), data, tmp_path)
    assert [event["size_px"] for event in read_epochs(tmp_path)] == [32, 48]
    assert [event["raw"]["size_px"] for event in read_epochs(tmp_path)] == [40, 40]


def inject_nan(monkeypatch: pytest.MonkeyPatch, from_step: int) -> None:
    """Makes every loss after so many NaN, as an overflow would."""
    compute_loss: Callable[..., Tensor] = CarNet.compute_loss
    calls = [0]

    def poisoned(network: CarNet, *args: Tensor, **settings: float) -> Tensor:
        calls[0] += 1
        loss = compute_loss(network, *args, **settings)
        return loss * float("nan") if calls[0] > from_step else loss

    monkeypatch.setattr(CarNet, "compute_loss", poisoned)


def test_divergence_is_named_and_keeps_the_last_checkpoint(
    data: FoldData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is no longer finite is a ConfigError with advice; the epoch before stays on the disk, unharmed."""
    train(make_config(), data, tmp_path / "whole")
    inject_nan(monkeypatch, from_step=7)
    with pytest.raises(ConfigError, match=r"no longer finite at epoch 2, step 5; lower training\.sizes learning_rate"):
        train(make_config(), data, tmp_path / "fold")
    tensors, state = load_tensors_with_state(tmp_path / "fold" / "last.safetensors")
    assert (state["epoch"], state["step"]) == (1, 0)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    monkeypatch.undo()
    train(make_config(), data, tmp_path / "fold")
    assert not find_different(read_tensors(tmp_path / "fold"), read_tensors(tmp_path / "whole"))


def test_divergence_never_reaches_a_checkpoint(data: FoldData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between two looks at the loss no checkpoint with non-finite weights replaces a good one."""
    inject_nan(monkeypatch, from_step=2)
    with pytest.raises(ConfigError, match="no longer finite"):
        train(make_config(checkpoint_minutes=0.0), data, tmp_path)
    tensors, state = load_tensors_with_state(tmp_path / "last.safetensors")
    assert (state["epoch"], state["step"]) == (0, 2)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_a_huge_learning_rate_is_divergence(data: FoldData, tmp_path: Path) -> None:
    """Weights driven out of range end in the same ConfigError, not in a table of NaN."""
    sizes = (SizePhase(epochs=1, size_px=32, batch_size=5, learning_rate=1e30),)
    with pytest.raises(ConfigError, match="no longer finite"):
        train(make_config(sizes=sizes, warmup_epochs=0.0), data, tmp_path)
    assert not (tmp_path / "best.safetensors").exists()


def test_divergence_in_the_last_step_is_named(data: FoldData, tmp_path: Path) -> None:
    """The last step's loss may be finite while its update is not: the same ConfigError, and no best checkpoint of ruins."""
    sizes = (SizePhase(epochs=1, size_px=32, batch_size=5, learning_rate=1e38),)
    config = make_config(epochs=1, sizes=sizes, warmup_epochs=0.0, ema_decay=0.0, cosine="none")
    with pytest.raises(ConfigError, match="no longer finite"):
        train(config, dataclasses.replace(data, train_rows=data.train_rows[:4]), tmp_path)
    assert not (tmp_path / "best.safetensors").exists()


def test_a_photograph_damaged_since_the_scan_is_named(tmp_path: Path) -> None:
    """Training stops at a damaged photograph and names it; it never trains on a black square."""
    data = make_fold(write_photos(tmp_path))
    data.files[int(data.train_rows[3])].write_bytes(b"no longer a photograph")
    with pytest.raises(DataError, match=r"car 0/3\.jpg.*--resume"):
        train(make_config(epochs=1), data, tmp_path / "fold")


def test_the_loss_falls(data: FoldData, tmp_path: Path) -> None:
    """Ten epochs on four colours end with a training loss well below the first's, and a validation better than chance."""
    best = train(make_config(epochs=10, margins=(MarginPhase(epochs=1, margin_rad=0.05),)), data, tmp_path)
    losses = [event["train_loss"] for event in read_epochs(tmp_path)]
    assert losses[-1] < 0.75 * losses[0]
    assert best["log_loss"] < np.log(4)
    assert best["top1"] > 0.5


def test_validation_may_be_seldom_and_of_the_average_alone(data: FoldData, tmp_path: Path) -> None:
    """Only the epochs asked for have results, of one set of weights; the training itself is the same to the bit."""
    often = make_config(epochs=4, ema_decay=0.5, select="last")
    seldom = make_config(epochs=4, ema_decay=0.5, select="last", validate_every=2, validate_last_epochs=1, validate_raw=False)
    train(often, data, tmp_path / "often")
    result = train(seldom, data, tmp_path / "seldom")
    assert [sorted({"raw", "ema"} & set(event)) for event in read_epochs(tmp_path / "seldom")] == [[], ["ema"], [], ["ema"]]
    assert (result["epoch"], result["weights"]) == (4, "ema")
    whole, other = read_tensors(tmp_path / "often"), read_tensors(tmp_path / "seldom")
    assert all(torch.equal(tensor, other[name]) for name, tensor in whole.items())


def test_without_an_average_the_raw_weights_are_validated(data: FoldData, tmp_path: Path) -> None:
    """``validate_raw`` off leaves something to keep."""
    result = train(make_config(epochs=1, ema_decay=0.0, validate_raw=False), data, tmp_path)
    assert result["weights"] == "raw"
