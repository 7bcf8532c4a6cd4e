"""Runs timm's own train.py on our split and answers with its best checkpoint, seen through timm's evaluation transform."""

import argparse
import subprocess
import sys

import timm
import torch
from common import ask_timm, check_weights, local_weights, note_usage, read_job, write_answers


def main() -> None:
    job = read_job()
    check_weights(job, timm.create_model(job.backbone, num_classes=job.num_classes, **local_weights(job)))
    (job.out / "classes.txt").write_text("".join(f"{label:04d}\n" for label in range(job.num_classes)), encoding="utf-8")
    command = [
        sys.executable, job.file, "--data-dir", str(job.split), "--class-map", str(job.out / "classes.txt"),
        "--model", job.backbone, "--pretrained", "--pretrained-path", str(job.weights), "--num-classes", str(job.num_classes),
        "--img-size", str(job.size_px), "--epochs", str(job.epochs), "--batch-size", str(job.batch_size), "--opt", "adamw",
        "--weight-decay", "0.05", "--sched-on-updates", "--warmup-epochs", "1" if job.epochs > 1 else "0", "--device", "cpu",
        *(["--amp", "--amp-dtype", "bfloat16"] if job.bf16 else []), "--channels-last", "--no-prefetcher", "--workers", "1",
        "--seed", str(job.seed), "--output", str(job.out / "output"), "--experiment", "run", "--eval-metric", "loss",
        "--checkpoint-hist", "1",
    ]  # fmt: skip
    for name, value in job.settings.items():
        command += [f"--{name}"] if value is True else [f"--{name}", *(str(value).split())]
    with note_usage(job):
        subprocess.run(command, check=True)
    with torch.serialization.safe_globals([argparse.Namespace]):  # its arguments lie beside the weights
        state = torch.load(job.out / "output" / "run" / "model_best.pth.tar", map_location="cpu", weights_only=True)
    network = timm.create_model(job.backbone, num_classes=job.num_classes)
    network.load_state_dict(state.get("state_dict_ema") or state["state_dict"])
    settings = timm.data.resolve_data_config({"img_size": job.size_px}, model=network)
    render = timm.data.create_transform(**settings, is_training=False)
    write_answers(job, lambda files: ask_timm(network.eval(), render, files))


if __name__ == "__main__":
    main()
