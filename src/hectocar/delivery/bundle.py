"""The bundle: a folder with all that a prediction needs, and nothing that runs when it is loaded.

BUNDLE/bundle.json (classes, preprocessing, prior, provenance, digests, what was fitted out of fold) and one safetensors file
per network, and per bank of embeddings.
"""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hectocar.calibration.chain import Finish
from hectocar.codec import open_sealed, show, write_sealed
from hectocar.dataset.classes import ClassList
from hectocar.dataset.provenance import FoldResult
from hectocar.delivery.bundle_place import check_bundle_place, digest_runs, measure_networks
from hectocar.delivery.members import BundleSpec, Member, ModelSpec
from hectocar.disk.artifacts import hash_file, read_json
from hectocar.disk.outputs import MARK, Mark
from hectocar.disk.writing import check_room, make_folder
from hectocar.errors import ArtifactError
from hectocar.network.carnet import CarNet
from hectocar.network.folding import prepare_inference
from hectocar.network.weights import check_finite_tensors, load_state_exactly, load_tensors_with_state, save_tensors
from hectocar.photos.views import VIEWS

FORMAT: Literal["hectocar-bundle"] = "hectocar-bundle"
FORMAT_VERSION: Literal[4] = 4
MAX_NEIGHBOURS = 1000
_ADVICE = "copy the bundle again, or make it again from its run"


@dataclass(frozen=True)
class BundleFile:
    """What stands in bundle.json."""

    format: Literal["hectocar-bundle"]
    version: Literal[4]
    classes: ClassList
    models: tuple[ModelSpec, ...]
    max_megapixels: float
    prior: tuple[float, ...]
    frequency: tuple[float, ...]
    members: tuple[Member, ...]
    finish: Finish | None

    def __post_init__(self) -> None:
        if not self.max_megapixels > 0.0:
            raise ValueError(f"max_megapixels is {self.max_megapixels}; allowed: more than 0")


def read_model(folder: Path) -> BundleSpec:
    """Reads a bundle, or a run as if it were one.

    Raises:
        ArtifactError: Neither, or damaged; it says which and what to do.
    """
    if (folder / "bundle.json").is_file():
        return _read_bundle(folder)
    if (folder / "config.json").is_file():
        from hectocar.dataset.run_inputs import read_run  # a bundle needs none of what a run is made of
        from hectocar.delivery.runs import read_run_model

        return read_run_model(read_run(folder))
    raise ArtifactError(f"{folder}: neither a bundle (bundle.json) nor a run (config.json); `hectocar train` makes a run")


@dataclass(frozen=True)
class BankState:
    """Header of a bank's file."""

    num_unseen: int
    network_sha256: str
    """Of the weights that made it."""


@dataclass(frozen=True)
class Bank:
    """The training photographs, embedded by one fold's network: what neighbours are looked for among."""

    embeddings: NDArray[np.float16]
    """(N, D), of length 1."""
    labels: NDArray[np.int64]
    num_unseen: int
    """The first so many photographs are those that the network was not trained on."""


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
                member = replace(member, file=name, model=number)
                members.append(_write_bank(temporary, member, bank) if bank else member)
        # The weights are in the bundle: where the run's start came from is provenance, and a private path.
        models = tuple(replace(model, network=replace(model.network, weights="none")) for run in runs for model in run.models)
        common = runs[0].classes, models, runs[0].max_megapixels, runs[0].prior, runs[0].frequency
        if extra:
            extra(temporary)
        Mark("bundle", made_of=made_of).write(temporary / MARK)
        content = BundleFile(FORMAT, FORMAT_VERSION, *common, tuple(members), finish)
        write_sealed(temporary / "bundle.json", content)

    make_folder(folder, fill, last="bundle.json")
    return _read_bundle(folder)


def _write_bank(folder: Path, member: Member, bank: Bank) -> Member:
    name = f"bank{member.model}_fold{member.fold}.safetensors"
    tensors = {"embeddings": torch.from_numpy(bank.embeddings), "labels": torch.from_numpy(bank.labels)}
    save_tensors(folder / name, tensors, BankState(bank.num_unseen, member.sha256))
    return replace(member, bank=name, bank_sha256=hash_file(folder / name))


