"""Memory and time of giant pictures: each kind is built, then measured, decoded and shown to a network's views apart.

    python benchmarks/giant_pictures.py [--megapixels 99] [--kinds png-rgba,gif] [--folder FOLDER]

Each step runs in a process of its own. What is counted is the peak of the resident memory of that process less what it
takes before the file is read (Python, NumPy, Pillow and hectocar's photos; torch plays no part in these steps), and
processor seconds. Building a picture may itself take a few gigabytes, for which nobody is to blame.
"""

import argparse
import io
import json
import math
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = None
STEPS = ("measure", "decode", "predict")


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth and detailed enough to compress like a photograph."""
    tile = np.random.default_rng(0).normal(128, 12, (512, 512, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(tile[:32, :32]).resize((width, height), Image.Resampling.BILINEAR)
    for top in range(0, height, 4096):
        for left in range(0, width, 4096):
            image.paste(Image.fromarray(tile), (left, top))
    return image.convert(mode) if mode != "RGB" else image


def deep_png(width: int, height: int, channels: int, colour_type: int, most: int = 65535) -> bytes:
    """A PNG of 16 bits a channel, which Pillow writes in grey only, row by row: stripes up to a value."""
    stripes = np.linspace(0, most, 64).astype(">u2").repeat(-(-width // 64))[:width]
    ramp = stripes.repeat(channels).tobytes()
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(b"\0" + ramp) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def palette_png(width: int, height: int) -> bytes:
    image = scene(width, height, "L").convert("P")
    return encode(image, "PNG", transparency=3, compress_level=1)


def deep_tiff(width: int, height: int, dtype: str, compression: str, rows: int) -> bytes:
    column = np.linspace(0, 1.0 if dtype == "float32" else 65535, 64).repeat(-(-width // 64))[:width]
    image = Image.fromarray(np.broadcast_to(column.astype(dtype), (height, width)))
    return encode(image, "TIFF", compression=compression, tiffinfo={278: rows})


def turned(data: Callable[[Image.Exif], bytes]) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return data(exif)


Builder = Callable[[int, int], bytes]
KINDS: dict[str, Builder] = {
    "jpeg": lambda w, h: encode(scene(w, h), "JPEG", quality=85),
    "jpeg-turned": lambda w, h: turned(lambda exif: encode(scene(w, h), "JPEG", quality=85, exif=exif)),
    "jpeg-long": lambda w, h: encode(scene(65_500, max(2, w * h // 65_500)), "JPEG", quality=85),
    "jpeg-progressive": lambda w, h: encode(scene(w, h), "JPEG", quality=85, progressive=True),
    "jpeg-progressive-444": lambda w, h: encode(scene(w, h), "JPEG", quality=85, progressive=True, subsampling=0),
    "jpeg-cmyk": lambda w, h: encode(scene(w, h, "CMYK"), "JPEG", quality=85),
    "jpeg-cmyk-progressive": lambda w, h: encode(scene(w, h, "CMYK"), "JPEG", quality=85, progressive=True),
    "png-rgb": lambda w, h: encode(scene(w, h), "PNG", compress_level=1),
    "png-rgba": lambda w, h: encode(scene(w, h, "RGBA"), "PNG", compress_level=1),
    "png-palette-transparent": palette_png,
    "png-16-grey": lambda w, h: deep_png(w, h, 1, 0),
    "png-16-rgb": lambda w, h: deep_png(w, h, 3, 2),
    "png-12-of-16-rgb": lambda w, h: deep_png(w, h, 3, 2, 4095),
    "png-16-rgba": lambda w, h: deep_png(w, h, 4, 6),
    "png-16-la": lambda w, h: deep_png(w, h, 2, 4),
    "gif": lambda w, h: encode(scene(w, h, "L"), "GIF"),
    "gif-one-tone": lambda w, h: encode(Image.new("P", (w, h)), "GIF"),
    "tiff-deflate": lambda w, h: encode(scene(w, h), "TIFF", compression="tiff_adobe_deflate"),
    "tiff-one-strip": lambda w, h: encode(scene(w, h), "TIFF", compression="tiff_lzw", tiffinfo={278: h}),
    "tiff-float": lambda w, h: deep_tiff(w, h, "float32", "tiff_adobe_deflate", 64),
    "tiff-float-one-strip": lambda w, h: deep_tiff(w, h, "float32", "tiff_adobe_deflate", h),
    "tiff-int32": lambda w, h: deep_tiff(w, h, "int32", "tiff_adobe_deflate", 64),
    "tiff-cmyk": lambda w, h: encode(scene(w, h, "CMYK"), "TIFF", compression="tiff_lzw"),
    "tiff-lab": lambda w, h: encode(Image.new("LAB", (w, h), (120, 90, 200)), "TIFF", compression="tiff_adobe_deflate"),
    "webp": lambda w, h: encode(scene(w, h), "WEBP", quality=60, method=0),
    "bmp-grey": lambda w, h: encode(scene(w, h, "L"), "BMP"),
    "avif": lambda w, h: encode(scene(w, h), "AVIF", quality=50, speed=10),
}


def run_step(step: str, file: Path) -> dict[str, float | str]:
    """One step on one file, in this process."""
    from hectocar.errors import DataError
    from hectocar.photos.batches import render_photo
    from hectocar.photos.decode import decode_photo, read_photo_bytes
    from hectocar.photos.measure import measure_photo
    from hectocar.photos.views import VIEWS, plan_renders

    base, start = _peak_mib(), time.process_time()
    answer = "read"
    try:
        data = read_photo_bytes(file)
        if step == "measure":
            answer = measure_photo(data).problem or answer
        elif step == "decode":
            decode_photo(data)
        else:
            render_photo(data, plan_renders(tuple(VIEWS.values()), 224, "stretch", 110.0)[0])
    except DataError as error:
        answer = str(error).replace(f"{file}: ", "")
    return {"mib": _peak_mib() - base, "seconds": time.process_time() - start, "answer": answer}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


Result = dict[str, float | str]


def iter_results(kinds: list[str], megapixels: float, folder: Path) -> Iterator[tuple[str, float, dict[str, Result]]]:
    """(kind, size of the file in MB, result of each step)."""
    side = math.isqrt(int(megapixels * 1e6))
    for kind in kinds:
        file = folder / f"{kind}.bin"
        build = [sys.executable, __file__, "--build", kind, "--side", str(side), "--file", str(file)]
        subprocess.run(build, check=True)
        results = {}
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--file", str(file)]
            results[step] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        yield kind, file.stat().st_size / 1e6, results
        file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=99.0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--folder", type=Path, help="where to build them (default: a temporary one)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--build", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build:
        args.file.write_bytes(KINDS[args.build](args.side, args.side))
        return
    if args.step:
        print(json.dumps(run_step(args.step, args.file)))
        return
    print(f"{'kind':26}{'MB':>8}" + "".join(f"{step + ' MiB':>14}{'s':>7}" for step in STEPS) + "  answer")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for kind, size, results in iter_results(args.kinds.split(","), args.megapixels, Path(folder)):
            cells = "".join(f"{results[step]['mib']:14.0f}{results[step]['seconds']:7.1f}" for step in STEPS)
            print(f"{kind:26}{size:8.1f}{cells}  {results['measure']['answer']}", flush=True)


if __name__ == "__main__":
    main()
