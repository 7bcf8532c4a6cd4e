"""The first look at every file: ours, ours from the cache, and a plain loop. No process of these needs torch."""

import hashlib
import importlib
import os
import tempfile
from pathlib import Path

from PIL import Image

from hectocar.dataset.scan import scan_files
from hectocar.lab.bench.cases import Job
from hectocar.lab.bench.contestant import Work
from hectocar.photos.decode import DEFAULT_MAX_MEGAPIXELS


def build_scan(job: Job) -> Work:
    """Nothing is remembered from round to round."""
    os.environ["HECTOCAR_CACHE"] = "off"
    return lambda: _scan(job)


def build_cached_scan(job: Job) -> Work:
    """All is remembered from the first round."""
    cache = tempfile.TemporaryDirectory()
    os.environ["HECTOCAR_CACHE"] = cache.name

    def work() -> tuple[float, ...]:
        assert Path(cache.name).is_dir()  # it lives as long as this function
        return _scan(job)

    return work


def _scan(job: Job) -> tuple[float, ...]:
    root = Path(os.path.commonpath([file.parent for file in job.files]))
    paths = [file.relative_to(root).as_posix() for file in job.files]
    scan_files(root, paths, max_megapixels=DEFAULT_MAX_MEGAPIXELS, num_workers=job.num_workers)
    return ()


def build_pillow_scan(job: Job) -> Work:
    """SHA-1, size and perceptual hash of each file, one after the other."""
    imagehash = importlib.import_module("imagehash")

    def work() -> tuple[float, ...]:
        rows = []
        for file in job.files:
            data = file.read_bytes()
            with Image.open(file) as image:
                rows.append((hashlib.sha1(data).hexdigest(), image.size, imagehash.phash(image)))
        return ()

    return work
