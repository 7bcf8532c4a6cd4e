"""The planted faults: which there are, where they go, and the bytes of each.

Faults come on top of the clean photos, so that every class keeps `train_per_class` good ones. The k-th fault of a kind
has the kind's k-th variant, in turn. What is known of it stands in truth/faults.csv, never in its file name.
"""

import io
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from hectocar.showroom.catalogue import EQUIVALENT_PAIR

FaultKind = Literal[
    "exact_duplicate", "duplicate_other_class", "near_duplicate", "train_test_duplicate", "wrong_label", "unusable",
    "odd_but_fine", "no_car", "part_only",
]  # fmt: skip
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
NEAR_DUPLICATE_VARIANTS = ("recompressed", "resized", "brightened", "cropped", "mirrored")
UNUSABLE_VARIANTS = ("truncated", "text", "zero_bytes")
ODD_VARIANTS = ("png", "cmyk", "exif_rotated", "grey")
_TAKES_SOURCE = ("exact_duplicate", "duplicate_other_class", "near_duplicate")
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class PlannedFault:
    """One fault: it will lie in `folder_class`; `true_class` is what it shows, `source` the photo that it copies."""

    kind: FaultKind
    folder_class: str
    true_class: str
    variant: str
    source: int = -1
    """Index of a clean photo of true_class, or of a test photo for train_test_duplicate; -1 where nothing is copied."""


def _other_class(names: list[str], name: str, rng: np.random.Generator) -> str:
    """Another class that is not the same car under another name."""
    same = EQUIVALENT_PAIR if name in EQUIVALENT_PAIR else (name,)
    others = [other for other in names if other not in same]
    return others[int(rng.integers(len(others)))]


def plan_faults(names: list[str], num_faults: int, train_per_class: int, test_labels: list[str], broken_test: int,
                rng: np.random.Generator) -> list[PlannedFault]:  # fmt: skip
    """`num_faults` of every kind, in the order of FAULT_KINDS; photos are copied once each while there are enough."""
    clean = [(name, index) for name in names for index in range(train_per_class)]
    sources = [clean[k] for k in rng.permutation(len(clean))]
    tests = [int(k) for k in rng.permutation(len(test_labels)) if int(k) != broken_test]
    variants: dict[FaultKind, tuple[str, ...]] = {
        "near_duplicate": NEAR_DUPLICATE_VARIANTS,
        "unusable": UNUSABLE_VARIANTS,
        "odd_but_fine": ODD_VARIANTS,
    }
    planned, taken = [], 0
    for kind in FAULT_KINDS:
        for k in range(num_faults):
            names_of_kind = variants.get(kind, ("",))
            variant, source = names_of_kind[k % len(names_of_kind)], -1
            if kind in _TAKES_SOURCE:
                true_class, source = sources[taken % len(sources)]
                taken += 1
            elif kind == "train_test_duplicate":
                source = tests[k % len(tests)]
                true_class = test_labels[source]
            else:
                true_class = names[int(rng.integers(len(names)))]
            moved = kind in ("duplicate_other_class", "wrong_label")
            planned.append(
                PlannedFault(kind, _other_class(names, true_class, rng) if moved else true_class, true_class, variant, source)
            )
    return planned


def encode_jpeg(image: Image.Image, quality: int, exif: Image.Exif | None = None) -> bytes:
    """JPEG bytes."""
    buffer = io.BytesIO()
    if exif is None:
        image.save(buffer, "JPEG", quality=quality)
    else:
        image.save(buffer, "JPEG", quality=quality, exif=exif)
    return buffer.getvalue()


def near_duplicate(original: bytes, variant: str) -> bytes:
    """The same photo after what messengers, web sites and people do to it."""
    with Image.open(io.BytesIO(original)) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    match variant:
        case "recompressed":
            return encode_jpeg(image, 40)
        case "resized":
            image = image.resize((round(0.8 * width), round(0.8 * height)), Image.Resampling.LANCZOS)
        case "brightened":
            image = ImageEnhance.Brightness(image).enhance(1.2)
        case "cropped":
            dx, dy = round(0.03 * width), round(0.03 * height)
            image = image.crop((dx, dy, width - dx, height - dy))
        case "mirrored":
            image = ImageOps.mirror(image)
    return encode_jpeg(image, 85)


def unusable(photo: bytes, variant: str) -> bytes:
    """What a broken download leaves behind."""
    match variant:
        case "zero_bytes":
            return b""
        case "text":
            # Each page names its own photo: two equal texts would be an exact duplicate that nobody planted.
            return f"<html><body><h1>404 Not Found</h1><p>{zlib.crc32(photo):08x}</p></body></html>\n".encode()
        case _:
            return photo[: len(photo) // 2]


def odd_but_fine(image: Image.Image, variant: str) -> bytes:
    """A photo that every decoder should read although it is not a plain JPEG."""
    match variant:
        case "png":
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return buffer.getvalue()
        case "cmyk":
            return encode_jpeg(image.convert("CMYK"), 90)
        case "exif_rotated":
            exif = Image.Exif()
            # 6: turn by 90 degrees clockwise to see it upright; so it is stored turned the other way.
            exif[_EXIF_ORIENTATION] = 6
            return encode_jpeg(image.transpose(Image.Transpose.ROTATE_90), 88, exif)
        case _:
            return encode_jpeg(image.convert("L"), 88)
