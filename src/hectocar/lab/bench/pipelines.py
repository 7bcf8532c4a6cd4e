"""Pipelines of others that do the work of our loader and augmentation, each with the numbers of the published recipe.

All decode and crop in the worker processes of a torch DataLoader that live through all rounds; kornia augments whole batches in
the main process, as it is meant to. Libraries that may be missing are imported by name where they are used.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.loader import create_loader
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from hectocar.config.schema import AugmentConfig
from hectocar.lab.bench.cases import Job
from hectocar.lab.bench.contestant import Work
from hectocar.lab.bench.own import bench_config
from hectocar.lab.trainer import wait_for

RAND_AUGMENT = "rand-m9-mstd0.5-mmax9-inc1"
"""timm's rand-m9-mstd0.5-inc1, its magnitude held at 9: at 10 timm 1.0.31 posterizes to 0 bits, which Pillow 13 refuses."""
Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Pipeline:
    """The parts of a way from a file to a tensor; what lies between them is whatever the library likes."""

    decode: Callable[[Path], Any]
    crop: Change
    """To size_px x size_px."""
    to_uint8: Change
    """Of a crop: (3, S, S)."""
    augment: Change
    """Of a crop, to normalised float32 (3, S, S); or to uint8 where ``finish`` does it."""
    finish: Callable[[Tensor], Tensor] | None = None
    """Of whole batches of uint8, in the main process."""
    start_worker: Callable[[int], None] | None = None


class Items(Dataset[Any]):
    """Files or crops, each passed through some changes."""

    def __init__(self, items: Sequence[Any], changes: Sequence[Change]) -> None:
        self.items, self.changes = items, changes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Any:
        value = self.items[place]
        for change in self.changes:
            value = change(value)
        return value


def build_rounds(job: Job, pipeline: Pipeline) -> Work:
    """The case's part of a pipeline, over all files."""
    source: list[Any]
    changes: tuple[Change, ...]
    if job.case == "loader":
        source, changes = list(job.files), (pipeline.decode, pipeline.crop, pipeline.to_uint8)
    elif job.case == "augmentation":
        source, changes = [pipeline.crop(pipeline.decode(file)) for file in job.files], (pipeline.augment,)
    else:
        source, changes = list(job.files), (pipeline.decode, pipeline.crop, pipeline.augment)
    loader: Iterable[Tensor] = DataLoader(
        Items(source, changes), batch_size=job.batch_size, num_workers=job.num_workers, persistent_workers=True,
        worker_init_fn=pipeline.start_worker, pin_memory=job.device.startswith("cuda"),
    )  # fmt: skip
    finish = None if job.case == "loader" else pipeline.finish
    return _pass_through(job, loader, finish or (lambda images: images))


def _pass_through(job: Job, loader: Iterable[Any], finish: Callable[[Tensor], Tensor]) -> Work:
    device = torch.device(job.device)

    def work() -> tuple[float, ...]:
        for images in loader:
            finish(images if job.case == "loader" else images.to(device, non_blocking=True))
        wait_for(device)
        return ()

    return work


