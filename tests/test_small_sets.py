"""Laws of the smallest sets: BatchNorm never sees one photograph, and what cannot be trained is said before it starts."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hectocar.cli import main
from hectocar.config.schema import SizePhase
from hectocar.errors import DataError
from hectocar.training.optimizer import accumulate_gradients
from tiny import make_config, make_fold, train, write_photos

SIZES = (SizePhase(epochs=1, size_px=32, batch_size=2, learning_rate=1e-3),)
TINY = ("network.backbone=test_efficientnet", "network.neck=batchnorm", "network.weights=none", "training.epochs=1",
        "training.sizes.0.batch_size=2", "training.precision=float32", "training.balance=1")  # fmt: skip


def train_words(data: Path, out: Path, num_folds: int) -> list[str]:
    settings = [word for setting in (*TINY, f"data.num_folds={num_folds}") for word in ("--set", setting)]
    return ["train", str(data), "--preset", "demo", *settings, "--fold", "all", "--out", str(out), "--device", "cpu"]


def keep(folder: Path, counts: tuple[int, ...]) -> Path:
    """The first so many photographs of each class; a class without one goes."""
    for number, file in enumerate(write_photos(folder)):
        if number % 8 >= (counts + (0,) * 4)[number // 8]:
            file.unlink()
    for label in range(len(counts), 4):
        (folder / "train" / f"car {label}").rmdir()
    return folder


@pytest.mark.parametrize("counts", [(1, 1), (2, 1)])
def test_one_training_photograph_is_refused_before_the_run(
    counts: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A deal that leaves a fold one photograph to train on is one message, and no run folder stands in the way."""
    data = keep(tmp_path / "data", counts)
    assert main(train_words(data, tmp_path / "run", 2)) == 2
    said = capsys.readouterr().err
    assert "would leave 1 photograph to train on; allowed: 2 or more" in said
    assert ("raise data.num_folds" in said) == (counts == (2, 1))
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("counts", [(2, 1), (5, 1), (4, 4, 1)])
def test_a_class_of_one_photograph_and_an_odd_set_train(counts: tuple[int, ...], tmp_path: Path) -> None:
    """Batches of two over three, five or odd many photographs, a class that a fold does not show, a BatchNorm neck: it ends."""
    data = keep(tmp_path / "data", counts)
    assert main(train_words(data, tmp_path / "run", 3)) == 0


@pytest.mark.parametrize(("num_train", "num_valid"), [(0, 3), (1, 3), (5, 0)])
def test_a_split_without_enough_is_a_data_error(num_train: int, num_valid: int, tmp_path: Path) -> None:
    """Whoever made the split is told what a training needs; nothing is written."""
    data = make_fold(write_photos(tmp_path / "data"))
    data = dataclasses.replace(data, train_rows=data.train_rows[:num_train], valid_rows=data.valid_rows[:num_valid])
    with pytest.raises(DataError, match=rf"{num_train} photographs to train on and {num_valid} held out; allowed: 2 or more"):
        train(make_config(), data, tmp_path / "fold")
    assert not (tmp_path / "fold").exists()


def test_label_noise_leaves_two_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all but one would go, none goes: the next batch would be of one photograph."""
    data = make_fold(write_photos(tmp_path / "data"))
    data = dataclasses.replace(data, train_rows=data.train_rows[:2])
    monkeypatch.setattr("hectocar.training.label_noise.find_noisy_places", lambda *_: np.array([0]))
    config = make_config(network={"num_subcenters": 2, "neck": "batchnorm"}, epochs=2, noise_epoch=2, sizes=SIZES)
    assert np.isfinite(train(config, data, tmp_path / "fold")["log_loss"])


def test_no_part_of_a_batch_is_of_one_photograph() -> None:
    """Whatever the plan says, a batch of 2 to 70 is cut into parts of two or more that together are the batch."""
    parameter = torch.zeros(1, requires_grad=True)
    for num_photos in range(2, 71):
        for num_chunks in {1, 2, 3, num_photos // 3, num_photos // 2, num_photos // 2 + 1, num_photos + 2} - {0}:
            parts: list[int] = []

            def note(chunk: Tensor, parts: list[int] = parts) -> Tensor:
                parts.append(len(chunk))
                return (chunk * parameter).mean()

            accumulate_gradients(note, (torch.ones(num_photos, 1),), num_chunks, lambda loss: loss)
            assert sum(parts) == num_photos
            assert min(parts) >= 2
            assert len(parts) <= num_chunks
