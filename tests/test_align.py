"""Laws of the alignment: it finds the box that was cut, and tells one picture from two."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hectocar.auditing.align import SIDE_PX, Grey, align_photos, load_grey, take_box
from pictures import edited_copies, encode, make_picture, save

WHOLE, INNER = (0.0, 0.0, 1.0, 1.0), (0.05, 0.05, 0.9, 0.9)


def grey(data: bytes) -> Grey:
    image = Image.open(io.BytesIO(data)).convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_edited_copies_are_the_same_picture(seed: int) -> None:
    """Compression, size, light, a crop and a reflection leave the details where alignment finds them."""
    picture = make_picture(seed)
    original = grey(encode(picture, 95))
    for name, data in edited_copies(picture).items():
        start = (0.0, 0.0, 0.9, 0.9) if "corner" in name else INNER
        found = align_photos(original, grey(data), mirrored="mirrored" in name, box=start if "cropped" in name else WHOLE)
        assert found.similarity > 0.95, (name, found)


def test_the_box_that_was_cut_is_found() -> None:
    """The parameters are those of the crop, to a hundredth of the side; the gain is that of the light."""
    picture = make_picture(4)
    box = (32, 10, 300, 196)
    darker = picture.crop(box).point([round(0.8 * value) for value in range(256)] * 3)
    found = align_photos(grey(encode(picture, 95)), grey(encode(darker, 95)), mirrored=False, box=INNER)
    assert found.box == pytest.approx((32 / 320, 10 / 200, 268 / 320, 186 / 200), abs=0.01)
    assert found.crop_share == pytest.approx(1.0 - 268 * 186 / (320 * 200), abs=0.02)
    assert found.gain == pytest.approx(0.8, abs=0.05)


def test_different_pictures_are_not_alike() -> None:
    """Of 30 pairs of different pictures none comes near the threshold, whatever box is tried."""
    greys = [grey(encode(make_picture(seed))) for seed in range(6)]
    for first in range(6):
        for second in range(first):
            for mirrored in (False, True):
                assert align_photos(greys[first], greys[second], mirrored=mirrored, box=INNER).similarity < 0.6


def test_the_same_background_is_not_the_same_picture() -> None:
    """Two objects before one smooth wall agree in all but the details, and that is what counts."""
    wall = np.tile(np.linspace(60.0, 200.0, SIDE_PX, dtype=np.float32)[:, None], (1, SIDE_PX))
    rng = np.random.default_rng(5)
    first, second = (wall.copy() for _ in range(2))
    for picture in (first, second):
        picture[40:70, 20:76] += rng.uniform(-25, 25, (30, 56)).astype(np.float32)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.95
    assert align_photos(first, second, mirrored=False).similarity < 0.6


def test_flat_pictures_compare_by_their_level() -> None:
    """Where there are no details there is nothing to correlate: equal greys are equal, different ones are not."""
    black, white = np.zeros((SIDE_PX, SIDE_PX), np.float32), np.full((SIDE_PX, SIDE_PX), 200, np.float32)
    assert align_photos(black, black, mirrored=False).similarity == 1.0
    assert align_photos(black, white, mirrored=False).similarity == 0.0


def test_taking_the_whole_box_changes_nothing() -> None:
    """The identity box is the identity."""
    picture = grey(encode(make_picture(6)))
    assert np.abs(take_box(picture, (0.0, 0.0, 1.0, 1.0)) - picture).max() < 1e-3


def test_load_grey_reads_any_size(tmp_path: Path) -> None:
    """A photograph of any size and format becomes a square of the same side."""
    for size in ((60, 50), (900, 700)):
        file = save(tmp_path / f"{size[0]}.jpg", encode(make_picture(7, *size)))
        assert load_grey(file, 100.0).shape == (SIDE_PX, SIDE_PX)
