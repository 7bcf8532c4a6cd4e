"""Which sizes a network takes, found by showing it each before anything is spent on it."""

from collections.abc import Iterable

import torch

from hectocar.config.schema import Config
from hectocar.errors import ConfigError
from hectocar.network.carnet import CarNet


def check_sizes(network: CarNet, sizes_px: Iterable[int]) -> None:
    """Raises ConfigError for a size that the backbone does not take, before an epoch is spent on another."""
    for size_px in sorted(set(sizes_px)):
        problem = _try_size(network, size_px)
        if problem is not None:
            near = " and ".join(map(str, _sizes_near(network, size_px))) or "none near it"
            raise ConfigError(
                f"network.backbone {network.config.backbone} cannot take {size_px} px ({problem}); sizes that it takes: {near}"
            )


def nearest_size(network: CarNet, size_px: int) -> int:
    """The size nearest to ``size_px`` that the backbone takes.

    Raises:
        ConfigError: There is none near it.
    """
    if _try_size(network, size_px) is None:
        return size_px
    near = _sizes_near(network, size_px)
    if not near:
        check_sizes(network, [size_px])
    return min(near, key=lambda size: abs(size - size_px))


def _sizes_near(network: CarNet, size_px: int) -> list[int]:
    """The nearest smaller and the nearest larger size that works, of those that windows and patches divide."""
    tried = {network.own_size()[0]}
    for step in (14, 16, 32, 64):
        tried |= {size_px // step * step + add for add in (-step, 0, step, 2 * step)}
    ordered = sorted((size for size in tried if size >= 14), key=lambda size: abs(size - size_px))
    smaller = next((size for size in ordered if size < size_px and _try_size(network, size) is None), None)
    larger = next((size for size in ordered if size > size_px and _try_size(network, size) is None), None)
    return [size for size in (smaller, larger) if size is not None]


@torch.no_grad()
def _try_size(network: CarNet, size_px: int) -> str | None:
    """What is wrong with a size, or None."""
    was_training = network.training
    network.eval()
    try:
        black_BCHW = torch.zeros(1, 3, size_px, size_px, device=next(network.parameters()).device)
        embed_BD = network.embed(black_BCHW)
        finite = embed_BD.shape == (1, network.embed_dim) and bool(embed_BD.isfinite().all())
        return None if finite else "its features are empty or not finite"
    except Exception as error:  # timm's models refuse in many types, some of them without a word
        return " ".join(str(error).split())[:120] or type(error).__name__
    finally:
        network.train(was_training)


def check_network(config: Config) -> None:
    """Builds the whole network once and shows it every size of training and inference, before anything is written.

    Raises:
        ConfigError: The backbone cannot be built, or does not take a size; the message says what it takes.
        ArtifactError: Its weights cannot be had or do not fit.
    """
    check_sizes(CarNet(config.network, 2), list_sizes(config))


def list_sizes(config: Config) -> list[int]:
    """Every size that training, validation and prediction show a network, in pixels."""
    sizes = [phase.size_px for phase in config.training.sizes]
    return sorted({*sizes, config.inference.size_px or sizes[-1]})
