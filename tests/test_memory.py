"""Laws of the memory plan: it counts what autograd keeps, grows with the batch, and splits what does not fit."""

import math

import pytest
import torch

from hectocar.config import SizePhase
from hectocar.network.carnet import CarNet
from hectocar.training.memory import choose_chunks, count_activation_bytes, count_fixed_bytes, read_free_bytes
from tiny import CPU, make_config

CONFIG = make_config(sizes=(SizePhase(epochs=1.0, size_px=64, batch_size=32, learning_rate=1e-3),), ema_decay=0.0)


@pytest.fixture(scope="module")
def network() -> CarNet:
    torch.manual_seed(0)
    return CarNet(CONFIG.network, 4)


def test_activations_grow_with_the_area(network: CarNet) -> None:
    """Twice the side keeps about four times as much, and at least every convolution's input."""
    small, large = (count_activation_bytes(network, size_px, "float32") for size_px in (64, 128))
    assert large / small == pytest.approx(4.0, rel=0.1)
    assert small > 3 * 64 * 64 * 4


def test_counting_changes_nothing(network: CarNet) -> None:
    """Weights, running statistics, mode and the random numbers are as they were."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    network.eval()
    count_activation_bytes(network, 64, "float32")
    assert not network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_batch_is_split_as_far_as_it_must(network: CarNet) -> None:
    """Plenty or unknown memory: one part. Room for a tenth of the batch: about ten. None at all: two photographs at a time."""
    fixed = count_fixed_bytes(network, CONFIG)
    whole = 32 * 1.35 * count_activation_bytes(network, 64, "float32")
    assert choose_chunks(CONFIG, network, 0) == {"64x32": 1}
    assert choose_chunks(CONFIG, network, math.ceil((fixed + whole) / 0.8) + 1000) == {"64x32": 1}
    assert choose_chunks(CONFIG, network, int((fixed + whole / 2) / 0.8) + 1000) == {"64x32": 2}
    assert choose_chunks(CONFIG, network, 1) == {"64x32": 16}
    limited = make_config(sizes=CONFIG.training.sizes, ema_decay=0.0, memory_gib=(fixed + whole / 4) / 2**30 + 1e-4)
    assert choose_chunks(limited, network, 2**40)["64x32"] == 4


def test_this_machine_says_what_is_free() -> None:
    """More than nothing, and less than a petabyte."""
    assert 0 < read_free_bytes(CPU) < 2**50
