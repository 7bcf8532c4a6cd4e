"""Every tricky kind of image file, made from one small scene, for tests of whatever reads photographs.

`make_image_kinds` writes them; `expected_pixels` says what an `ok/` kind must decode to, within MEAN_TOLERANCE. All files
show the same scene, so a kind that is turned, inverted, clipped to white or laid over black stands out. The Korean names
and damage are those found in real contest folders.
"""

import functools
import io
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

Pixels = NDArray[np.uint8]
HEIGHT_PX, WIDTH_PX = 48, 64
MEAN_TOLERANCE = 6.0
"""Mean absolute difference to `expected_pixels` that JPEG and palettes stay under; a wrong orientation is 58 or more."""

# EXIF 2.32, tag 0x0112: which visual side the stored row 0 and column 0 are, as (stored on its side, row 0 is bottom or
# right, column 0 is right or bottom). Written out here so that Pillow's own table is not tested against itself.
_ORIENTATIONS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


class _Kind(NamedTuple):
    file_name: str
    data: bytes
    expected: Pixels


def make_scene() -> Pixels:
    """Smooth, so that JPEG keeps it, with four different corners, so that no turn or mirror image looks alike."""
    y_HW, x_HW = np.mgrid[0.0 : 1.0 : HEIGHT_PX * 1j, 0.0 : 1.0 : WIDTH_PX * 1j]
    scene = np.stack([255 * x_HW, 255 * y_HW, 255 * (1 - x_HW) * (0.3 + 0.7 * y_HW)], axis=2)
    return scene.round().astype(np.uint8)


def make_image_kinds(folder: Path) -> dict[str, Path]:
    """Write all files below a folder.

    Returns:
        `ok/<kind>`: must decode to `expected_pixels(kind)`. `bad/<kind>`: must be refused by name. One of these is a folder
        and one a link to nothing.
    """
    paths = {}
    everything = {f"ok/{name}": (kind.file_name, kind.data) for name, kind in _ok_kinds().items()}
    everything |= {f"bad/{name}": pair for name, pair in _bad_kinds().items()}
    for key, (file_name, data) in everything.items():
        path = folder / key.split("/")[0] / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths[key] = path
    paths["bad/directory"] = folder / "bad" / "directory.jpg"
    paths["bad/directory"].mkdir()
    paths["bad/dangling_link"] = folder / "bad" / "dangling_link.jpg"
    paths["bad/dangling_link"].symlink_to(folder / "bad" / "gone.jpg")
    return paths


def expected_pixels(key: str) -> Pixels:
    """The upright RGB picture, HEIGHT_PX x WIDTH_PX, of an `ok/` key: alpha laid over white, grey repeated, 16 bits scaled."""
    return _ok_kinds()[key.removeprefix("ok/")].expected


@functools.cache
def _ok_kinds() -> dict[str, _Kind]:
    return {**_jpeg_kinds(), **_orientation_kinds(), **_png_kinds(), **_other_kinds()}


def _encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    return _encode(image, "JPEG", quality=95, subsampling=0, **options)


def _grey_of(scene: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(scene).convert("L"))


