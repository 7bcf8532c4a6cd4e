"""Files of tensors written while training goes on: one after the other, in the order in which they were asked for."""

import copy
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from hectocar.network.weights import save_tensors


class TensorWriter:
    """Saves in the background for a GPU, which would stand still for seconds at each checkpoint, and at once for a processor.

    In the background a file holds what the tensors and the state were at the call; there the snapshot costs host memory that
    a GPU's machine has, while on a processor it would double what training takes. At most one file is under way, so the disk
    never shows a later file without all earlier ones. As a context it ends with everything written.
    """

    def __init__(self, background: bool) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save") if background else None
        self._under_way: Future[None] | None = None

    @classmethod
    def for_device(cls, device: torch.device) -> Self:
        """The one place that decides who saves in the background."""
        return cls(background=device.type == "cuda")

    def save(self, path: Path, tensors: dict[str, Tensor], state: Any) -> None:
        """See ``save_tensors``.

        Raises:
            WriteError: This file could not be written or, in the background, the one before.
        """
        self.wait()
        if self._pool is None:
            save_tensors(path, tensors, state)
            return
        snapshot = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self._under_way = self._pool.submit(save_tensors, path, snapshot, copy.deepcopy(state))

    def wait(self) -> None:
        """Until all files are on the disk.

        Raises:
            WriteError: One could not be written.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True)
