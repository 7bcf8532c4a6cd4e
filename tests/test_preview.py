"""The picture sheets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hectocar.config_reader import read_config
from hectocar.lab.preview import draw_predictions, draw_sheet, romanize, training_views
from hectocar.photos.showroom import render_photo
from hectocar.photos.showroom.catalogue import class_names


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
