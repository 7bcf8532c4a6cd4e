"""The network: timm backbone -> GeM -> (neck) -> head, and the loss in the same forward.

Legend: B batch, C channels or classes, H W positions, N tokens, D embedding, M labels per photograph.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hectocar.config import NetworkConfig
from hectocar.errors import ConfigError
from hectocar.network.arcface import SoftmaxHead, SubcenterArcFace
from hectocar.network.depthwise import speed_up_depthwise
from hectocar.network.gem import GeM
from hectocar.network.weights import create_backbone


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and standard deviation that the backbone was pretrained with, for pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class CarNet(nn.Module):
    """Normalised images (B, 3, H, W) -> logits (B, C) and embeddings (B, D), both float32."""

    def __init__(self, config: NetworkConfig, num_classes: int, *, weights: str | None = None) -> None:
        """Builds the network; ``weights`` overrides ``config.weights`` (a bundle brings its own: ``none``)."""
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.backbone: Any = create_backbone(config.backbone, weights or config.weights, config.drop_path_max)
        speed_up_depthwise(self.backbone)
        data_config = cast(dict[str, Any], self.backbone.pretrained_cfg)
        self.pixels = PixelStatistics(tuple(data_config["mean"]), tuple(data_config["std"]))
        dims = self._stage_dims()
        self.pool: nn.Module = GeM(config.gem_p) if config.pool == "gem" else AveragePool()
        self.pools2 = GeM(config.gem_p) if config.pool_stages == 2 and config.pool == "gem" else None
        self.stage_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims) if config.pool_stages == 2 else None
        self.embed_dim = sum(dims)
        self.neck = nn.BatchNorm1d(self.embed_dim) if config.neck == "batchnorm" else nn.Identity()
        self.head: Any = (
            SubcenterArcFace(self.embed_dim, num_classes, config.num_subcenters, config.scale)
            if config.head == "arcface"
            else SoftmaxHead(self.embed_dim, num_classes)
        )
        if config.channels_last:
            self.to(memory_format=torch.channels_last)

    def _stage_dims(self) -> list[int]:
        if self.config.pool_stages == 1:
            with torch.no_grad():  # some models' num_features is not the width of their last feature map
                was_training = self.backbone.training
                features = self._last_map(self.backbone.eval().forward_features(torch.zeros(1, 3, *self._probe_size())))
                self.backbone.train(was_training)
            return [features.shape[1]]
        if not hasattr(self.backbone, "forward_intermediates"):
            raise ConfigError(f"network.pool_stages is 2, but {self.config.backbone} does not give its stages; allowed here: 1")
        return [int(stage["num_chs"]) for stage in self.backbone.feature_info[-2:]]

    def _probe_size(self) -> tuple[int, int]:
        size = self.backbone.pretrained_cfg.get("input_size", (3, 224, 224))
        return int(size[1]), int(size[2])

    def _last_map(self, features: Tensor) -> Tensor:
        """Any timm feature layout -> (B, C, H, W). Tokens become a column of positions, without class tokens."""
        if features.ndim == 3:
            tokens_BNC = features[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
            return tokens_BNC.transpose(1, 2).unsqueeze(-1)
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Pooled features (B, D), float32, before the neck."""
        if self.stage_norms is None:
            pooled: Tensor = self.pool(self._last_map(self.backbone.forward_features(images_BCHW)))
            return pooled
        maps = self.backbone.forward_intermediates(images_BCHW, indices=2, intermediates_only=True)
        pools = (self.pools2 or self.pool, self.pool)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            parts = [norm(pool(stage)) for pool, norm, stage in zip(pools, self.stage_norms, maps, strict=True)]
            return torch.cat(parts, dim=1)

    def forward(self, images_BCHW: Tensor, label_BM: Tensor | None = None, margin_rad: float = 0.0) -> tuple[Tensor, Tensor]:
        """Returns (logits (B, C), embeddings (B, D)); the margin goes to the labels where they are given."""
        pooled_BD = self.embed(images_BCHW)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            embed_BD = self.neck(pooled_BD.float())
            return self.head(embed_BD, label_BM, margin_rad), embed_BD

    def compute_loss(
        self, images_BCHW: Tensor, label_BM: Tensor, share_BM: Tensor, *, margin_rad: float, label_smoothing: float
    ) -> Tensor:
        """Mean soft cross-entropy of a batch in which a photograph may be a mixture.

        Args:
            images_BCHW: Normalised.
            label_BM: (B, M) labels of the mixed photographs; the margin goes to all of them.
            share_BM: (B, M) share of each label; rows sum to 1.
            margin_rad: See ``SubcenterArcFace``.
            label_smoothing: Share of the target spread evenly over all classes (Szegedy et al. 2016, eq. 13).
        """
        logits_BC, _ = self(images_BCHW, label_BM, margin_rad)
        return soft_cross_entropy(logits_BC, label_BM, share_BM, label_smoothing)

    def build_loss(self) -> Callable[..., Tensor]:
        """``compute_loss``, compiled where the configuration says so: once per input shape, so pass whole batches only.

        Raises:
            ConfigError: torch.compile would need a C compiler and there is none.
        """
        if not self.config.compile:
            return self.compute_loss
        if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "gcc", "clang")):
            raise ConfigError("network.compile needs a C compiler (gcc or clang) on the PATH; or --set network.compile=false")
        compiled: Callable[..., Tensor] = torch.compile(self.compute_loss, dynamic=False)
        return compiled

    @torch.no_grad()
    def check_sizes(self, sizes_px: Iterable[int]) -> None:
        """Raises ConfigError for a size that the backbone does not take, before an epoch is spent on another."""
        was_training = self.training
        self.eval()
        for size_px in sorted(set(sizes_px)):
            try:
                self(torch.zeros(1, 3, size_px, size_px, device=next(self.parameters()).device))
            except (AssertionError, RuntimeError, ValueError) as error:
                raise ConfigError(f"{self.config.backbone} cannot take {size_px} px: {str(error)[:160]}") from error
        self.train(was_training)

    def set_drop_path(self, share: float) -> None:
        """Sets stochastic depth to a share (0 to 1) of what the backbone was built with."""
        for module in self.backbone.modules():
            if type(module).__name__ == "DropPath":
                built = module.__dict__.setdefault("built_drop_prob", module.drop_prob)
                module.drop_prob = built * share


class AveragePool(nn.Module):
    """Mean over positions in float32: GeM's control."""

    def forward(self, features_BCHW: Tensor) -> Tensor:
        return features_BCHW.float().mean(dim=(2, 3))


def soft_cross_entropy(logits_BC: Tensor, label_BM: Tensor, share_BM: Tensor, label_smoothing: float) -> Tensor:
    """Mean over the batch of -sum target * log softmax, with target = (1 - e) * shares at the labels + e / C."""
    log_probs_BC = F.log_softmax(logits_BC.float(), dim=1)
    own_B = (log_probs_BC.gather(1, label_BM) * share_BM).sum(dim=1)
    even_B = log_probs_BC.mean(dim=1)
    return -((1.0 - label_smoothing) * own_B + label_smoothing * even_B).mean()
