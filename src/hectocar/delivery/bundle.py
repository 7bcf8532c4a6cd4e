"""The bundle: a folder with all that a prediction needs, and nothing that runs when it is loaded.

BUNDLE/bundle.json (classes, preprocessing, prior, provenance, digests, what was fitted out of fold) and one safetensors file
per network, and per bank of embeddings.
"""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.artifacts import hash_file, make_folder, read_json, write_json
from hectocar.config import DataConfig, InferenceConfig, NetworkConfig
from hectocar.config_reader import config_from_tree
from hectocar.delivery.bundle_place import check_bundle_place, digest_runs, measure_networks
from hectocar.errors import ArtifactError, ConfigError, DataError
from hectocar.network.carnet import CarNet
from hectocar.network.weights import load_state_exactly, load_tensors_with_state, save_tensors
from hectocar.outputs import MARK, Mark
from hectocar.photos.classes import ClassList
from hectocar.photos.inputs import read_run_inputs
from hectocar.photos.views import VIEWS
from hectocar.scoring.finish import Finish
from hectocar.writing import check_room

FORMAT, FORMAT_VERSION = "hectocar-bundle", 2


@dataclass(frozen=True)
class ModelSpec:
    """What the networks of one run have in common."""

    name: str
    network: NetworkConfig
    inference: InferenceConfig
    precision: str
    provenance: dict[str, Any]


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
    model: int = 0
    """Place in ``BundleSpec.models``."""
    bank: str = ""
    """Path of the embeddings of the training photographs, and their labels; empty without neighbours."""
    bank_sha256: str = ""


@dataclass(frozen=True)
class BundleSpec:
    """What bundle.json says."""

    folder: Path
    classes: ClassList
    models: tuple[ModelSpec, ...]
    max_megapixels: float
    prior: tuple[float, ...]
    """Share of each trained class among the training photographs: the answer for a photograph that cannot be read."""
    frequency: tuple[float, ...]
    """The same for each name, equivalent names apart: sums to 1."""
    members: tuple[Member, ...]
    finish: Finish | None = None
    """How the members' answers become probabilities; None means their geometric mean."""


def read_model(folder: Path) -> BundleSpec:
    """Reads a bundle, or a run as if it were one.

    Raises:
        ArtifactError: Neither, or damaged; it says which and what to do.
    """
    if (folder / "bundle.json").is_file():
        return _read_bundle(folder)
    if (folder / "config.json").is_file():
        return read_run_model(folder)
    raise ArtifactError(f"{folder}: neither a bundle (bundle.json) nor a run (config.json); `hectocar train` makes a run")


def read_run_model(folder: Path) -> BundleSpec:
    """The finished folds of a run.

    Raises:
        ArtifactError: Not a run, damaged, or no fold has finished an epoch.
    """
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
    used = manifest.used()
    counts = np.bincount(manifest.labels(classes)[used], minlength=classes.num_trained)
    place_of = {name: place for place, name in enumerate(classes.names)}
    name_counts = np.bincount([place_of[manifest.class_name[row]] for row in used], minlength=len(classes.names))
    provenance = read_json(folder / "provenance.json")
    model = ModelSpec(folder.resolve().name, config.network, config.inference, config.training.precision, provenance)
    return BundleSpec(
        folder=folder,
        classes=classes,
        models=(model,),
        max_megapixels=config.data.max_megapixels,
        prior=tuple((counts / counts.sum()).tolist()),
        frequency=tuple((name_counts / name_counts.sum()).tolist()),
        members=tuple(members),
    )


def join_runs(folders: Sequence[Path]) -> list[BundleSpec]:
    """The models of several runs, for one bundle.

    Raises:
        ArtifactError: Two runs differ in their classes, their order or their photographs, or one is given twice.
    """
    if len({folder.resolve() for folder in folders}) != len(folders):
        raise ArtifactError("a run is given twice; give each once")
    specs = [read_run_model(folder) for folder in folders]
    digests = [read_run_inputs(folder)[2].digest() for folder in folders]
    for spec, digest in zip(specs, digests, strict=True):
        if spec.classes != specs[0].classes:
            raise ArtifactError(
                f"{spec.folder}: its classes or their order differ from those of {specs[0].folder} "
                f"({spec.classes.num_trained} and {specs[0].classes.num_trained} trained classes); blend runs of one data set"
            )
        if digest != digests[0]:
            raise ArtifactError(
                f"{spec.folder}: it was trained on other photographs than {specs[0].folder} (the manifests differ); "
                "train both from the same folder with the same --audit and data settings"
            )
    return specs


