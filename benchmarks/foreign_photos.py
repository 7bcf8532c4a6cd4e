"""What real photographs that show no car cost: a temple, a flower, an admiral, a drawing, whole and in crops.

python benchmarks/foreign_photos.py BUNDLE

The pictures come with scikit-learn and matplotlib and played no part in any fit. A foreign photograph's class is taken to be
drawn from the prior, so its cost is -sum_c prior_c log p_c; printed in losses of the prior itself.
"""

import argparse
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from hectocar import Classifier
from hectocar.calibration.floor_loss import unusable_cost_per_row

SOURCES = (
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("matplotlib", "mpl-data/sample_data/Minduka_Present_Blue_Pack.png"),
)


def write_crops(folder: Path, num_crops: int, seed: int) -> list[Path]:
    """Each source whole, and in crops of a third to nine tenths of its sides."""
    rng = np.random.default_rng(seed)
    files = []
    for package, name in SOURCES:
        with resources.as_file(resources.files(package) / name) as path, Image.open(path) as opened:
            image = opened.convert("RGB")
        for number in range(num_crops + 1):
            share = 1.0 if number == 0 else float(rng.uniform(0.33, 0.9))
            width, height = (max(32, round(side * share)) for side in image.size)
            left, top = (int(rng.integers(0, side - kept + 1)) for side, kept in zip(image.size, (width, height), strict=True))
            files.append(folder / f"{Path(name).stem}_{number}.jpg")
            image.crop((left, top, left + width, top + height)).save(files[-1], quality=90)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--crops", type=int, default=15, help="of each picture, besides the whole (default: 15)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    classifier = Classifier.load(args.bundle)
    prior = np.array(classifier.spec.prior)
    with tempfile.TemporaryDirectory() as folder:
        files = write_crops(Path(folder), args.crops, args.seed)
        probs = classifier.predict_proba(files).probs_NG
    cost = unusable_cost_per_row(probs, prior) / float(unusable_cost_per_row(prior[None], prior)[0])
    for package, name in SOURCES:
        stem = Path(name).stem
        rows = [row for row, file in enumerate(files) if file.stem.rsplit("_", 1)[0] == stem]
        surest = probs[rows].max(axis=1)
        print(f"{package} {stem}: mean {cost[rows].mean():.2f}, worst {cost[rows].max():.2f}; surest class {surest.max():.2f}")
    print(f"all {len(files)}: mean {cost.mean():.2f}, worst {cost.max():.2f}, in losses of the prior")


if __name__ == "__main__":
    main()
