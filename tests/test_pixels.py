"""Laws of pixels: a Pillow image and its file look alike, a picture's own range is found, and strips change nothing."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hectocar.errors import DataError
from hectocar.photos import pixels
from hectocar.photos.batches import render_photo
from hectocar.photos.decode import decode_photo
from hectocar.photos.pixels import Levels, find_levels, to_upright_rgb
from hectocar.photos.views import Render
from image_kinds import MEAN_TOLERANCE, expected_pixels, make_image_kinds, make_scene
from pictures import make_picture

SCENE = Image.fromarray(make_scene())
GREY = np.asarray(SCENE.convert("L"))
# How each mode is kept in a file; Pillow can store La, RGBa and HSV nowhere.
STORED = {
    "1": "PNG", "L": "PNG", "LA": "PNG", "P": "PNG", "RGB": "PNG", "RGBA": "PNG", "CMYK": "TIFF", "YCbCr": "TIFF",
    "LAB": "TIFF", "I;16": "PNG", "I": "TIFF", "F": "TIFF", "I;16B": "TIFF",
}  # fmt: skip


def save(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def make(mode: str) -> Image.Image:
    """The scene in a mode; those of deep grey use 16 bits."""
    if mode in ("I;16", "I;16B", "I", "F"):
        deep = GREY.astype(np.uint16) * 257
        kind = {"I;16": "<u2", "I;16B": ">u2", "I": "int32", "F": "float32"}[mode]
        image = Image.frombytes(mode, SCENE.size, deep.astype(kind).tobytes())
    elif mode in ("La", "PA"):
        image = SCENE.convert("LA").convert(mode) if mode == "La" else SCENE.convert("P").convert("PA")
    elif mode == "RGBa":
        image = SCENE.convert("RGBA").convert("RGBa")
    elif mode == "LAB":
        image = Image.merge("LAB", SCENE.split())
    else:
        image = SCENE.convert(mode)
    assert image.mode == mode
    return image


@pytest.mark.parametrize("mode", STORED)
def test_an_image_of_any_mode_decodes_as_its_file(mode: str) -> None:
    """What a Pillow image shows is what its file shows, to the last bit, whatever the mode."""
    image = make(mode)
    data = save(image, STORED[mode])
    assert np.array_equal(decode_photo(image), decode_photo(data))
    opened = Image.open(io.BytesIO(data))
    assert np.array_equal(decode_photo(opened), decode_photo(data))


@pytest.mark.parametrize("mode", ["La", "PA", "RGBa", "HSV", "CMYK", "I", "F", "I;16B", "RGBX"])
def test_an_image_of_any_mode_shows_the_scene(mode: str) -> None:
    """Modes that no file keeps are read as well, and all of them show the same scene."""
    expected = np.repeat(GREY[..., None], 3, axis=2) if mode in ("La", "I", "F", "I;16B") else np.asarray(SCENE)
    difference = np.abs(np.asarray(decode_photo(make(mode)), dtype=int) - expected)
    assert difference.mean() < (20 if mode == "PA" else 3), mode


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_every_kind_of_file_gives_what_its_image_gives(tmp_path: Path) -> None:
    """EXIF, palettes, transparency, depth and frames are treated alike, whether Pillow opened the file or we did."""
    for key, path in make_image_kinds(tmp_path).items():
        if key.startswith("ok/"):
            with Image.open(path) as lazy:
                loaded = Image.open(path)
                loaded.load()
                expected = decode_photo(path.read_bytes())
                assert np.array_equal(decode_photo(lazy), expected), key
                assert np.array_equal(decode_photo(loaded), expected), key
                assert np.array_equal(decode_photo(loaded.copy()), expected), key


@pytest.mark.parametrize("size_px", [32, 112, 224])
def test_a_large_jpeg_has_the_same_views_whichever_way_it_comes(size_px: int) -> None:
    """1,600 px: bytes, an image opened from them, a loaded one and bare pixels give equal pictures and looks."""
    data = save(make_picture(3, 1600, 1200), "JPEG", quality=90)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    bare = Image.fromarray(np.asarray(Image.open(io.BytesIO(data))))
    renders = [Render("stretch", size_px), Render("zoom", size_px), Render("letterbox", size_px, 200.0)]
    pictures, look = render_photo(data, renders)
    for photo in (Image.open(io.BytesIO(data)), loaded, bare):
        others, other_look = render_photo(photo, renders)
        assert all(np.array_equal(one, other) for one, other in zip(pictures, others, strict=True))
        assert np.array_equal(look, other_look)


def test_an_image_is_left_as_it_was() -> None:
    """Looking at a caller's image changes neither its pixels nor its mode, and limits hold for it too."""
    image = make("RGBA")
    before = image.tobytes()
    decode_photo(image)
    assert (image.mode, image.tobytes()) == ("RGBA", before)
    with pytest.raises(DataError, match=r"64 x 48 px .* allowed: up to 0\.001"):
        decode_photo(image, max_megapixels=0.001)
    closed = Image.open(io.BytesIO(save(SCENE)))
    closed.close()
    with pytest.raises(DataError):
        decode_photo(closed)