def _jpeg_kinds() -> dict[str, _Kind]:
    scene = make_scene()
    image = Image.fromarray(scene)
    grey = np.repeat(_grey_of(scene)[:, :, None], 3, axis=2)
    plain = _jpeg(image)
    other_eye = Image.fromarray(255 - scene)
    return {
        "jpeg": _Kind("jpeg.jpg", plain, scene),
        "jpeg_jfif": _Kind("named.jfif", plain, scene),
        "jpeg_upper_case_suffix": _Kind("UPPER.JPG", plain, scene),
        "jpeg_progressive": _Kind("progressive.jpg", _jpeg(image, progressive=True), scene),
        "jpeg_grey": _Kind("grey.jpg", _jpeg(image.convert("L")), grey),
        "jpeg_cmyk": _Kind("cmyk.jpg", _jpeg(image.convert("CMYK")), scene),
        "jpeg_two_pictures": _Kind(
            "mpo.jpg", _encode(image, "MPO", save_all=True, append_images=[other_eye], quality=95), scene
        ),
        "jpeg_trailing_garbage": _Kind("trailing.jpg", plain + b"\x00garbage\xff\xd8\xff" * 50, scene),
        "jpeg_corrupt_exif": _Kind("corrupt_exif.jpg", _jpeg(image, exif=b"Exif\0\0MM\0*\xff\xff\xff\xf0junk"), scene),
        "jpeg_exif_cut_off": _Kind("exif_cut_off.jpg", _jpeg(image, exif=_exif(6)[:12]), scene),
        "jpeg_exif_orientation_9": _Kind("exif_9.jpg", _jpeg(image, exif=_exif(9)), scene),
        "jpeg_named_png": _Kind("jpeg_named.png", plain, scene),
        "korean_nfc": _Kind("nfc/" + unicodedata.normalize("NFC", "쏘나타 뉴라이즈.jpg"), plain, scene),
        "korean_nfd": _Kind("nfd/" + unicodedata.normalize("NFD", "쏘나타 뉴라이즈.jpg"), plain, scene),
    }


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def _stored(scene: Pixels, orientation: int) -> Image.Image:
    """The scene as a camera held that way stores it."""
    on_its_side, flip_rows, flip_columns = _ORIENTATIONS[orientation]
    stored = scene.transpose(1, 0, 2) if on_its_side else scene
    stored = stored[::-1] if flip_rows else stored
    return Image.fromarray(np.ascontiguousarray(stored[:, ::-1] if flip_columns else stored))


def _orientation_kinds() -> dict[str, _Kind]:
    scene = make_scene()
    kinds = {}
    for orientation in _ORIENTATIONS:
        data = _jpeg(_stored(scene, orientation), exif=_exif(orientation))
        kinds[f"jpeg_exif_orientation_{orientation}"] = _Kind(f"exif_{orientation}.jpg", data, scene)
    turned = _stored(scene, 6)
    kinds["png_exif_orientation_6"] = _Kind("exif_6.png", _encode(turned, "PNG", exif=_exif(6)), scene)
    kinds["webp_exif_orientation_6"] = _Kind("exif_6.webp", _encode(turned, "WEBP", lossless=True, exif=_exif(6)), scene)
    return kinds


