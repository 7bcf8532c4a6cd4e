"""Laws of the fast depthwise convolution: nn.Conv2d is the reference, in values, gradients and files."""

import copy
import io
import subprocess
import sys

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hectocar.network.depthwise import (
    DepthwiseConv2d,
    breaks_channels_last,
    compute_input_grad,
    is_replaceable,
    speed_up_depthwise,
    tile_weight_grad,
)

CHANNELS = 3


def make_pair(side: int, stride: int, *, bias: bool = True) -> tuple[nn.Conv2d, DepthwiseConv2d]:
    """torch's convolution and ours with the same float64 parameters."""
    torch.manual_seed(side * 10 + stride)
    plain = nn.Conv2d(CHANNELS, CHANNELS, side, stride, side // 2, groups=CHANNELS, bias=bias).double()
    fast = copy.deepcopy(plain)
    assert speed_up_depthwise(nn.Sequential(fast)) == 1
    assert isinstance(fast, DepthwiseConv2d)
    return plain, fast


def run(layer: nn.Conv2d, images: Tensor) -> list[Tensor]:
    """Output and the gradients of a weighted sum of it, in float64: of the images, then of each parameter."""
    layer.zero_grad()
    images = images.clone().requires_grad_()
    output = layer(images)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    (output.double() * weights).sum().backward()
    grads = [images.grad, *(parameter.grad for parameter in layer.parameters())]
    return [tensor.detach().double() for tensor in (output, *grads) if tensor is not None]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (9, 9), (7, 10), (10, 7), (12, 5), (1, 1), (2, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [3, 5, 7])
def test_equals_torch_in_float64(side: int, stride: int, size: tuple[int, int], bias: bool) -> None:
    """Output and the gradients of images, weight and bias equal nn.Conv2d's, for odd, even and tiny sizes."""
    if side == 3 and stride == 1:
        return  # oneDNN is fast there
    plain, fast = make_pair(side, stride, bias=bias)
    images = torch.randn(2, CHANNELS, *size, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        own, expected = run(fast, images.to(memory_format=layout)), run(plain, images)
        assert len(own) == (4 if bias else 3)
        for ours, torchs in zip(own, expected, strict=True):
            torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


def test_the_gradient_is_the_numerical_one() -> None:
    """Finite differences in float64 agree, without nn.Conv2d as a witness."""
    _, fast = make_pair(3, 2)
    images = torch.randn(1, CHANNELS, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fast, images)


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (7, 10), (12, 5), (1, 1), (2, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [3, 5, 7, 9, 13])
def test_tiles_make_the_weight_gradient(side: int, stride: int, size: tuple[int, int]) -> None:
    """In float64 the tiled gradient, which half precision takes, equals torch's, and so does the input's at stride 1."""
    generator = torch.Generator().manual_seed(side + stride)
    images = torch.randn(2, CHANNELS, *size, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(CHANNELS, 1, side, side, dtype=torch.float64, generator=generator, requires_grad=True)
    output = F.conv2d(images, weight, None, stride, side // 2, 1, CHANNELS)
    grad = torch.randn(output.shape, dtype=torch.float64, generator=generator)
    expected_images, expected_weight = torch.autograd.grad(output, [images, weight], grad)
    with torch.no_grad():
        own_weight = tile_weight_grad(grad, images, side, stride, side // 2)
        own_images = compute_input_grad(grad, weight, images.shape, stride)
    torch.testing.assert_close(own_weight, expected_weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own_images, expected_images, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["images", "weight"])
def test_a_gradient_that_is_not_needed_is_not_computed(frozen: str) -> None:
    """Frozen images (a first layer) or a frozen weight get no gradient, and the other's is right."""
    plain, fast = make_pair(3, 2)
    for layer in (plain, fast):
        layer.weight.requires_grad_(frozen != "weight")
    images = torch.randn(2, CHANNELS, 9, 9, dtype=torch.float64)
    grads = []
    for layer in (plain, fast):
        own = images.clone().requires_grad_(frozen != "images")
        layer(own).square().sum().backward()
        grads.append(layer.weight.grad if frozen == "images" else own.grad)
        assert (own.grad if frozen == "images" else layer.weight.grad) is None
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("side", "stride"), [(3, 2), (5, 1), (5, 2), (7, 1)])
def test_is_close_under_autocast(dtype: torch.dtype, side: int, stride: int) -> None:
    """Under autocast the type is that of nn.Conv2d, and the values agree within the type's rounding."""
    plain, fast = (layer.float() for layer in make_pair(side, stride))
    images = torch.randn(2, CHANNELS, 16, 16)
    with torch.autocast("cpu", dtype):
        assert fast(images).dtype == plain(images).dtype == dtype
        own, expected = run(fast, images), run(plain, images)
    for ours, torchs in zip(own, expected, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=0.02, atol=0.02 * float(torchs.abs().max()))


def test_without_gradients_it_is_torchs_own() -> None:
    """Inference takes nn.Conv2d's own path: the same bits."""
    plain, fast = (layer.float() for layer in make_pair(5, 2))
    images = torch.randn(2, CHANNELS, 11, 11)
    with torch.inference_mode():
        assert torch.equal(fast(images), plain(images))


REFUSED = {
    "dilation": nn.Conv2d(4, 4, 3, 2, 1, dilation=2, groups=4),
    "stride 1": nn.Conv2d(4, 4, 3, 1, 1, groups=4),
    "unequal strides": nn.Conv2d(4, 4, 3, (2, 1), 1, groups=4),
    "not depthwise": nn.Conv2d(4, 4, 3, 2, 1, groups=2),
    "two outputs per channel": nn.Conv2d(4, 8, 3, 2, 1, groups=4),
    "one channel": nn.Conv2d(1, 1, 3, 2, 1),
    "no padding": nn.Conv2d(4, 4, 3, 2, 0, groups=4),
    "string padding": nn.Conv2d(4, 4, 3, 2, "valid", groups=4),
    "reflected padding": nn.Conv2d(4, 4, 3, 2, 1, groups=4, padding_mode="reflect"),
    "even kernel": nn.Conv2d(4, 4, 4, 2, 2, groups=4),
    "oblong kernel": nn.Conv2d(4, 4, (3, 5), 2, (1, 2), groups=4),
    "done already": DepthwiseConv2d(4, 4, 3, 2, 1, groups=4),
    "no convolution": nn.Linear(4, 4),
    "transposed": nn.ConvTranspose2d(4, 4, 3, 2, 1, groups=4),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_gradient_does_not_cover_is_left_alone(name: str) -> None:
    """Dilation, other paddings, other shapes and subclasses with an own forward keep their class."""
    layer = REFUSED[name]
    assert not is_replaceable(layer)
    assert speed_up_depthwise(nn.Sequential(copy.deepcopy(layer))) == 0


def test_a_backbone_keeps_its_names_and_values() -> None:
    """mobilenetv2_100 has four such layers; state_dict, a deep copy and a file of plain tensors are as before."""
    plain = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0)
    fast = copy.deepcopy(plain)
    assert speed_up_depthwise(fast) == 4
    assert speed_up_depthwise(fast) == 0, "nothing is left to do"
    own, expected = fast.state_dict(), plain.state_dict()
    assert list(own) == list(expected)
    assert all(torch.equal(own[name], tensor) for name, tensor in expected.items())
    file = io.BytesIO()
    torch.save(fast.state_dict(), file)
    file.seek(0)
    plain.load_state_dict(torch.load(file, weights_only=True))
    twin = copy.deepcopy(fast).train()
    assert sum(isinstance(module, DepthwiseConv2d) for module in twin.modules()) == 4
    images = torch.randn(2, 3, 32, 32)
    for network in (fast.eval(), twin.eval()):
        output = network(images)
        torch.testing.assert_close(output, plain.eval()(images), rtol=1e-4, atol=1e-5)
        output.sum().backward()
    grads = [[parameter.grad for parameter in network.parameters()] for network in (fast, twin)]
    assert all(ours is not None and torch.equal(ours, theirs) for ours, theirs in zip(*grads, strict=True))


TRAIN = """
import sys
sys.path[:0] = sys.argv[2:]
import torch
from hectocar.config.schema import NetworkConfig
from hectocar.network.carnet import CarNet
network = CarNet(NetworkConfig(backbone=sys.argv[1], weights="none", drop_path_max=0.0), 3).train()
images = torch.rand(4, 3, 96, 96).to(memory_format=torch.channels_last)
labels, shares = torch.zeros(4, 1, dtype=torch.int64), torch.ones(4, 1)
for _ in range(4):
    network.compute_loss(images, labels, shares, margin_rad=0.1, label_smoothing=0.0).backward()
"""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobileone_s0", "fastvit_t8"])
def test_backbones_that_corrupted_memory_train(backbone: str) -> None:
    """oneDNN's backward pass of these in channels-last order ended the process; a training goes through."""
    subprocess.run([sys.executable, "-c", TRAIN, backbone, *sys.path], check=True, timeout=600)


def test_one_pixel_depthwise_convolutions_are_known_by_their_shape() -> None:
    """They alone ask for plain order: 1 x 1, an input channel for each group, whatever the number of outputs."""
    assert breaks_channels_last(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1, groups=4)))
    assert breaks_channels_last(nn.Conv2d(4, 8, 1, 2, groups=4))
    for other in (
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 8, 1),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Conv2d(1, 8, 1),
    ):
        assert not breaks_channels_last(other)