@dataclass(frozen=True)
class Bank:
    """The training photographs, embedded by one fold's network: what neighbours are looked for among."""

    embeddings: NDArray[np.float16]
    """(N, D), of length 1."""
    labels: NDArray[np.int64]
    num_unseen: int
    """The first so many photographs are those that the network was not trained on."""

    @property
    def unseen(self) -> NDArray[np.float16]:
        return self.embeddings[: self.num_unseen]


def to_unit(embeddings_ND: NDArray[np.float16]) -> NDArray[np.float16]:
    """Rows of length 1, as banks keep them and as neighbours are asked for."""
    wide = embeddings_ND.astype(np.float32)
    unit: NDArray[np.float16] = (wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)).astype(np.float16)
    return unit


def write_bundle(
    runs: Sequence[BundleSpec],
    folder: Path,
    *,
    finish: Finish | None = None,
    banks: Mapping[tuple[int, int], Bank] | None = None,
    extra: Callable[[Path], object] | None = None,
    made_of: str = "",
) -> BundleSpec:
    """Makes a bundle from the finished folds of runs; the folder appears whole or not at all.

    Args:
        runs: As ``join_runs`` gives them.
        folder: See ``check_bundle_place``; one that was made of the same is kept as it is.
        finish: What was fitted on out-of-fold predictions.
        banks: By (number of the run, fold), where the finish looks at neighbours.
        extra: Writes a report into the folder.
        made_of: See ``claim_bundle``.

    Raises:
        ArtifactError: Something else stands there.
        WriteError: No room.
    """
    made_of = made_of or digest_runs(runs, ())
    if check_bundle_place(folder, runs, made_of):
        return _read_bundle(folder)
    num_bytes = measure_networks(runs)
    num_bytes += sum(bank.embeddings.nbytes + bank.labels.nbytes for bank in (banks or {}).values())
    check_room(folder, num_bytes, "the networks and their banks")

    def fill(temporary: Path) -> None:
        members = []
        for number, run in enumerate(runs):
            for member in run.members:
                name = f"model{number}_fold{member.fold}.safetensors"
                shutil.copyfile(run.folder / member.file, temporary / name)
                bank = (banks or {}).get((number, member.fold))
                place = _write_bank(temporary, f"bank{number}_fold{member.fold}.safetensors", bank) if bank else {}
                members.append({**asdict(member), "file": name, "model": number, **place})
        tree = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "classes": runs[0].classes.to_json(),
            # The weights are in the bundle: where the run's start came from is provenance, and a private path.
            "models": [_model_tree(model) for run in runs for model in run.models],
            "max_megapixels": runs[0].max_megapixels,
            "prior": list(runs[0].prior),
            "frequency": list(runs[0].frequency),
            "members": members,
            "finish": finish.to_json() if finish else None,
        }
        if extra:
            extra(temporary)
        Mark("bundle", made_of=made_of).write(temporary / MARK)
        write_json(temporary / "bundle.json", tree)

    make_folder(folder, fill, last="bundle.json")
    return _read_bundle(folder)


def _model_tree(model: ModelSpec) -> dict[str, Any]:
    return {**asdict(model), "network": {**asdict(model.network), "weights": "none"}}


def _write_bank(folder: Path, name: str, bank: Bank) -> dict[str, str]:
    tensors = {"embeddings": torch.from_numpy(bank.embeddings), "labels": torch.from_numpy(bank.labels)}
    save_tensors(folder / name, tensors, {"num_unseen": bank.num_unseen})
    return {"bank": name, "bank_sha256": hash_file(folder / name)}


def load_bank(spec: BundleSpec, member: Member) -> Bank | None:
    """The bank of a bundle's member; None where it has none.

    Raises:
        ArtifactError: Not a bank, or of other classes.
    """
    if not member.bank:
        return None
    tensors, state = load_tensors_with_state(spec.folder / member.bank)
    try:
        bank = Bank(tensors["embeddings"].numpy(), tensors["labels"].numpy(), int(state["num_unseen"]))
        whole = bank.embeddings.ndim == 2 and bank.labels.shape == bank.embeddings.shape[:1]
        whole = whole and bool(((bank.labels >= 0) & (bank.labels < spec.classes.num_trained)).all())
        whole = whole and 0 < bank.num_unseen <= len(bank.labels)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise ArtifactError(f"{spec.folder / member.bank}: not a bank of this bundle; make the bundle again")
    return bank


