"""Laws of the training loader: a crop is a pure function of (seed, epoch, row), and a file that changed is named."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hectocar.config.schema import AugmentConfig, DataConfig
from hectocar.errors import DataError
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.render import resize_photo
from hectocar.training.draws import NUM_CROP_DRAWS, draw_crop_box, uniform_draws
from hectocar.training.loader import iter_training_batches, load_crop

NUM_PHOTOS = 9
AUGMENT = AugmentConfig()
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs of different sizes, smooth noise, of which one is large enough to be decoded smaller."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(3)
    paths = []
    for row in range(NUM_PHOTOS):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((60 + 40 * row, 48 + 30 * row), Image.Resampling.BICUBIC).save(folder / f"쏘나타_{row}.jpg", quality=92)
        paths.append(folder / f"쏘나타_{row}.jpg")
    return paths


def load_all(
    files: list[Path], batches: list[list[int]], *, size_px: int = 32, num_workers: int = 1, seed: int = 5, epoch: int = 2
) -> dict[int, Pixels]:
    """The crop of each row."""
    crops: dict[int, Pixels] = {}
    arrays = [np.array(batch, dtype=np.int64) for batch in batches]
    config = DataConfig(num_workers=num_workers)
    stream = iter_training_batches(files, arrays, size_px, augment=AUGMENT, data=config, seed=seed, epoch=epoch)
    for rows, batch in zip(arrays, stream, strict=True):
        assert batch.index_B.tolist() == rows.tolist()
        assert batch.images_BHWC.shape == (len(rows), size_px, size_px, 3)
        assert batch.images_BHWC.dtype == np.uint8
        crops.update(zip(rows.tolist(), batch.images_BHWC, strict=True))
    return crops


@pytest.mark.parametrize("num_workers", [0, 1, 4])
@pytest.mark.parametrize(
    "batches", [[list(range(NUM_PHOTOS))], [[8], [0, 7, 1], [6, 2], [5, 3, 4]], [[4, 8, 3, 1, 0], [2, 5, 7, 6]]]
)
def test_a_crop_does_not_depend_on_its_company(files: list[Path], batches: list[list[int]], num_workers: int) -> None:
    """Whatever the number of threads and whoever else is in the batch, a photograph gets the same crop to the byte."""
    crops = load_all(files, batches, num_workers=num_workers)
    assert crops.keys() == set(range(NUM_PHOTOS))
    for row, crop in crops.items():
        alone = load_crop(files[row], row, 32, augment=AUGMENT, data=DataConfig(), seed=5, epoch=2)
        assert (crop == alone).all()


def test_another_epoch_or_seed_is_another_crop(files: list[Path]) -> None:
    """No photograph is shown twice alike: each epoch, each seed and each row draws its own box."""
    batches = [list(range(NUM_PHOTOS))]
    first = load_all(files, batches)
    for change in ({"epoch": 3}, {"seed": 6}):
        other = load_all(files, batches, **change)
        assert all((first[row] != other[row]).any() for row in range(NUM_PHOTOS))
    same_photo = load_all([files[0]] * NUM_PHOTOS, batches)
    assert len({crop.tobytes() for crop in same_photo.values()}) == NUM_PHOTOS


def test_a_crop_is_the_drawn_box_resized(files: list[Path]) -> None:
    """Nothing else happens to a photograph in the loader: decode, cut the box of stream 0, resize."""
    for row in (0, 5):
        crop = load_all(files, [[row]], size_px=48)[row]
        image = decode_photo(read_photo_bytes(files[row]), min_side_px=96)
        draws = uniform_draws(5, 2, np.array([row]), 0, NUM_CROP_DRAWS)[0]
        assert (crop == resize_photo(image, 48, draw_crop_box(AUGMENT, draws, *image.size))).all()


def test_whole_photographs_where_the_crop_is_switched_off(files: list[Path]) -> None:
    """With crop_scale and crop_ratio of 1 relative to the photograph, every epoch shows the whole of it."""
    whole = AugmentConfig(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), crop_ratio_of="photo")
    crops = [load_crop(files[2], 2, 40, augment=whole, data=DataConfig(), seed=0, epoch=epoch) for epoch in range(3)]
    expected = resize_photo(decode_photo(read_photo_bytes(files[2]), min_side_px=80), 40)
    assert all((crop == expected).all() for crop in crops)


def test_a_photograph_decoded_smaller_shows_the_same(files: list[Path]) -> None:
    """The shortcut of decoding a large JPEG at a fraction moves a crop's content by less than a viewer could see."""
    row, size_px = NUM_PHOTOS - 1, 32
    crop = load_crop(files[row], row, size_px, augment=AUGMENT, data=DataConfig(), seed=5, epoch=2)
    image = decode_photo(read_photo_bytes(files[row]))
    assert min(decode_photo(read_photo_bytes(files[row]), min_side_px=2 * size_px).size) < min(image.size)
    draws = uniform_draws(5, 2, np.array([row]), 0, NUM_CROP_DRAWS)[0]
    full = resize_photo(image, size_px, draw_crop_box(AUGMENT, draws, *image.size))
    assert np.abs(crop.astype(float) - full).mean() < 3.0


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(b"", "the file is empty"), (b"no photograph", "not a photograph"), (None, "cannot be read")],
)
def test_a_file_damaged_after_the_scan_is_named(files: list[Path], tmp_path: Path, damage: bytes | None, reason: str) -> None:
    """A photograph that was whole in the manifest and is not now stops the training, with its name and what to do."""
    broken = tmp_path / "아반떼.jpg"
    if damage is not None:
        broken.write_bytes(damage)
    with pytest.raises(DataError) as caught:
        load_all([*files[:4], broken], [[0, 1], [2, 4, 3]], num_workers=2)
    message = str(caught.value)
    assert message.startswith(f"{broken}: changed since the manifest was made: ")
    assert reason in message
    assert message.endswith("Mend the file and use --resume")


def test_the_pixel_limit_holds_in_training(files: list[Path]) -> None:
    """data.max_megapixels is the limit of the scan and of the loader alike."""
    with pytest.raises(DataError, match=r"allowed: up to 0\.001"):
        load_crop(files[0], 0, 32, augment=AUGMENT, data=DataConfig(max_megapixels=0.001), seed=0, epoch=0)
