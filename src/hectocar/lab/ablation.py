"""Ablations: variants x seeds x folds under equal budgets, resumable, several at a time.

A plan is a YAML file:

    title: What is asked
    preset: laptop                  # the start of every variant
    base: {data: {class_limit: 30}} # over the preset, for all variants
    seeds: [1, 2, 3]
    folds: [0]
    variants:                       # each over the base; the first is what the others are compared with
      base: {}
      k=1: {network: {num_subcenters: 1}}

DIR/<variant>/seed{s}/ is a run folder, fold{k}/result.json in it the outcome.
"""

import dataclasses
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from hectocar.codec import read_sealed, show, write_sealed
from hectocar.config.reader import config_to_tree, list_presets, read_config
from hectocar.config.schema import Config
from hectocar.config.training import MAX_SEED
from hectocar.config.yaml_text import read_yaml
from hectocar.dataset.manifest import check_same_folder, check_unchanged
from hectocar.dataset.provenance import Source
from hectocar.dataset.run_inputs import Run, find_sources, outcome_tree, read_run
from hectocar.disk.artifacts import EventLog, compute_digest
from hectocar.disk.outputs import check_unedited, claim_folder, mark_folder
from hectocar.errors import ConfigError
from hectocar.network.sizes import check_network, list_sizes
from hectocar.photos.pool import count_workers
from hectocar.progress import NoProgress, Progress, count_with
from hectocar.tables import normalize_name, repeated_names
from hectocar.training.checkpoint import read_epochs
from hectocar.training.memory import read_free_bytes
from hectocar.training.run import check_folds, plan_run, save_run, train_folds

_KEYS = ("title", "preset", "base", "seeds", "folds", "variants")
_OWN_FILES = ("runs.csv", "table.md", "plot.png")
_MAX_NAME_BYTES, _MAX_TITLE = 120, 300


@dataclass(frozen=True)
class AblationPlan:
    """What is compared."""

    title: str
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    variants: dict[str, Config]
    """The first is the base."""


@dataclass(frozen=True)
class AblationRun:
    """One trained fold of one variant."""

    variant: str
    seed: int
    fold: int
    log_loss: float
    top1: float
    seconds: float
    """Wall time of training and validation; runs side by side slow each other down."""
    cpu_seconds: float | None
    """Processor time of the same, which other work on the machine hardly changes; None where a run was resumed."""
    shifted_log_loss: float | None = None

    def __post_init__(self) -> None:
        if min(self.log_loss, self.seconds, self.cpu_seconds or 0.0, self.shifted_log_loss or 0.0) < 0.0:
            raise ValueError("a loss or a time is below 0; allowed: 0 or more")
        if not 0.0 <= self.top1 <= 1.0:
            raise ValueError(f"top1 is {self.top1}; allowed: 0 to 1")


@dataclass(frozen=True)
class _Stored:
    """What stands in result.json."""

    result: AblationRun
    config_digest: str


def list_plans() -> list[str]:
    """Names of the plans that come with the package."""
    folder = resources.files("hectocar.presets") / "ablations"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_plan(name: str, settings: Sequence[str] = (), overrides: Mapping[str, Any] | None = None) -> AblationPlan:
    """Reads a plan file, or a plan of the package by its name.

    Args:
        name: Path, or one of ``list_plans``.
        settings: ``dotted.path=value`` texts over every variant.
        overrides: Values by dotted path over every variant and setting.

    Raises:
        ConfigError: Each mistake with its place.
    """
    if name in list_plans():
        with resources.as_file(resources.files("hectocar.presets") / "ablations" / f"{name}.yaml") as path:
            tree = read_yaml(path, "ablation plan")
    elif Path(name).exists():
        tree = read_yaml(Path(name), "ablation plan")
    else:
        raise ConfigError(
            f"ablation plan {show(name)}: no such file; allowed: a YAML file, or one of {', '.join(list_plans())}"
        )
    where = f"ablation plan {name}"
    unknown = [key for key in tree if key not in _KEYS]
    if unknown:
        raise ConfigError(f"{where}: unknown key {show(unknown[0])}; allowed: {', '.join(_KEYS)}")
    variants, base, preset = tree.get("variants"), tree.get("base"), tree.get("preset")
    if preset is not None and preset not in list_presets():
        raise ConfigError(f"{where}: preset is {show(preset)}; allowed: {', '.join(list_presets())}")
    if base is not None and not isinstance(base, dict):
        raise ConfigError(f"{where}: base is {show(base)}; allowed: a mapping of sections")
    if not isinstance(variants, dict) or len(variants) < 2 or not all(isinstance(v, dict) for v in variants.values()):
        raise ConfigError(f"{where}: variants is {show(variants)}; allowed: two or more names, each with a mapping")
    _check_names(list(variants), where)
    layers = {v: [base or {}, layer] for v, layer in variants.items()}
    configs = {v: read_config(preset, None, settings, parts, overrides=overrides) for v, parts in layers.items()}
    folds = _read_numbers(tree, "folds", [0], where)
    for config in configs.values():
        check_folds(config, folds)
    return AblationPlan(_read_title(tree, name, where), _read_numbers(tree, "seeds", [1, 2, 3], where), folds, configs)