def deep(values: NDArray[np.float64], dtype: str) -> Image.Image:
    return Image.fromarray(values.astype(dtype))


RAMP = np.linspace(0.0, 1.0, 64 * 48).reshape(48, 64)
RANGES = [
    ("uint16", 255, Levels(0, 255)),
    ("uint16", 1023, Levels(0, 1023)),
    ("uint16", 4095, Levels(0, 4095)),
    ("uint16", 4000, Levels(0, 4095)),
    ("uint16", 16383, Levels(0, 16383)),
    ("uint16", 65535, Levels(0, 65535)),
    ("int32", 255, Levels(0, 255)),
    ("int32", 2**24 - 1, Levels(0, 2**24 - 1)),
    ("float32", 1.0, Levels(0, 1)),
    ("float32", 1.05, Levels(0, 1)),
    ("float32", 255.0, Levels(0, 255)),
    ("float32", 260.0, Levels(0, 255)),
    ("float32", 4095.0, Levels(0, 4095)),
    ("float32", 65535.0, Levels(0, 65535)),
]


@pytest.mark.parametrize(("dtype", "most", "levels"), RANGES)
def test_the_range_of_deep_grey_is_found(dtype: str, most: float, levels: Levels) -> None:
    """8, 10, 12, 14 or 16 bits in an integer, fractions and levels in a float: the ramp uses the whole of 8 bits."""
    image = deep(RAMP * most, dtype)
    assert find_levels(image) == levels
    grey = np.asarray(decode_photo(image))[..., 0].astype(int)
    assert grey.min() == 0
    assert grey.max() >= 240
    assert np.abs(grey - 255 * RAMP).max() <= 14


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_file_of_deep_grey_has_its_range_found(dtype: str) -> None:
    """12 bits in a 16-bit PNG, 0 to 65535 in a float TIFF: neither is nearly black or white."""
    data = save(deep(RAMP * (4095 if dtype == "uint16" else 65535), dtype), "PNG" if dtype == "uint16" else "TIFF")
    grey = np.asarray(decode_photo(data))[..., 0].astype(int)
    assert np.abs(grey - 255 * RAMP).max() <= 1


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("most", [1.0, 255.0])
def test_one_odd_value_does_not_hide_a_picture(odd: float, most: float) -> None:
    """What is not a number, or is one hot pixel, leaves the range of the others alone."""
    values = RAMP * most
    values[10, 10] = odd
    grey = np.asarray(decode_photo(deep(values, "float32")))[..., 0].astype(int)
    assert np.abs(np.delete(grey.ravel(), 10 * 64 + 10) - np.delete(255 * RAMP.ravel(), 10 * 64 + 10)).max() <= 1


def test_nothing_but_nonsense_is_black() -> None:
    """A picture without a single number still decodes."""
    assert (np.asarray(decode_photo(deep(np.full((48, 64), np.nan), "float32"))) == 0).all()


