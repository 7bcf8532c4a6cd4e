"""Laws of `Classifier.predict`: one photograph has one answer, whichever way it is handed over, and mistakes are named."""

import io
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from hectocar import Classifier, ConfigError, DataError
from hectocar.progress import NoProgress
from hectocar.training.run import create_run, train_folds
from pictures import make_picture
from tiny import CPU, make_config, write_photos


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """One network of one epoch."""
    folder = tmp_path_factory.mktemp("predict")
    write_photos(folder / "data")
    run = create_run(folder / "run", folder / "data", make_config(epochs=1), NoProgress())
    train_folds(run, [0], CPU, NoProgress())
    return Classifier.load(folder / "run", device="cpu")


def test_a_photograph_has_one_answer_whichever_way_it_comes(classifier: Classifier, tmp_path: Path) -> None:
    """A 1,600 px JPEG, turned by EXIF: path, text, PathLike, bytes, bytearray, memoryview, images: equal to the last bit."""
    file = tmp_path / "자동차.jpg"
    exif = Image.Exif()
    exif[0x0112] = 8
    make_picture(3, 1600, 1200).save(file, quality=88, exif=exif)
    loaded = Image.open(file)
    loaded.load()
    data = file.read_bytes()
    photos = [str(file), data, bytearray(data), memoryview(data), Image.open(file), loaded, Image.open(io.BytesIO(data))]
    expected = classifier.predict(file)
    for photo in photos:
        assert classifier.predict(photo) == expected, type(photo)
    table = classifier.predict_proba([file])
    assert expected.prob == pytest.approx(float(table.probs_NG.max()), abs=1e-12)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "F", "I", "I;16", "La", "PA", "P", "1", "RGBa", "L", "LA"])
def test_images_of_any_mode_have_an_answer(classifier: Classifier, mode: str) -> None:
    """No mode is an error, and the answer is that of the RGB picture that the image shows."""
    image = make_picture(4, 64, 48)
    if mode in ("La", "RGBa", "PA"):
        image = image.convert({"La": "LA", "RGBa": "RGBA", "PA": "P"}[mode])
    elif mode in ("F", "I", "I;16"):
        deep = np.asarray(image.convert("L")).astype({"F": "float32", "I": "int32", "I;16": "uint16"}[mode])
        image = Image.fromarray(deep)
    elif mode == "LAB":
        image = Image.merge("LAB", image.split())
    image = image if image.mode == mode else image.convert(mode)
    assert image.mode == mode
    assert 0.0 < classifier.predict(image).prob <= 1.0
    if mode in ("F", "I", "I;16"):
        assert classifier.predict(image) == classifier.predict(make_picture(4, 64, 48).convert("L"))


def test_mistakes_are_named(classifier: Classifier, tmp_path: Path) -> None:
    """What is allowed, for photographs that are none and for a senseless number of names."""
    with pytest.raises(DataError, match=r"a photograph is ndarray; allowed: a path, the bytes of a file, or a Pillow image"):
        classifier.predict(np.zeros((8, 8, 3), dtype=np.uint8))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a photograph is NoneType"):
        classifier.predict(None)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"nowhere\.jpg: cannot be read"):
        classifier.predict(PurePosixPath(tmp_path / "nowhere.jpg"))
    with pytest.raises(DataError, match="cannot be read"):
        classifier.predict("a\0b.jpg")
    broken = tmp_path / "text.jpg"
    broken.write_text("no photograph")
    with pytest.raises(DataError, match=r"text\.jpg: not a photograph"):
        classifier.predict(broken)
    for top in (0, -1, True, 2.5, "3"):
        with pytest.raises(ConfigError, match=r"top is .*; allowed: whole numbers from 1 on"):
            classifier.predict(Image.new("RGB", (8, 8)), top=top)  # type: ignore[arg-type]
