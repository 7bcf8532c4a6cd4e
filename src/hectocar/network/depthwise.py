"""Fast gradients for depthwise convolutions on a CPU, where oneDNN falls back to reference kernels.

The input gradient of strided ones: with 32 x 96 x 64 x 64 in bfloat16 that of a 3x3 stride-2 convolution takes 89 ms, while
the forward pass takes 2.4 ms; the four such layers of mobilenetv2 are half of a training step. The same gradient is a
stride-1 depthwise convolution of the gradient spread out with zeros (Dumoulin & Visin 2016, "A guide to convolution
arithmetic", 4.5), which has a fast kernel.

The weight gradient of kernels above 3x3 in bfloat16 or float16: 46 ms at 32 x 672 x 10 x 10 and 5x5, against 1 ms forward; such
layers are a third of a step of EfficientNet-B0. Each tap of a weight gradient is a product of the gradient with the input
moved by that tap, so a larger kernel's is made of 3x3 ones, which have a fast kernel, with inputs cut at other places.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TILE = 3
"""Side of the largest kernel whose weight gradient is fast in half precision."""
_HALF = (torch.bfloat16, torch.float16)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride = stride
        return F.conv2d(images, weight, None, stride, weight.shape[2] // 2, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        grad_images = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_images = compute_input_grad(grad, weight, images.shape, ctx.stride)
        if ctx.needs_input_grad[1]:
            tiled = weight.shape[2] > _TILE and images.dtype in _HALF
            compute = tile_weight_grad if tiled else compute_weight_grad
            grad_weight = compute(grad, images, weight.shape[2], ctx.stride, weight.shape[2] // 2)
        return grad_images, grad_weight, None


def compute_input_grad(grad: Tensor, weight: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """Gradient of the input (B, C, H, W) of a half-padded depthwise convolution, as a convolution of stride 1."""
    batch, channels, height, width = shape
    side = weight.shape[2]
    if stride > 1:
        # With half padding output i is centred on input stride * i. Channels last: whole rows of memory are copied.
        spread_BHWC = grad.new_zeros(batch, height, width, channels)
        spread_BHWC[:, ::stride, ::stride] = grad.permute(0, 2, 3, 1)
        grad = spread_BHWC.permute(0, 3, 1, 2)
    return F.conv2d(grad, weight.flip(2, 3), None, 1, side // 2, 1, channels)


def compute_weight_grad(grad: Tensor, images: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """Gradient (C, 1, side, side) of the weight, by torch's own kernel."""
    channels = images.shape[1]
    shape_only = images.new_empty(channels, 1, side, side)
    gradients = torch.ops.aten.convolution_backward(
        grad, images, shape_only, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], channels, [False, True, False]
    )
    result: Tensor = gradients[1]
    return result


def tile_weight_grad(grad: Tensor, images: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """As ``compute_weight_grad``, of 3x3 tiles; the last ones overlap where 3 does not divide the side."""
    height, width = ((length - 1) * stride + side for length in grad.shape[2:])  # what the kernel passes over
    below, right = height - images.shape[2] - padding, width - images.shape[3] - padding
    padded_BHWC = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, right, padding, below))
    result = images.new_empty(images.shape[1], 1, side, side)
    starts = [min(start, side - _TILE) for start in range(0, side, _TILE)]
    rest = side - _TILE
    for top in starts:
        for left in starts:
            part = padded_BHWC[:, top : top + height - rest, left : left + width - rest].contiguous().permute(0, 3, 1, 2)
            tile = compute_weight_grad(grad, part, _TILE, stride, 0)
            result[:, :, top : top + _TILE, left : left + _TILE] = tile
    return result


class DepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d with the same parameters and result, and the faster gradients where the input is on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if self.stride[0] == 1 and dtype not in _HALF:
            return super().forward(input)
        input, weight = input.to(dtype), self.weight.to(dtype)
        output: Tensor = _Depthwise.apply(input, weight, self.stride[0])
        return output if self.bias is None else output + self.bias.to(output.dtype).view(1, -1, 1, 1)


def is_replaceable(module: nn.Module) -> bool:
    """Square odd kernel, half padding, one output per channel, no dilation; stride 2 or more, or larger than 3x3."""
    if type(module) is not nn.Conv2d or isinstance(module.padding, str) or module.padding_mode != "zeros":
        return False
    side = module.kernel_size[0]
    return (
        module.groups == module.in_channels == module.out_channels > 1
        and module.stride[0] == module.stride[1]
        and (module.stride[0] > 1 or side > _TILE)
        and module.kernel_size[1] == side
        and side % 2 == 1
        and module.padding == (side // 2, side // 2)
        and module.dilation == (1, 1)
    )


def speed_up_depthwise(network: nn.Module) -> int:
    """Gives every depthwise convolution that oneDNN is slow at the fast gradients, in place; parameters and their names stay.

    Returns:
        How many were changed.
    """
    count = 0
    for module in network.modules():
        if is_replaceable(module):
            module.__class__ = DepthwiseConv2d
            count += 1
    return count


def breaks_channels_last(network: nn.Module) -> bool:
    """Whether training in channels-last order on a CPU would corrupt memory: MobileOne, FastViT and their like.

    Networks with depthwise convolutions of one pixel end in "free(): invalid pointer" or "corrupted double-linked list" in
    the backward pass of oneDNN (torch 2.11 to 2.15); in plain order they train well.
    """
    return any(
        isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == module.in_channels > 1
        for module in network.modules()
    )
