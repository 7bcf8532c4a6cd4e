"""Laws of the network that is asked: the answers of the trained one; BatchNorms are folded only behind a convolution."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from hectocar.config.schema import NetworkConfig
from hectocar.network.carnet import CarNet
from hectocar.network.folding import fold_batchnorms, prepare_inference


def make_trained(backbone: str, size_px: int = 96) -> CarNet:
    """A network whose BatchNorms have statistics and weights that are not neutral."""
    torch.manual_seed(0)
    network = CarNet(NetworkConfig(backbone=backbone, weights="none"), 5).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for _ in range(3):
            network(torch.randn(4, 3, size_px, size_px))
    return network


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


FOLDED = ["mobilenetv2_100", "efficientnet_b0", "tf_efficientnet_lite0", "resnet18", "regnetx_002", "repvgg_a0"]


@pytest.mark.parametrize("backbone", FOLDED)
def test_a_folded_network_gives_the_same_logits_and_embeddings(backbone: str) -> None:
    """Within the rounding of float32, without BatchNorms but those that follow no convolution; the network is left alone."""
    network = make_trained(backbone)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    ready = prepare_inference(network, "float32")
    images = torch.randn(3, 3, 96, 96)
    assert network.training
    assert not ready.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    with torch.no_grad():
        expected, found = network.eval()(images), ready(images)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    identities = sum(name.endswith("identity") for name, _ in network.backbone.named_modules())  # a BatchNorm alone, in RepVGG
    assert count_norms(ready.backbone) == identities


class _Odd(nn.Module):
    """A convolution and a BatchNorm that must not be folded: ``how`` says why."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.conv(images)
        if self.how == "activation between":
            return self.norm(maps.relu_())
        if self.how == "norm of something else":
            return self.norm(images) + maps
        if self.how == "convolution used twice":
            return self.norm(self.conv(maps))
        return self.norm(self.norm(maps))


@pytest.mark.parametrize("how", ["activation between", "norm of something else", "convolution used twice", "norm used twice"])
def test_what_cannot_be_folded_is_left(how: str) -> None:
    """An activation in place, another input, a shared layer: nothing changes."""
    network = _Odd(how).eval()
    assert fold_batchnorms(network, torch.randn(1, 3, 8, 8)) == 0
    assert isinstance(network.norm, nn.BatchNorm2d)


def test_a_wrong_fold_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folded network answers otherwise, the network is asked unfolded."""
    network = make_trained("test_resnet")
    monkeypatch.setattr(
        "hectocar.network.folding.fold_batchnorms", lambda network, _: network.backbone.conv1[0].weight.mul_(2.0)
    )
    assert count_norms(prepare_inference(network, "float32").backbone) == count_norms(network.backbone)


def test_layers_that_standardise_their_weight_are_left() -> None:
    """timm's ScaledStdConv is a subclass that uses its weight otherwise."""
    network = timm.create_model("resnetv2_50x1_bit", pretrained=False, num_classes=0).eval()
    assert fold_batchnorms(network, torch.randn(1, 3, 64, 64)) == 0


def test_folding_leaves_the_dtype_of_the_answer() -> None:
    """In bfloat16 the folded network is asked as the other: logits in float32, near its own."""
    network = make_trained("mobilenetv2_100")
    ready = prepare_inference(copy.deepcopy(network), "bfloat16")
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = ready(images)[0]
    assert logits.dtype == torch.float32
    with torch.no_grad():
        expected = network.eval()(images)[0]
    assert float((logits.softmax(1) - expected.softmax(1)).abs().max()) < 0.05
