"""Runs as if they were bundles, and which of them may be joined.

A run's weights are taken only where their header was made from the run's own inputs.
"""

from collections.abc import Sequence

import numpy as np

from hectocar.dataset.provenance import FoldResult, join_parts
from hectocar.dataset.run_inputs import Run, read_provenance
from hectocar.delivery.members import BundleSpec, Member, ModelSpec
from hectocar.disk.artifacts import hash_file
from hectocar.errors import ArtifactError
from hectocar.network.weights import read_state


def read_run_model(run: Run) -> BundleSpec:
    """The finished folds of a run.

    Raises:
        ArtifactError: Damaged, or no fold has finished an epoch.
    """
    folder, config, classes, manifest = run.folder, run.config, run.classes, run.manifest
    members = []
    for fold, result in read_fold_results(run).items():
        path = run.best_file(fold)
        name, sha256 = path.relative_to(folder).as_posix(), hash_file(path)
        members.append(Member(name, sha256, fold, result.size_px, result.log_loss, result.top1))
    if not members:
        raise ArtifactError(f"{folder}: no fold of this run has finished an epoch; go on with `hectocar train ... --resume`")
    used = manifest.used()
    counts = np.bincount(manifest.labels(classes)[used], minlength=classes.num_trained)
    place_of = {name: place for place, name in enumerate(classes.names)}
    name_counts = np.bincount([place_of[manifest.class_name[row]] for row in used], minlength=len(classes.names))
    model = ModelSpec(
        folder.resolve().name, config.network, config.inference, config.training.precision, read_provenance(folder)
    )
    return BundleSpec(
        folder=folder,
        classes=classes,
        models=(model,),
        max_megapixels=config.data.max_megapixels,
        prior=tuple((counts / counts.sum()).tolist()),
        frequency=tuple((name_counts / name_counts.sum()).tolist()),
        members=tuple(members),
    )


def read_fold_results(run: Run) -> dict[int, FoldResult]:
    """The validation of each fold that has finished an epoch, from the headers of the best weights.

    Raises:
        ArtifactError: A file is damaged, or was trained from other inputs than this run's, or on another fold.
    """
    results = {}
    for fold in range(run.config.data.num_folds):
        path = run.best_file(fold)
        if not path.exists():
            continue
        result = read_state(path, FoldResult)
        if result.inputs_digest != join_parts(run.inputs_digest(fold), result.num_chunks):
            raise ArtifactError(
                f"{path}: made from another configuration, other photographs or another fold than this run's; "
                "copy the right file back, or train the fold again"
            )
        results[fold] = result
    return results


def join_runs(runs: Sequence[Run]) -> list[BundleSpec]:
    """The models of several runs, for one bundle.

    Raises:
        ArtifactError: Two runs differ in their classes, their order, their photographs or folds, or one is given twice.
    """
    if len({run.folder.resolve() for run in runs}) != len(runs):
        raise ArtifactError("a run is given twice; give each once")
    specs = [read_run_model(run) for run in runs]
    for spec, run in zip(specs, runs, strict=True):
        if spec.classes != specs[0].classes:
            raise ArtifactError(
                f"{spec.folder}: its classes or their order differ from those of {specs[0].folder} "
                f"({spec.classes.num_trained} and {specs[0].classes.num_trained} trained classes); blend runs of one data set"
            )
        if run.manifest.digest() != runs[0].manifest.digest():
            raise ArtifactError(
                f"{spec.folder}: it was trained on other photographs than {specs[0].folder} (the manifests differ); "
                "train both from the same folder with the same --audit and data settings"
            )
    for run in runs:
        for other in runs:
            leak = run.folds.find_leak(other.folds.group)
            if leak:
                raise ArtifactError(
                    f"{run.folder}: its folds leak: {leak[0]} and {leak[1]} are of one group in {other.folder} (equal or "
                    "near-duplicate photographs), and here one is trained on where the other is held out; train both with the "
                    "same --audit and data.group_duplicates"
                )
    return specs