def _check_names(names: Sequence[str], where: str) -> None:
    """A variant's name is a folder's, on every system, and a cell of a table."""
    for name in names:
        plain = name.isprintable() and not set(name) & set("/\\") and len(name.encode()) <= _MAX_NAME_BYTES
        if not name or not plain or name.startswith(".") or name.strip(" .") != name or name.lower() in _OWN_FILES:
            raise ConfigError(
                f"{where}: the variant {show(name)} cannot be a folder's name; allowed: up to {_MAX_NAME_BYTES} bytes without "
                f"control characters, / and \\, no dot or blank at its ends, not {', '.join(_OWN_FILES)}"
            )
    repeated = repeated_names(normalize_name(name).casefold() for name in names)
    if repeated:
        raise ConfigError(f"{where}: the variant {show(repeated[0])} stands twice, apart from small and capital letters")


def _read_title(tree: Mapping[str, Any], name: str, where: str) -> str:
    title = tree.get("title", Path(name).stem)
    if not isinstance(title, str) or len(title) > _MAX_TITLE:
        raise ConfigError(f"{where}: title is {show(title)}; allowed: a text of up to {_MAX_TITLE} characters")
    return title


def _read_numbers(tree: Mapping[str, Any], key: str, default: list[int], where: str) -> tuple[int, ...]:
    values = tree.get(key, default)
    ok = isinstance(values, list) and values and all(type(v) is int and 0 <= v <= MAX_SEED for v in values)
    if not ok or len(set(values)) < len(values):
        raise ConfigError(f"{where}: {key} is {show(values)}; allowed: a list of different whole numbers, 0 to {MAX_SEED}")
    return tuple(values)


def run_ablation(
    plan: AblationPlan, data_folder: Path, out: Path, *, device: torch.device, num_jobs: int, progress: Progress
) -> list[AblationRun]:
    """Trains what is not trained yet, seed by seed, so that an early stop leaves complete comparisons.

    Args:
        plan: What to compare.
        data_folder: Photographs.
        out: Gets the runs; call again with the same to go on.
        device: Where to train.
        num_jobs: Processes side by side; each has its share of the processor's cores and of the device's memory.
        progress: Receives a bar and a line per run.

    Raises:
        ConfigError: ``out`` holds a run of the same name with another configuration.
        ArtifactError: ``out`` is no ablation, another process works there, or a person has edited its tables.
    """
    with claim_folder(out, "ablation", data=data_folder):
        check_unedited(out, "the tables are written anew by each call: move it away or rename it")
        mark_folder(out, "ablation")
        return _run_tasks(list(_list_tasks(plan, out)), data_folder, device, num_jobs, progress)


