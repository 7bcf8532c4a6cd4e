"""Laws of the explanations: grey where nothing matters, the classifier's own answer where nothing is greyed."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hectocar import Classifier, ConfigError, DataError
from hectocar.lab.explain import draw_explanations, grey_tile, occlusion_map, overlay_heat
from hectocar.photos.views import Render
from hectocar.progress import NoProgress
from hectocar.training.run import create_run, train_folds
from tiny import CPU, make_config, write_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of four colours and a run of one epoch on them."""
    folder = tmp_path_factory.mktemp("explain")
    write_photos(folder / "data")
    run = create_run(folder / "run", folder / "data", make_config(epochs=1), NoProgress())
    train_folds(run, [0], CPU, NoProgress())
    return folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Classifier:
    """The run's only network."""
    return Classifier.load(folder / "run", device="cpu")


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_a_uniform_picture_has_no_drop_anywhere(classifier: Classifier) -> None:
    """Grey on grey is the same picture: no tile matters."""
    found = occlusion_map(classifier, encode(Image.new("RGB", (80, 60), (120, 90, 200))), grid=4)
    assert np.abs(found.drop_HW).max() < 1e-5


@pytest.mark.parametrize("grid", [1, 3, 7])
def test_the_map_is_finite_and_of_the_grids_shape(classifier: Classifier, folder: Path, grid: int) -> None:
    """Whatever the network learnt; tiles of a picture whose sides the grid does not divide cover it all the same."""
    photo = next((folder / "data/train").rglob("*.jpg"))
    found = occlusion_map(classifier, photo, grid=grid)
    assert found.drop_HW.shape == (grid, grid)
    assert np.isfinite(found.drop_HW).all()
    if grid > 1:
        assert np.abs(found.drop_HW).max() > 1e-4


def test_greying_nothing_is_the_classifiers_own_prediction(classifier: Classifier, folder: Path) -> None:
    """Names and probabilities are those of predict; a large JPEG, too, which is decoded at a part of its size."""
    large = Image.open(next((folder / "data/train").rglob("*.jpg"))).resize((640, 480))
    for photo in (next((folder / "data/train").rglob("1.jpg")), encode(large, "JPEG")):
        found, expected = occlusion_map(classifier, photo, grid=2), classifier.predict(photo)
        assert found.top.names == expected.names
        assert found.top.probs == pytest.approx(expected.probs, rel=1e-4)
        assert found.prob == pytest.approx(expected.prob, rel=1e-4)
        assert classifier.classes.label(found.label) == expected.name


def test_each_drop_is_that_of_a_photograph_which_lacks_the_tile(classifier: Classifier) -> None:
    """The map agrees with greying by hand and asking predict, tile by tile (small PNG: one decoding, no loss)."""
    pixels = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    found = occlusion_map(classifier, encode(image), grid=2)
    for row in range(2):
        for column in range(2):
            greyed = grey_tile(image, (row, column), 2)
            answer = classifier.predict(encode(greyed), top=4)
            prob = answer.probs[answer.names.index(found.top.name)]
            assert found.drop_HW[row, column] == pytest.approx(np.log(found.prob) - np.log(prob), abs=1e-3)


def test_the_batch_size_changes_nothing(classifier: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches bound the memory only."""
    photo = next((folder / "data/train").rglob("*.jpg"))
    whole = occlusion_map(classifier, photo, grid=3)
    monkeypatch.setattr("hectocar.lab.explain._BATCH", 4)
    assert np.allclose(occlusion_map(classifier, photo, grid=3).drop_HW, whole.drop_HW, atol=1e-4)


def test_all_renders_are_asked(classifier: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier with several views gets each of them, in its own size."""
    shapes: list[list[tuple[int, ...]]] = []
    monkeypatch.setattr(classifier, "renders", (Render("stretch", 48), Render("zoom", 64)))

    def answer(batch: object) -> np.ndarray:
        shapes.append([picture.shape for picture in batch.pictures])  # type: ignore[attr-defined]
        return np.full((len(batch.pictures[0]), 4), 0.25)  # type: ignore[attr-defined]

    monkeypatch.setattr(classifier, "answer", answer)
    occlusion_map(classifier, next((folder / "data/train").rglob("*.jpg")), grid=2)
    assert shapes == [[(5, 48, 48, 3), (5, 64, 64, 3)]]


def test_a_tile_is_greyed_in_the_mean_colour_and_the_rest_is_left_alone() -> None:
    """Only the tile's own pixels change; its tiles cover the picture without overlap."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8))
    before = np.asarray(image)
    mean = np.rint(before.mean(axis=(0, 1)))
    covered = np.zeros(before.shape[:2], dtype=int)
    for row in range(3):
        for column in range(3):
            greyed = np.asarray(grey_tile(image, (row, column), 3))
            inside = (greyed == mean).all(axis=2)
            assert np.array_equal(greyed[~inside], before[~inside])
            covered += inside
    assert covered.min() == covered.max() == 1
    assert grey_tile(image, None, 3) is image


@pytest.mark.parametrize("data", [b"", b"no photograph"])
def test_an_unreadable_photograph_is_named(classifier: Classifier, tmp_path: Path, data: bytes) -> None:
    """DataError with the file's name; nothing is explained in its stead."""
    photo = tmp_path / "broken.jpg"
    photo.write_bytes(data)
    with pytest.raises(DataError, match=r"broken\.jpg"):
        occlusion_map(classifier, photo)
    with pytest.raises(DataError):
        occlusion_map(classifier, data)


@pytest.mark.parametrize("grid", [0, 33])
def test_the_grid_has_a_range(classifier: Classifier, grid: int) -> None:
    """The message states it."""
    with pytest.raises(ConfigError, match="1 to 32"):
        occlusion_map(classifier, b"", grid=grid)


def test_the_sheet_has_a_row_per_photograph(classifier: Classifier, folder: Path, tmp_path: Path) -> None:
    """With a true name, a wrong one and none; nothing to draw is an error."""
    files = sorted((folder / "data/train").rglob("*.jpg"))[:3]
    maps = [occlusion_map(classifier, file, grid=2) for file in files]
    for number in (1, 3):
        items = list(zip(files, maps, [maps[0].top.name, "쏘나타", None], strict=True))[:number]
        draw_explanations(items, tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as image:
            assert image.size == (1068, 212 * number + 12)
    with pytest.raises(DataError):
        draw_explanations([], tmp_path / "none.png")


def test_heat_is_red_where_greying_costs_and_faint_where_it_hardly_does() -> None:
    """The strongest tile is red, one that helps is blue, and a map of next to nothing stays grey."""
    image = Image.new("RGB", (40, 40), (128, 128, 128))
    strong = np.asarray(overlay_heat(image, np.array([[1.0, 0.0], [0.0, -1.0]]))).astype(int)
    assert strong[0, 0, 0] > strong[0, 0, 2] + 50
    assert strong[-1, -1, 2] > strong[-1, -1, 0] + 50
    faint = np.asarray(overlay_heat(image, np.full((2, 2), 1e-6)))
    assert np.ptp(faint, axis=2).max() <= 1
