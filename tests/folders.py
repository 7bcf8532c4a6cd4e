"""Small folders of photographs, for tests of whatever scans them."""

import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

NFC, NFD = (unicodedata.normalize(form, "쏘나타_2020") for form in ("NFC", "NFD"))


class Told:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.total = self.done = 0

    def start(self, what: str, total: int) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        self.done += count

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_photo(path: Path, seed: int = 0) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path, "JPEG")
    return path.read_bytes()


def make_data(folder: Path, top: str = "train", name: str = NFC) -> Path:
    """Two classes with two photographs each: K5 and a Korean name."""
    for seed, file in enumerate(("K5/a.jpg", "K5/b.JPG", f"{name}/a.png", f"{name}/b.jpeg")):
        write_photo(folder / top / file, seed)
    return folder


def make_tricky_data(folder: Path) -> Path:
    """A damaged, a duplicate, an excluded photograph, and bytes that two classes share."""
    make_data(folder)
    shared_bytes = write_photo(folder / "train/K5/noisy.jpg", 9)
    (folder / f"train/{NFC}/same_as_noisy.jpg").write_bytes(shared_bytes)
    (folder / "train/K5/copy.jpg").write_bytes((folder / "train/K5/a.jpg").read_bytes())
    (folder / "train/K5/half.jpg").write_bytes(shared_bytes[:-20])
    (folder / "train/K5/text.jpg").write_text("no photograph")
    (folder / "noise.csv").write_text("\ufefffile,kind\nK5/noisy.jpg,interior\n")
    return folder
