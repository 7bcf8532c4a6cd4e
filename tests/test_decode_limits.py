"""Laws of hostile and giant files: what they would cost is known before it is spent, and metadata never hides a photograph."""

import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from hectocar.errors import DataError
from hectocar.photos import decode, decode_cost, jpeg_stream, png_texts
from hectocar.photos.decode import decode_photo, open_photo
from hectocar.photos.decode_cost import decoded_bytes
from hectocar.photos.jpeg_stream import read_jpeg
from hectocar.photos.measure import measure_photo
from pictures import encode, make_picture

PICTURE = make_picture(7, 160, 120)


def save(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunks(*chunks: bytes, last: bool = False) -> bytes:
    """A PNG with chunks after its header, or before its end."""
    data = save(PICTURE)
    place = len(data) - 12 if last else 33
    return data[:place] + b"".join(chunks) + data[place:]


LONG = b"a photograph's life, told at length. " * 60_000
METADATA = {
    "tEXt": chunk(b"tEXt", b"Comment\0" + LONG),
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    "iTXt packed": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG)),
    "iTXt plain": chunk(b"iTXt", b"Comment\0\0\0\0\0" + LONG),
    "iCCP": chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(3_000_000))),
    "zTXt bomb": chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(50_000_000))),
    "broken zTXt": chunk(b"zTXt", b"broken\0\0" + b"nothing that unpacks"),
    "two thousand texts": b"".join(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(60_000))) for _ in range(2000)),
    "huge EXIF": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0" + bytes(2_000_000)),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", METADATA)
def test_metadata_never_hides_a_photograph(name: str, last: bool) -> None:
    """Megabytes of texts and profiles, packed or not, before or after the pixels: the file is read."""
    data = with_chunks(METADATA[name], last=last)
    assert np.array_equal(decode_photo(data), PICTURE)
    assert measure_photo(data).problem == ""


def test_short_texts_stay() -> None:
    """EXIF that old writers keep in a text still says how the picture is turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    packed = b"\nexif\n" + b"%8d\n" % len(exif.tobytes()) + exif.tobytes().hex().encode()
    data = with_chunks(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(packed)), METADATA["tEXt"])
    assert decode_photo(data).size == (120, 160)


def test_files_of_endless_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose header would be read for minutes is refused, and says why."""
    monkeypatch.setattr(png_texts, "MAX_CHUNKS", 100)
    with pytest.raises(DataError, match="a PNG of more than 100 parts"):
        decode_photo(with_chunks(chunk(b"prIv", b"") * 101))
    monkeypatch.setattr(jpeg_stream, "MAX_SEGMENTS", 100)
    data = encode(PICTURE)
    with pytest.raises(DataError, match="a JPEG with more than 100 parts"):
        decode_photo(data[:2] + b"\xff\xfe\0\x03c" * 101 + data[2:])
    with pytest.raises(DataError, match="bytes between its parts belong to none of them"):
        decode_photo(data[:2] + b"\xff\xfe\0\x03c" + b"j" * (jpeg_stream.MAX_JUNK_BYTES + 1) + data[2:])


def test_scans_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan goes through the whole picture: their number is limited by its size, and an ordinary file is far below."""
    data = encode(PICTURE, progressive=True)
    stream = read_jpeg(data)
    last = stream.scans[-1]
    again = data[stream.scans[-2].end : last.end]
    assert decode_photo(data[: last.end] + again * 3 + data[last.end :]).size == PICTURE.size
    monkeypatch.setattr(decode_cost, "MAX_SCAN_MEGAPIXELS", 0.25)
    with pytest.raises(DataError, match=r"160 x 120 px in 20 scans take too long to decode; allowed: up to 13 scans"):
        decode_photo(data[: last.end] + again * 10 + data[last.end :])


COSTS = {
    "JPEG": 4,
    "PNG": 4,
    "WEBP": 18,
    "BMP": 4,
    "GIF": 2,
}


def test_the_cost_of_a_decode_is_known_from_the_header() -> None:
    """Bytes per pixel: the picture's own, and what the decoder keeps beside it."""
    num_pixels = 160 * 120
    for image_format, expected in COSTS.items():
        assert decoded_bytes(open_photo(save(PICTURE, image_format))) == expected * num_pixels, image_format
    assert decoded_bytes(open_photo(save(PICTURE.convert("L")))) == num_pixels
    one_strip = save(PICTURE, "TIFF", compression="tiff_lzw", tiffinfo={278: 120})
    assert decoded_bytes(open_photo(one_strip)) == 7 * num_pixels
    for subsampling, per_pixel in ((0, 6.0), (2, 3.0)):
        data = encode(PICTURE, progressive=True, subsampling=subsampling)
        found = decoded_bytes(open_photo(data), read_jpeg(data)) / num_pixels
        assert 4 + per_pixel <= found <= 4 + 1.2 * per_pixel


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_what_would_fill_the_memory_is_refused_unread(image_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is of bytes, not of pixels, speaks before a pixel is decoded, and says what would be allowed."""
    data = save(PICTURE, image_format)
    monkeypatch.setattr(decode_cost, "MAX_DECODED_BYTES", 10_000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("pixels were decoded"))
    with pytest.raises(DataError, match=rf"160 x 120 px of {image_format} \(.*\) take .* GB to decode; allowed: up to 1e-05"):
        decode_photo(data)
    assert "to decode; allowed" in measure_photo(data).problem


def test_giants_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads ask, one giant is in memory at a time; others do not wait."""
    running, most = [0], [0]
    original = decode.to_upright_rgb

    def slowly(image: Image.Image) -> Image.Image:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.02)
        running[0] -= 1
        return original(image)

    monkeypatch.setattr(decode, "to_upright_rgb", slowly)
    data = save(PICTURE)
    for limit, expected in ((1, 1), (10**9, 4)):
        most[0] = 0
        monkeypatch.setattr(decode, "GIANT_BYTES", limit)
        threads = [threading.Thread(target=decode_photo, args=(data,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most[0] == expected if limit == 1 else most[0] > 1
