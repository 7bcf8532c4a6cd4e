"""What the held-out photographs say of a network."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.config.schema import Config
from hectocar.errors import ConfigError, DataError
from hectocar.network.carnet import CarNet
from hectocar.network.inference import infer_photos
from hectocar.progress import Progress, count_with
from hectocar.scoring.metrics import cross_entropy_from_logits, top_k_accuracy
from hectocar.training.loader import FoldData
from hectocar.training.recipe import EpochPlan


@dataclass(frozen=True)
class Validation:
    """Results by the network's name, and the last network's logits."""

    results: dict[str, dict[str, Any]]
    logits_NG: NDArray[np.float32]


def validate(config: Config, size_px: int, data: FoldData, networks: dict[str, CarNet], progress: Progress) -> Validation:
    """Log loss, top-1 and top-5 on the held-out photographs of each network: the raw and the averaged weights.

    With a shift also ``shifted_log_loss`` and ``shifted_top1``, which choose nothing.
    ``size_px`` is the epoch's, which ``inference.size_px`` overrides.
    """
    size_px = config.inference.size_px or size_px
    label_N = data.labels[data.valid_rows]
    results: dict[str, dict[str, Any]] = {name: {"size_px": size_px} for name in networks}
    for prefix, shift in (("", None), ("shifted_", data.shift)):
        if prefix and shift is None:
            continue
        outputs = infer_photos(
            list(networks.values()), [data.files[row] for row in data.valid_rows], size_px=size_px,
            inference=config.inference, data=config.data, precision=config.training.precision,
            on_photo=count_with(progress, f"validating{' shifted' if prefix else ''}"), shift=shift,
        )  # fmt: skip
        for name, output in zip(networks, outputs, strict=True):
            check_finite(float(output.logits.sum()))
            if not prefix:
                logits_NG = output.logits
            results[name][f"{prefix}log_loss"] = cross_entropy_from_logits(output.logits, label_N)
            for k in (1,) if prefix else (1, 5):
                results[name][f"{prefix}top{k}"] = top_k_accuracy(output.logits, label_N, min(k, data.num_classes))
    return Validation(results, logits_NG)


def check_split(data: FoldData) -> None:
    """Raises DataError unless there are two photographs to train on, for the statistics of BatchNorm, and one to judge."""
    if len(data.train_rows) < 2 or len(data.valid_rows) < 1:
        raise DataError(
            f"the fold has {len(data.train_rows)} photographs to train on and {len(data.valid_rows)} held out; "
            "allowed: 2 or more, and 1 or more: add photographs, or change data.num_folds"
        )


def check_finite(total: float, epoch: int | None = None, step: int | None = None) -> None:
    """Raises ConfigError when the training has diverged; the last checkpoint stays as it was."""
    if not np.isfinite(total):
        where = "in validation" if epoch is None or step is None else f"at epoch {epoch + 1}, step {step + 1}"
        raise ConfigError(
            f"the training is no longer finite {where}; lower training.sizes learning_rate, or set training.clip_norm to 1"
        )


def describe_epoch(
    epoch: int, num_epochs: int, plan: EpochPlan, train_loss: float, results: dict[str, dict[str, Any]], seconds: float
) -> str:
    """One line for a person: ``epoch 3/12 160 px  train 2.31  raw 1.92 55.1% 80.2%  ema ...  4.2 min``."""
    parts = [
        f"{name} {r['log_loss']:.4f}"
        + (f" (shifted {r['shifted_log_loss']:.4f})" if "shifted_log_loss" in r else "")
        + f" {r['top1']:.1%} {r['top5']:.1%}"
        for name, r in results.items()
    ]
    return (
        f"epoch {epoch + 1}/{num_epochs} {plan.size_px} px  train {train_loss:.4f}  {'  '.join(parts)}  {seconds / 60:.1f} min"
    )