def _read_bundle(folder: Path) -> BundleSpec:
    path = folder / "bundle.json"
    tree = read_json(path)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ArtifactError(
            f"{path}: not a hectocar bundle (format is {tree.get('format') if isinstance(tree, dict) else tree!r})"
        )
    if tree.get("version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: bundle version {tree.get('version')!r}; this program reads version {FORMAT_VERSION}: make it again "
            "from its run"
        )
    try:
        data = DataConfig(max_megapixels=float(tree["max_megapixels"]))
        spec = BundleSpec(
            folder=folder,
            classes=ClassList.from_json(tree["classes"]),
            models=tuple(_read_model_tree(model) for model in tree["models"]),
            max_megapixels=data.max_megapixels,
            prior=tuple(float(value) for value in tree["prior"]),
            frequency=tuple(float(value) for value in tree["frequency"]),
            members=tuple(Member(**member) for member in tree["members"]),
            finish=None if tree["finish"] is None else Finish.from_json(tree["finish"]),
        )
    except (KeyError, TypeError, ValueError, ConfigError, DataError, ArtifactError) as error:
        raise ArtifactError(
            f"{path}: damaged or foreign bundle ({type(error).__name__}: {error}); make it again from its run"
        ) from error
    _check_bundle(spec, path)
    return spec


def _read_model_tree(tree: dict[str, Any]) -> ModelSpec:
    config = config_from_tree({"network": tree["network"], "inference": tree["inference"]})
    return ModelSpec(str(tree["name"]), config.network, config.inference, str(tree["precision"]), dict(tree["provenance"]))


def _check_bundle(spec: BundleSpec, path: Path) -> None:
    if not spec.members or not spec.models:
        raise ArtifactError(f"{path}: the bundle has no networks")
    for name, shares, count in (
        ("prior", spec.prior, spec.classes.num_trained),
        ("frequency", spec.frequency, len(spec.classes.names)),
    ):
        if len(shares) != count or not math.isclose(sum(shares), 1.0, abs_tol=1e-6) or min(shares) < 0.0:
            raise ArtifactError(f"{path}: the {name} must be {count} shares that sum to 1")
    if spec.finish is not None:
        spec.finish.check(len(spec.models), spec.classes.num_trained, str(path))
        unknown = sorted({name for level in spec.finish.levels for name in level.views} - set(VIEWS))
        if unknown:
            raise ArtifactError(f"{path}: finish: unknown view {unknown[0]!r}; this program knows {', '.join(VIEWS)}")
    for member in spec.members:
        if not 0 <= member.model < len(spec.models):
            raise ArtifactError(f"{path}: a member's model is {member.model}; allowed: 0 to {len(spec.models) - 1}")
        if not 32 <= member.size_px <= 2048:
            raise ArtifactError(f"{path}: member size_px is {member.size_px}; allowed: 32 to 2048")
        if spec.finish is not None and not member.bank:
            raise ArtifactError(f"{path}: member {member.file} has no bank, and the finish asks for neighbours")
        _check_file(spec.folder, member.file, member.sha256, path)
        if member.bank:
            _check_file(spec.folder, member.bank, member.bank_sha256, path)


def _check_file(folder: Path, name: str, sha256: str, path: Path) -> None:
    if Path(name).name != name or name.startswith("."):
        raise ArtifactError(f"{path}: member file {name!r} must be a plain name inside the bundle")
    file = folder / name
    if not file.is_file():
        raise ArtifactError(f"{file}: missing; the bundle is not whole, copy it again")
    if hash_file(file) != sha256:
        raise ArtifactError(f"{file}: its bytes are not those that were bundled (sha256 differs); copy the bundle again")


def load_network(spec: BundleSpec, member: Member, device: torch.device) -> CarNet:
    """Builds a member's network, in evaluation mode.

    Raises:
        ArtifactError: Weights and description do not fit.
    """
    path = spec.folder / member.file
    network = CarNet(spec.models[member.model].network, spec.classes.num_trained, weights="none")
    tensors, _ = load_tensors_with_state(path)
    load_state_exactly(network, tensors, path)
    return network.to(device).eval().requires_grad_(False)
