"""Laws of going on: a run that was cut off, anywhere and often, ends as if it had never been, to the last bit."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hectocar.config.schema import Config
from hectocar.disk.artifacts import EventLog
from hectocar.errors import ArtifactError, DataError
from hectocar.network.weights import load_tensors_with_state
from hectocar.progress import NoProgress
from hectocar.training.loader import FoldData
from hectocar.training.writer import TensorWriter
from tiny import change, make_config, make_fold, train, write_photos

CONFIGS: dict[str, Config] = {
    "float32": make_config(),
    "bfloat16": make_config(precision="bfloat16"),
    "float16": make_config(precision="float16"),
    "no average, batchnorm neck, constant rate, last": make_config(
        network={"neck": "batchnorm"}, ema_decay=0.0, cosine="none", select="last"
    ),
    "the whole strategy": change(
        make_config(
            network={"num_subcenters": 2},
            epochs=3,
            similar_prob=0.5,
            balance=0.5,
            margin_balance=0.5,
            noise_epoch=2,
            noise_degrees=60.0,
            sam_rho=0.05,
            layer_decay=0.8,
            finetune_epochs=1,
            finetune_plain=True,
            finetune_ema_restart=True,
            soup_epochs=2,
            memory_gib=1e-4,
        ),
        "augment",
        drift_prob=0.5,
    ),
    "two stages, layer norms": make_config("test_convnext", network={"pool_stages": 2}),
}


@dataclass
class Outcome:
    """All that a finished fold leaves behind, without the clock's readings."""

    result: dict[str, Any]
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    best: bytes
    epochs: list[dict[str, Any]]


class Interrupter(NoProgress):
    """Presses Ctrl-C at the n-th report: at an epoch's start, after a step, between validation batches, or after an epoch."""

    def __init__(self, num_reports: int) -> None:
        self.num_left = num_reports

    def count(self) -> None:
        self.num_left -= 1
        if self.num_left == 0:
            raise KeyboardInterrupt

    def start(self, what: str, total: int) -> None:
        self.count()

    def advance(self, count: int, detail: str = "") -> None:
        self.count()

    def note(self, text: str) -> None:
        self.count()


class StopAtEpochEnd(NoProgress):
    """Presses Ctrl-C when the first epoch's line is shown."""

    def note(self, text: str) -> None:
        if text.startswith("epoch 1/"):
            raise KeyboardInterrupt


def read_outcome(folder: Path, result: dict[str, Any]) -> Outcome:
    tensors, state = load_tensors_with_state(folder / "last.safetensors")
    epochs = [event for event in EventLog(folder / "events.jsonl").read() if event["kind"] == "epoch"]
    for timed, key in [
        (state, "seconds"),
        *((event, key) for event in epochs for key in ("seconds", "time", "images_per_second", "peak_bytes")),
    ]:
        timed.pop(key)
    return Outcome(result, tensors, state, (folder / "best.safetensors").read_bytes(), epochs)


def check_equal(outcome: Outcome, expected: Outcome) -> None:
    """Raises AssertionError unless both ended alike, to the last bit."""
    assert outcome.tensors.keys() == expected.tensors.keys()
    different = [name for name, tensor in outcome.tensors.items() if not torch.equal(tensor, expected.tensors[name])]
    assert not different
    assert outcome.state == expected.state
    assert outcome.best == expected.best
    assert outcome.epochs == expected.epochs
    assert outcome.result == expected.result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FoldData:
    return dataclasses.replace(make_fold(write_photos(tmp_path_factory.mktemp("tiny"))), pairs=[(0, 1), (2, 3)])


