"""A run: its folder, its inputs, and the folds that are trained in it.

RUN/config.json, classes.json, manifest.parquet, folds.parquet, provenance.json, fold{k}/{events.jsonl, last, best}.safetensors
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hectocar.codec import encode, write_sealed
from hectocar.config.reader import config_from_tree, config_to_tree
from hectocar.config.schema import Config
from hectocar.dataset.car_names import find_similar_pairs
from hectocar.dataset.decisions import SHIFT_FILE, Decision, find_shift, write_decisions
from hectocar.dataset.folds import deal_folds
from hectocar.dataset.layout import find_photos
from hectocar.dataset.manifest import (
    DAMAGED,
    DUPLICATE,
    EXCLUDED,
    Manifest,
    check_same_folder,
    check_unchanged,
    scan_photos,
)
from hectocar.dataset.run_inputs import (
    PROVENANCE_FILE,
    RUN_FILES,
    Run,
    describe_run,
    digest_teaching,
    find_sources,
    outcome_tree,
    read_run,
)
from hectocar.dataset.teaching import RELABEL_FILE, count_decisions, plan_teaching
from hectocar.disk.artifacts import hash_file, read_json, write_json
from hectocar.disk.locks import hold_lock
from hectocar.disk.outputs import check_folder, identify, list_content
from hectocar.disk.writing import make_folder
from hectocar.errors import ArtifactError, ConfigError
from hectocar.network.arithmetic import has_fast_precision
from hectocar.network.sizes import check_network
from hectocar.progress import Progress
from hectocar.training.loader import FoldData
from hectocar.training.loop import train_fold
from hectocar.training.memory import describe_device
from hectocar.training.room import check_checkpoint_room

CPU = torch.device("cpu")
_START_FILES = ("folds.parquet", "classes.json", SHIFT_FILE, "provenance.json", "manifest.parquet")


def create_run(
    folder: Path, data_folder: Path, config: Config, progress: Progress, device: torch.device = CPU,
    relabel: Sequence[Decision] = (),
) -> Run:  # fmt: skip
    """Scans the photographs, deals the folds and writes both into a new run folder; the device is named in its provenance.

    ``relabel`` is what photographs teach, see dataset/teaching.py.

    Raises:
        ArtifactError: The folder is not free, another process is writing it, or the pretrained weights cannot be had.
        DataError: The photographs cannot be used.
    """
    _check_new(folder, data_folder, config)
    with hold_lock(folder):
        _check_new(folder, data_folder, config)  # the one that wrote until now may have made it
        find_photos(data_folder)
        check_network(config)  # what cannot be trained is found now, before the scan, not after it
        run = dataclasses.replace(plan_run(folder, data_folder, config, progress), relabel=tuple(relabel))
        plan_teaching(run.manifest, run.classes, run.relabel)  # its mistakes, before anything is written
        save_run(run, device)
        return run


def start_run(
    folder: Path, data_folder: Path, config: Config, progress: Progress, *, resume: bool, device: torch.device = CPU,
    relabel: Sequence[Decision] | None = None,
) -> Run:  # fmt: skip
    """Goes on with the run that stands there where that is wanted; makes one where none is.

    ``relabel`` None takes what the run that stands there was made with, a new one with nothing.

    Raises:
        HectocarError: As ``create_run`` and ``resume_run``.
    """
    if not check_start(folder, data_folder, config, resume=resume):
        return create_run(folder, data_folder, config, progress, device, relabel or ())
    run = resume_run(folder, data_folder, config)
    if relabel is not None and digest_teaching(relabel) != digest_teaching(run.relabel):
        raise ConfigError(
            f"--resume: {folder} was begun with other decisions than stand now in the round before it (its own are in "
            f"{folder / RELABEL_FILE}); put those back, or start again with another --out"
        )
    return run


def check_start(folder: Path, data_folder: Path, config: Config, *, resume: bool) -> bool:
    """Whether a run stands there that is gone on with.

    Raises:
        ArtifactError: The place is not free, and no run that is to be gone on with.
    """
    if resume and identify(folder) == "run":
        return check_folder(folder, "run", inputs=_list_inputs(config), data=data_folder)
    _check_new(folder, data_folder, config)
    return False


def _check_new(folder: Path, data_folder: Path, config: Config) -> None:
    inputs = _list_inputs(config)
    if not is_half_run(folder) and check_folder(folder, "run", inputs=inputs, data=data_folder):
        raise ArtifactError(f"--out {folder}: holds a run already; add --resume to go on with it, or give another folder")


def _list_inputs(config: Config) -> list[Path]:
    return [Path(name) for name in (config.network.weights, config.data.audit, *config.data.exclude) if name]


def is_half_run(folder: Path) -> bool:
    """Whether a folder holds nothing but what an earlier version wrote before it was killed: it begins with the manifest."""
    if os.path.islink(folder) or not os.path.isdir(folder):  # noqa: PTH112, PTH114 - False for a name that cannot be
        return False
    names = list_content(folder)
    return "manifest.parquet" in names and set(names) <= set(_START_FILES) and all(_is_start_file(folder / n) for n in names)


def _is_start_file(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    if path.suffix == ".parquet":
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    try:
        return isinstance(read_json(path), dict)
    except ArtifactError:
        return False


def plan_run(folder: Path, data_folder: Path, config: Config, progress: Progress) -> Run:
    """Scans the photographs and deals the folds; writes nothing.

    Raises:
        DataError: The photographs cannot be used.
    """
    manifest, classes = scan_photos(data_folder, config.data, progress)
    describe_manifest(manifest, progress)
    config = config_from_tree(config_to_tree(config))  # as it will be read again: 1 becomes 1.0 where a number may be broken
    folds = deal_folds(manifest, classes, config.data, progress)
    run = Run(folder, config, manifest, classes, folds, find_shift(config.data), find_sources(config))
    if run.shift:
        progress.note(f"validation is repeated on photographs shifted like the test set: {run.shift.describe()}")
    return run


def save_run(run: Run, device: torch.device = CPU) -> None:
    """Writes the folder whole or not at all; half a run, as a kill left it, is begun anew."""
    if is_half_run(run.folder):
        for name in _START_FILES:  # the manifest, by which it is known, last
            (run.folder / name).unlink(missing_ok=True)
    make_folder(run.folder, lambda folder: _fill_run(run, folder, device), last="config.json")


def _fill_run(run: Run, folder: Path, device: torch.device) -> None:
    run.manifest.save(folder / "manifest.parquet")
    run.folds.save(folder / "folds.parquet")
    write_json(folder / "classes.json", encode(run.classes))
    write_json(folder / "config.json", config_to_tree(run.config))
    if run.shift:
        write_json(folder / SHIFT_FILE, encode(run.shift))
    if run.relabel:
        write_decisions(folder / RELABEL_FILE, run.relabel)
    names = [*RUN_FILES, *([SHIFT_FILE] if run.shift else []), *([RELABEL_FILE] if run.relabel else [])]
    digests = {name: hash_file(folder / name) for name in names}
    write_sealed(folder / PROVENANCE_FILE, describe_run(run, digests, describe_device(device)))


def resume_run(folder: Path, data_folder: Path, config: Config) -> Run:
    """Opens a run to go on with it.

    Raises:
        ConfigError: The configuration asked for differs from the run's; each difference is named.
        DataError: The photographs are not those that the run was made from.
    """
    run = read_run(folder)
    check_same_outcome(run, config, f"--resume: {folder} was started with another configuration")
    config = config_from_tree(config_to_tree(config))  # as in plan_run: 1 and 1.0 are equal, and of different digests
    run = dataclasses.replace(run, config=config, manifest=run.manifest.move(data_folder))
    check_same_folder(run.manifest, run.config.data)
    return run


def check_same_outcome(run: Run, config: Config, what: str) -> None:
    """Raises ConfigError where a configuration, or the bytes of a file that it names, would give another result."""
    now = outcome_tree(config, find_sources(config, run))
    changes = list(_differences(outcome_tree(run.config, run.sources), now, ""))
    if changes:
        lines = "\n".join(f"  {line}" for line in changes)
        raise ConfigError(f"{what}:\n{lines}\n  Give the same options as then, or start a new run with another --out")


def train_folds(
    run: Run, folds: Sequence[int], device: torch.device, progress: Progress, free_bytes: int | None = None
) -> dict[int, dict[str, Any]]:
    """Trains folds one after another; those that are done already return at once.

    Args:
        run: The run.
        folds: Numbers of the folds to hold out.
        device: Where to train.
        progress: Receives bars and lines.
        free_bytes: Memory to plan with where the device is shared (see ``train_fold``).

    Returns:
        The best epoch's result of each fold.

    Raises:
        ConfigError: No such fold.
        ArtifactError: Another process trains one of them.
        WriteError: No room for the checkpoints: said before the first step where it can be known.
    """
    check_folds(run.config, folds)
    check_unchanged(run.manifest, run.config.data.num_workers, "restore them, or start a new run with another --out")
    check_checkpoint_room(run.config, run.classes.num_trained, [run.fold_folder(fold) for fold in folds])
    precision = run.config.training.precision
    if not has_fast_precision(device, precision):
        advice = "; training.precision float16 would be faster" if device.type == "cuda" else ""
        progress.note(f"this device has no {precision} arithmetic of its own: float32 is used{advice}")
    if run.relabel:
        progress.note(
            f"{RELABEL_FILE}: {count_decisions(run.relabel)}, in training; held-out photographs keep their given class"
        )
    results = {}
    for fold in folds:
        data = _gather_fold(run, fold)
        progress.note(f"fold {fold}: {len(data.train_rows)} photographs to train on, {len(data.valid_rows)} held out")
        folder, digest = run.fold_folder(fold), run.inputs_digest(fold)
        with hold_lock(folder):  # not the run: its folds may be trained side by side
            results[fold] = train_fold(
                run.config, data, folder, inputs_digest=digest, device=device, progress=progress, free_bytes=free_bytes
            )
    return results


def _gather_fold(run: Run, fold: int) -> FoldData:
    """Photographs to train on have the classes that they teach, held-out ones their own."""
    training, (train_rows, valid_rows) = run.config.training, run.folds.split(fold)
    teaching, labels = plan_teaching(run.manifest, run.classes, run.relabel), run.manifest.labels(run.classes)
    labels[train_rows] = teaching.label_N[train_rows]
    return FoldData(
        files=run.manifest.files(),
        labels=labels,
        num_classes=run.classes.num_trained,
        train_rows=train_rows[teaching.is_shown_N[train_rows]],
        valid_rows=valid_rows,
        shift=run.shift,
        pairs=find_similar_pairs(run.classes, training.max_similar_pairs) if training.similar_prob > 0.0 else (),
        soft=teaching.soft,
    )


def check_folds(config: Config, folds: Sequence[int]) -> None:
    """Raises ConfigError for a fold that the configuration does not have."""
    wrong = [fold for fold in folds if not 0 <= fold < config.data.num_folds]
    if wrong:
        raise ConfigError(f"--fold is {wrong[0]}; allowed: 0 to {config.data.num_folds - 1}, or all")


def describe_manifest(manifest: Manifest, progress: Progress) -> None:
    """Says how many photographs are used, and names what is left out and why."""
    progress.note(f"{len(manifest.used())} of {len(manifest)} photographs are used")
    for image_id, problem in manifest.problems(DAMAGED):
        progress.note(f"left out, damaged: {image_id}: {problem}")
    for status, why in ((DUPLICATE, "same picture as another of its class"), (EXCLUDED, "by an exclusion list or an audit")):
        rows = manifest.problems(status)
        if rows:
            progress.note(f"left out, {why}: {len(rows)} (see manifest.parquet), first {rows[0][0]}")


def _differences(old: Any, new: Any, path: str) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield f"{path}: {old!r} then, {new!r} now"
