"""Writes the showroom as a folder with the contest's layout, next to it the truth that no contestant gets to see.

train/<class>/<class>_0000.jpg   test/TEST_00000.jpg   test.csv   sample_submission.csv   equivalent_classes.csv
truth/answers.csv (ID, label, split)   truth/faults.csv (file, fault, detail)
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from hectocar.disk.outputs import claim_folder, list_content
from hectocar.disk.writing import make_folder
from hectocar.errors import ArtifactError
from hectocar.showroom.catalogue import EQUIVALENT_PAIR, catalogue, class_names
from hectocar.showroom.faults import (
    FAULT_KINDS,
    PlannedFault,
    encode_jpeg,
    near_duplicate,
    odd_but_fine,
    plan_faults,
    unusable,
)
from hectocar.showroom.photo import render_empty_place, render_part, render_photo
from hectocar.showroom.scene import draw_size
from hectocar.showroom.spec import ShowroomSpec, ShowroomSummary

_TRAIN, _TEST, _FAULT, _PLAN = range(4)

OnPhoto = Callable[[int, int], None]


class Photographer(Protocol):
    """render_photo or render_part."""

    def __call__(self, class_name: str, seed: int, *, width_px: int, height_px: int) -> Image.Image: ...


def _rng(spec: ShowroomSpec, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([spec.seed, *key]))


class _Builder:
    """The state of one write: where each photo goes, and how many are done."""

    root: Path

    def __init__(self, spec: ShowroomSpec, on_photo: OnPhoto | None) -> None:
        self.spec, self.on_photo = spec, on_photo
        self.num_by_kind: dict[str, int] = {}
        self.names = class_names(spec.num_classes)
        self.position = {name: index for index, name in enumerate(catalogue())}
        rng = _rng(spec, _PLAN)
        labels = [name for name in self.names for _ in range(spec.test_per_class)]
        self.test_order = [int(k) for k in rng.permutation(len(labels))]
        self.test_labels = [labels[k] for k in self.test_order]
        self.broken_test = int(rng.integers(len(labels))) if spec.num_faults else -1
        self.faults = plan_faults(self.names, spec.num_faults, spec.train_per_class, self.test_labels, self.broken_test, rng)
        self.public = set(rng.permutation(len(labels))[: (len(labels) + 1) // 2].tolist())
        self.clean_path: dict[tuple[str, int], str] = {}
        self.fault_path: list[str] = [""] * len(self.faults)
        self._number_files(rng)
        self.done, self.total = 0, len(self.clean_path) + len(self.faults) + len(labels)

    def _number_files(self, rng: np.random.Generator) -> None:
        """Spread clean photos and faults over each class's numbers by chance: a number must not give a fault away."""
        for name in self.names:
            mine = [k for k, fault in enumerate(self.faults) if fault.folder_class == name]
            numbers = rng.permutation(self.spec.train_per_class + len(mine)).tolist()
            paths = [f"train/{name}/{name}_{number:04d}.jpg" for number in numbers]
            for index in range(self.spec.train_per_class):
                self.clean_path[name, index] = paths[index]
            for k, path in zip(mine, paths[self.spec.train_per_class :], strict=True):
                self.fault_path[k] = path

    def write(self, root: Path) -> None:
        """Fill a new folder with everything."""
        self.root = root
        _write_clean(self)
        self.num_by_kind = _write_faults(self)
        _write_tables(self)

    def save(self, path: str, data: bytes) -> None:
        """Write one photo and report progress."""
        (self.root / path).write_bytes(data)
        self.done += 1
        if self.on_photo is not None:
            self.on_photo(self.done, self.total)

    def render(
        self, name: str, *key: int, photographer: Photographer = render_photo
    ) -> tuple[Image.Image, np.random.Generator]:
        """A fresh photo of a class, and the generator that goes on from there."""
        rng = _rng(self.spec, *key, self.position[name])
        width, height = draw_size(rng, self.spec.long_edge_px)
        seed = int(rng.integers(2**62))
        return photographer(name, seed, width_px=width, height_px=height), rng

    def photo(self, name: str, *key: int, darkening: float = 0.0) -> bytes:
        """The bytes of a clean photo."""
        image, rng = self.render(name, *key)
        if darkening:
            image = image.point([round(value * (1.0 - darkening)) for value in range(256)] * 3)
        return encode_jpeg(image, int(rng.integers(60, 96)))