def _png_kinds() -> dict[str, _Kind]:
    scene = make_scene()
    image, grey_HW = Image.fromarray(scene), _grey_of(scene)
    grey = np.repeat(grey_HW[:, :, None], 3, axis=2)
    alpha_HW = np.full(grey_HW.shape, 255, np.uint8)
    alpha_HW[:, : WIDTH_PX // 3] = 0
    alpha_HW[: HEIGHT_PX // 4] = 128
    share = alpha_HW[:, :, None] / 255.0
    palette = image.quantize(255)
    palette_index = np.asarray(palette).copy()
    palette_index[alpha_HW == 0] = 255
    see_through = Image.fromarray(palette_index, mode="P")
    see_through.putpalette([*(palette.getpalette() or [])[: 255 * 3], 0, 255, 0])
    deep = (grey_HW.astype(np.uint16) << 8) | grey_HW
    black_white = np.where(grey >= 128, 255, 0).astype(np.uint8)
    plain = _encode(image, "PNG")
    over_white = {
        name: (share * picture + (1 - share) * 255).round().astype(np.uint8) for name, picture in (("c", scene), ("g", grey))
    }
    return {
        "png": _Kind("plain.png", plain, scene),
        "png_named_jpg": _Kind("png_named.jpg", plain, scene),
        "png_16_bit_rgb": _Kind("deep_rgb.png", _deep_rgb_png(scene), scene),
        "png_palette": _Kind("palette.png", _encode(palette, "PNG"), scene),
        "png_palette_transparent": _Kind(
            "palette_alpha.png",
            _encode(see_through, "PNG", transparency=255),
            np.where(alpha_HW[:, :, None] == 0, 255, scene).astype(np.uint8),
        ),
        "png_rgba": _Kind("rgba.png", _encode(Image.fromarray(np.dstack([scene, alpha_HW])), "PNG"), over_white["c"]),
        "png_la": _Kind("la.png", _encode(Image.fromarray(np.dstack([grey_HW, alpha_HW])), "PNG"), over_white["g"]),
        "png_grey": _Kind("grey.png", _encode(Image.fromarray(grey_HW), "PNG"), grey),
        "png_16_bit_grey": _Kind("deep_grey.png", _encode(Image.fromarray(deep), "PNG"), grey),
        "png_1_bit": _Kind("one_bit.png", _encode(Image.fromarray(grey_HW >= 128), "PNG"), black_white),
    }


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_file(width_px: int, height_px: int, bit_depth: int, colour_type: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width_px, height_px, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _deep_rgb_png(scene: Pixels) -> bytes:
    """48 bits a pixel, which Pillow reads and cannot write."""
    deep = (scene.astype(">u2") << 8) | scene
    return _png_file(WIDTH_PX, HEIGHT_PX, 16, 2, b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep))


def _other_kinds() -> dict[str, _Kind]:
    scene = make_scene()
    image, second = Image.fromarray(scene), Image.fromarray(255 - scene)
    avif = {"avif": _Kind("photo.avif", _encode(image, "AVIF", quality=95), scene)} if features.check("avif") else {}
    return {
        **avif,
        "webp": _Kind("lossy.webp", _encode(image, "WEBP", quality=95), scene),
        "bmp": _Kind("plain.bmp", _encode(image, "BMP"), scene),
        "gif": _Kind("still.gif", _encode(image, "GIF"), scene),
        "gif_animated": _Kind("animated.gif", _encode(image, "GIF", save_all=True, append_images=[second]), scene),
        "tiff": _Kind("plain.tif", _encode(image, "TIFF"), scene),
        "tiff_compressed": _Kind("lzw.tiff", _encode(image, "TIFF", compression="tiff_lzw"), scene),
    }


@functools.cache
def _bad_kinds() -> dict[str, tuple[str, bytes]]:
    image = Image.fromarray(make_scene())
    jpeg, png = _jpeg(image), _encode(image, "PNG")
    frame = jpeg.index(b"\xff\xc0") + 5  # SOF0: marker, length, precision, then height and width
    svg = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><circle r="9"/></svg>\n'
    return {
        "empty": ("empty.jpg", b""),
        "text": ("text.jpg", "사진이 아닙니다. Not a photograph.\n".encode()),
        "csv": ("csv.jpg", b"ID,img_path\r\nTEST_00000,./test/TEST_00000.jpg\r\n"),
        "html": ("html.jpg", b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n"),
        "svg": ("svg.jpg", svg),
        "zeros": ("zeros.jpg", bytes(4096)),
        "jpeg_half": ("jpeg_half.jpg", jpeg[: len(jpeg) // 2]),
        "jpeg_progressive_half": ("progressive_half.jpg", (late := _jpeg(image, progressive=True))[: len(late) // 2]),
        "jpeg_header_only": ("jpeg_header_only.jpg", jpeg[:20]),
        "jpeg_huge": ("jpeg_huge.jpg", jpeg[:frame] + struct.pack(">HH", 60_000, 60_000) + jpeg[frame + 4 :]),
        "png_half": ("png_half.png", png[: len(png) // 2]),
        "png_header_only": ("png_header_only.png", png[:33]),
        "png_bad_checksum": ("png_bad_checksum.png", png[:29] + bytes(4) + png[33:]),
        "png_bomb": ("png_bomb.png", _png_file(60_000, 60_000, 8, 0, bytes(1000))),
        "webp_half": ("webp_half.webp", (webp := _encode(image, "WEBP", quality=95))[: len(webp) // 2]),
        "gif_header_only": ("gif_header_only.gif", _encode(image, "GIF")[:20]),
        "tiff_half": ("tiff_half.tif", (tiff := _encode(image, "TIFF"))[: len(tiff) // 2]),
    }
