"""The network: timm backbone -> GeM -> (neck) -> head, and the loss in the same forward.

Legend: B batch, C channels or classes, H W positions, N tokens, D embedding, M labels per photograph.
"""

from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional as F

from hectocar.config.schema import NetworkConfig
from hectocar.errors import ConfigError
from hectocar.network.backbone import create_backbone
from hectocar.network.depthwise import breaks_channels_last, speed_up_depthwise
from hectocar.network.heads import build_head
from hectocar.network.stage_dims import build_stage_norms, find_stage_dims


class PixelStatistics(nn.Module):
    """Mean and standard deviation that the backbone was pretrained with, for pixels in [0, 1]; on the network's device."""

    mean_1311: Tensor
    std_1311: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        for name, numbers in (("mean_1311", mean), ("std_1311", std)):
            self.register_buffer(name, torch.tensor(numbers).view(1, 3, 1, 1), persistent=False)


class CarNet(nn.Module):
    """Normalised images (B, 3, H, W) -> logits (B, C) and embeddings (B, D), both float32."""

    def __init__(self, config: NetworkConfig, num_classes: int, *, weights: str | None = None) -> None:
        """Builds the network; ``weights`` overrides ``config.weights`` (a bundle brings its own: ``none``)."""
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.backbone: Any = create_backbone(config.backbone, weights or config.weights, config.drop_path_max)
        speed_up_depthwise(self.backbone)
        buffer_drop_paths(self.backbone)
        self.pixels = self._pixel_statistics()
        dims = find_stage_dims(self)
        self.pool: nn.Module = GeM(config.gem_p) if config.pool == "gem" else AveragePool()
        self.pools2 = GeM(config.gem_p) if config.pool_stages == 2 and config.pool == "gem" else None
        self.stage_norms = build_stage_norms(self.backbone, dims) if config.pool_stages == 2 else None
        self.embed_dim = sum(dims)
        self.neck = nn.BatchNorm1d(self.embed_dim) if config.neck == "batchnorm" else nn.Identity()
        self.head = build_head(config, self.embed_dim, num_classes)
        self.plain_order = breaks_channels_last(self.backbone)
        if config.channels_last and not self.plain_order:
            self.to(memory_format=torch.channels_last)

    def _pixel_statistics(self) -> PixelStatistics:
        known: dict[str, Any] = getattr(self.backbone, "pretrained_cfg", None) or {}  # timm's own default where it says none
        mean, std = known.get("mean") or IMAGENET_DEFAULT_MEAN, known.get("std") or IMAGENET_DEFAULT_STD
        if len(mean) != 3 or len(std) != 3:
            raise ConfigError(f"network.backbone {self.config.backbone!r} was made for {len(mean)} channels; allowed: 3")
        return PixelStatistics(tuple(mean), tuple(std))

    def own_size(self) -> tuple[int, int]:
        """Height and width that the backbone was pretrained at."""
        size = (getattr(self.backbone, "pretrained_cfg", None) or {}).get("input_size") or (3, 224, 224)
        return int(size[1]), int(size[2])

    def last_map(self, features: Tensor) -> Tensor:
        """Any timm feature layout -> (B, C, H, W). Tokens become a column of positions, without class tokens."""
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            given = f"{len(features)} of them" if isinstance(features, list | tuple | dict) else "something else"
            raise ConfigError(
                f"network.backbone {self.config.backbone!r} does not end in one map or row of tokens but in {given}, which "
                "cannot be pooled; allowed: backbones that do, as convnext, mobilenetv2, resnet, swin or vit models do"
            )
        if features.ndim == 3:
            has_class_token = getattr(self.backbone, "cls_token", None) is not None
            num_prefix = int(getattr(self.backbone, "num_prefix_tokens", has_class_token))
            if features.shape[1] > num_prefix:  # a few end in their class token alone
                features = features[:, num_prefix:]
            return features.transpose(1, 2).unsqueeze(-1)
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features

    def last_two(self, images_BCHW: Tensor) -> list[Tensor]:
        """The maps (B, C, H, W) of the last two stages."""
        maps: list[Tensor] = self.backbone.forward_intermediates(images_BCHW, indices=2, intermediates_only=True)
        return maps

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Pooled features (B, D), float32, before the neck."""
        if self.plain_order and images_BCHW.device.type == "cpu":
            images_BCHW = images_BCHW.contiguous()
        if self.stage_norms is None:
            pooled_BD: Tensor = self.pool(self.last_map(self.backbone.forward_features(images_BCHW)))
            # Models that were pretrained on an average of tokens have their final norm behind it.
            fc_norm = getattr(self.backbone, "fc_norm", None)
            with torch.autocast(images_BCHW.device.type, enabled=False):
                return pooled_BD if fc_norm is None else fc_norm(pooled_BD)
        maps = self.last_two(images_BCHW)
        pools = (self.pools2 or self.pool, self.pool)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            parts = [norm(pool(stage)) for pool, norm, stage in zip(pools, self.stage_norms, maps, strict=True)]
            return torch.cat(parts, dim=1)

    def forward(
        self, images_BCHW: Tensor, label_BM: Tensor | None = None, margin_rad: float | Tensor = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Returns (logits (B, C), embeddings (B, D)); the margin goes to the labels where they are given."""
        pooled_BD = self.embed(images_BCHW)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            embed_BD = self.neck(pooled_BD.float())
            logits_BC: Tensor = self.head(embed_BD, label_BM, margin_rad)
            return logits_BC, embed_BD

    def compute_loss(
        self,
        images_BCHW: Tensor,
        label_BM: Tensor,
        share_BM: Tensor,
        *,
        margin_rad: float | Tensor,
        label_smoothing: float | Tensor,
    ) -> Tensor:
        """Mean soft cross-entropy of a batch in which a photograph may be a mixture.

        Args:
            images_BCHW: Normalised.
            label_BM: (B, M) labels of the mixed photographs; the margin goes to all of them.
            share_BM: (B, M) share of each label; rows sum to 1.
            margin_rad: See ``Head``.
            label_smoothing: Share of the target spread evenly over all classes (Szegedy et al. 2016, eq. 13).
        """
        logits_BC, _ = self(images_BCHW, label_BM, margin_rad)
        return soft_cross_entropy(logits_BC, label_BM, share_BM, label_smoothing)

    def set_drop_path(self, share: float) -> None:
        """Sets stochastic depth to a share (0 to 1) of what the backbone was built with."""
        for module in self.backbone.modules():
            if isinstance(module, BufferedDropPath):
                module.set_share(share)


class BufferedDropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016) whose strength is a tensor: in training it drops the residual branch of whole
    photographs, and scales those that stay by 1 / keep probability.

    timm's own is a Python number, which a compiled graph takes for a constant: a ramp would compile anew in each epoch.
    """

    strength_2: Tensor
    """(2,) float32: keep probability and its reciprocal. A matter of the epoch, so not among the weights."""

    def __init__(self, built_drop_prob: float) -> None:
        super().__init__()
        self.built_drop_prob = built_drop_prob
        self.register_buffer("strength_2", torch.ones(2), persistent=False)
        self.set_share(1.0)

    def set_share(self, share: float) -> None:
        """Drops with a share (0 to 1) of what the backbone was built with."""
        keep_prob = 1.0 - self.built_drop_prob * share
        self.strength_2.copy_(torch.tensor([keep_prob, 1.0 / keep_prob if keep_prob > 0.0 else 0.0]))

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) -> the same shape and type."""
        if not self.training:
            return branch
        keep_prob, per_keep_prob = self.strength_2.unbind()
        scale_B = torch.bernoulli(keep_prob.expand(len(branch))) * per_keep_prob
        return branch * scale_B.to(branch.dtype).view(-1, *(1,) * (branch.ndim - 1))


def buffer_drop_paths(network: nn.Module) -> None:
    """Replaces timm's modules in place; they hold no weights."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            drop_prob = getattr(child, "drop_prob", None)
            if type(child).__name__ == "DropPath" and isinstance(drop_prob, float | int):
                setattr(module, name, BufferedDropPath(float(drop_prob)))


class GeM(nn.Module):
    """Generalised-mean pooling (Radenovic et al. 2018, "Fine-tuning CNN Image Retrieval with No Human Annotation", eq. 3):
    (mean over positions of max(x, eps)^p)^(1/p) per channel, with one learnable p.

    p = 1 is the plain average of the non-negative part; p -> infinity is the maximum.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if not 1.0 <= p <= 20.0:
            raise ValueError(f"p is {p}; allowed: 1 to 20")
        self.p = nn.Parameter(torch.tensor(float(p)))
        self.eps = eps

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Pools (B, C, H, W) of any float type to float32 (B, C).

        Float32 always: 60 cubed overflows float16, and eps cubed underflows it.
        """
        with torch.autocast(features_BCHW.device.type, enabled=False):
            features = features_BCHW.float().clamp(min=self.eps)
            # Dividing by the largest value first keeps x^p finite for any p the training may reach.
            largest_BC11 = features.detach().amax(dim=(2, 3), keepdim=True)
            mean_BC = (features / largest_BC11).pow(self.p).mean(dim=(2, 3))
            return mean_BC.clamp(min=torch.finfo(torch.float32).tiny).pow(1.0 / self.p) * largest_BC11.flatten(1)


class AveragePool(nn.Module):
    """Mean over positions in float32: GeM's control."""

    def forward(self, features_BCHW: Tensor) -> Tensor:
        return features_BCHW.float().mean(dim=(2, 3))


def soft_cross_entropy(logits_BC: Tensor, label_BM: Tensor, share_BM: Tensor, label_smoothing: float | Tensor) -> Tensor:
    """Mean over the batch of -sum target * log softmax, with target = (1 - e) * shares at the labels + e / C."""
    log_probs_BC = F.log_softmax(logits_BC.float(), dim=1)
    own_B = (log_probs_BC.gather(1, label_BM) * share_BM).sum(dim=1)
    even_B = log_probs_BC.mean(dim=1)
    return -((1.0 - label_smoothing) * own_B + label_smoothing * even_B).mean()
