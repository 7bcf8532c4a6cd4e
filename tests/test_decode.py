"""Laws of the one decoder: what it accepts comes out upright and RGB, what it refuses is named, and batches keep order."""

import io
import itertools
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from hectocar.errors import DataError
from hectocar.photos import decode
from hectocar.photos.decode import decode_photo, read_photo_bytes
from hectocar.photos.pool import NUM_AHEAD, iter_decoded
from hectocar.photos.render import fit_photo, resize_photo
from image_kinds import HEIGHT_PX, MEAN_TOLERANCE, WIDTH_PX, expected_pixels, make_image_kinds, make_scene

# What a person must learn from the refusal of each bad kind, as a part of the message.
REASONS = {
    "empty": "empty (0 bytes)",
    "directory": "cannot be read (Is a directory)",
    "dangling_link": "cannot be read (No such file or directory)",
    **dict.fromkeys(("jpeg_huge", "png_bomb"), "60000 x 60000 px are 3600 megapixels; allowed: up to 100"),
    **dict.fromkeys(("jpeg_half", "jpeg_progressive_half", "png_half", "tiff_half"), "damaged photograph: image file is trunc"),
    **dict.fromkeys(("text", "csv", "html", "svg", "zeros"), "not a photograph: no image header found; allowed formats: JPEG"),
    **dict.fromkeys(("jpeg_header_only", "png_header_only", "png_bad_checksum"), "not a photograph: no image header found"),
    **dict.fromkeys(("gif_header_only", "webp_half"), "not a photograph: "),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_image_kinds(tmp_path_factory.mktemp("kinds"))


def encode(image: Image.Image, image_format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def distance(first: Image.Image | NDArray[np.uint8], second: Image.Image | NDArray[np.uint8]) -> float:
    return float(np.abs(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)).mean())


def test_every_ok_kind_decodes_to_the_same_scene(kinds: dict[str, Path]) -> None:
    """Format, colour mode, bit depth, name and EXIF (all 8 orientations) change how a scene is stored, not what is seen."""
    ok = [key for key in kinds if key.startswith("ok/")]
    assert {f"ok/jpeg_exif_orientation_{turn}" for turn in range(1, 9)} <= set(ok)
    for key in ok:
        image = decode_photo(read_photo_bytes(kinds[key]))
        assert (image.mode, image.size) == ("RGB", (WIDTH_PX, HEIGHT_PX)), key
        assert distance(image, expected_pixels(key)) <= MEAN_TOLERANCE, key


def test_every_bad_kind_is_refused_with_its_reason(kinds: dict[str, Path]) -> None:
    """A file that is no whole photograph is never half used: the message says what is wrong and shows no Python object."""
    bad = {key.removeprefix("bad/"): path for key, path in kinds.items() if key.startswith("bad/")}
    assert bad.keys() == REASONS.keys()
    for name, path in bad.items():
        with pytest.raises(DataError, match=re.escape(REASONS[name])) as caught:
            decode_photo(read_photo_bytes(path))
        assert " object at 0x" not in str(caught.value), name


def test_unreadable_files_are_named_by_path(kinds: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails before the decoder names the file itself, and a giant file is refused by its size, unread."""
    for path in (kinds["bad/empty"], kinds["bad/directory"], kinds["bad/dangling_link"]):
        with pytest.raises(DataError, match=re.escape(str(path))):
            read_photo_bytes(path)
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"pipe\.jpg: no regular file"):
        read_photo_bytes(pipe)
    monkeypatch.setattr(decode, "_MAX_FILE_BYTES", 100)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(DataError, match=r"jpeg\.jpg: the file has \d+ bytes; allowed: up to 100"):
        read_photo_bytes(kinds["ok/jpeg"])


def test_the_pixel_limit_speaks_before_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decompression bomb costs nothing: the header alone decides, against the limit that was given."""
    data = encode(Image.new("RGB", (100, 50)), "PNG")
    assert decode_photo(data, max_megapixels=0.005).size == (100, 50)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("pixels were decoded"))
    with pytest.raises(DataError, match=r"100 x 50 px .* allowed: up to 0\.004"):
        decode_photo(data, max_megapixels=0.004)
    with pytest.raises(DataError, match=r"1 x 50 px; allowed: sides of 2 px or more"):
        decode_photo(encode(Image.new("RGB", (1, 50)), "PNG"))


@pytest.mark.parametrize("size", [(640, 480), (333, 1000), (131, 97), (31, 500)])
@pytest.mark.parametrize("min_side_px", [1, 4, 33, 64, 100])
def test_min_side_keeps_both_sides_and_changes_little(size: tuple[int, int], min_side_px: int) -> None:
    """Decoding a JPEG smaller keeps the side asked for; at half of it, where it is used, the view hardly changes."""
    data = encode(Image.fromarray(make_scene()).resize(size, Image.Resampling.BICUBIC), quality=95)
    whole, small = decode_photo(data), decode_photo(data, min_side_px=min_side_px)
    assert min(small.size) >= min(min_side_px, *size)
    if min_side_px >= 32:  # below, the rounding to whole pixels of a size that nobody uses is all that is seen
        side = min_side_px // 2
        assert distance(fit_photo(whole, side, "stretch"), fit_photo(small, side, "stretch")) < 2.0


def test_min_side_does_shrink_and_stays_upright() -> None:
    """480 px for a need of 64 px are decoded at a quarter, turned as EXIF says; other formats have no such shortcut."""
    image, exif = Image.fromarray(make_scene()).resize((640, 480)), Image.Exif()
    exif[0x0112] = 6
    files = (encode(image), encode(image, exif=exif), encode(image, "PNG"))
    assert [decode_photo(data, min_side_px=64).size for data in files] == [(160, 120), (120, 160), (640, 480)]


def test_the_transparent_colour_of_an_rgb_png_is_laid_over_white() -> None:
    """Alpha is laid over white, also where an RGB file keeps it as one transparent colour, as a grey file may."""
    for mode, colour in (("L", 7), ("RGB", (255, 0, 255))):
        image = Image.new(mode, (8, 8), colour)
        image.putpixel((7, 7), 0)
        assert decode_photo(encode(image, "PNG", transparency=colour)).getpixel((0, 0)) == (255, 255, 255)


def three_bands() -> Image.Image:
    """90 x 30 px: red, green and blue thirds."""
    return Image.fromarray(255 * np.eye(3, dtype=np.uint8)[None]).resize((90, 30), Image.Resampling.NEAREST)


def test_fit_geometry() -> None:
    """Stretch shows everything squeezed, letterbox everything between grey bars, crop the middle square; tall as wide."""
    bands = three_bands()
    stretched = fit_photo(bands, 30, "stretch")
    assert stretched[15, (2, 8, 12, 18, 22, 28)].argmax(axis=1).tolist() == [0, 0, 1, 1, 2, 2]
    assert (fit_photo(bands, 30, "crop") == (0, 255, 0)).all()
    boxed = fit_photo(bands, 30, "letterbox")
    assert (np.delete(boxed, range(10, 20), axis=0) == 124).all()
    assert (boxed[10:20] == fit_photo(bands, 30, "stretch")[10:20]).all()
    tall = bands.transpose(Image.Transpose.TRANSPOSE)
    for fit in ("stretch", "letterbox", "crop"):
        turned = fit_photo(tall, 30, fit).transpose(1, 0, 2)
        assert np.abs(turned.astype(int) - fit_photo(bands, 30, fit)).max() <= 1
    with pytest.raises(ValueError, match="fit is 'cover'; allowed: stretch, letterbox, crop"):
        fit_photo(bands, 30, "cover")


@pytest.mark.parametrize(
    ("width", "height", "size_px"), [(300, 200, 64), (97, 331, 128), (40, 30, 96), (3, 700, 33), (1, 1, 8)]
)
def test_resize_equals_pillows(width: int, height: int, size_px: int) -> None:
    """Down and up, a resize equals Pillow's bilinear one within a rounding step, on hard noise; a box is cut first."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    boxes = [(0, 0, width, height), (width // 3, height // 4, width, height - height // 5)]
    for box in boxes:
        theirs = np.asarray(image.crop(box).resize((size_px, size_px), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(resize_photo(image, size_px, box).astype(int) - theirs).max() <= 1
    assert np.array_equal(resize_photo(image, size_px), resize_photo(image, size_px, boxes[0]))
    assert np.array_equal(np.asarray(image), noise), "the photograph is left as it was"


def load_marked(index: int, size_px: int) -> NDArray[np.uint8]:
    """Filled with its index; every seventh is damaged, and even ones come late."""
    time.sleep(0.002 * (index % 2 == 0))
    if index % 7 == 0:
        raise DataError(f"photo {index} is damaged")
    return np.full((size_px, size_px, 3), index, dtype=np.uint8)


def decode_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_batches_keep_order_and_name_problems(num_workers: int) -> None:
    """Whatever the number of threads, batches and places come in order, of the size asked for; a problem has its place."""
    plan = [(np.array([3, 1, 2]), 8), (np.array([7, 6]), 4), *[(np.array([index]), 2) for index in range(8, 16)]]
    result = list(iter_decoded(plan, load_marked, num_workers))
    assert [batch.index_B.tolist() for batch in result] == [index.tolist() for index, _ in plan]
    assert [batch.images_BHWC.shape for batch in result] == [(len(index), size, size, 3) for index, size in plan]
    for batch in result:
        damaged = {place: f"photo {index} is damaged" for place, index in enumerate(batch.index_B) if index % 7 == 0}
        assert batch.problems == damaged
        expected_B = np.where(batch.index_B % 7 == 0, 0, batch.index_B)
        assert (batch.images_BHWC == expected_B[:, None, None, None]).all()


def test_threads_stop_with_the_consumer() -> None:
    """Work runs at most NUM_AHEAD batches ahead; a consumer that leaves early, or an error, drops it and leaves no thread."""
    asked, loaded = itertools.count(), itertools.count()

    def endless() -> Iterator[tuple[NDArray[np.int64], int]]:
        while True:
            yield np.full(40, 2 * next(asked)), 2

    def load_slowly(index: int, size_px: int) -> NDArray[np.uint8]:
        time.sleep(0.001)
        return np.full((size_px, size_px, 3), next(loaded) % 2, dtype=np.uint8)

    stream = iter_decoded(endless(), load_slowly, 2)
    next(stream)
    assert len(decode_threads()) > 0
    stream.close()  # type: ignore[attr-defined]
    assert decode_threads() == []
    assert next(asked) == NUM_AHEAD + 1
    assert next(loaded) < 80  # of 160 that were waiting, 40 were asked for
    with pytest.raises(ZeroDivisionError):  # a programmer's error is no damaged photograph and no black square
        list(iter_decoded(endless(), lambda index, size_px: np.zeros(1 // 0, dtype=np.uint8), 2))
    assert decode_threads() == []
