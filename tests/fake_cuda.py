"""CUDA without a GPU: fake tensors have shapes, types and devices but no numbers, and every operation on them is counted.

What they show: which device and type each operation has (two devices in one operation raise), how many operations and copies a
step sends, and where the host would wait. An operation whose result the host must know before it can go on (``item``,
``nonzero``, a choice by mask) raises: there is no number to be had.
What they cannot show: a kernel's result, its time, or a compiled graph.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Network = TypeVar("Network", bound=nn.Module)
CUDA = torch.device("cuda", 0)
MATMULS = ("convolution", "mm", "addmm", "bmm", "baddbmm", "convolution_backward")
_NO_LAUNCH = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh")


@dataclass(frozen=True)
class Copy:
    """A copy from the host to the device."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    waits: bool
    """From pageable memory, or not asked to go on: the host waits until all that was sent before is done."""


@dataclass(frozen=True)
class Operand:
    """A type and a shape that an operation on the device gave."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass
class DeviceWork:
    """What a piece of a program asked of the device."""

    operations: Counter[str] = field(default_factory=Counter)
    """By name; views and allocations launch nothing and are left out, copies from the host count."""
    copies: list[Copy] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    """Copies to the host."""
    outputs: set[Operand] = field(default_factory=set)

    @property
    def num_operations(self) -> int:
        return sum(self.operations.values())

    @property
    def num_waits(self) -> int:
        return len(self.waits) + sum(copy.waits for copy in self.copies)


class CountDeviceWork(TorchDispatchMode):
    """A context that fills a ``DeviceWork``; used inside of ``fake_cuda``."""

    def __init__(self, pinned: "PinnedMemory") -> None:
        super().__init__()
        self.pinned = pinned
        self.work = DeviceWork()

    def __enter__(self) -> DeviceWork:
        super().__enter__()
        return self.work

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func.namespace == "prim":  # questions, not operations
            return func(*args, **kwargs)
        with self:  # outside of autograd an operation that is made of others comes whole
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        wants_pinned = bool(kwargs.pop("pin_memory", None))
        out = func(*args, **kwargs)
        if wants_pinned:
            self.pinned.add(out)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if any(tensor.device.type == "cuda" for tensor in (*given, *made)):
            self._note(func._schema, args, kwargs, given, made)
        return out

    def _note(
        self, schema: Any, args: Sequence[Any], kwargs: Mapping[str, Any], given: list[Tensor], made: list[Tensor]
    ) -> None:
        name = schema.name.split("::")[1]
        is_view = any(result.alias_info is not None and not result.alias_info.is_write for result in schema.returns)
        if is_view or name in _NO_LAUNCH:
            return
        self.work.operations[name] += 1
        self.work.outputs |= {Operand(name, tensor.dtype, tuple(tensor.shape)) for tensor in made}
        if name in ("_to_copy", "copy_"):
            source, target = (args[1], args[0]) if name == "copy_" else (args[0], made[0])
            if target.device.type == "cuda" and source.device.type == "cpu":
                goes_on = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
                waits = not (goes_on and source in self.pinned)
                self.work.copies.append(Copy(tuple(source.shape), source.dtype, waits))
            elif target.device.type == "cpu" and source.device.type == "cuda":
                self.work.waits.append(f"to the host {tuple(source.shape)}")


class PinnedMemory:
    """The storages that stand for page-locked memory; held, so that no later one has the same address."""

    def __init__(self) -> None:
        self._held: list[Tensor] = []
        self._keys: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        self._held.append(tensor)
        self._keys.add(tensor.untyped_storage()._cdata)

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._keys


class FakeCuda:
    """What ``fake_cuda`` yields."""

    def __init__(self) -> None:
        self.pinned = PinnedMemory()

    def count(self) -> CountDeviceWork:
        return CountDeviceWork(self.pinned)

    def build(self, make: Callable[[], Network]) -> Network:
        """A network with fake weights on the fake GPU, in their own memory format; real ones would take seconds to draw."""
        with unset_fake_temporarily(), torch.device("meta"):
            network = make()
        network.to_empty(device=CUDA)
        return network


def backward(loss: Tensor) -> None:
    """``loss.backward()``, node by node: torch's own engine asks the driver for a context of the device, and there is none."""
    assert loss.grad_fn is not None
    waiting: Counter[Any] = Counter()
    found, seen = [loss.grad_fn], {loss.grad_fn}
    for node in found:
        for following, _ in node.next_functions:
            if following is not None:
                waiting[following] += 1
                if following not in seen:
                    seen.add(following)
                    found.append(following)
    gradients: dict[Any, list[Tensor | None]] = {loss.grad_fn: [torch.ones_like(loss)]}
    ready = [loss.grad_fn]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            if hasattr(node, "variable"):
                _keep(node.variable, *gradients.pop(node))
                continue
            results = node(*gradients.pop(node))
            results = results if isinstance(results, tuple) else (results,)
            for (following, place), gradient in zip(node.next_functions, results, strict=False):
                if following is None:
                    continue
                own = gradients.setdefault(following, [None] * len(following._input_metadata))
                if gradient is not None:
                    gradient = _fit(gradient, following._input_metadata[place])
                    before = own[place]
                    own[place] = gradient if before is None else before + gradient
                waiting[following] -= 1
                if waiting[following] == 0:
                    ready.append(following)


def _keep(parameter: Tensor, gradient: Tensor | None) -> None:
    """As the engine does at the end: a gradient in the parameter's own layout is kept as it is, any other is copied into it."""
    if parameter.grad is not None:
        parameter.grad.add_(gradient)
    elif gradient is not None:
        same = gradient.stride() == parameter.stride()
        parameter.grad = gradient.detach() if same else torch.empty_like(parameter).copy_(gradient)


def _fit(gradient: Tensor, wanted: Any) -> Tensor:
    """As the engine does between nodes: sums what was broadcast, and takes the input's type."""
    if gradient.shape != wanted.shape:
        gradient = gradient.sum_to_size(wanted.shape)
    return gradient if gradient.dtype == wanted.dtype else gradient.to(wanted.dtype)


@contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """Inside, tensors are fake, and the program believes in a GPU that has bfloat16."""
    fake = FakeCuda()
    to_numpy = Tensor.numpy

    def pin(tensor: Tensor) -> Tensor:
        pinned = tensor.clone()
        fake.pinned.add(pinned)
        return pinned

    def read(tensor: Tensor, **options: Any) -> NDArray[Any]:
        if not isinstance(tensor, FakeTensor):
            return to_numpy(tensor, **options)
        assert tensor.device.type == "cpu", "a tensor on the device has no numpy()"
        return np.zeros(tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))

    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        patch.setattr(Tensor, "pin_memory", pin)
        patch.setattr(Tensor, "numpy", read)
        patch.setattr(Tensor, "backward", backward)
        patch.setattr("torch.utils._foreach_utils._foreach_supported_types", [Tensor, nn.Parameter, FakeTensor])
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        patch.setattr("torch.cuda.is_bf16_supported", lambda *args, **options: True)
        patch.setattr("hectocar.network.arithmetic.has_fast_precision", lambda device, precision: True)
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        yield fake
