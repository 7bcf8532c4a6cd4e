"""The loss of a training step, compiled: one graph per picture size, whatever the schedule's numbers are."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hectocar.errors import ConfigError
from hectocar.network.carnet import CarNet

MAX_GRAPHS = 64
"""Compiled forms of the loss in one process: sizes x shapes of networks."""


def compile_loss(network: CarNet, backend: str | Callable[..., Any] = "inductor") -> Callable[..., Tensor]:
    """``CarNet.compute_loss``, compiled once per input shape, so pass whole batches only.

    The numbers of the schedule reach the graph as tensors of no dimension: another margin compiles nothing.

    Raises:
        ConfigError: torch.compile would need a C compiler and there is none; later, when called: too many forms.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "gcc", "clang")):
        raise ConfigError("network.compile needs a C compiler (gcc or clang) on the PATH; or --set network.compile=false")
    compiled: Callable[..., Tensor] = torch.compile(network.compute_loss, dynamic=False, backend=backend)

    def call(*tensors: Tensor, margin_rad: float, label_smoothing: float) -> Tensor:
        if margin_rad != 0.0 and not network.head.has_margin:
            raise ValueError(f"margin_rad is {margin_rad}; allowed with this head: 0")
        margin, smoothing = (torch.tensor(number, dtype=torch.float64) for number in (margin_rad, label_smoothing))
        # All networks of a process share one limit. Past it torch would go on in eager mode without a word.
        with torch._dynamo.config.patch(recompile_limit=MAX_GRAPHS, fail_on_recompile_limit_hit=True):
            try:
                return compiled(*tensors, margin_rad=margin, label_smoothing=smoothing)
            except torch._dynamo.exc.FailOnRecompileLimitHit as error:
                raise ConfigError(
                    f"network.compile: this process would need more than {MAX_GRAPHS} compiled forms of the training step; "
                    "train fewer variants or sizes in one process, or --set network.compile=false"
                ) from error

    return call
