"""Exponential moving average of all weights and buffers (Polyak averaging), kept in float32 beside the network."""

import copy

import torch
from torch import nn

from hectocar.network.carnet import CarNet


class WeightAverage:
    """``network`` holds the average; after step t it moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights.

    The ramp lets the average forget the untrained head in the first hundreds of steps.
    """

    def __init__(self, network: CarNet, decay: float) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"decay is {decay}; allowed: between 0 and 1")
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.num_updates = 0

    def restart(self, network: nn.Module) -> None:
        """Begins anew from the network's present weights."""
        self.network.load_state_dict(network.state_dict())
        self.num_updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes one step towards the network's present weights; counters (integer buffers) are copied."""
        self.num_updates += 1
        weight = 1.0 - min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        own = list(self.network.state_dict().values())
        new = list(network.state_dict().values())
        floats = [(a, b) for a, b in zip(own, new, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], weight)
        for a, b in zip(own, new, strict=True):
            if not a.is_floating_point():
                a.copy_(b)
