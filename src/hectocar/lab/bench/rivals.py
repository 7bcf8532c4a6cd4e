"""What others do instead of our training step and prediction. Pipelines of photographs stand in pipelines.py."""

from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.optim._optim_factory import create_optimizer_v2
from timm.utils.clip_grad import dispatch_clip_grad
from timm.utils.model_ema import ModelEmaV3

from hectocar.lab.bench.cases import Job
from hectocar.lab.bench.contestant import Work
from hectocar.lab.bench.own import NUM_CLASSES, bench_config, build_network
from hectocar.lab.trainer import wait_for
from hectocar.network.arithmetic import autocast


def build_timm_step(job: Job) -> Work:
    """timm's train.py of version 1.0: its own model, optimizer, clipping, averaged weights and loss, and --channels-last."""
    device, training = torch.device(job.device), bench_config(job).training
    torch.manual_seed(job.seed)
    network: Any = _create_model(job).to(device=device, memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(network, opt="adamw", lr=1e-6, weight_decay=training.weight_decay)
    average = ModelEmaV3(network, decay=training.ema_decay, use_warmup=True)
    scaler = torch.amp.GradScaler(device.type, enabled=job.precision == "float16")
    forward = torch.compile(network) if job.compiled else network
    images = torch.randn(job.batch_size, 3, job.size_px, job.size_px, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(job.batch_size, device=device) % NUM_CLASSES
    steps = iter(range(1, 2**31))

    def work() -> tuple[float, ...]:
        for _ in range(job.num_steps):
            with autocast(device, job.precision):
                loss = torch.nn.functional.cross_entropy(forward(images), labels, label_smoothing=training.label_smoothing)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            dispatch_clip_grad(network.parameters(), training.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            average.update(network, step=next(steps))
        wait_for(device)
        return ()

    return work


def _create_model(job: Job) -> Any:
    try:  # a transformer is built for a size, a convolutional network knows no such word
        return timm.create_model(job.backbone, num_classes=NUM_CLASSES, img_size=job.size_px)
    except TypeError:
        return timm.create_model(job.backbone, num_classes=NUM_CLASSES)


def build_eager_prediction(job: Job) -> Work:
    """A loop as it is usually written: Pillow, one photograph after the other, batches, the network as it was trained."""
    device, network = torch.device(job.device), build_network(job).to(job.device).eval()

    @torch.inference_mode()
    def work() -> list[float]:
        answers: list[float] = []
        for start in range(0, len(job.files), job.batch_size):
            pictures = []
            for file in job.files[start : start + job.batch_size]:
                with Image.open(file) as image:
                    resized = image.convert("RGB").resize((job.size_px, job.size_px), Image.Resampling.BILINEAR)
                pictures.append(torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).float() / 255.0)
            images = (torch.stack(pictures).to(device) - network.pixels.mean_1311) / network.pixels.std_1311
            with autocast(device, job.precision):
                logits, _ = network(images)
            answers += logits.float().softmax(dim=1).cpu().ravel().tolist()
        return answers

    return work
