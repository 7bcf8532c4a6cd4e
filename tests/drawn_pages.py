"""Audit reports of small invented folders, and a reader of the pages that are drawn of them."""

import dataclasses
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from hectocar.auditing.drift import TwoSampleTest, compare_quantities
from hectocar.auditing.report import AuditReport, DriftReport
from hectocar.auditing.shift_fit import ShiftFit
from hectocar.dataset.decisions import Decision
from hectocar.dataset.scan import scan_files
from hectocar.photos.shift import PhotoShift

KOREAN = "쏘나타_2020"
APART = {"td", "th", "span", "div", "p", "li", "h1", "h2", "title"}
"""Elements that stand apart from what follows."""
VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}


def write_photo(file: Path, seed: int, brightness: int = 120) -> None:
    """A coarse texture, 64 x 48 px."""
    file.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(-40, 40, (6, 8, 3)) + brightness
    pixels = np.kron(coarse.clip(0, 255).astype(np.uint8), np.ones((8, 8, 1), dtype=np.uint8))
    Image.fromarray(pixels).save(file, "JPEG")


def make_report(
    root: Path,
    decisions: tuple[Decision, ...] = (),
    *,
    num_per_class: int = 6,
    num_test: int = 0,
    extra: tuple[str, ...] = (),
    unavailable: dict[str, str] | None = None,
    num_label_errors: int | None = None,
) -> AuditReport:
    """Two classes, one with a Korean name, and darker test photographs; ``extra`` files are no photographs."""
    names = [f"train/{name}/{k}.jpg" for name in ("K5", KOREAN) for k in range(num_per_class)]
    tests = [f"test/TEST_{k}.jpg" for k in range(num_test)]
    for seed, name in enumerate([*names, *tests]):
        write_photo(root / name, seed, brightness=120 if name in names else 60)
    for name in extra:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("no photograph")
    paths = [*names, *extra, *tests]
    scan = scan_files(root, paths, max_megapixels=100.0, num_workers=1)
    class_name = tuple("" if path.startswith("test/") else path.split("/")[1] for path in paths)
    return AuditReport(root, scan, class_name, 2, decisions, unavailable or {}, num_label_errors, None)


def add_drift(report: AuditReport, shift: PhotoShift | None, *, auc: float | None = 0.95) -> AuditReport:
    """The report with its own measured quantities, a given shift and a given AUC."""
    is_train = np.array([bool(name) for name in report.class_name])
    names = ["brightness", "contrast", "saturation", "jpeg_quality"]
    columns = {name: report.scan.numbers(name) for name in names}
    train, test = ({name: values[side] for name, values in columns.items()} for side in (is_train, ~is_train))
    fit = ShiftFit(shift, "gain", 0.01, 0.2, 0.02, 50.0, 3.0, 2.0, 75, 60, 12, 9) if shift else None
    separation = None if auc is None else TwoSampleTest(auc, 0.01, 12, 9, 4)
    drift = DriftReport(compare_quantities(names, train, test), fit, "twelve <b>photographs</b>", separation)
    return dataclasses.replace(report, drift=drift)


class Page(HTMLParser):
    """Elements with their attributes, the text, and a check that every element is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag in APART:
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attrs for found, attrs in self.elements if found == tag)


def a_row_of_each_kind() -> tuple[Decision, ...]:
    pair = ("train/K5/0.jpg", "train/K5/1.jpg")
    rows = [
        Decision(pair[0], kind, decision, f"d{number:04d}", 0.98, f"cropped: {pair[1]}")
        for number, (kind, decision) in enumerate(
            {"exact_duplicate": "drop", "duplicate_other_class": "drop", "near_duplicate": "group"}.items(), start=1
        )
    ]
    rows += [Decision(row.file.replace("0.jpg", "1.jpg"), row.kind, row.decision, row.group, 0.98) for row in tuple(rows)]
    rows.append(Decision("train/K5/2.jpg", "train_test_duplicate", "keep", "d0009", 0.97, "darker: test/TEST_0.jpg"))
    rows.append(Decision("train/K5/3.jpg", "wrong_label", "keep", score=0.9, reason="doubt", label=KOREAN))
    rows += [Decision("train/K5/4.jpg", kind, "keep", score=0.8) for kind in ("no_car", "part_only", "rotated", "odd_but_fine")]
    return (*rows, Decision("train/K5/bad.jpg", "unusable", "drop", reason="no image header found"))