@pytest.fixture(scope="module")
def uninterrupted(data: FoldData, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """The outcome of a configuration that is trained in one go; checkpoints at epoch ends only."""

    @functools.cache
    def run(name: str) -> Outcome:
        folder = tmp_path_factory.mktemp("whole")
        return read_outcome(folder, train(CONFIGS[name], data, folder))

    return run


def checkpoint_every_step(config: Config) -> Config:
    return change(config, "training", checkpoint_minutes=0.0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_cut_at_an_epoch_end_resumes_exactly(
    name: str, data: FoldData, uninterrupted: Callable[[str], Outcome], tmp_path: Path
) -> None:
    """Network, average, optimizer, scaler, best checkpoint and events equal those of the run that was not cut."""
    with pytest.raises(KeyboardInterrupt):
        train(CONFIGS[name], data, tmp_path, StopAtEpochEnd())
    assert load_tensors_with_state(tmp_path / "last.safetensors")[1]["epoch"] == 1
    check_equal(read_outcome(tmp_path, train(CONFIGS[name], data, tmp_path)), uninterrupted(name))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_cut_again_and_again_resumes_exactly(
    name: str, data: FoldData, uninterrupted: Callable[[str], Outcome], tmp_path: Path
) -> None:
    """Cuts every few reports, in mid-epoch, in validation or between epochs, change no bit of the outcome."""
    result, places = None, []
    spread = 9 if name == "the whole strategy" else 4  # averaging at the end has many reports and starts anew when cut
    for attempt in range(40):
        try:
            result = train(checkpoint_every_step(CONFIGS[name]), data, tmp_path, Interrupter(5 + attempt % spread))
            break
        except KeyboardInterrupt:
            if (tmp_path / "last.safetensors").exists():
                state = load_tensors_with_state(tmp_path / "last.safetensors")[1]
                places.append((state["epoch"], state["step"]))
    assert result is not None
    assert len({epoch for epoch, step in places if step > 0}) >= 2, "both epochs were cut in their middle"
    check_equal(read_outcome(tmp_path, result), uninterrupted(name))


@pytest.mark.parametrize("num_reports", [1, 3, 7, 8, 10, 11, 17, 20])
def test_one_cut_at_any_report_resumes_exactly(
    num_reports: int, data: FoldData, uninterrupted: Callable[[str], Outcome], tmp_path: Path
) -> None:
    """Whatever the program was doing when it was cut, it ends as the run that was not.

    Reports 1-7 are the first epoch's start and steps, 8-9 its validation, 10 its line; 11-20 the same of the second.
    """
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint_every_step(CONFIGS["float32"]), data, tmp_path, Interrupter(num_reports))
    check_equal(read_outcome(tmp_path, train(CONFIGS["float32"], data, tmp_path)), uninterrupted("float32"))


@pytest.mark.parametrize("moment", ["hectocar.training.writer.save_tensors", "hectocar.training.loop.save_checkpoint"])
def test_a_cut_between_best_and_last_resumes_exactly(
    moment: str, data: FoldData, uninterrupted: Callable[[str], Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """best.safetensors may be one epoch ahead of last.safetensors after a cut: the repeated epoch writes it again."""

    def cut(*args: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(CONFIGS["float32"], data, tmp_path, StopAtEpochEnd())
    with monkeypatch.context() as patch:
        patch.setattr(moment, cut)
        with pytest.raises(KeyboardInterrupt):
            train(CONFIGS["float32"], data, tmp_path)
    check_equal(read_outcome(tmp_path, train(CONFIGS["float32"], data, tmp_path)), uninterrupted("float32"))


@pytest.mark.parametrize("num_reports", [1, 8, 11, 17, 1000])
def test_saving_in_the_background_changes_nothing(
    num_reports: int, data: FoldData, uninterrupted: Callable[[str], Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a GPU: cut anywhere or not at all, the files and events are those of a run that saved at once."""
    monkeypatch.setattr(TensorWriter, "for_device", lambda device: TensorWriter(background=True))
    with contextlib.suppress(KeyboardInterrupt):
        train(checkpoint_every_step(CONFIGS["float32"]), data, tmp_path, Interrupter(num_reports))
    check_equal(read_outcome(tmp_path, train(CONFIGS["float32"], data, tmp_path)), uninterrupted("float32"))


def test_a_cut_between_checkpoint_and_event_keeps_the_event(
    data: FoldData, uninterrupted: Callable[[str], Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """events.jsonl has one event of each epoch, wherever the run was cut."""
    write = EventLog.write

    def cut(log: EventLog, kind: str, **fields: Any) -> None:
        if kind == "epoch":
            raise KeyboardInterrupt
        write(log, kind, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "write", cut)
        with pytest.raises(KeyboardInterrupt):
            train(CONFIGS["float32"], data, tmp_path)
    check_equal(read_outcome(tmp_path, train(CONFIGS["float32"], data, tmp_path)), uninterrupted("float32"))


def test_the_float16_scaler_goes_on_where_it_stood(data: FoldData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss scale and the steps since its last change survive a cut: a growing scale ends where it would have."""
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=64.0, growth_interval=3))
    config = CONFIGS["float16"]
    whole = read_outcome(tmp_path / "whole", train(config, data, tmp_path / "whole"))
    assert whole.state["scaler"]["scale"] == 64.0 * 2 ** (10 // 3)
    assert whole.state["scaler"]["_growth_tracker"] == 10 % 3
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint_every_step(config), data, tmp_path / "cut", Interrupter(7))
    state = load_tensors_with_state(tmp_path / "cut" / "last.safetensors")[1]
    assert state["scaler"]["_growth_tracker"] == state["step"] % 3 != 0, "cut between two growths"
    check_equal(read_outcome(tmp_path / "cut", train(config, data, tmp_path / "cut")), whole)


@pytest.mark.parametrize("harm", ["emptied", "deleted", "cut short"])
def test_a_held_out_photograph_that_was_lost_stops_the_training_until_it_is_back(harm: str, tmp_path: Path) -> None:
    """Nothing is judged that was not read: validation names the file; once it is back, the same call ends in the same bits."""
    data, config = make_fold(write_photos(tmp_path / "data")), CONFIGS["float32"]
    whole = read_outcome(tmp_path / "whole", train(config, data, tmp_path / "whole"))
    lost = data.files[int(data.valid_rows[3])]
    content = lost.read_bytes()
    if harm == "deleted":
        lost.unlink()
    else:
        lost.write_bytes(b"" if harm == "emptied" else content[:400])
    for _ in range(2):  # asking again does not help, and harms nothing
        with pytest.raises(DataError, match=rf"{lost.name}: changed since the manifest was made: .*--resume"):
            train(checkpoint_every_step(config), data, tmp_path / "cut")
    assert "epoch" not in [event["kind"] for event in EventLog(tmp_path / "cut" / "events.jsonl").read()]
    lost.write_bytes(content)
    check_equal(read_outcome(tmp_path / "cut", train(config, data, tmp_path / "cut")), whole)


def test_label_noise_is_not_looked_for_in_a_photograph_that_was_not_read(tmp_path: Path) -> None:
    """A training photograph that is lost when labels are judged stops the training, too; no label is judged by a black one."""
    data = make_fold(write_photos(tmp_path / "data"))
    config = make_config(network={"num_subcenters": 2}, epochs=2, noise_epoch=2)
    lost = data.files[int(data.train_rows[5])]
    content = lost.read_bytes()

    class LoseAFile(NoProgress):
        def note(self, text: str) -> None:
            if text.startswith("epoch 1/"):
                lost.write_bytes(b"")

    with pytest.raises(DataError, match=rf"{lost.name}: changed since the manifest was made: .*--resume"):
        train(config, data, tmp_path / "cut", LoseAFile())
    assert "label_noise" not in [event["kind"] for event in EventLog(tmp_path / "cut" / "events.jsonl").read()]
    lost.write_bytes(content)
    result = train(config, data, tmp_path / "cut")
    whole = read_outcome(tmp_path / "whole", train(config, data, tmp_path / "whole"))
    check_equal(read_outcome(tmp_path / "cut", result), whole)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "other file", "best instead of last"])
def test_a_damaged_checkpoint_is_refused(damage: str, data: FoldData, tmp_path: Path) -> None:
    """A checkpoint that is not whole, or not a checkpoint, is an ArtifactError that names it; nothing starts afresh."""
    train(make_config(epochs=1), data, tmp_path)
    last = tmp_path / "last.safetensors"
    content = last.read_bytes()
    damaged = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "flipped": b"\xff" * 8 + content[8:],
        "other file": b"a text file",
        "best instead of last": (tmp_path / "best.safetensors").read_bytes(),
    }
    last.write_bytes(damaged[damage])
    with pytest.raises(ArtifactError, match=r"last\.safetensors"):
        train(make_config(epochs=1), data, tmp_path)
