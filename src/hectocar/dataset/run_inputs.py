"""What stands in a run's folder, and how its files are bound together, so that none of another run is taken for its own.

RUN/provenance.json holds a digest of each other file and of itself. fold{k}/best.safetensors and last.safetensors carry
``Run.inputs_digest(k)``, joined with the parts that batches were split into: all that their weights depend on. With equal
digests a fold ends in the same bits on the same machine and device, whatever the number of loading workers and wherever it
was interrupted. Other numbers of threads, other batches, processors or versions of torch add up in another order, and move
an answer by some 1e-6.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hectocar.codec import decode, encode, read_sealed
from hectocar.config.schema import Config
from hectocar.dataset.classes import ClassList
from hectocar.dataset.decisions import (
    DECISIONS_FILE,
    SHIFT_FILE,
    SOFTEN,
    TEACHINGS,
    Decision,
    read_decisions,
    read_shift,
)
from hectocar.dataset.folds import Folds, load_folds
from hectocar.dataset.manifest import Manifest, load_manifest
from hectocar.dataset.provenance import Provenance, Source
from hectocar.dataset.teaching import RELABEL_FILE
from hectocar.disk.artifacts import compute_digest, describe_environment, hash_file, read_json, utc_now
from hectocar.errors import ArtifactError
from hectocar.photos.shift import PhotoShift

PROVENANCE_FILE = "provenance.json"
RUN_FILES = ("manifest.parquet", "folds.parquet", "classes.json", "config.json")
"""With shift.json where the run has a shift, and relabel.csv where photographs teach other than their own class."""
ADVICE = "restore the run from a copy, or train a new one"


@dataclass(frozen=True)
class Run:
    """A run folder with its inputs in memory."""

    folder: Path
    config: Config
    manifest: Manifest
    classes: ClassList
    folds: Folds
    shift: PhotoShift | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    relabel: tuple[Decision, ...] = ()
    """What photographs teach, see teaching.py."""

    def fold_folder(self, fold: int) -> Path:
        return self.folder / f"fold{fold}"

    def best_file(self, fold: int) -> Path:
        return self.fold_folder(fold) / "best.safetensors"

    def inputs_digest(self, fold: int) -> str:
        """Of all that a fold's result depends on: configuration, photographs, classes, split."""
        split = dict(zip(self.folds.image_id, self.folds.fold.tolist(), strict=True))
        outcome = outcome_tree(self.config, self.sources)
        parts = [outcome, self.manifest.digest(), encode(self.classes), split, fold, encode(self.shift)]
        return compute_digest([*parts, digest_teaching(self.relabel)] if self.relabel else parts)


def digest_teaching(decisions: Iterable[Decision]) -> str:
    """Of what a table of decisions changes: not of reasons, of other scores than shares, or of the order of its rows."""
    share_of = {row: f"{row.score:.4f}" if row.decision == SOFTEN else "" for row in decisions}
    return compute_digest(sorted([row.file, row.decision, row.label, share] for row, share in share_of.items()))


def outcome_tree(config: Config, sources: Mapping[str, Source]) -> dict[str, Any]:
    """The configuration without what cannot change a result: the pace of checkpoints, the number and kind of workers, and
    where the files lie that it names, of which the digest stands there instead."""
    tree: dict[str, Any] = encode(config)
    tree["training"].pop("checkpoint_minutes")
    tree["data"].pop("num_workers")
    tree["data"].pop("loader")
    for key, source in sources.items():
        section, name, *place = key.split(".")
        if place:
            tree[section][name][int(place[0])] = f"sha256 {source.sha256}"
        else:
            tree[section][name] = f"sha256 {source.sha256}"
    return tree


