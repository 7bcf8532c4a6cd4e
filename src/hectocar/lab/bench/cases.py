"""What is measured, who takes part, and what each is given."""

from dataclasses import dataclass
from pathlib import Path

OURS = "hectocar"


@dataclass(frozen=True)
class Entry:
    """One that takes part in a case."""

    build: str
    """``module:function`` below hectocar.lab.bench: Job -> a function that does a round's work."""
    needs: tuple[str, ...] = ()
    """Modules that it imports and that are no dependencies of ours."""
    num_workers: int = 0
    """Threads or processes; 0: as many as everybody (``Job.num_workers``)."""


@dataclass(frozen=True)
class Case:
    """Something that can be measured alone."""

    title: str
    entries: dict[str, Entry]
    """Ours first."""
    size_px: int = 0
    """Where no --size is given; 0: pictures have no size here."""
    has_network: bool = False
    takes_photos: bool = True


CV = ("cv2", "albumentations")
PIPELINES = {
    "recipe": Entry("pipelines:build_recipe", CV),
    "torchvision": Entry("pipelines:build_torchvision"),
    "timm": Entry("pipelines:build_timm"),
}
KORNIA = Entry("pipelines:build_kornia", ("kornia",))
CASES = {
    "loader": Case(
        "decode, crop, resize to uint8 batches",
        {
            OURS: Entry("own:build_loader"),
            **PIPELINES,
        },
        size_px=256,
    ),
    "augmentation": Case(
        "uint8 crops in memory to augmented, normalised batches",
        {
            OURS: Entry("own:build_augmentation"),
            **PIPELINES,
            "kornia": KORNIA,
        },
        size_px=256,
    ),
    "loader+augmentation": Case(
        "JPEGs to augmented, normalised batches",
        {
            OURS: Entry("own:build_loader_and_augmentation"),
            **PIPELINES,
            "kornia": KORNIA,
        },
        size_px=256,
    ),
    "step": Case(
        "training step on a prepared batch: loss, gradients, AdamW, averaged weights",
        {OURS: Entry("own:build_step"), "timm": Entry("rivals:build_timm_step")},
        size_px=160,
        has_network=True,
        takes_photos=False,
    ),
    "prediction": Case(
        "JPEGs to probabilities, one network, one view",
        {OURS: Entry("own:build_prediction"), "eager": Entry("rivals:build_eager_prediction")},
        size_px=160,
        has_network=True,
    ),
    "scan": Case(
        "first look at every file: digest, size, hashes",
        {
            OURS: Entry("scans:build_scan"),
            "cached": Entry("scans:build_cached_scan"),
            "pillow": Entry("scans:build_pillow_scan", ("imagehash",), num_workers=1),
        },
    ),
}
PEERS = tuple(dict.fromkeys(name for case in CASES.values() for name in case.entries if name != OURS))
PACKAGES = {"cv2": "opencv-python-headless", "albumentations": "albumentations", "kornia": "kornia", "imagehash": "imagehash"}
"""Distributions that hold the modules which peers need: the extra ``bench``."""


@dataclass(frozen=True)
class Job:
    """What all of a case are given alike."""

    case: str
    files: tuple[Path, ...]
    """As many as a round's photographs; a file may come twice."""
    batch_size: int
    num_steps: int
    """Steps of a round; the case ``step``."""
    num_workers: int
    size_px: int = 0
    backbone: str = ""
    device: str = "cpu"
    precision: str = "float32"
    compiled: bool = False
    seed: int = 0

    @property
    def num_images(self) -> int:
        """Of a round."""
        return self.batch_size * self.num_steps if self.case == "step" else len(self.files)
