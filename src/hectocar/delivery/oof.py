"""Out-of-fold predictions: for each training photograph the answer of the network that did not see it.

RUN/oof.npz (image_id, fold, logits, embeddings, angles) is made once and reused while the networks are the same.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.artifacts import compute_digest, replace_file
from hectocar.config import DataConfig
from hectocar.delivery.bundle import load_networks, read_model
from hectocar.errors import ArtifactError
from hectocar.network.arcface import SubcenterArcFace, find_dominant_centers
from hectocar.network.carnet import CarNet
from hectocar.network.inference import infer_photos
from hectocar.photos.folds import load_folds
from hectocar.photos.inputs import read_run_inputs
from hectocar.progress import Progress, count_with

OOF_FILE = "oof.npz"


@dataclass(frozen=True)
class OutOfFold:
    """One row per photograph that some finished fold held out. Embeddings of different folds are not comparable."""

    image_id: tuple[str, ...]
    fold: NDArray[np.int64]
    logits: NDArray[np.float32]
    """(N, G) over trained classes."""
    embeddings: NDArray[np.float32]
    """(N, D), each from its fold's own network."""
    angles: NDArray[np.float32]
    """(N,) radians to the dominant sub-center of the class that the photograph lies in; NaN without sub-centers."""


def predict_out_of_fold(run_folder: Path, data_folder: Path, device: torch.device, progress: Progress) -> OutOfFold:
    """Predicts every held-out photograph with its fold's best network.

    Args:
        run_folder: A run with one finished fold or more.
        data_folder: Where the photographs lie now.
        device: Where to compute.
        progress: Receives a bar.

    Raises:
        ArtifactError: Not a run, damaged, no fold is finished, or a photograph cannot be read any more.
    """
    spec = read_model(run_folder)
    _, classes, manifest = read_run_inputs(run_folder)
    folds = load_folds(run_folder / "folds.parquet", manifest.image_id)
    digest = compute_digest([manifest.digest(), [member.sha256 for member in spec.members]])
    stored = _load(run_folder / OOF_FILE, digest)
    if stored is not None:
        return stored
    label_N = manifest.labels(classes)
    parts = []
    for member, network in zip(spec.members, load_networks(spec, device), strict=True):
        _, rows = folds.split(member.fold)
        outputs = infer_photos(
            [network], [data_folder / manifest.path[row] for row in rows], size_px=member.size_px,
            inference=spec.inference, data=DataConfig(max_megapixels=spec.max_megapixels), precision=spec.precision,
            on_photo=count_with(progress, f"out-of-fold predictions, fold {member.fold}"),
        )[0]  # fmt: skip
        if outputs.problems:
            row, reason = next(iter(outputs.problems.items()))
            raise ArtifactError(f"{manifest.image_id[rows[row]]}: cannot be read any more ({reason}); restore it")
        angles = _dominant_angles(network, outputs.embeddings, label_N[rows])
        parts.append((rows, np.full(len(rows), member.fold), outputs.logits, outputs.embeddings, angles))
    rows_N, fold_N, logits, embeddings, angle_N = (np.concatenate(column) for column in zip(*parts, strict=True))
    ids = tuple(manifest.image_id[row] for row in rows_N)
    result = OutOfFold(ids, fold_N.astype(np.int64), logits, embeddings, angle_N)
    _save(run_folder / OOF_FILE, result, digest)
    return result


def _dominant_angles(network: CarNet, embeddings_ND: NDArray[np.float32], label_N: NDArray[np.int64]) -> NDArray[np.float32]:
    if not isinstance(network.head, SubcenterArcFace):
        return np.full(len(label_N), np.nan, dtype=np.float32)
    _, cosine_N = find_dominant_centers(network.head, embeddings_ND, label_N)
    angles: NDArray[np.float32] = np.arccos(np.clip(cosine_N, -1.0, 1.0))
    return angles


def _save(path: Path, result: OutOfFold, digest: str) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer, image_id=np.array(result.image_id), fold=result.fold, logits=result.logits,
        embeddings=result.embeddings, angles=result.angles, digest=np.array(digest),
    )  # fmt: skip
    replace_file(path, lambda target: target.write_bytes(buffer.getvalue()))


def _load(path: Path, digest: str) -> OutOfFold | None:
    try:
        with np.load(path, allow_pickle=False) as data:
            if str(data["digest"]) != digest:
                return None
            ids = tuple(data["image_id"].tolist())
            return OutOfFold(ids, data["fold"], data["logits"], data["embeddings"], data["angles"])
    except (OSError, ValueError, KeyError):  # none yet, or damaged: it is made again
        return None
