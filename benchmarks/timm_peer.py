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

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from hectocar.delivery.predictor import Classifier
from hectocar.scoring.metrics import cross_entropy_per_row, log_loss_per_row, paired_bootstrap
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


@torch.inference_mode()
def peer_losses(run_folder: Path, fold: int, checkpoint: Path, model_name: str, size_px: int) -> NDArray[np.float64]:
    """Loss of each held-out photograph under timm's best checkpoint, seen through timm's own evaluation transform."""
    run = open_run(run_folder)
    rows = run.folds.split(fold)[1]
    # Written by timm's script a moment ago: it holds its arguments beside the weights.
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    model = timm.create_model(model_name, num_classes=run.classes.num_trained).eval()
    model.load_state_dict(state)
    settings = timm.data.resolve_data_config({"img_size": size_px}, model=model)
    transform = timm.data.create_transform(**settings, is_training=False)
    files, logits = run.manifest.files(), []
    for start in range(0, len(rows), 64):
        images = [transform(Image.open(files[row]).convert("RGB")) for row in rows[start : start + 64]]
        with torch.autocast("cpu", torch.bfloat16):
            logits.append(model(torch.stack(images)).float().numpy())
    return cross_entropy_per_row(np.concatenate(logits), run.manifest.labels(run.classes)[rows])


def own_losses(run_folder: Path, fold: int) -> NDArray[np.float64]:
    """Loss of each held-out photograph under this project's best checkpoint of the fold."""
    run = open_run(run_folder)
    rows, files = run.folds.split(fold)[1], run.manifest.files()
    table = Classifier.load(run_folder).predict_table([files[row] for row in rows])
    return log_loss_per_row(table.probs_NG, run.manifest.labels(run.classes)[rows])


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
    theirs = peer_losses(args.run, args.fold, args.out / "output" / "peer" / "model_best.pth.tar", args.model, args.size)
    ours = own_losses(args.run, args.fold)
    paired = paired_bootstrap(ours, theirs)
    print(f"held-out log loss: ours {ours.mean():.4f}, timm {theirs.mean():.4f}, ratio {ours.mean() / theirs.mean():.3f}")
    low, high = f"{paired.low:+.4f}", f"{paired.high:+.4f}"
    print(f"paired difference {paired.mean:+.4f}, standard error {paired.standard_error:.4f}, 95 % {low} to {high}")


if __name__ == "__main__":
    main()