def _write_clean(build: _Builder) -> None:
    for name in build.names:
        (build.root / "train" / name).mkdir(parents=True)
    (build.root / "test").mkdir()
    for (name, index), path in build.clean_path.items():
        build.save(path, build.photo(name, _TRAIN, index))
    for number, name in enumerate(build.test_labels):
        data = build.photo(name, _TEST, build.test_order[number], darkening=build.spec.test_darkening)
        build.save(_test_path(number), unusable(data, "truncated") if number == build.broken_test else data)


def _test_path(number: int) -> str:
    return f"test/TEST_{number:05d}.jpg"


def _fault_bytes(build: _Builder, index: int, fault: PlannedFault) -> tuple[bytes, str]:
    """The bytes of a fault and the detail that truth/faults.csv gives."""
    key = (_FAULT, index)
    match fault.kind:
        case "exact_duplicate" | "duplicate_other_class":
            path = build.clean_path[fault.true_class, fault.source]
            return (build.root / path).read_bytes(), path
        case "near_duplicate":
            path = build.clean_path[fault.true_class, fault.source]
            return near_duplicate((build.root / path).read_bytes(), fault.variant), path
        case "train_test_duplicate":
            path = _test_path(fault.source)
            return (build.root / path).read_bytes(), path
        case "wrong_label":
            return build.photo(fault.true_class, *key), fault.true_class
        case "unusable":
            return unusable(build.photo(fault.true_class, *key), fault.variant), fault.variant
        case "odd_but_fine":
            return odd_but_fine(build.render(fault.true_class, *key)[0], fault.variant), fault.variant
        case "no_car":
            rng = _rng(build.spec, *key)
            width, height = draw_size(rng, build.spec.long_edge_px)
            return encode_jpeg(
                render_empty_place(int(rng.integers(2**62)), width_px=width, height_px=height), 85
            ), "background only"
        case "part_only":
            return encode_jpeg(build.render(fault.true_class, *key, photographer=render_part)[0], 85), "extreme crop"


def _write_faults(build: _Builder) -> dict[str, int]:
    rows: list[tuple[str, str, str]] = []
    for index, fault in enumerate(build.faults):
        data, detail = _fault_bytes(build, index, fault)
        build.save(build.fault_path[index], data)
        rows.append((build.fault_path[index], fault.kind, detail))
    if build.broken_test >= 0:
        rows.append((_test_path(build.broken_test), "unusable", "truncated"))
    _write_csv(build.root / "truth" / "faults.csv", ("file", "fault", "detail"), rows)
    return {kind: sum(row[1] == kind for row in rows) for kind in FAULT_KINDS}


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[str]], encoding: str = "utf-8") -> None:
    """The csv module's own line ends (CR LF), as in the contest's files."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _write_tables(build: _Builder) -> None:
    root, ids = build.root, [f"TEST_{number:05d}" for number in range(len(build.test_labels))]
    _write_csv(root / "test.csv", ("ID", "img_path"), [(i, f"./test/{i}.jpg") for i in ids])
    zeros = ["0"] * len(build.names)
    _write_csv(root / "sample_submission.csv", ("ID", *build.names), [(i, *zeros) for i in ids], encoding="utf-8-sig")
    pairs = [EQUIVALENT_PAIR] if set(EQUIVALENT_PAIR) <= set(build.names) else []
    _write_csv(root / "equivalent_classes.csv", ("class_a", "class_b"), pairs)
    split = ["public" if number in build.public else "private" for number in range(len(ids))]
    _write_csv(root / "truth" / "answers.csv", ("ID", "label", "split"), zip(ids, build.test_labels, split, strict=True))


def write_showroom(folder: Path, spec: ShowroomSpec, on_photo: OnPhoto | None = None) -> ShowroomSummary:
    """Write the data set of a spec; the same spec gives the same bytes.

    All is written next to `folder` and renamed at the end, so that `folder` is whole or not there. `on_photo` gets the
    number of photos done and the total. The equivalent pair is there from four classes on. Raises ArtifactError if
    `folder` exists and is not an empty folder.
    """
    folder = Path(folder)
    with claim_folder(folder, "showroom"):
        if folder.is_dir() and list_content(folder):
            raise ArtifactError(f"--out {folder}: holds a showroom already; give a new or an empty folder")
        build = _Builder(spec, on_photo)
        make_folder(folder, build.write)
    return ShowroomSummary(
        folder=folder,
        num_train=len(build.clean_path) + len(build.faults),
        num_test=len(build.test_labels),
        num_classes=len(build.names),
        faults=build.num_by_kind,
    )
