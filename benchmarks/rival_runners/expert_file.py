"""Runs expert_baseline.py as it is, on our split.

The file deals its own 85/15 split by ``random.seed(1)`` and a shuffle, whatever the photographs are. So the photographs are
laid out such that what it will hold out are held-out photographs of ours, and what it trains on are all of those that ours is
trained on; that it did so is checked afterwards. It only prints figures of what it holds out, nothing is chosen by them.
"""

import csv
import random
import runpy
import sys
from pathlib import Path

from common import Job, ask_timm, list_photos, note_usage, read_job, write_answers
from PIL import Image


def num_drawn(count: int) -> int:
    """How many of so many photographs of a class the file holds out."""
    return max(1, round(0.15 * count))


def find_drawn(counts: list[int]) -> set[tuple[int, int]]:
    """(class, place in it) of what the file will hold out of classes of these sizes."""
    items = [(label, place) for label, count in enumerate(counts) for place in range(count)]
    random.seed(1)
    random.shuffle(items)
    by: dict[int, list[int]] = {}
    for label, place in items:
        by.setdefault(label, []).append(place)
    return {(label, place) for label, places in by.items() for place in places[: num_drawn(len(places))]}


def lay_out(job: Job, data: Path) -> set[Path]:
    """Writes the file's data folder; returns the photographs that it must train on."""
    photos = list_photos(job.split)
    train, held = (
        [[file for file, label in photos[part] if label == wanted] for wanted in range(job.num_classes)]
        for part in ("train", "validation")
    )
    counts = [next(n for n in range(1, 3 * len(files) + 3) if n - num_drawn(n) == len(files)) for files in train]
    drawn = find_drawn(counts)
    for label, count in enumerate(counts):
        folder = data / "train" / f"{label:04d}"
        folder.mkdir(parents=True)
        own, others = iter(train[label]), held[label] or train[label]
        for place in range(count):
            source = others[place % len(others)] if (label, place) in drawn else next(own)
            (folder / f"{place:06d}{source.suffix}").symlink_to(source.resolve())
    tables = {
        "equivalent_classes.csv": [["first", "second"]],
        "test.csv": [["ID", "img_path"], ["TEST_0", photos["validation"][0][0]]],
        "sample_submission.csv": [["ID", *(f"{label:04d}" for label in range(job.num_classes))]],
    }
    for name, rows in tables.items():
        with (data / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return {file.resolve() for files in train for file in files}


def main() -> None:
    job = read_job()
    data = job.out / "data"
    wanted = lay_out(job, data)
    sys.argv = [job.file, str(data), str(job.weights), str(job.out / "own")]
    sys.argv += ["--epochs", str(job.epochs), "--size", str(job.size_px), "--backbone", job.backbone]
    with note_usage(job):
        left = runpy.run_path(job.file, run_name="__main__")
    trained = [file.resolve() for file, _ in left["train"]]
    if len(trained) != len(wanted) or {*trained} != wanted:
        raise RuntimeError(f"{job.file} did not train on the split: {len(trained)} photographs, {len(wanted)} were meant")

    def render(image: Image.Image) -> object:
        return left["plain"](image.resize((job.size_px, job.size_px), Image.Resampling.BILINEAR))

    write_answers(job, lambda files: ask_timm(left["ema"].eval(), render, files))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
