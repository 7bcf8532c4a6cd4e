"""Laws of the measurement: it agrees with a whole decode, and it notices every damage that a whole decode notices."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from hectocar.errors import DataError
from hectocar.photos.decode import decode_photo
from hectocar.photos.measure import Measurement, measure_photo
from pictures import encode, make_picture

PICTURE = make_picture(1)


def slow_reference(data: bytes) -> dict[str, float]:
    """The same quantities from every pixel of a whole decode."""
    image = decode_photo(data)
    luma, rgb = np.asarray(image.convert("L"), dtype=float), np.asarray(image, dtype=float)
    high, low = rgb.max(axis=2), rgb.min(axis=2)
    return {
        "brightness": luma.mean(),
        "contrast": luma.std(),
        "saturation": float(np.mean((high - low) / np.maximum(high, 1.0))),
        "width_px": image.width,
        "height_px": image.height,
    }


def with_comment(data: bytes, text: bytes) -> bytes:
    """A JPEG with a comment after its first marker: other bytes, same pixels."""
    return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_measures_as_its_whole_decode(mode: str) -> None:
    """Luma read alone and colour read at an eighth give what all pixels give."""
    data = encode(PICTURE.convert(mode))
    row, slow = measure_photo(data), slow_reference(data)
    assert (row.problem, row.format, row.mode) == ("", "JPEG", mode)
    assert (row.width_px, row.height_px) == (slow["width_px"], slow["height_px"])
    assert row.brightness == pytest.approx(slow["brightness"], abs=1.0)
    assert row.contrast == pytest.approx(slow["contrast"], abs=1.0)
    assert row.saturation == pytest.approx(slow["saturation"], abs=0.08)
    assert row.jpeg_quality == 88


def test_other_formats_measure_alike() -> None:
    """A PNG of the same pixels has the same photometry, and no JPEG quality."""
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG")
    png, jpeg = measure_photo(buffer.getvalue()), measure_photo(encode(PICTURE, 95))
    assert (png.format, png.jpeg_quality) == ("PNG", 0)
    assert png.brightness == pytest.approx(jpeg.brightness, abs=1.0)
    assert png.sharpness == pytest.approx(jpeg.sharpness, rel=0.1)


def test_every_cut_that_a_decode_notices_is_noticed() -> None:
    """A file cut anywhere is damaged for the scan exactly when it is damaged for training."""
    data = encode(PICTURE)
    for length in [0, 1, 2, 20, 300, 700, *range(1000, len(data), 997), len(data) - 30, len(data) - 3, len(data)]:
        try:
            decode_photo(data[:length])
            damaged = False
        except DataError:
            damaged = True
        assert bool(measure_photo(data[:length]).problem) == damaged, length


def test_bombs_and_texts_have_a_problem_and_keep_their_hash() -> None:
    """What cannot be decoded keeps its digest and its size, and says why."""
    bomb = measure_photo(encode(Image.new("RGB", (3000, 2000))), max_megapixels=5.0)
    assert "megapixels; allowed: up to 5" in bomb.problem
    text = measure_photo(b"<html>404</html>")
    assert "not a photograph" in text.problem
    assert (text.num_bytes, len(text.sha1)) == (16, 40)
    assert measure_photo(b"<html>404</html>") == text or np.isnan(text.brightness)


def test_equal_pixels_have_one_hash_whatever_stands_beside_them() -> None:
    """Metadata and lossless compression do not change the pixel hash; the smallest change of pixels does."""
    data = encode(PICTURE)
    commented = with_comment(data, b"taken by a messenger")
    assert measure_photo(commented).sha1 != measure_photo(data).sha1
    assert measure_photo(commented).pixel_sha1 == measure_photo(data).pixel_sha1
    assert measure_photo(encode(PICTURE, 88, optimize=True)).pixel_sha1 == measure_photo(data).pixel_sha1
    assert measure_photo(encode(PICTURE, 87)).pixel_sha1 != measure_photo(data).pixel_sha1


@pytest.mark.parametrize(("orientation", "stored"), [(6, Image.Transpose.ROTATE_90), (3, Image.Transpose.ROTATE_180)])
def test_a_turned_photograph_measures_upright(orientation: int, stored: Image.Transpose) -> None:
    """EXIF orientation is applied before anything is read."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    row = measure_photo(encode(PICTURE.transpose(stored), 95, exif=exif))
    plain = measure_photo(encode(PICTURE, 95))
    assert (row.exif_orientation, row.width_px, row.height_px) == (orientation, PICTURE.width, PICTURE.height)
    difference = np.frombuffer(row.thumb, np.uint8).astype(int) - np.frombuffer(plain.thumb, np.uint8)
    assert np.abs(difference).max() <= 4


def test_sharpness_falls_with_blur_and_ignores_brightness() -> None:
    """Sharpness is about details, not about light."""
    sharp = measure_photo(encode(PICTURE, 95)).sharpness
    assert measure_photo(encode(PICTURE.filter(ImageFilter.GaussianBlur(2)), 95)).sharpness < 0.6 * sharp
    darker = PICTURE.point([value // 2 + 30 for value in range(256)] * 3)
    assert measure_photo(encode(darker, 95)).sharpness == pytest.approx(sharp, rel=0.2)
    assert measure_photo(encode(ImageOps.mirror(PICTURE), 95)).sharpness == pytest.approx(sharp, rel=0.05)


def test_clipped_shares_count_the_ends_of_the_scale() -> None:
    """A black and a white half are counted as such."""
    halves = Image.new("L", (64, 64))
    halves.paste(255, (0, 0, 64, 16))
    row = measure_photo(encode(halves, 95))
    assert row.bright_share == pytest.approx(0.25, abs=0.03)
    assert row.dark_share == pytest.approx(0.75, abs=0.03)
    assert isinstance(row, Measurement)
