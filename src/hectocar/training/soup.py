"""Averages over weights after the last epoch: a greedy soup of checkpoints, and a mixture with the pretrained backbone.

Wortsman et al. 2022, "Model soups" (recipe 1, greedy); Wortsman et al. 2022, "Robust fine-tuning" (WiSE-FT).
Each candidate is judged by the held-out photographs, as the best epoch is, and kept only if it is better.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hectocar.codec import encode
from hectocar.config.schema import Config, NetworkConfig
from hectocar.dataset.provenance import BINDING, FoldResult
from hectocar.disk.artifacts import EventLog
from hectocar.disk.writing import replace_file
from hectocar.errors import ArtifactError
from hectocar.network.backbone import create_backbone
from hectocar.network.carnet import CarNet
from hectocar.network.weights import load_tensors_with_state, save_tensors
from hectocar.progress import Progress
from hectocar.training.checkpoint import TrainingState
from hectocar.training.loader import FoldData
from hectocar.training.validation import validate

Weights = dict[str, Tensor]
Judge = Callable[[Weights], dict[str, Any]]
"""Weights -> validation result with ``log_loss``."""


@dataclass(frozen=True)
class Candidate:
    """Weights, how they were made, and their validation."""

    name: str
    weights: Weights
    result: dict[str, Any]

    @property
    def log_loss(self) -> float:
        return float(self.result["log_loss"])


def average_weights(members: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> Weights:
    """Weighted mean of all floating-point tensors; counters and flags are the first's."""
    first = members[0]
    return {
        name: sum((share * member[name].double() for member, share in zip(members, shares, strict=True)), torch.zeros(()))
        .to(first[name].dtype)
        .contiguous()
        if first[name].is_floating_point()
        else first[name]
        for name in first
    }


def brew_soup(checkpoints: Sequence[Candidate], judge: Judge) -> Candidate:
    """Adds checkpoints to the average, best first, each only if the average's log loss falls; returns the best found."""
    ordered = sorted(checkpoints, key=lambda candidate: candidate.log_loss)
    best, members = ordered[0], [ordered[0]]
    for candidate in ordered[1:]:
        tried = [*members, candidate]
        weights = average_weights([member.weights for member in tried], [1.0 / len(tried)] * len(tried))
        result = judge(weights)
        if result["log_loss"] < best.log_loss:
            members = tried
            best = Candidate("soup of " + " + ".join(member.name for member in members), weights, result)
    return best


def mix_pretrained(best: Candidate, pretrained: Mapping[str, Tensor], shares: Sequence[float], judge: Judge) -> Candidate:
    """Tries each share of the pretrained backbone in the best weights; returns the best found.

    Args:
        best: What to start from.
        pretrained: The backbone's pretrained tensors, named as in the network: ``backbone.``...
        shares: Shares of the pretrained weights.
        judge: Validates.
    """
    found = best
    for share in shares:
        mixed = average_weights([{name: best.weights[name] for name in pretrained}, pretrained], [1.0 - share, share])
        weights = {**best.weights, **mixed}
        result = judge(weights)
        if result["log_loss"] < found.log_loss:
            found = Candidate(f"{best.name} with {share:g} pretrained", weights, result)
    return found


def load_pretrained(config: NetworkConfig) -> Weights:
    """The pretrained backbone's parameters (its BatchNorm statistics belong to other photographs and stay out)."""
    backbone = create_backbone(config.backbone, config.weights, config.drop_path_max)
    return {f"backbone.{name}": tensor.detach() for name, tensor in backbone.named_parameters()}


def load_bound(path: Path, inputs_digest: str) -> tuple[Weights, FoldResult]:
    """Weights that this fold wrote.

    Raises:
        ArtifactError: Damaged, or of another fold or run.
    """
    weights, state = load_tensors_with_state(path, FoldResult)
    if state.inputs_digest != inputs_digest:
        raise ArtifactError(f"{path}: made from other inputs than this fold's; remove the fold's folder to train it anew")
    return weights, state


def load_candidates(folder: Path, inputs_digest: str) -> list[Candidate]:
    """The checkpoints that the last epochs left in ``folder``.

    Raises:
        ArtifactError: One is damaged, or of another fold or run.
    """
    candidates = []
    for path in sorted(folder.glob("*.safetensors")):
        weights, state = load_bound(path, inputs_digest)
        result = {name: value for name, value in encode(state).items() if name not in BINDING and value is not None}
        candidates.append(Candidate(path.stem, weights, result))
    return candidates


def average_checkpoints(
    config: Config, data: FoldData, folder: Path, network: CarNet, state: TrainingState, log: EventLog, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Tries averages of the last weights (soup.py); replaces best.safetensors where one is better."""
    training, best = config.training, state.best
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def judge(weights: dict[str, Tensor]) -> dict[str, Any]:
        network.load_state_dict(weights)
        result = validate(config, best["size_px"], data, {"raw": network}, progress).results["raw"]
        return result | {"epoch": training.epochs}

    kept = folder / "soup" / "best"  # once it is replaced, a cut before the next checkpoint must find it again
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, lambda path: shutil.copyfile(folder / "best.safetensors", path))
    start = Candidate(f"epoch {best['epoch']} {best['weights']}", load_bound(kept, state.inputs_digest)[0], best)
    others = [other for other in load_candidates(folder / "soup", state.inputs_digest) if other.name != start.name]
    found = brew_soup([start, *others], judge)
    if training.pretrained_mix:
        found = mix_pretrained(found, load_pretrained(config.network), training.pretrained_mix, judge)
    network.load_state_dict(before)
    log.write("averaged", weights=found.name, log_loss=found.log_loss, before=best["log_loss"])
    progress.note(f"average of weights: {found.name}: {found.log_loss:.4f} (best epoch {best['log_loss']:.4f})")
    result = {**found.result, "weights": found.name}
    if found is not start:
        save_tensors(folder / "best.safetensors", found.weights, state.bind(result))
    return result
