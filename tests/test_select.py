"""Laws of ``training.select: last``: held-out photographs choose nothing, and are still reported on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from hectocar.config.schema import Config
from hectocar.disk.artifacts import EventLog
from hectocar.network.weights import load_tensors_with_state
from hectocar.training.loader import FoldData
from mistakes import mistakes
from tiny import make_config, make_fold, train, write_photos

SIMILAR = make_config(
    epochs=3, select="last", similar_prob=0.7, network={"num_subcenters": 2}, noise_epoch=3, noise_degrees=60.0
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FoldData:
    return dataclasses.replace(make_fold(write_photos(tmp_path_factory.mktemp("tiny"))), pairs=[(0, 1), (2, 3)])


def kept(config: Config, data: FoldData, folder: Path) -> dict[str, torch.Tensor]:
    train(config, data, folder)
    return load_tensors_with_state(folder / "best.safetensors")[0]


def test_other_labels_and_other_photographs_held_out_change_no_bit(data: FoldData, tmp_path: Path) -> None:
    """Weights are the same whatever is held out and however often it is looked at: mining, epoch and average included."""
    whole = kept(SIMILAR, data, tmp_path / "whole")
    labels = data.labels.copy()
    labels[data.valid_rows] = (labels[data.valid_rows] + 1) % 4
    others = {
        "wrong labels": (SIMILAR, dataclasses.replace(data, labels=labels)),
        "fewer photographs": (SIMILAR, dataclasses.replace(data, valid_rows=data.valid_rows[:3])),
        "looked at once": (
            dataclasses.replace(SIMILAR, training=dataclasses.replace(SIMILAR.training, validate_last_epochs=1)), data,
        ),
    }  # fmt: skip
    for name, (config, other) in others.items():
        found = kept(config, other, tmp_path / name)
        assert [key for key, tensor in whole.items() if not torch.equal(tensor, found[key])] == [], name
    events = EventLog(tmp_path / "whole" / "events.jsonl").read()
    assert [event["used"] for event in events if event["kind"] == "pairs"] == [6, 6, 6], "centres give all six pairs"


def test_the_default_is_steered_by_held_out_labels(data: FoldData, tmp_path: Path) -> None:
    """The law above can fail: with ``best``, other labels held out give other weights."""
    best = dataclasses.replace(SIMILAR, training=dataclasses.replace(SIMILAR.training, select="best", max_similar_pairs=1))
    labels = data.labels.copy()
    labels[data.valid_rows] = np.where(labels[data.valid_rows] == 0, 3, 0)
    first, second = kept(best, data, tmp_path / "1"), kept(best, dataclasses.replace(data, labels=labels), tmp_path / "2")
    assert any(not torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("ema_decay", "weights"), [(0.5, "ema"), (0.0, "raw")])
def test_the_last_epoch_is_kept_and_reported(data: FoldData, tmp_path: Path, ema_decay: float, weights: str) -> None:
    """best.safetensors holds the last epoch's averaged weights, raw ones without an average, with their own validation."""
    config = make_config(epochs=4, select="last", ema_decay=ema_decay)
    result = train(config, data, tmp_path)
    epochs = [event for event in EventLog(tmp_path / "events.jsonl").read() if event["kind"] == "epoch"]
    assert result == epochs[-1][weights]
    assert (result["epoch"], result["weights"]) == (4, weights)
    tensors, state = load_tensors_with_state(tmp_path / "best.safetensors")
    assert {key: state[key] for key in result} == result
    last = load_tensors_with_state(tmp_path / "last.safetensors")[0]
    part = "average" if weights == "ema" else "network"
    assert all(torch.equal(tensor, last[f"{part}/{name}"]) for name, tensor in tensors.items())


def test_what_is_chosen_by_validation_is_refused_beside_it() -> None:
    """A soup and a pretrained mixture are chosen by held-out photographs: both are named, with what is allowed."""
    lines = mistakes("training.select=last", "training.soup_epochs=3", "training.pretrained_mix=[0.5]")
    assert any(line.startswith("training.soup_epochs is 3; allowed: 0 or 1 with training.select 'last'") for line in lines)
    assert any(line.startswith("training.pretrained_mix is (0.5,); allowed: nothing with") for line in lines)
    assert mistakes("training.select=first")[1].startswith("training.select is 'first'; allowed: 'best', 'last'")
