"""Devices and their arithmetic: which one, in what precision, and how pixels get there. Training and inference share them."""

import re
from contextlib import nullcontext
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hectocar.codec import show
from hectocar.errors import ConfigError
from hectocar.network.carnet import PixelStatistics

_DEVICE = re.compile(r"cpu|mps|cuda(:(0|[1-9][0-9]{0,2}))?", re.ASCII)
"""torch takes meta, which computes nothing, and others that nobody has tried."""
AUTOCAST_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` takes a GPU where there is one.

    Raises:
        ConfigError: No such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allowed = "allowed: auto, cpu, cuda, cuda:N, mps"
    if not _DEVICE.fullmatch(name):
        raise ConfigError(f"--device is {show(name)}; {allowed}")
    try:
        device = torch.device(name)
        (torch.ones(1, device=device) + 1).item()  # asks it for arithmetic, not for memory alone
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # the last is what a device without kernels raises
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ConfigError(f"--device is {name!r}, which cannot be used here ({reason}); {allowed}") from error
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The arithmetic of ``training.precision`` on a device; float32 leaves everything as it is."""
    return torch.autocast(device.type, AUTOCAST_DTYPES.get(precision), enabled=is_half(device, precision))


def is_half(device: torch.device, precision: str) -> bool:
    """Whether ``autocast`` computes in 16 bits there."""
    return precision in AUTOCAST_DTYPES and has_fast_precision(device, precision)


@cache
def has_fast_precision(device: torch.device, precision: str) -> bool:
    """False on a device that emulates the precision: float32 is used there, more exact and many times as fast.

    Measured for mobilenetv2 on a processor with AVX2 only: 90 training images/s in float32, 5.4 in bfloat16. GPUs before
    Ampere (T4, V100) have float16 and no bfloat16.
    """
    if precision == "float32":
        return True
    if device.type == "cuda" and precision == "bfloat16":
        with torch.cuda.device(device) if torch.cuda.device_count() > 1 else nullcontext():
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type != "cpu" or _cpu_has(precision)


def _cpu_has(precision: str) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    asked = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}[precision]
    return bool(getattr(torch.ops.mkldnn, asked)())


def normalize_batch(images_BCHW: Tensor, pixels: PixelStatistics) -> Tensor:
    """uint8 or [0, 1] float images -> normalised float32."""
    factor = 1.0 / 255.0 if images_BCHW.dtype == torch.uint8 else 1.0
    return (images_BCHW.float() * factor - pixels.mean_1311) / pixels.std_1311


def to_device(images_BHWC: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3) array -> uint8 (B, 3, H, W) tensor in channels_last order, without a copy on a CPU."""
    images = torch.from_numpy(images_BHWC)
    if device.type == "cuda":
        # Contiguous first: pinning a view would pin the whole array that it is a view of.
        images = images.contiguous().pin_memory().to(device, non_blocking=True)
    return images.permute(0, 3, 1, 2)