def find_sources(config: Config, run: Run | None = None) -> dict[str, Source]:
    """The files that a configuration names, by its keys: weights, an audit, a shift, lists of exclusions.

    Args:
        config: What is asked for.
        run: Where a file is gone that this run's configuration names alike, its source stands for it.

    Raises:
        ArtifactError: A file is not there.
    """
    before = _named_paths(run.config) if run else {}
    sources = {}
    for key, path in _named_paths(config).items():
        files = [path / DECISIONS_FILE, path / SHIFT_FILE] if key == "data.audit" else [path]
        digests = [hash_file(file) for file in files if file.is_file()]
        if digests:
            sources[key] = Source(path.name, digests[0] if len(digests) == 1 else compute_digest(digests))
        elif run and key in run.sources and before.get(key) == path:
            sources[key] = run.sources[key]
        else:
            raise ArtifactError(f"{key}: {path} does not exist; give the path of what is there")
    return sources


def _named_paths(config: Config) -> dict[str, Path]:
    data = config.data
    named = {
        "network.weights": "" if config.network.weights in ("hub", "none") else config.network.weights,
        "data.audit": data.audit,
        "data.shift": "" if data.shift in ("audit", "none") else data.shift,
    }
    named |= {f"data.exclude.{k}": text for k, text in enumerate(data.exclude) if not text.startswith("contest:")}
    return {key: Path(text) for key, text in named.items() if text}


def describe_run(run: Run, files: Mapping[str, str], device: Mapping[str, str]) -> Provenance:
    """What provenance.json says.

    Args:
        run: The run.
        files: SHA-256 of its files.
        device: Facts of the device that it was begun on; each start and resume in events.jsonl has its own.
    """
    return Provenance(
        made=utc_now(),
        environment=describe_environment() | dict(device),
        manifest_digest=run.manifest.digest(),
        split_digest=run.folds.digest(),
        sources=dict(run.sources),
        files=dict(files),
    )


def read_provenance(folder: Path) -> Provenance:
    """Raises ArtifactError where it is missing, damaged or changed."""
    return read_sealed(Provenance, folder / PROVENANCE_FILE, ADVICE)


def read_run(folder: Path) -> Run:
    """Reads and checks what a run was made from; each file is named that is damaged or not the one it was made with.

    Raises:
        ArtifactError: Not a run, damaged, or with files of another one.
    """
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder}: not a run (no config.json in it); `hectocar train DATA --out RUN` makes one")
    config = decode(Config, read_json(folder / "config.json"), str(folder / "config.json"), advice=ADVICE)
    classes = decode(ClassList, read_json(folder / "classes.json"), str(folder / "classes.json"), advice=ADVICE)
    manifest = load_manifest(folder / "manifest.parquet")
    unknown = sorted(set(manifest.class_name) - set(classes.names))
    if unknown:
        raise ArtifactError(f"{folder / 'manifest.parquet'}: class_name {unknown[0]!r} is none of classes.json; {ADVICE}")
    folds = load_folds(folder / "folds.parquet", manifest.image_id)
    folds.check(manifest, config.data.num_folds, str(folder / "folds.parquet"))
    provenance = read_provenance(folder)
    names = [*RUN_FILES, *(name for name in (SHIFT_FILE, RELABEL_FILE) if name in provenance.files)]
    if sorted(names) != sorted(provenance.files):
        raise ArtifactError(f"{folder / PROVENANCE_FILE}: files are {', '.join(provenance.files)}; allowed: {', '.join(names)}")
    shift = read_shift(folder / SHIFT_FILE) if SHIFT_FILE in names else None
    if shift is None and (folder / SHIFT_FILE).exists():
        raise ArtifactError(f"{folder / SHIFT_FILE}: the run was made without a shift; move the file away")
    for name in names:
        if hash_file(folder / name) != provenance.files[name]:
            raise ArtifactError(f"{folder / name}: not the file that this run was made with (sha256 differs); {ADVICE}")
    relabel = read_decisions(folder / RELABEL_FILE, TEACHINGS) if RELABEL_FILE in names else ()
    return Run(folder, config, manifest, classes, folds, shift, provenance.sources, relabel)