@pytest.mark.parametrize(("dtype", "low", "high"), [("int32", -32768, 32767), ("int32", -128, 127), ("float32", -1.0, 1.0)])
def test_signed_pictures_use_their_whole_range(dtype: str, low: float, high: float) -> None:
    """Half of a signed picture is not cut off; a little ringing below black is."""
    grey = np.asarray(decode_photo(deep(low + RAMP * (high - low), dtype)))[..., 0].astype(int)
    assert np.abs(grey - 255 * RAMP).max() <= 1
    ringing = RAMP.copy()
    ringing[:2] = -0.05
    assert find_levels(deep(ringing, "float32")) == Levels(0, 1)


def test_linear_highlights_do_not_make_the_rest_black() -> None:
    """A linear float picture has a few lamps at 12; white is 1 all the same."""
    values = RAMP.copy()
    values[:2, :10] = 12.0
    assert find_levels(deep(values, "float32")) == Levels(0, 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_alpha_that_is_zero_everywhere_is_ignored(mode: str) -> None:
    """Some programs write an alpha channel and never fill it: the colours under it are the picture."""
    image = make(mode)
    image.putalpha(0) if mode in ("RGBA", "LA", "PA") else None
    if mode in ("La", "RGBa"):
        bands = image.split()
        image = Image.merge(mode, [*bands[:-1], Image.new("L", image.size)])
    seen = np.asarray(decode_photo(image), dtype=int)
    opaque = np.asarray(decode_photo(make(mode)), dtype=int)
    assert np.abs(seen - opaque).mean() < 1


def test_alpha_of_files_that_is_zero_everywhere_is_ignored() -> None:
    """RGBA PNG and BMP with 32 bits; one visible pixel makes the alpha count again."""
    clear = SCENE.copy()
    clear.putalpha(0)
    for image_format in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(decode_photo(save(clear, image_format)), SCENE), image_format
    clear.putpixel((0, 0), (0, 0, 0, 255))
    assert decode_photo(save(clear)).getpixel((5, 5)) == (255, 255, 255)


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A picture is converted in strips; where they are cut is not seen."""
    files = {key: path.read_bytes() for key, path in make_image_kinds(tmp_path).items() if key.startswith("ok/")}
    images = [make(mode) for mode in ("La", "PA", "RGBa", "HSV", "I", "F", "I;16B", "LAB", "CMYK")]
    whole = [np.asarray(decode_photo(photo)) for photo in (*files.values(), *images)]
    monkeypatch.setattr(pixels, "STRIP_PIXELS", 7 * 64)
    for key, photo, expected in zip((*files, *images), (*files.values(), *images), whole, strict=True):
        assert np.array_equal(decode_photo(photo), expected), key


def test_giants_are_averaged_down_alike_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A giant is averaged over whole squares, upright, whichever way it comes."""
    picture = make_picture(5, 320, 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    monkeypatch.setattr(pixels, "WHOLE_MEGAPIXELS", 0.01)
    monkeypatch.setattr(pixels, "STRIP_PIXELS", 320 * 13)
    data = save(picture, "PNG", exif=exif)
    expected = picture.reduce(3).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(decode_photo(data), expected)
    assert np.array_equal(decode_photo(Image.open(io.BytesIO(data))), expected)
    assert to_upright_rgb(picture.convert("L")).size == (107, 67)


def deep_png(values: NDArray[np.uint16], colour_type: int) -> bytes:
    from image_kinds import _png_file

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return _png_file(width, height, 16, colour_type, rows)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize(("channels", "colour_type"), [(3, 2), (4, 6)])
def test_deep_colour_has_its_range_found(bits: int, channels: int, colour_type: int) -> None:
    """8 to 14 bits in a PNG of 16-bit colour, of which Pillow keeps the upper byte, are not nearly black."""
    scene = make_scene().astype(np.float64) / 255.0
    values = np.round(scene * (2**bits - 1)).astype(np.uint16)
    if channels == 4:
        values = np.dstack([values, np.full(values.shape[:2], 65535, np.uint16)])
    seen = np.asarray(decode_photo(deep_png(values, colour_type)), dtype=int)
    assert np.abs(seen - make_scene()).max() <= 1


def test_tolerances_are_those_of_the_kinds() -> None:
    """The expected scene of the files is the scene of the modes."""
    assert np.abs(expected_pixels("ok/png").astype(int) - np.asarray(SCENE)).mean() < MEAN_TOLERANCE
