"""Trains timm's own train.py on the split of one of our runs, so that the two can be compared photograph by photograph.

timm's script is not in its package: fetch the repository of the installed version and give the path of its train.py.

    python benchmarks/timm_peer.py RUN --fold 0 --script pytorch-image-models/train.py \
        --weights mobilenetv2_100.in1k.safetensors --epochs 12 --size 160 --out PEER

The split is a folder of links, one class folder per trained class, named by number: timm sorts classes naturally and we
by code point, and numbers with leading zeros sort alike. Damaged files and dropped duplicates are absent for both.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from hectocar.training.run import open_run


def export_split(run_folder: Path, fold: int, out: Path) -> int:
    """Links train/NNNN/* and validation/NNNN/*; returns the number of classes."""
    run = open_run(run_folder)
    labels, files = run.manifest.labels(run.classes), run.manifest.files()
    for name, rows in zip(("train", "validation"), run.folds.split(fold), strict=True):
        for row in rows:
            link = out / name / f"{labels[row]:04d}" / f"{row:06d}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(files[row].resolve())
    return run.classes.num_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--script", type=Path, required=True, help="timm's train.py")
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    num_classes = export_split(args.run, args.fold, args.out / "split")
    checkpoint = args.out / "start.pth"  # timm's --initial-checkpoint wants every key; the classifier is new
    import timm

    model = timm.create_model(args.model, num_classes=num_classes)
    model.load_state_dict(load_file(args.weights), strict=False)
    torch.save(model.state_dict(), checkpoint)
    command = [
        sys.executable, str(args.script), "--data-dir", str(args.out / "split"), "--model", args.model,
        "--initial-checkpoint", str(checkpoint), "--num-classes", str(num_classes), "--img-size", str(args.size),
        "--epochs", str(args.epochs), "--warmup-epochs", "1", "--batch-size", str(args.batch), "--opt", "adamw", "--lr", "1e-3",
        "--weight-decay", "0.05", "--aa", "rand-m7", "--mixup", "0.2", "--device", "cpu", "--amp", "--amp-dtype", "bfloat16",
        "--channels-last", "--no-prefetcher", "--workers", str(args.workers), "--seed", str(args.seed),
        "--output", str(args.out / "output"), "--experiment", "peer", "--eval-metric", "loss",
    ]  # fmt: skip
    started = time.monotonic()
    subprocess.run(command, check=True)
    seconds = time.monotonic() - started
    with (args.out / "output" / "peer" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = min(rows, key=lambda row: float(row["eval_loss"]))
    print(f"{' '.join(command[1:])}")
    print(
        f"timm: best epoch {best['epoch']}: log loss {float(best['eval_loss']):.4f}, top-1 {float(best['eval_top1']):.2f} %; "
        f"last: {float(rows[-1]['eval_loss']):.4f}, {float(rows[-1]['eval_top1']):.2f} %; {seconds / 60:.1f} min"
    )


if __name__ == "__main__":
    main()
