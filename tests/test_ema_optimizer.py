"""Laws of the average and the optimizer: plain loops are the reference."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from hectocar.config.schema import NetworkConfig, TrainingConfig
from hectocar.network.carnet import CarNet
from hectocar.training.ema import WeightAverage
from hectocar.training.optimizer import build_optimizer, clip_gradients, set_learning_rates
from tiny import make_config


def make_network(**changes: object) -> CarNet:
    torch.manual_seed(0)
    return CarNet(NetworkConfig(backbone="test_efficientnet", weights="none", neck="batchnorm", **changes), 4)  # type: ignore[arg-type]


def iter_moved(network: CarNet, num_steps: int) -> Iterator[CarNet]:
    """The network after each of some forward passes (which move BatchNorm's statistics) and random moves of its weights."""
    generator = torch.Generator().manual_seed(1)
    network.train()
    for _ in range(num_steps):
        with torch.no_grad():
            network(torch.rand(4, 3, 32, 32, generator=generator))
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        yield network


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_equals_a_slow_loop(decay: float) -> None:
    """After step t every float moves by 1 - min(decay, (1 + t) / (10 + t)), buffers too; counters are copied."""
    network = make_network()
    average = WeightAverage(network, decay)
    expected = {name: tensor.double() for name, tensor in copy.deepcopy(network).state_dict().items()}
    for t, moved in enumerate(iter_moved(network, 12), start=1):
        average.update(moved)
        keep = min(decay, (1 + t) / (10 + t))
        for name, tensor in moved.state_dict().items():
            expected[name] = keep * expected[name] + (1.0 - keep) * tensor.double()
    assert average.num_updates == 12
    state = average.network.state_dict()
    buffers = [name for name in state if name.endswith("running_var")]
    assert len(buffers) > 5
    assert any(not torch.equal(state[name], torch.ones_like(state[name])) for name in buffers)
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            assert int(tensor) == int(network.state_dict()[name]) == 12
        else:
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_the_average_is_a_network_at_rest() -> None:
    """It is a copy in eval mode without gradients, and updating it leaves the network as it was."""
    network = make_network().train()
    average = WeightAverage(network, 0.9)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    average.update(network)
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    shared = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert not any(tensor.data_ptr() in shared for tensor in average.network.state_dict().values())


def test_the_average_of_constant_weights_is_those_weights() -> None:
    """A network that does not move has itself as its average, to the last bit."""
    network = make_network()
    average = WeightAverage(network, 0.99)
    for _ in range(5):
        average.update(network)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in average.network.state_dict().items())


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_bad_decay_is_refused(decay: float) -> None:
    """The error states the allowed range."""
    with pytest.raises(ValueError, match=r"decay is .*; allowed: between 0 and 1"):
        WeightAverage(make_network(), decay)


@pytest.mark.parametrize("changes", [{}, {"pool_stages": 2}, {"head": "softmax", "pool": "avg"}])
def test_every_parameter_is_in_exactly_one_group(changes: dict[str, object]) -> None:
    """No parameter is forgotten and none is stepped twice."""
    network = make_network(**changes)
    optimizer = build_optimizer(network, make_config().training)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())


def test_only_matrices_are_decayed_and_the_head_has_its_rate() -> None:
    """Biases, norms and GeM's exponent are not decayed; pooling, norms, neck and centres get the head's rate."""
    network = make_network(pool_stages=2)
    training = TrainingConfig(weight_decay=0.3, betas=(0.8, 0.95))
    optimizer = build_optimizer(network, training)
    set_learning_rates(optimizer, 1e-4, 5e-4)
    group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for parameter_id, group in group_of.items():
        name = names[parameter_id]
        assert group["weight_decay"] == (0.3 if network.get_parameter(name).ndim >= 2 else 0.0), name
        assert group["lr"] == (1e-4 if name.startswith("backbone.") else 5e-4), name
        assert group["betas"] == (0.8, 0.95)
    assert group_of[id(network.pool.p)]["weight_decay"] == 0.0
    assert group_of[id(network.head.centers)]["weight_decay"] == 0.3


@pytest.mark.parametrize("channels_last", [True, False])
def test_steps_equal_adamw_written_out(channels_last: bool) -> None:
    """The fused steps, on gradients of a real loss in either memory layout, are algorithm 2 of Loshchilov and Hutter."""
    network = make_network(channels_last=channels_last).train()
    optimizer = build_optimizer(network, TrainingConfig(weight_decay=0.1, betas=(0.8, 0.95)))
    set_learning_rates(optimizer, 1e-3, 1e-2)
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([[0], [1], [2], [3]])
    expected = {name: parameter.detach().double() for name, parameter in network.named_parameters()}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in expected.items()}
    for t in (1, 2, 3):
        optimizer.zero_grad()
        network.compute_loss(images, labels, torch.ones(4, 1), margin_rad=0.1, label_smoothing=0.0).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            grad, rate = parameter.grad.double(), 1e-3 if name.startswith("backbone.") else 1e-2
            first, second = moments[name]
            first, second = 0.8 * first + 0.2 * grad, 0.95 * second + 0.05 * grad**2
            moments[name] = first, second
            step = first / (1.0 - 0.8**t) / ((second / (1.0 - 0.95**t)).sqrt() + 1e-8)
            expected[name] = expected[name] * (1.0 - rate * (0.1 if parameter.ndim >= 2 else 0.0)) - rate * step
        optimizer.step()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize(("clip_norm", "factor"), [(1.0, 0.2), (5.0, 1.0), (50.0, 1.0), (0.0, 1.0)])
def test_gradients_are_clipped_by_their_common_norm(clip_norm: float, factor: float) -> None:
    """A gradient of norm 5 comes out with norm at most clip_norm in the same direction; 0 switches clipping off."""
    layer = nn.Linear(2, 1)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    assert float(clip_gradients(layer, clip_norm)) == pytest.approx(5.0)
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[3.0 * factor, 0.0]]), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(layer.bias.grad, torch.tensor([4.0 * factor]), rtol=1e-5, atol=0.0)
