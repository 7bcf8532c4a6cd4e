"""What the runners of rivals share. They run in the rival's own environment: nothing of hectocar is imported here.

A runner is called with the path of a job (JSON, written by rivals.py). It trains, then writes what its network says about
every held-out photograph as plain arrays, and what the training took.
"""

import csv
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

PARTS = ("validation", "shifted", "unusable")
Asked = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(N, G) logits of the photographs, of their mirror images, and (N, D) embeddings of the former."""


@dataclass(frozen=True)
class Job:
    """What to train, and where to."""

    out: Path
    split: Path
    weights: Path
    backbone: str
    num_classes: int
    size_px: int
    epochs: int
    batch_size: int
    seed: int
    bf16: bool
    """Whether bfloat16 is fast here, for rivals that have an option for it."""
    file: str
    """The rival's own script, where it is one."""
    settings: dict[str, Any]


def read_job() -> Job:
    """The job named on the command line."""
    path = Path(sys.argv[1])
    fields = json.loads(path.read_text(encoding="utf-8"))
    places = {name: Path(fields.pop(name)) for name in ("split", "weights")}
    return Job(out=path.parent, **places, **fields)


def list_photos(split: Path) -> dict[str, list[tuple[Path, int]]]:
    """(file, class) of the photographs of each part, in the order of the table."""
    photos: dict[str, list[tuple[Path, int]]] = {}
    with (split / "photos.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            photos.setdefault(row["part"], []).append((split / row["file"], int(row["label"])))
    return photos


@contextmanager
def note_usage(job: Job, epochs: int | None = None) -> Iterator[None]:
    """Writes the minutes and CPU-minutes of what happens inside, child processes included."""
    started, used = time.monotonic(), _cpu_seconds()
    yield
    figures = {"minutes": (time.monotonic() - started) / 60.0, "cpu_minutes": (_cpu_seconds() - used) / 60.0}
    figures |= {"epochs": epochs or job.epochs}
    (job.out / "usage.json").write_text(json.dumps(figures), encoding="utf-8")


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def write_answers(job: Job, ask: Callable[[Sequence[Path]], Asked]) -> None:
    """Asks about every part and keeps it: log probabilities, embeddings, and the files that they belong to."""
    arrays: dict[str, np.ndarray] = {}
    for part, photos in list_photos(job.split).items():
        files = [file for file, _ in photos]
        plain, mirror, embeddings = ask(files)
        arrays[f"{part}_file"] = np.array([file.relative_to(job.split).as_posix() for file in files])
        arrays[f"{part}_embeddings"] = embeddings.float().numpy().astype(np.float16)
        if part in PARTS:
            for name, logits in (("plain", plain), ("mirror", mirror)):
                arrays[f"{part}_{name}"] = logits.double().log_softmax(1).float().numpy()
    temporary = job.out / "answers.part.npz"
    np.savez(temporary, **arrays)
    temporary.replace(job.out / "answers.npz")


@torch.inference_mode()
def ask_timm(network: torch.nn.Module, render: Callable[[Image.Image], torch.Tensor], files: Sequence[Path]) -> Asked:
    """What a timm network says, in batches of 64.

    Args:
        network: In evaluation mode.
        render: A photograph as its own validation shows it, normalised, (3, S, S).
        files: The photographs.
    """
    parts = []
    for start in range(0, len(files), 64):
        images = torch.stack([render(Image.open(file).convert("RGB")) for file in files[start : start + 64]])
        embeddings = network.forward_head(network.forward_features(images), pre_logits=True)
        parts.append((network.get_classifier()(embeddings), network(images.flip(3)), embeddings))
    plain, mirror, embeddings = (torch.cat(tables) for tables in zip(*parts, strict=True))
    return plain, mirror, embeddings


def local_weights(job: Job) -> dict[str, Any]:
    """Arguments of timm.create_model that start from the file, whatever its classes were."""
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(job.weights), "num_classes": -1}}


def check_weights(job: Job, network: torch.nn.Module) -> None:
    """Raises RuntimeError where a fresh network does not hold the file's numbers."""
    from safetensors.torch import load_file

    state, start = network.state_dict(), load_file(str(job.weights))
    shared = start.keys() & state.keys()
    wrong = sorted(name for name in shared if not torch.equal(state[name], start[name].to(state[name].dtype)))
    if wrong or not shared:
        raise RuntimeError(f"{job.weights} was not loaded: {wrong[:1] or 'no name in common'} (timm {timm.__version__})")
