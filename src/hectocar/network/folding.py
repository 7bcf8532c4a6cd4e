"""Networks as they are asked: the BatchNorm behind a convolution becomes part of it, which saves a pass over every map.

Validation, out-of-fold and prediction ask the same, so that what was validated is what is served.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hectocar.network.arithmetic import is_half
from hectocar.network.carnet import CarNet
from hectocar.network.depthwise import DepthwiseConv2d
from hectocar.network.exact import use_exact_float32

_FOLDABLE = (nn.Conv2d, DepthwiseConv2d, Conv2dSame)
"""Convolutions that use their weight as it is; subclasses may standardise it first."""
_TOLERANCE = 1e-3
"""Of the embeddings' largest number, between the two networks: a fold in the wrong place changes them by much more."""


@torch.no_grad()
def prepare_inference(network: CarNet, precision: str) -> CarNet:
    """A copy to ask: in evaluation mode, with folded BatchNorms, and plain attention where that is faster.

    Args:
        network: Is left as it is.
        precision: See ``training.precision``.
    """
    own = copy.deepcopy(network).eval().requires_grad_(False)
    device = next(own.parameters()).device
    use_exact_float32(device)
    if device.type == "cpu" and is_half(device, precision):
        use_plain_attention(own)
    if not any(isinstance(module, nn.BatchNorm2d) for module in own.backbone.modules()):
        return own
    folded = copy.deepcopy(own)
    images = torch.rand(1, 3, *own.own_size(), generator=torch.Generator().manual_seed(0)).to(device)
    fold_batchnorms(folded, images)
    expected, found = own(images)[1], folded(images)[1]
    return folded if float((found - expected).abs().max()) <= _TOLERANCE * float(expected.abs().max()) else own


def fold_batchnorms(network: nn.Module, images_BCHW: Tensor) -> int:
    """Folds, in place, every BatchNorm whose input is what a convolution gives.

    Args:
        network: In evaluation mode.
        images_BCHW: Are passed through it, to see which convolution stands before which BatchNorm.

    Returns:
        How many were folded.
    """
    with _watch(network) as pairs:
        network(images_BCHW)
    names = {module: name for name, module in network.named_modules()}
    for norm, conv in pairs.items():
        plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps, affine=norm.affine).to(conv.weight.device).eval()
        plain.load_state_dict(norm.state_dict())
        # timm's BatchNorm has the activation inside.
        _replace(network, names[norm], getattr(norm, "act", None) or nn.Identity())
        _replace(network, names[conv], fuse_conv_bn_eval(conv, plain))
    return len(pairs)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    place, _, last = name.rpartition(".")
    setattr(network.get_submodule(place), last, module)


@contextmanager
def _watch(network: nn.Module) -> Iterator[dict[Any, Any]]:
    """Collects {BatchNorm: its convolution} of the forward passes inside, where each of the two is called once."""
    given: dict[int, tuple[nn.Module, Tensor, int]] = {}  # holds the tensors, or a number could come twice
    pairs: dict[Any, Any] = {}
    calls: dict[nn.Module, int] = {}

    def note_output(conv: nn.Module, _: Any, output: Tensor) -> None:
        calls[conv] = calls.get(conv, 0) + 1
        given[id(output)] = conv, output, output._version

    def note_input(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        calls[norm] = calls.get(norm, 0) + 1
        conv, _, version = given.get(id(args[0]), (None, None, None))
        if conv is not None and args[0]._version == version:  # an activation in place would stand between
            pairs[norm] = conv

    handles = []
    for module in network.modules():
        if type(module) in _FOLDABLE:
            handles.append(module.register_forward_hook(note_output))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(note_input))
    try:
        yield pairs
    finally:
        for handle in handles:
            handle.remove()
        for norm, conv in list(pairs.items()):
            if calls[norm] > 1 or calls[conv] > 1:
                del pairs[norm]


def use_plain_attention(network: nn.Module) -> int:
    """Lets timm's attention be products and a softmax instead of torch's fused function.

    The fused one is slow on a processor in half precision: 30 ms forward and backward a layer of ViT-Tiny (batch 32, 160 px,
    bfloat16) against 9, a third of a step; in float32 they are alike. The scores are kept, as the memory plan counts.

    Returns:
        How many layers were changed.
    """
    layers: list[Any] = [module for module in network.modules() if getattr(module, "fused_attn", False) is True]
    for layer in layers:
        layer.fused_attn = False
    return len(layers)