def _run_tasks(
    tasks: Sequence["_Task"], data_folder: Path, device: torch.device, num_jobs: int, progress: Progress
) -> list[AblationRun]:
    todo = [task for task in tasks if _read_result(task) is None]
    _check_photos(tasks, data_folder)
    _prepare_runs(todo, data_folder, progress)
    count = count_with(progress, f"training {len(todo)} runs")
    if num_jobs > 1 and not _has_semaphores():
        progress.note("processes get no shared memory here (is there a /dev/shm?): the runs follow one another")
        num_jobs = 1
    threads = max(1, count_workers(0) // num_jobs)
    free_bytes = read_free_bytes(device, num_jobs)  # once: what the jobs see free later depends on each other's moment
    if num_jobs == 1 and todo:
        for done, task in enumerate(todo):
            count(done, len(todo))
            progress.note(_describe(_train(task, data_folder, str(device), None, free_bytes)))
    elif todo:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read by the processes that start below
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        with ProcessPoolExecutor(num_jobs, mp_context=context, initializer=_leave_with_parent) as pool:
            futures = [pool.submit(_train, task, data_folder, str(device), threads, free_bytes) for task in todo]
            try:
                for done, future in enumerate(as_completed(futures)):
                    progress.note(_describe(future.result()))
                    count(done + 1, len(todo))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()  # the pool would wait for the trainings that have begun
                raise
    for task in tasks:
        _drop_checkpoint(task)  # also that of a run that was killed between its result and this
    results = [_read_result(task) for task in tasks]
    return [result for result in results if result is not None]


@dataclass(frozen=True)
class _Task:
    variant: str
    seed: int
    fold: int
    config: Config
    sources: Mapping[str, Source]
    folder: Path

    def result_file(self) -> Path:
        return self.folder / f"fold{self.fold}" / "result.json"

    def digest(self) -> str:
        return compute_digest(outcome_tree(self.config, self.sources))


def _list_tasks(plan: AblationPlan, out: Path) -> Iterator[_Task]:
    sources = {variant: find_sources(config) for variant, config in plan.variants.items()}
    for seed in plan.seeds:
        for fold in plan.folds:
            for variant, config in plan.variants.items():
                seeded = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
                yield _Task(variant, seed, fold, seeded, sources[variant], out / variant / f"seed{seed}")


def _read_result(task: _Task) -> AblationRun | None:
    if not task.result_file().is_file():
        return None
    stored = read_sealed(_Stored, task.result_file(), "delete it to train the fold again")
    if stored.config_digest != task.digest():
        raise ConfigError(
            f"{task.folder}: trained with another configuration than the plan's variant {task.variant!r}; "
            "give another --out, or another name to the variant"
        )
    return stored.result


def _check_photos(tasks: Sequence[_Task], data_folder: Path) -> None:
    """Raises DataError where runs that are there already were made from other photographs than those of the folder."""
    seen = set()
    for task in tasks:
        if not (task.folder / "config.json").is_file():
            continue
        run = read_run(task.folder)
        key = run.manifest.digest(), run.config.data.class_limit > 0
        if key in seen:
            continue
        seen.add(key)
        manifest = run.manifest.move(data_folder)
        check_same_folder(manifest, run.config.data)
        check_unchanged(manifest, task.config.data.num_workers, f"{task.folder} was made from them; give another --out")


def _prepare_runs(tasks: Sequence[_Task], data_folder: Path, progress: Progress) -> None:
    """Writes the run folders once every variant's network is known to work; variants of the same data share one scan."""
    scans: dict[str, Run] = {}
    new = [task for task in tasks if not (task.folder / "config.json").is_file()]
    for config in {(task.config.network, tuple(list_sizes(task.config))): task.config for task in new}.values():
        check_network(config)
    for task in new:
        key = compute_digest(config_to_tree(task.config)["data"])
        if key not in scans:
            scans[key] = plan_run(task.folder, data_folder, task.config, progress)
        save_run(dataclasses.replace(scans[key], folder=task.folder, config=task.config, sources=task.sources))


def _has_semaphores() -> bool:
    """Whether processes can talk to each other: a pool's queues are guarded by semaphores, which live in shared memory."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError):
        return False
    return True


def _leave_with_parent() -> None:
    """Ends this process when the one that started it is gone: killed outright, it would leave trainings nobody waits for."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _train(task: _Task, data_folder: Path, device: str, num_threads: int | None, free_bytes: int) -> AblationRun:
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    run = read_run(task.folder)
    if outcome_tree(run.config, run.sources) != outcome_tree(task.config, task.sources):
        raise ConfigError(f"{task.folder}: begun with another configuration than the plan's; give another --out")
    data = dataclasses.replace(task.config.data, num_workers=task.config.data.num_workers or num_threads or 0)
    config, manifest = dataclasses.replace(run.config, data=data), run.manifest.move(data_folder)
    run = dataclasses.replace(run, config=config, manifest=manifest)
    folder = run.fold_folder(task.fold)
    fresh, started = not (folder / "last.safetensors").exists(), time.process_time()
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)  # what a finished run left whose result was deleted
    best = train_folds(run, [task.fold], torch.device(device), NoProgress(), free_bytes)[task.fold]
    seconds = read_epochs(EventLog(folder / "events.jsonl"))[-1].seconds
    result = AblationRun(
        task.variant, task.seed, task.fold, best["log_loss"], best["top1"], seconds,
        time.process_time() - started if fresh else None, best.get("shifted_log_loss"),
    )  # fmt: skip
    write_sealed(task.result_file(), _Stored(result, task.digest()))
    _drop_checkpoint(task)
    return result


def _drop_checkpoint(task: _Task) -> None:
    # Optimizer and all: as many as there are runs would fill a disk.
    (task.folder / f"fold{task.fold}" / "last.safetensors").unlink(missing_ok=True)


def _describe(result: AblationRun) -> str:
    shifted = "" if result.shifted_log_loss is None else f" (shifted {result.shifted_log_loss:.4f})"
    return (
        f"{result.variant}, seed {result.seed}, fold {result.fold}: log loss {result.log_loss:.4f}{shifted}, "
        f"top-1 {result.top1:.1%}, {result.seconds / 60:.1f} min"
    )
