"""The bundle: a folder with all that a prediction needs, and nothing that runs when it is loaded.

BUNDLE/bundle.json (classes, preprocessing, prior, provenance, digests) and one safetensors file per fold.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hectocar.artifacts import hash_file, make_folder, read_json, write_json
from hectocar.config import DataConfig, InferenceConfig, NetworkConfig
from hectocar.config_reader import config_from_tree
from hectocar.errors import ArtifactError, ConfigError, DataError
from hectocar.network.carnet import CarNet
from hectocar.network.weights import load_state_exactly, load_tensors_with_state
from hectocar.photos.classes import ClassList
from hectocar.photos.inputs import read_run_inputs

FORMAT, FORMAT_VERSION = "hectocar-bundle", 1


@dataclass(frozen=True)
class Member:
    """One trained network of the ensemble."""

    file: str
    """Path of its weights below the bundle's (or run's) folder."""
    sha256: str
    fold: int
    size_px: int
    """Side of the square that it was validated with."""
    log_loss: float
    """On its held-out photographs."""
    top1: float


@dataclass(frozen=True)
class BundleSpec:
    """What bundle.json says."""

    folder: Path
    classes: ClassList
    network: NetworkConfig
    inference: InferenceConfig
    max_megapixels: float
    precision: str
    prior: tuple[float, ...]
    """Share of each trained class among the training photographs: the answer for a photograph that cannot be read."""
    members: tuple[Member, ...]
    provenance: dict[str, Any]


def read_model(folder: Path) -> BundleSpec:
    """Reads a bundle, or a run as if it were one.

    Raises:
        ArtifactError: Neither, or damaged; it says which and what to do.
    """
    if (folder / "bundle.json").is_file():
        return _read_bundle(folder)
    if (folder / "config.json").is_file():
        return _read_run(folder)
    raise ArtifactError(f"{folder}: neither a bundle (bundle.json) nor a run (config.json); `hectocar train` makes a run")


def _read_run(folder: Path) -> BundleSpec:
    config, classes, manifest = read_run_inputs(folder)
    members = []
    for fold in range(config.data.num_folds):
        path = folder / f"fold{fold}" / "best.safetensors"
        if not path.is_file():
            continue
        _, state = load_tensors_with_state(path)
        member = Member(
            file=path.relative_to(folder).as_posix(),
            sha256=hash_file(path),
            fold=fold,
            size_px=int(state["size_px"]),
            log_loss=float(state["log_loss"]),
            top1=float(state["top1"]),
        )
        members.append(member)
    if not members:
        raise ArtifactError(f"{folder}: no fold of this run has finished an epoch; go on with `hectocar train ... --resume`")
    counts = np.bincount(manifest.labels(classes)[manifest.used()], minlength=classes.num_trained)
    return BundleSpec(
        folder=folder,
        classes=classes,
        network=config.network,
        inference=config.inference,
        max_megapixels=config.data.max_megapixels,
        precision=config.training.precision,
        prior=tuple((counts / counts.sum()).tolist()),
        members=tuple(members),
        provenance=read_json(folder / "provenance.json"),
    )


def write_bundle(run_folder: Path, bundle_folder: Path) -> BundleSpec:
    """Makes a bundle from the finished folds of a run; the folder appears whole or not at all.

    Raises:
        ArtifactError: The run is not usable, or the bundle's folder exists.
    """
    spec = _read_run(run_folder)
    if bundle_folder.exists():
        raise ArtifactError(f"--out {bundle_folder}: exists already; give another folder or remove it first")

    def fill(temporary: Path) -> None:
        members = []
        for member in spec.members:
            name = f"fold{member.fold}.safetensors"
            shutil.copyfile(run_folder / member.file, temporary / name)
            members.append({**asdict(member), "file": name})
        # The weights are in the bundle: where the run's start came from is provenance, and a private path.
        tree = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "classes": spec.classes.to_json(),
            "network": {**asdict(spec.network), "weights": "none"},
            "inference": asdict(spec.inference),
            "max_megapixels": spec.max_megapixels,
            "precision": spec.precision,
            "prior": list(spec.prior),
            "members": members,
            "provenance": spec.provenance,
        }
        write_json(temporary / "bundle.json", tree)

    make_folder(bundle_folder, fill)
    return _read_bundle(bundle_folder)


def _read_bundle(folder: Path) -> BundleSpec:
    path = folder / "bundle.json"
    tree = read_json(path)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ArtifactError(
            f"{path}: not a hectocar bundle (format is {tree.get('format') if isinstance(tree, dict) else tree!r})"
        )
    if tree.get("version") != FORMAT_VERSION:
        raise ArtifactError(f"{path}: bundle version {tree.get('version')!r}; this program reads version {FORMAT_VERSION}")
    try:
        config = config_from_tree({"network": tree["network"], "inference": tree["inference"]})
        data = DataConfig(max_megapixels=float(tree["max_megapixels"]))
        spec = BundleSpec(
            folder=folder,
            classes=ClassList.from_json(tree["classes"]),
            network=config.network,
            inference=config.inference,
            max_megapixels=data.max_megapixels,
            precision=str(tree["precision"]),
            prior=tuple(float(value) for value in tree["prior"]),
            members=tuple(Member(**member) for member in tree["members"]),
            provenance=dict(tree["provenance"]),
        )
    except (KeyError, TypeError, ValueError, ConfigError, DataError) as error:
        raise ArtifactError(
            f"{path}: damaged or foreign bundle ({type(error).__name__}: {error}); make it again from its run"
        ) from error
    _check_bundle(spec, path)
    return spec


def _check_bundle(spec: BundleSpec, path: Path) -> None:
    if not spec.members:
        raise ArtifactError(f"{path}: the bundle has no networks")
    prior = spec.prior
    if len(prior) != spec.classes.num_trained or not math.isclose(sum(prior), 1.0, abs_tol=1e-6) or min(prior) < 0.0:
        raise ArtifactError(f"{path}: the prior must be {spec.classes.num_trained} shares that sum to 1")
    for member in spec.members:
        if Path(member.file).name != member.file or member.file.startswith("."):
            raise ArtifactError(f"{path}: member file {member.file!r} must be a plain name inside the bundle")
        if not 32 <= member.size_px <= 2048:
            raise ArtifactError(f"{path}: member size_px is {member.size_px}; allowed: 32 to 2048")
        file = spec.folder / member.file
        if not file.is_file():
            raise ArtifactError(f"{file}: missing; the bundle is not whole, copy it again")
        if hash_file(file) != member.sha256:
            raise ArtifactError(f"{file}: its bytes are not those that were bundled (sha256 differs); copy the bundle again")


def load_networks(spec: BundleSpec, device: torch.device) -> list[CarNet]:
    """Builds the members' networks, in evaluation mode.

    Raises:
        ArtifactError: Weights and description do not fit.
    """
    networks = []
    for member in spec.members:
        path = spec.folder / member.file
        network = CarNet(spec.network, spec.classes.num_trained, weights="none")
        tensors, _ = load_tensors_with_state(path)
        load_state_exactly(network, tensors, path)
        networks.append(network.to(device).eval().requires_grad_(False))
    return networks


def group_by_size(members: Sequence[Member]) -> dict[int, list[int]]:
    """Places of the members that see photographs at each size."""
    groups: dict[int, list[int]] = {}
    for place, member in enumerate(members):
        groups.setdefault(member.size_px, []).append(place)
    return groups