def load_bank(spec: BundleSpec, member: Member, embed_dim: int) -> Bank | None:
    """The bank of a bundle's member; None where it has none.

    Args:
        spec: The bundle.
        member: One of its members.
        embed_dim: Of the member's network.

    Raises:
        ArtifactError: Not a bank, or of other classes or another network.
    """
    if not member.bank:
        return None
    path = spec.folder / member.bank

    def check(tensors: dict[str, Tensor], state: BankState) -> None:
        num_rows = len(tensors["labels"]) if "labels" in tensors and tensors["labels"].ndim else 0
        wanted = {"embeddings": ([num_rows, embed_dim], torch.float16), "labels": ([num_rows], torch.int64)}
        if {name: (list(tensor.shape), tensor.dtype) for name, tensor in tensors.items()} != wanted:
            found = ", ".join(f"{name} {list(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items())
            raise ArtifactError(
                f"{path}: no bank of {member.file}: {found}; expected embeddings [N, {embed_dim}] in float16 and labels [N] "
                f"in int64; {_ADVICE}"
            )
        check_finite_tensors(tensors, path)
        if not 0 < state.num_unseen <= num_rows:
            raise ArtifactError(f"{path}: num_unseen is {state.num_unseen}; allowed: 1 to {num_rows}; {_ADVICE}")
        low, high = int(tensors["labels"].min()), int(tensors["labels"].max())
        if not 0 <= low <= high < spec.classes.num_trained:
            raise ArtifactError(f"{path}: labels from {low} to {high}; allowed: 0 to {spec.classes.num_trained - 1}; {_ADVICE}")
        if state.network_sha256 != member.sha256:
            raise ArtifactError(f"{path}: made by another network than {member.file}; {_ADVICE}")

    tensors, state = load_tensors_with_state(path, BankState, check)
    return Bank(tensors["embeddings"].numpy(), tensors["labels"].numpy(), state.num_unseen)


def _read_bundle(folder: Path) -> BundleSpec:
    path = folder / "bundle.json"
    tree = read_json(path)
    found = tree if isinstance(tree, dict) else {}
    if found.get("format") != FORMAT:
        raise ArtifactError(f"{path}: not a hectocar bundle (format is {show(found.get('format'))})")
    if found.get("version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: bundle version {show(found.get('version'))}; this program reads version {FORMAT_VERSION}: make it again "
            "from its run"
        )
    content = open_sealed(BundleFile, tree, path, _ADVICE, check=lambda content: _check_bundle(content, path))
    for member in content.members:
        _check_file(folder, member.file, member.sha256)
        if member.bank:
            _check_file(folder, member.bank, member.bank_sha256)
    shares = content.prior, content.frequency
    return BundleSpec(folder, content.classes, content.models, content.max_megapixels, *shares, content.members, content.finish)


def _check_bundle(content: BundleFile, path: Path) -> None:
    """Raises ArtifactError where parts do not fit each other."""
    if not content.members or not content.models:
        raise ArtifactError(f"{path}: the bundle has no networks; {_ADVICE}")
    for name, shares, count in (
        ("prior", content.prior, content.classes.num_trained),
        ("frequency", content.frequency, len(content.classes.names)),
    ):
        if len(shares) != count or not math.isclose(sum(shares), 1.0, abs_tol=1e-6) or min(shares) < 0.0:
            raise ArtifactError(f"{path}: the {name} must be {count} shares that sum to 1; {_ADVICE}")
    if content.finish is not None:
        content.finish.check(len(content.models), str(path))
        if content.finish.neighbours.k > MAX_NEIGHBOURS:
            raise ArtifactError(f"{path}: finish.neighbours.k is {content.finish.neighbours.k}; allowed: 1 to {MAX_NEIGHBOURS}")
        unknown = sorted({name for level in content.finish.levels for name in level.views} - set(VIEWS))
        if unknown:
            raise ArtifactError(f"{path}: finish: unknown view {show(unknown[0])}; this program knows {', '.join(VIEWS)}")
    for member in content.members:
        for name in (member.file, *([member.bank] if member.bank else [])):
            if not PurePosixPath(name).name == PureWindowsPath(name).name == name or name.startswith(".") or "\0" in name:
                raise ArtifactError(f"{path}: member file {show(name)} must be a plain name inside the bundle; {_ADVICE}")
        if content.finish is not None and not member.bank:
            raise ArtifactError(f"{path}: member {member.file} has no bank, and the finish asks for neighbours; {_ADVICE}")
    models = {member.model for member in content.members}
    if models != set(range(len(content.models))):
        wrong = max(models ^ set(range(len(content.models))))
        raise ArtifactError(
            f"{path}: a member's model is {wrong}, or model {wrong} has no member; allowed: 0 to {len(content.models) - 1}"
        )


def _check_file(folder: Path, name: str, sha256: str) -> None:
    file = folder / name
    if not file.is_file():
        raise ArtifactError(f"{file}: missing; the bundle is not whole, copy it again")
    if hash_file(file) != sha256:
        raise ArtifactError(f"{file}: its bytes are not those that were bundled (sha256 differs); copy the bundle again")


def load_network(spec: BundleSpec, member: Member, device: torch.device) -> CarNet:
    """Builds a member's network, ready to be asked.

    Raises:
        ArtifactError: Weights and description do not fit.
    """
    path = spec.folder / member.file
    network = CarNet(spec.models[member.model].network, spec.classes.num_trained, weights="none")
    load_tensors_with_state(path, FoldResult, lambda tensors, _: load_state_exactly(network, tensors, path))
    return prepare_inference(network.to(device), spec.models[member.model].precision)
