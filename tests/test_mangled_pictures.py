"""Law of mangled pictures: whatever bytes arrive, there is a picture or a DataError, soon, and nothing else."""

import io
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image, features

from hectocar.errors import DataError
from hectocar.photos.batches import render_photo
from hectocar.photos.decode import decode_photo
from hectocar.photos.measure import Measurement, measure_photo
from hectocar.photos.views import Render
from pictures import make_picture

PICTURE = make_picture(11, 60, 44)
RENDERS = [Render("stretch", 16), Render("zoom", 24, 120.0)]
MAX_SECONDS, MAX_MIB = 10.0, 1500.0


def save(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def make_files() -> dict[str, bytes]:
    """A small file of every format and of every way to store it that has a decoder of its own."""
    exif = Image.Exif()
    exif[0x0112] = 6
    grey, clear = PICTURE.convert("L"), PICTURE.convert("RGBA")
    clear.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 16)
    files = {
        "jpeg": save(PICTURE, "JPEG", exif=exif, comment=b"a comment"),
        "jpeg progressive": save(PICTURE, "JPEG", progressive=True),
        "jpeg restarts": save(PICTURE, "JPEG", restart_marker_rows=1),
        "jpeg grey": save(grey, "JPEG", optimize=True),
        "jpeg cmyk": save(PICTURE.convert("CMYK"), "JPEG"),
        "mpo": save(PICTURE, "MPO", save_all=True, append_images=[PICTURE]),
        "png": save(PICTURE, "PNG", exif=exif),
        "png rgba": save(clear, "PNG"),
        "png palette": save(PICTURE.quantize(16), "PNG", transparency=3),
        "png deep": save(deep, "PNG"),
        "gif": save(PICTURE, "GIF", save_all=True, append_images=[PICTURE]),
        "bmp": save(PICTURE, "BMP"),
        "bmp rgba": save(clear, "BMP"),
        "webp": save(PICTURE, "WEBP", exif=exif),
        "webp lossless": save(clear, "WEBP", lossless=True),
        "tiff": save(PICTURE, "TIFF"),
        "tiff deflate": save(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": save(PICTURE, "TIFF", compression="jpeg"),
        "tiff float": save(Image.fromarray(np.asarray(grey, dtype=np.float32)), "TIFF", compression="tiff_lzw"),
    }
    return files | ({"avif": save(PICTURE, "AVIF", speed=10)} if features.check("avif") else {})


FILES = make_files()


def flip_bytes(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 4, 30))):
        data[rng.randrange(len(data))] = rng.randrange(256)


def flip_head(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3))):
        data[rng.randrange(min(80, len(data)))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))


def cut(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, len(data))]


def repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randrange(1, 200)] * rng.choice((1, 2, 50))


def fill(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randrange(1, len(data)))
    data[start:end] = bytes([rng.choice((0, 255, 0x55))]) * (end - start)


def write_number(data: bytearray, rng: random.Random) -> None:
    value = rng.choice((0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, rng.randrange(2**32)))
    place = rng.randrange(max(1, len(data) - 4))
    data[place : place + 4] = struct.pack(rng.choice(("<I", ">I")), value)


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (flip_bytes, flip_head, cut, repeat, fill, write_number)


def iter_mangled(num_each: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(what it is, bytes), the same for a seed."""
    rng = random.Random(seed)
    for name, data in FILES.items():
        for number in range(num_each):
            mangled = bytearray(data)
            mutation = rng.choice(MUTATIONS)
            mutation(mangled, rng)
            yield f"{name} {mutation.__name__} {seed}/{number}", bytes(mangled)


def check(name: str, data: bytes) -> bool:
    """Whether there is a picture. Measurement, decode and views agree on that."""
    start = time.process_time()
    row = measure_photo(data)
    assert isinstance(row, Measurement)
    try:
        image = decode_photo(data)
        pictures, look = render_photo(data, RENDERS)
    except DataError:
        assert row.problem, name
        image = None
    else:
        assert not row.problem, (name, row.problem)
        assert image.mode == "RGB", name
        assert [picture.shape for picture in pictures] == [(16, 16, 3), (24, 24, 3)], name
        assert np.isfinite(look).all(), name
    assert time.process_time() - start < MAX_SECONDS, name
    return image is not None


def check_all(num_each: int, seed: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shown = [check(name, data) for name, data in iter_mangled(num_each, seed)]
    assert 0 < sum(shown) < len(shown)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MAX_MIB


def test_whole_files_are_pictures() -> None:
    """What is mangled below is whole at first."""
    assert all(check(name, data) for name, data in FILES.items())


@pytest.mark.filterwarnings("ignore")
def test_two_hundred_mangled_pictures() -> None:
    """Bytes changed, cut, repeated, filled, numbers in headers replaced."""
    check_all(10, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(2, 12))
def test_thousands_of_mangled_pictures(seed: int) -> None:
    """The same, ten times as many."""
    check_all(20, seed)
