"""The first and the second scan beside a plain loop of hashlib, Pillow and imagehash over the same files.

    python benchmarks/scan_peer.py make ../shared/data/cars196/train PHOTOS --count 33137
    python benchmarks/scan_peer.py time PHOTOS --packages FOLDER_WITH_IMAGEHASH --runs 3

``make`` writes 690 x 437 px JPEGs (the contest's mean size) from other photographs, each with its own brightness.
``time`` runs the loop, a scan without cache and a scan with a full cache in turn, each in a process of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image, ImageEnhance

SIZE = (690, 437)
LOOP = """
import hashlib, sys
from pathlib import Path
from PIL import Image
import imagehash
rows = []
for file in sorted(Path(sys.argv[1]).glob("*.jpg")):
    data = file.read_bytes()
    with Image.open(file) as image:
        rows.append((hashlib.sha1(data).hexdigest(), image.size, imagehash.phash(image)))
print(len(rows))
"""
SCAN = """
import sys
from pathlib import Path
from hectocar.dataset.scan import scan_files
root = Path(sys.argv[1])
print(len(scan_files(root, sorted(file.name for file in root.glob("*.jpg")), max_megapixels=100.0)))
"""


def make_one(job: tuple[Path, Path, float]) -> None:
    source, target, factor = job
    with Image.open(source) as image:
        resized = image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
    ImageEnhance.Brightness(resized).enhance(factor).save(target, "JPEG", quality=88)


def make_photos(source: Path, folder: Path, count: int) -> None:
    usable = []
    for file in sorted(source.rglob("*.jpg")):
        try:
            with Image.open(file) as image:
                image.load()
            usable.append(file)
        except OSError:
            continue
    folder.mkdir(parents=True)
    jobs = [
        (usable[k % len(usable)], folder / f"{k:05d}.jpg", 0.8 + 0.1 * (k // len(usable)) + 1e-4 * (k % 97))
        for k in range(count)
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make_one, jobs, chunksize=64))


def run(code: str, folder: Path, cache: str, packages: Path | None) -> float:
    paths = [str(Path(__file__).resolve().parents[1] / "src"), *([str(packages)] if packages else [])]
    environment = os.environ | {"HECTOCAR_CACHE": cache, "PYTHONPATH": os.pathsep.join(paths)}
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def time_scans(folder: Path, packages: Path | None, runs: int) -> None:
    """Prints seconds of each and the ratios, run by run."""
    times: dict[str, list[float]] = {"loop": [], "first": [], "second": []}
    for file in folder.glob("*.jpg"):  # into the page cache: the disk is not what is compared
        file.read_bytes()
    for number in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            times["loop"].append(run(LOOP, folder, "off", packages))
            times["first"].append(run(SCAN, folder, cache, None))
            times["second"].append(run(SCAN, folder, cache, None))
        print(f"run {number + 1}: " + ", ".join(f"{name} {seconds[-1]:.2f} s" for name, seconds in times.items()), flush=True)
    describe("plain loop / first scan", times["loop"], times["first"])
    describe("first scan / second scan", times["first"], times["second"])


def describe(name: str, above: Sequence[float], below: Sequence[float]) -> None:
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {len(ratios)} runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(required=True, dest="command")
    make = commands.add_parser("make")
    make.add_argument("source", type=Path)
    make.add_argument("folder", type=Path)
    make.add_argument("--count", type=int, default=33137)
    clock = commands.add_parser("time")
    clock.add_argument("folder", type=Path)
    clock.add_argument("--packages", type=Path, default=None, help="folder that imagehash was installed into")
    clock.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    if args.command == "make":
        make_photos(args.source, args.folder, args.count)
    else:
        time_scans(args.folder, args.packages, args.runs)


if __name__ == "__main__":
    main()
