"""Laws of half-lost JPEGs: what libjpeg passes over is named, what is whole is not, and the audit drops it by decision."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hectocar.auditing.file_findings import judge_files
from hectocar.dataset.decisions import DROP, KEEP
from hectocar.dataset.scan import PhotoScan
from hectocar.photos.jpeg_stream import JpegStream, read_jpeg
from hectocar.photos.measure import Measurement, measure_photo
from pictures import encode, make_picture

Options = dict[str, object]
WRITERS: dict[str, Options] = {
    "plain": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "no subsampling": {"quality": 95, "subsampling": 0},
}


def scan_of(data: bytes) -> tuple[int, int]:
    """Where the picture's data begin and end."""
    stream = read_jpeg(data)
    assert stream.end is not None
    return stream.scans[0].start, stream.end


def zero_half(data: bytes) -> bytes:
    start, end = scan_of(data)
    middle = (start + end) // 2
    return data[:middle] + bytes(end - middle) + data[end:]


def zero_middle(data: bytes) -> bytes:
    start, end = scan_of(data)
    third = (end - start) // 3
    return data[: start + third] + bytes(third) + data[start + 2 * third :]


def cut_middle(data: bytes) -> bytes:
    start, end = scan_of(data)
    third = (end - start) // 3
    return data[: start + third] + data[start + 2 * third :]


def cut_end(data: bytes) -> bytes:
    start, end = scan_of(data)
    return data[: (start + end) // 2] + data[end:]


def fill_ones(data: bytes) -> bytes:
    start, end = scan_of(data)
    middle = (start + end) // 2
    return data[:middle] + b"\xff" * (end - middle) + data[end:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    function.__name__: function for function in (zero_half, zero_middle, cut_middle, cut_end, fill_ones)
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("writer", WRITERS)
def test_what_lost_a_part_of_its_data_is_named_and_nothing_else(writer: str, mode: str) -> None:
    """Zeroed, overwritten, cut out or cut off: refused or named for each way of writing; whole ones have no damage."""
    for seed in range(2):
        data = encode(make_picture(seed, 480, 320).convert(mode), **({"quality": 85} | WRITERS[writer]))  # type: ignore[arg-type]
        assert measure_photo(data).damage == ""
        for name, damage in DAMAGES.items():
            row = measure_photo(damage(data))
            assert row.problem or row.damage, (name, seed)


def test_the_message_says_how_much_is_gone() -> None:
    """The lower part of the picture, or the bytes that were overwritten."""
    data = encode(make_picture(0, 480, 320))
    assert re.search(r"the lower \d\d% of the picture are missing", measure_photo(cut_middle(data)).damage)
    zeroed = measure_photo(zero_middle(encode(make_picture(0, 480, 320), optimize=True))).damage
    assert re.search(r"\d+ bytes in a row, 3\d% of the picture's data, are 0x00|the lower \d\d%", zeroed)


def test_a_lost_restart_marker_is_named() -> None:
    """One marker gone, or two exchanged."""
    data = encode(make_picture(1, 480, 320), restart_marker_rows=1)
    places = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    assert "restart markers" in measure_photo(data[: places[3]] + data[places[3] + 2 :]).damage
    mixed = bytearray(data)
    mixed[places[1] + 1], mixed[places[5] + 1] = mixed[places[5] + 1], mixed[places[1] + 1]
    assert "restart markers" in measure_photo(bytes(mixed)).damage


def test_lost_scans_of_a_progressive_file_are_named() -> None:
    """Whatever scan is missing, its coefficients are."""
    data = encode(make_picture(1, 480, 320), progressive=True)
    stream = read_jpeg(data)
    assert stream.is_progressive
    for number in range(1, len(stream.scans)):
        before = stream.scans[number - 1].end
        gone = data[:before] + data[stream.scans[number].end :]
        assert "scans are missing" in measure_photo(gone).damage, number


def grey_bar() -> Image.Image:
    """A photograph over a bar of the very grey that libjpeg fills with."""
    image = make_picture(2, 480, 320)
    ImageDraw.Draw(image).rectangle((0, 200, 480, 320), fill=(128, 128, 128))
    return image


def studio(colour: tuple[int, int, int]) -> Image.Image:
    """A small object before an even wall."""
    image = Image.new("RGB", (1200, 800), colour)
    image.paste(make_picture(2, 240, 160), (500, 300))
    return image


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"quality": 30, "optimize": True}])
def test_even_areas_are_no_damage(options: Options) -> None:
    """Grey bars and studio walls code as runs of one byte, or look like what a decoder fills, and are no damage."""
    pictures = [grey_bar(), studio((255, 255, 255)), studio((128, 128, 128)), studio((3, 3, 3)), Image.new("RGB", (900, 900))]
    for number, picture in enumerate(pictures):
        for mode in ("RGB", "L"):
            assert measure_photo(encode(picture.convert(mode), **options)).damage == "", (number, mode)  # type: ignore[arg-type]


def test_damage_and_problems_exclude_each_other_and_turning_plays_no_part() -> None:
    """A file that does not decode has a problem; a turned one is judged as it is stored."""
    exif = Image.Exif()
    exif[0x0112] = 8
    data = encode(make_picture(4, 480, 320), exif=exif)
    assert measure_photo(data).damage == ""
    assert "the lower" in measure_photo(cut_end(data)).damage
    half = measure_photo(data[: len(data) // 2])
    assert (bool(half.problem), half.damage) == (True, "")


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xda\0\x03\x07", b"\xff\xd8" + 9 * b"\xff\xc0\0\x02"])
def test_broken_structure_is_walked_without_an_error(data: bytes) -> None:
    """The walk through markers never fails; it says what it saw."""
    assert isinstance(read_jpeg(data), JpegStream)


def scan(**rows: Measurement) -> PhotoScan:
    names = tuple(f"train/K5/{name}.jpg" for name in rows)
    return PhotoScan(Path(), names, names, tuple(rows.values()), 0)


def picture_file(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_the_audit_names_half_lost_and_toneless_photographs() -> None:
    """Half-lost and one-toned training photographs are dropped by decision, faint ones kept; the test set's are kept."""
    noise = np.random.default_rng(0).normal(30, 4.0, (200, 300)).clip(0, 255).astype(np.uint8)
    rows = {
        "whole": measure_photo(encode(make_picture(0, 480, 320))),
        "lost": measure_photo(cut_middle(encode(make_picture(0, 480, 320)))),
        "black": measure_photo(picture_file(Image.new("RGB", (300, 200)))),
        "white": measure_photo(picture_file(Image.new("RGB", (300, 200), "white"))),
        "faint": measure_photo(picture_file(Image.fromarray(noise).convert("RGB"))),
    }
    found = {row.file: row for row in judge_files(scan(**rows), [0] * 5)}
    decided = {name.split("/")[-1][:-4]: (row.kind, row.decision) for name, row in found.items()}
    assert decided == {
        "lost": ("half_lost", DROP),
        "black": ("unusable", DROP),
        "white": ("unusable", DROP),
        "faint": ("odd_but_fine", KEEP),
    }
    assert "one tone: luma 0 of 255" in found["train/K5/black.jpg"].reason
    assert "nearly one tone: luma 30" in found["train/K5/faint.jpg"].reason
    assert {row.decision for row in judge_files(scan(**rows), [-1] * 5)} == {KEEP}
