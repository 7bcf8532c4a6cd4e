"""Trains timm's own train.py on the split of one of our runs, so that the two can be compared photograph by photograph.

timm's script is not in its package: fetch the repository of the installed version and give the path of its train.py.

    python benchmarks/timm_peer.py train RUN --script pytorch-image-models/train.py \
        --weights mobilenetv2_100.in1k.safetensors --epochs 6 --size 112 --seed 1 --out PEER1
    python benchmarks/timm_peer.py compare RUN1 PEER1 RUN2 PEER2 RUN3 PEER3

The split is a folder of links, one class folder per trained class, named by number: timm sorts classes naturally and we
by code point, and numbers with leading zeros sort alike. Damaged files and dropped duplicates are absent for both. Both are
judged on the held-out photographs as they are and, where the run has an audit, shifted like the test set.
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

from hectocar.dataset.run_inputs import Run, read_run
from hectocar.delivery.bundle import load_networks, read_model
from hectocar.network.arithmetic import has_fast_precision
from hectocar.network.inference import infer_photos
from hectocar.photos.shift import PhotoShift, apply_shift
from hectocar.scoring.metrics import cross_entropy_per_row, paired_bootstrap

AMP = ["--amp", "--amp-dtype", "bfloat16"]


def export_split(run: Run, fold: int, out: Path) -> int:
    """Links train/NNNN/* and validation/NNNN/*; returns the number of classes."""
    labels, files = run.manifest.labels(run.classes), run.manifest.files()
    for name, rows in zip(("train", "validation"), run.folds.split(fold), strict=True):
        for row in rows:
            link = out / name / f"{labels[row]:04d}" / f"{row:06d}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(files[row].resolve())
    return run.classes.num_trained


@torch.inference_mode()
def peer_losses(
    run: Run, fold: int, checkpoint: Path, model_name: str, size_px: int, shift: PhotoShift | None
) -> NDArray[np.float64]:
    """Loss of each held-out photograph under timm's best checkpoint, seen through timm's own evaluation transform."""
    rows = run.folds.split(fold)[1]
    # Written by timm's script a moment ago: it holds its arguments beside the weights.
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    model = timm.create_model(model_name, num_classes=run.classes.num_trained).eval()
    model.load_state_dict(state)
    settings = timm.data.resolve_data_config({"img_size": size_px}, model=model)
    transform = timm.data.create_transform(**settings, is_training=False)
    files, logits = run.manifest.files(), []
    for start in range(0, len(rows), 64):
        photos = [Image.open(files[row]).convert("RGB") for row in rows[start : start + 64]]
        images = [transform(apply_shift(photo, shift) if shift else photo) for photo in photos]
        logits.append(model(torch.stack(images)).numpy())
    return cross_entropy_per_row(np.concatenate(logits), run.manifest.labels(run.classes)[rows])


def own_losses(run: Run, fold: int, shift: PhotoShift | None) -> NDArray[np.float64]:
    """Loss of each held-out photograph under this project's best checkpoint of the fold."""
    rows, files = run.folds.split(fold)[1], run.manifest.files()
    spec = read_model(run.folder)
    place = [member.fold for member in spec.members].index(fold)
    networks = load_networks(spec, torch.device("cpu"))
    outputs = infer_photos(
        [networks[place]], [files[row] for row in rows], size_px=spec.members[place].size_px, inference=spec.inference,
        data=run.config.data, precision=spec.precision, shift=shift,
    )[0]  # fmt: skip
    return cross_entropy_per_row(outputs.logits, run.manifest.labels(run.classes)[rows])


def train(args: argparse.Namespace) -> None:
    run = read_run(args.run)
    num_classes = export_split(run, args.fold, args.out / "split")
    checkpoint = args.out / "start.pth"  # timm's --initial-checkpoint wants every key; the classifier is new
    torch.manual_seed(args.seed)
    model = timm.create_model(args.model, num_classes=num_classes)
    model.load_state_dict(
        {name: value for name, value in load_file(args.weights).items() if not name.startswith("classifier.")}, strict=False
    )
    torch.save(model.state_dict(), checkpoint)
    fast = has_fast_precision(torch.device("cpu"), "bfloat16")  # emulated it would be many times slower
    command = [
        sys.executable, str(args.script), "--data-dir", str(args.out / "split"), "--model", args.model,
        "--initial-checkpoint", str(checkpoint), "--num-classes", str(num_classes), "--img-size", str(args.size),
        "--epochs", str(args.epochs), "--warmup-epochs", "1", "--batch-size", str(args.batch), "--opt", "adamw", "--lr", "1e-3",
        "--weight-decay", "0.05", "--aa", "rand-m7", "--mixup", "0.2", "--device", "cpu", *(AMP if fast else []),
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
    best_file = args.out / "output" / "peer" / "model_best.pth.tar"
    losses = {"clean": peer_losses(run, args.fold, best_file, args.model, args.size, None)}
    if run.shift:
        losses["shifted"] = peer_losses(run, args.fold, best_file, args.model, args.size, run.shift)
    np.savez(args.out / "losses.npz", **losses)
    for name, values in losses.items():
        print(f"timm, {name}: {values.mean():.4f}")


def compare(args: argparse.Namespace) -> None:
    runs, peers = args.folders[::2], args.folders[1::2]
    table = {name: np.load(peers[0] / "losses.npz")[name] for name in np.load(peers[0] / "losses.npz").files}
    for name in table:
        theirs = [np.load(peer / "losses.npz")[name] for peer in peers]
        opened = [read_run(run) for run in runs]
        ours = [own_losses(run, args.fold, run.shift if name == "shifted" else None) for run in opened]
        pairs = zip(ours, theirs, strict=True)
        print(
            f"{name}: ours "
            + " ".join(f"{a.mean():.4f}" for a in ours)
            + ", timm "
            + " ".join(f"{b.mean():.4f}" for b in theirs)
        )
        ratios = np.array([a.mean() / b.mean() for a, b in pairs])
        spread = f"{ratios.std(ddof=1) / len(ratios) ** 0.5:.4f}" if len(ratios) > 1 else "unknown (one seed)"
        print(f"  ratio {ratios.mean():.4f}, standard error over seeds {spread}")
        paired = paired_bootstrap(np.mean(ours, axis=0), np.mean(theirs, axis=0))
        low, high = f"{paired.low:+.4f}", f"{paired.high:+.4f}"
        print(f"  paired over photographs {paired.mean:+.4f}, standard error {paired.standard_error:.4f}, 95 % {low} to {high}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    trainer = commands.add_parser("train", help="run timm's script and measure its best checkpoint")
    trainer.add_argument("run", type=Path)
    trainer.add_argument("--fold", type=int, default=0)
    trainer.add_argument("--script", type=Path, required=True, help="timm's train.py")
    trainer.add_argument("--model", default="mobilenetv2_100")
    trainer.add_argument("--weights", type=Path, required=True)
    trainer.add_argument("--epochs", type=int, required=True)
    trainer.add_argument("--size", type=int, default=160)
    trainer.add_argument("--batch", type=int, default=32)
    trainer.add_argument("--seed", type=int, default=42)
    trainer.add_argument("--workers", type=int, default=1)
    trainer.add_argument("--out", type=Path, required=True)
    trainer.set_defaults(call=train)
    comparer = commands.add_parser("compare", help="our runs and timm's, in pairs")
    comparer.add_argument("folders", type=Path, nargs="+", metavar="RUN PEER")
    comparer.add_argument("--fold", type=int, default=0)
    comparer.set_defaults(call=compare)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
