"""How many channels a backbone's last maps have, and the norms behind their pooling."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from hectocar.errors import ConfigError

if TYPE_CHECKING:
    from hectocar.network.carnet import CarNet


@torch.no_grad()
def find_stage_dims(network: "CarNet") -> list[int]:
    """Channels of the maps that are pooled, found by looking: some models' num_features is not their last map's width.

    Raises:
        ConfigError: The backbone gives nothing that can be pooled.
    """
    name, stages = network.config.backbone, network.config.pool_stages
    if stages == 2 and not hasattr(network.backbone, "forward_intermediates"):
        raise ConfigError(f"network.pool_stages is 2, but {name} does not give its stages; allowed here: 1")
    was_training = network.backbone.training
    network.backbone.eval()
    black_BCHW = torch.zeros(1, 3, *network.own_size())
    try:
        maps = (
            network.last_two(black_BCHW) if stages == 2 else [network.last_map(network.backbone.forward_features(black_BCHW))]
        )
        if len(maps) != stages or any(stage.ndim != 4 or stage.numel() == 0 for stage in maps):
            raise ValueError(f"{[tuple(stage.shape) for stage in maps]}")
    except ConfigError:
        raise
    except Exception as error:  # timm's models fail in many types
        what = f"network.pool_stages is 2, but {name} does not give its last two stages as maps; allowed here: 1"
        reason = str(error)[:120] or type(error).__name__
        raise ConfigError(f"{what if stages == 2 else f'network.backbone {name!r} cannot be used'} ({reason})") from error
    network.backbone.train(was_training)
    return [stage.shape[1] for stage in maps]


def build_stage_norms(backbone: nn.Module, dims: Sequence[int]) -> nn.ModuleList:
    """A LayerNorm per pooled stage; the last starts from the pretrained model's own, where that has one behind its pooling.

    ConvNeXt's ``head.norm`` is such a norm. A random start leaves it at ones and zeros, as ours.
    """
    norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)
    known = getattr(getattr(backbone, "head", None), "norm", None)
    if isinstance(known, nn.LayerNorm) and known.normalized_shape == (dims[-1],):
        norms[-1].load_state_dict(known.state_dict())
    return norms
