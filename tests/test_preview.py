"""The picture sheets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hectocar.cli import main
from hectocar.codec import encode
from hectocar.config.reader import read_config
from hectocar.config.schema import NetworkConfig
from hectocar.disk.artifacts import write_json
from hectocar.lab.preview import draw_predictions, draw_sheet, romanize, training_views
from hectocar.network.carnet import CarNet
from hectocar.photos.shift import PhotoShift
from hectocar.showroom import render_photo
from hectocar.showroom.catalogue import class_names
from hectocar.training.loader import FoldData, iter_training_batches
from hectocar.training.recipe import epoch_plan
from hectocar.training.step import prepare_batch


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three rendered cars on disk."""
    files = []
    for seed, name in enumerate(class_names(3)):
        file = tmp_path / f"{seed}.jpg"
        render_photo(name, seed, width_px=120, height_px=80).save(file)
        files.append(file)
    return files


@pytest.mark.parametrize(
    ("name", "latin"),
    [
        ("쏘나타", "ssonata"),
        ("그랜저_HG_2012", "geuraenjeo_HG_2012"),
        ("박스터", "bakseuteo"),
        ("Audi_A6", "Audi_A6"),
        ("한빛", "hanbit"),
    ],
)
def test_hangul_is_romanised_by_letters(name: str, latin: str) -> None:
    """Known names come out as the Revised Romanization spells them; other letters are left alone."""
    assert romanize(name) == latin


def test_the_preview_shows_what_training_shows(photos: list[Path]) -> None:
    """Views are squares of the epoch's size, the same each time, and other ones in another epoch."""
    config = read_config("laptop", None, ["training.epochs=2"])
    first, again, other = (training_views(photos, config, epoch) for epoch in (0, 0, 1))
    assert first.shape == (3, 128, 128, 3)
    assert np.array_equal(first, again)
    assert other.shape != first.shape or not np.array_equal(first, other)


def test_the_preview_is_the_training_path_itself(photos: list[Path]) -> None:
    """The very pixels that a training step gets, drift tones and mixing included, to the rounding of a picture."""
    shift = PhotoShift(gain=0.6, offset=-10.0, gamma=1.1)
    for kind, epoch in (("none", 0), ("cutmix", 1), ("mixup", 2)):
        mixes = [{"epochs": 1, "kind": kind, "alpha": 0.4}]
        config = read_config("laptop", None, ["augment.drift_prob=1"], [{"training": {"mixes": mixes}}])
        plan = epoch_plan(config, epoch)
        network = CarNet(NetworkConfig(backbone="test_efficientnet", weights="none"), 3)
        data = FoldData(photos, np.arange(3), 3, np.arange(3), np.arange(0), shift)
        loaded = iter_training_batches(
            photos,
            [np.arange(3)],
            plan.size_px,
            augment=config.augment,
            data=config.data,
            seed=config.training.seed,
            epoch=epoch,
        )
        images, _, _ = prepare_batch(config, plan, next(iter(loaded)), data, network, torch.device("cpu"))
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (network.pixels.mean, network.pixels.std))
        trained = ((images * std + mean) * 255.0).permute(0, 2, 3, 1).numpy()
        shown = training_views(photos, config, epoch, shift)
        assert np.abs(trained - shown).max() < 0.502
        assert np.abs(trained - training_views(photos, config, epoch)).max() > 5, "without the shift the tones differ"


def test_the_preview_takes_an_audits_shift(photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a shift there is a row of the shifted validation; a missing audit is a message."""
    for place, file in enumerate(photos):
        (tmp_path / "data" / f"car {place}").mkdir(parents=True)
        file.rename(tmp_path / "data" / f"car {place}" / file.name)
    write_json(tmp_path / "shift.json", encode(PhotoShift(gain=0.5)))
    words = ["preview", str(tmp_path / "data"), "--preset", "laptop", "--set", "training.epochs=1", "--photos", "3"]
    heights = []
    for name, setting in (("plain", "data.shift=none"), ("shifted", f"data.shift={tmp_path / 'shift.json'}")):
        assert main([*words, "--set", setting, "--out", str(tmp_path / f"{name}.png")]) == 0
        with Image.open(tmp_path / f"{name}.png") as image:
            heights.append(image.size[1])
    assert heights[1] - heights[0] == (heights[0] - 4) // 2
    assert main([*words, "--audit", str(tmp_path / "none"), "--out", str(tmp_path / "no.png")]) == 2
    assert "none" in capsys.readouterr().err


def test_sheets_are_pictures_of_the_expected_size(photos: list[Path], tmp_path: Path) -> None:
    """Rows and columns are as many as were given; a damaged photograph gets its place and no picture."""
    square = np.zeros((16, 16, 3), dtype=np.uint8)
    draw_sheet([("one", [square, square]), ("two", [square])], tmp_path / "sheet.png", cell_px=50)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (2 * 54 + 4, 2 * (50 + 16 + 10) + 4)
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no photograph")
    items = [
        (file, "쏘나타_2012", 0.5, truth)
        for file, truth in zip([*photos, damaged], ["쏘나타_2012", "x", None, "x"], strict=True)
    ]
    draw_predictions(items, tmp_path / "answers.png", columns=2)
    with Image.open(tmp_path / "answers.png") as image:
        assert image.size == (640, 500)
