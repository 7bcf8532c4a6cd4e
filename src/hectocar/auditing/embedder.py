"""One frozen network that turns photographs into embeddings: pretrained weights, or a network of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.config.schema import DataConfig, InferenceConfig, NetworkConfig
from hectocar.dataset.run_inputs import read_run
from hectocar.delivery.bundle import load_network, read_model
from hectocar.network.arithmetic import autocast, normalize_batch, to_device
from hectocar.network.carnet import CarNet
from hectocar.network.inference import infer_photos
from hectocar.network.sizes import nearest_size
from hectocar.progress import Progress, count_with

EMBED_PX = 160
_BATCH = 16


@dataclass(frozen=True)
class Embedder:
    """A network in evaluation mode and the size that it looks at."""

    network: CarNet
    source: str
    """For a person: where the weights come from."""
    max_megapixels: float
    size_px: int = EMBED_PX

    def embed_files(self, files: Sequence[Path], progress: Progress) -> tuple[NDArray[np.float32], dict[int, str]]:
        """(N, D), and why the photographs at some places could not be read: their rows are zero and stand for nothing."""
        outputs = infer_photos(
            [self.network], files, size_px=self.size_px, inference=InferenceConfig(batch_size=_BATCH),
            data=DataConfig(max_megapixels=self.max_megapixels), precision="float32",
            on_photo=count_with(progress, "embedding photographs"), unreadable="take",
        )[0]  # fmt: skip
        return outputs.embeddings, outputs.problems

    @torch.inference_mode()
    def embed_pixels(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, D) of square uint8 pictures of side ``size_px``."""
        device = next(self.network.parameters()).device
        parts = []
        for start in range(0, len(images_BHWC), _BATCH):
            batch = np.ascontiguousarray(images_BHWC[start : start + _BATCH])
            with autocast(device, "float32"):
                _, embeddings = self.network(normalize_batch(to_device(batch, device), self.network.pixels))
            parts.append(embeddings.cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.network.embed_dim), dtype=np.float32)


def build_embedder(
    *, run: Path | None, weights: str | None, backbone: str, device: torch.device, max_megapixels: float
) -> Embedder | None:
    """Pretrained weights where they can be had (given, or those that the run started from), else a network of the run.

    Pretrained features are preferred: they know what is no car, while a network trained on cars sees one everywhere.

    Args:
        run: A run folder, or None.
        weights: As ``network.weights``: a file, ``hub``, or None.
        backbone: timm model of ``weights`` where there is no run to name it.
        device: Where to compute.
        max_megapixels: Larger photographs are refused.

    Returns:
        None where neither a run nor weights are given.

    Raises:
        ArtifactError: The run or the weights are missing or damaged.
        ConfigError: The backbone cannot be built.
    """
    if run is not None:
        opened = read_run(run)
        config = opened.config
        backbone = config.network.backbone
        started_from = config.network.weights
        if weights is None and started_from not in ("hub", "none") and Path(started_from).is_file():
            weights = started_from
    if weights is not None:
        network_config = NetworkConfig(backbone=backbone, weights=weights, pool="avg", head="softmax", drop_path_max=0.0)
        network = CarNet(network_config, 2).to(device).eval().requires_grad_(False)
        source = f"{backbone}, pretrained ({Path(weights).name})"
        return Embedder(network, source, max_megapixels, nearest_size(network, EMBED_PX))
    if run is None:
        return None
    spec = read_model(run)
    member = spec.members[0]
    network = load_network(spec, member, device)
    return Embedder(network, f"{backbone} of {run.name}, fold {member.fold}", max_megapixels, member.size_px)
