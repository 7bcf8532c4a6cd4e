"""Laws of a step's gradients: parts add up to the whole, the sharpness-aware step is the paper's, layers decay by depth."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hectocar.config.schema import NetworkConfig, TrainingConfig
from hectocar.network.carnet import CarNet
from hectocar.training.optimizer import accumulate_gradients, build_optimizer, set_learning_rates, step_uphill


def make_problem() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    return network, (torch.randn(10, 5), torch.randint(0, 3, (10,)))


def read_gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("num_chunks", [1, 2, 3, 4, 10])
def test_chunks_accumulate_to_the_whole_batch(num_chunks: int) -> None:
    """Any split, even or not, gives the loss and the gradients of the batch in one piece."""
    network, tensors = make_problem()

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(network(images), labels)

    whole = loss_of(*tensors)
    whole.backward()
    expected = read_gradients(network)
    network.zero_grad()
    loss = accumulate_gradients(loss_of, tensors, num_chunks, lambda value: value)
    assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-6)
    for gradient, wanted in zip(read_gradients(network), expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_the_sharpness_aware_gradient_is_that_at_the_point_uphill() -> None:
    """Parity with Foret et al., eq. 2, on a copy moved by hand; the weights come back to the bit."""
    network, (images, labels) = make_problem()
    before = copy.deepcopy(network.state_dict())
    F.cross_entropy(network(images), labels).backward()
    gradients = read_gradients(network)
    norm = sum(float((g * g).sum()) for g in gradients) ** 0.5
    moved = copy.deepcopy(network)
    with torch.no_grad():
        for parameter, gradient in zip(moved.parameters(), gradients, strict=True):
            parameter += 0.3 * gradient / norm
    moved.zero_grad()
    F.cross_entropy(moved(images), labels).backward()
    with step_uphill(network, 0.3):
        assert all(parameter.grad is None for parameter in network.parameters())
        F.cross_entropy(network(images), labels).backward()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    for gradient, wanted in zip(read_gradients(network), read_gradients(moved), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_the_step_uphill_leaves_the_running_statistics() -> None:
    """BatchNorm has seen the batch already: its statistics are those of the first pass, its momentum comes back."""
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    images = torch.randn(8, 4)
    network(images).sum().backward()
    before = {name: tensor.clone() for name, tensor in network[1].named_buffers() if tensor.is_floating_point()}
    with step_uphill(network, 0.1):
        network(images * 3.0).sum().backward()
    assert all(torch.equal(before[name], dict(network[1].named_buffers())[name]) for name in before)
    assert network[1].momentum == 0.1


def test_layer_decay_slows_the_early_layers() -> None:
    """Every parameter is in one group; rates rise with depth up to the full one, and the head is not slowed."""
    network = CarNet(NetworkConfig(backbone="mobilenetv2_035", weights="none", drop_path_max=0.0), 4)
    optimizer = build_optimizer(network, TrainingConfig(layer_decay=0.5))
    counted = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(counted) == sorted(id(parameter) for parameter in network.parameters())
    set_learning_rates(optimizer, 1.0, 5.0)
    rate_of = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    stem, last = network.backbone.conv_stem.weight, network.backbone.conv_head.weight
    assert rate_of[id(stem)] < 0.01 < 0.2 < rate_of[id(last)] <= 1.0
    assert rate_of[id(network.head.centers)] == 5.0
    plain = build_optimizer(network, TrainingConfig())
    assert len(plain.param_groups) == 4