def build_recipe(job: Job) -> Work:
    """The published recipe's own: OpenCV and albumentations."""
    cv2: Any = importlib.import_module("cv2")
    album: Any = importlib.import_module("albumentations")
    numbers, side = bench_config(job).augment, (job.size_px, job.size_px)

    def decode(file: Path) -> Any:
        return cv2.cvtColor(cv2.imdecode(np.fromfile(file, dtype=np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    crop = album.RandomResizedCrop(side, scale=numbers.crop_scale, ratio=numbers.crop_ratio)
    colors = (numbers.brightness, numbers.contrast, numbers.saturation, numbers.hue)
    changes = album.Compose(
        [
            album.HorizontalFlip(p=numbers.flip_prob),
            album.ShiftScaleRotate(numbers.shift, numbers.scale, numbers.rotate_degrees, p=numbers.affine_prob),
            album.ColorJitter(*colors, p=numbers.color_prob),
            album.CoarseDropout(
                num_holes_range=(1, 1), hole_height_range=numbers.erase_side, hole_width_range=numbers.erase_side,
                p=numbers.erase_prob,
            ),
            album.Normalize(mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD),
            album.pytorch.ToTensorV2(),
        ]
    )  # fmt: skip
    return build_rounds(
        job,
        Pipeline(
            decode,
            lambda image: crop(image=image)["image"],
            lambda image: torch.from_numpy(image).permute(2, 0, 1),
            lambda image: changes(image=image)["image"],
            start_worker=lambda _: cv2.setNumThreads(0),
        ),
    )


def _decode_torchvision(file: Path) -> Tensor:
    image: Tensor = decode_image(str(file), mode=ImageReadMode.RGB)
    return image


def _crop_torchvision(numbers: AugmentConfig, size_px: int) -> Change:
    crop: Change = v2.RandomResizedCrop(size_px, scale=numbers.crop_scale, ratio=numbers.crop_ratio, antialias=True)
    return crop


def _erase_area(numbers: AugmentConfig) -> tuple[float, float]:
    return numbers.erase_side[0] ** 2, numbers.erase_side[1] ** 2


def build_torchvision(job: Job) -> Work:
    """torchvision's v2 transforms on uint8 tensors, as its documentation advises."""
    numbers = bench_config(job).augment
    affine = v2.RandomAffine(
        numbers.rotate_degrees, translate=(numbers.shift, numbers.shift), scale=(1 - numbers.scale, 1 + numbers.scale),
        interpolation=v2.InterpolationMode.BILINEAR,
    )  # fmt: skip
    colors = v2.ColorJitter(numbers.brightness, numbers.contrast, numbers.saturation, numbers.hue)
    augment = v2.Compose(
        [
            v2.RandomHorizontalFlip(numbers.flip_prob),
            v2.RandomApply([affine], numbers.affine_prob),
            v2.RandomApply([colors], numbers.color_prob),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
            v2.RandomErasing(numbers.erase_prob, scale=_erase_area(numbers), ratio=(1.0, 1.0)),
        ]
    )
    return build_rounds(
        job, Pipeline(_decode_torchvision, _crop_torchvision(numbers, job.size_px), lambda image: image, augment)
    )


def _open_rgb(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _to_chw(image: Image.Image) -> Tensor:
    pixels: NDArray[np.uint8] = np.array(image)
    return torch.from_numpy(pixels).permute(2, 0, 1)


class _TimmDataset(Dataset[Any]):
    """As timm's own: Pillow opens, the loader puts its transform here, the label rides along."""

    transform: Change

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.transform(_open_rgb(self.files[place])), 0


def build_timm(job: Job) -> Work:
    """timm's transforms with RandAugment; the whole way through its own loader, which erases and normalises batches."""
    numbers = bench_config(job).augment
    erase: dict[str, Any] = {"re_prob": numbers.erase_prob, "re_mode": "const", "re_count": 1}
    shared: dict[str, Any] = {
        "scale": numbers.crop_scale,
        "ratio": numbers.crop_ratio,
        "hflip": numbers.flip_prob,
        "auto_augment": RAND_AUGMENT,
    }
    if job.case == "loader+augmentation":
        dataset: Any = _TimmDataset(job.files)
        loader = create_loader(
            dataset, (3, job.size_px, job.size_px), job.batch_size, is_training=True,
            num_workers=job.num_workers, pin_memory=job.device.startswith("cuda"), device=torch.device(job.device),
            mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, persistent_workers=True, **shared, **erase,
        )  # fmt: skip

        def work() -> tuple[float, ...]:
            for _ in loader:
                pass
            wait_for(torch.device(job.device))
            return ()

        return work
    crop, augment, to_tensor = create_transform(job.size_px, is_training=True, separate=True, **shared, **erase)
    return build_rounds(job, Pipeline(_open_rgb, crop, _to_chw, lambda image: to_tensor(augment(image))))


def build_kornia(job: Job) -> Work:
    """torchvision decodes and crops in the workers; kornia augments whole batches where the network is."""
    kornia: Any = importlib.import_module("kornia.augmentation")
    numbers = bench_config(job).augment
    augment = kornia.AugmentationSequential(
        kornia.RandomHorizontalFlip(p=numbers.flip_prob),
        kornia.RandomAffine(
            numbers.rotate_degrees,
            (numbers.shift, numbers.shift),
            (1 - numbers.scale, 1 + numbers.scale),
            p=numbers.affine_prob,
        ),
        kornia.ColorJiggle(numbers.brightness, numbers.contrast, numbers.saturation, numbers.hue, p=numbers.color_prob),
        kornia.RandomErasing(_erase_area(numbers), (1.0, 1.0), p=numbers.erase_prob),
        kornia.Normalize(torch.tensor(IMAGENET_DEFAULT_MEAN), torch.tensor(IMAGENET_DEFAULT_STD)),
    ).to(job.device)

    def finish(images: Tensor) -> Tensor:
        changed: Tensor = augment(images.float() / 255.0)
        return changed

    crop = _crop_torchvision(numbers, job.size_px)
    return build_rounds(job, Pipeline(_decode_torchvision, crop, lambda image: image, lambda image: image, finish))
