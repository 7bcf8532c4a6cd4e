"""The audit: everything that is wrong with a folder of photographs, found before an epoch is spent; it only reads.

OUT/decisions.csv (which a person may edit), audit.html, photos.parquet (every measurement), shift.json, audit.json
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from hectocar.auditing.drift_findings import measure_drift
from hectocar.auditing.duplicates import find_links
from hectocar.auditing.embedder import Embedder, build_embedder
from hectocar.auditing.file_findings import describe_absurd, judge_duplicates, judge_files
from hectocar.auditing.page import write_page
from hectocar.auditing.report import AuditReport
from hectocar.auditing.suspect_findings import judge_labels, judge_views
from hectocar.auditing.view_suspects import MIN_SAMPLES
from hectocar.codec import encode, write_sealed
from hectocar.config.schema import DataConfig
from hectocar.dataset.classes import build_class_list
from hectocar.dataset.decisions import (
    AUDIT_FILE,
    DECISIONS_FILE,
    SHIFT_FILE,
    AuditFacts,
    digest_photos,
    write_decisions,
)
from hectocar.dataset.layout import find_photos, find_test_photos
from hectocar.dataset.manifest import find_equivalent_pairs
from hectocar.dataset.scan import PhotoScan, scan_files
from hectocar.disk.artifacts import describe_environment, hash_file, read_json, utc_now, write_json
from hectocar.disk.outputs import MARK, Mark, check_unedited, claim_folder, publish_folder
from hectocar.disk.writing import replace_file
from hectocar.errors import DataError
from hectocar.photos.measure import Measurement
from hectocar.progress import Progress, count_with

NEEDS_NETWORK = "needs a network: give --weights FILE (a pretrained backbone) or --run RUN"
EDITED = "give another --out, or --overwrite to lose the edits"
NEEDS_RUN = "needs out-of-fold predictions: train with `hectocar train DATA --fold all --out RUN`, then give --run RUN"


def audit_photos(
    data_folder: Path,
    out: Path,
    progress: Progress,
    *,
    test_folder: Path | None = None,
    run: Path | None = None,
    weights: str | None = None,
    backbone: str = "mobilenetv2_100",
    device: torch.device | None = None,
    config: DataConfig | None = None,
    overwrite: bool = False,
) -> AuditReport:
    """Looks at all photographs of a data folder and writes what it finds into ``out``.

    Args:
        data_folder: As for training; nothing in it is changed.
        out: Gets the audit; an earlier audit there is replaced unless its decisions were edited.
        progress: Receives bars and lines.
        test_folder: Photographs to compare with; ``DATA/test`` where it exists if None.
        run: A trained run: its out-of-fold predictions find wrong labels.
        weights: Pretrained weights of ``backbone``: its embeddings find photographs without a car.
        backbone: timm model; a run names its own.
        device: Where to compute.
        config: Limits and threads.
        overwrite: Replace an edited decisions.csv as well.

    Raises:
        DataError: The photographs cannot be used.
        ArtifactError: ``out`` holds edited decisions or something else, or run or weights cannot be used.
    """
    config, device = config or DataConfig(), device or torch.device("cpu")
    with claim_folder(out, "audit", inputs=[] if run is None else [run], data=data_folder):
        check_edits(out, overwrite)
        report = examine_photos(data_folder, progress, test_folder, run, weights, backbone, device, config)
        write_audit(report, out, progress, overwrite)
    return report


def examine_photos(
    data_folder: Path, progress: Progress, test_folder: Path | None, run: Path | None, weights: str | None, backbone: str,
    device: torch.device, config: DataConfig,
) -> AuditReport:  # fmt: skip
    """All that ``audit_photos`` finds, in memory."""
    embedder = build_embedder(run=run, weights=weights, backbone=backbone, device=device, max_megapixels=config.max_megapixels)
    scan, class_name = scan_train_and_test(data_folder, test_folder, config, progress)
    names = sorted({name for name in class_name if name})
    classes = build_class_list(names, find_equivalent_pairs(data_folder, names))
    index = classes.trained_index()
    labels = np.array([index[name] if name else -1 for name in class_name], dtype=np.int64)
    scan, embeddings = embed_readable(embedder, scan, progress)

    links = find_links(
        scan, max_megapixels=config.max_megapixels, num_workers=config.num_workers, embeddings_ND=embeddings,
        on_pair=count_with(progress, "comparing look-alikes"),
    )  # fmt: skip
    decisions = judge_files(scan, labels.tolist()) + judge_duplicates(scan, links, labels.tolist())
    whole = np.array([not row.problem and not describe_absurd(row) for row in scan.rows])
    rows = np.flatnonzero(whole & (labels >= 0))
    unavailable, num_label_errors = {}, None
    if run is None:
        unavailable["wrong_label"] = NEEDS_RUN
    else:
        found, num_label_errors = judge_labels(run, scan, labels, classes, device, progress)
        decisions += found
    if embedder is None or embeddings is None:
        unavailable |= dict.fromkeys(("no_car", "part_only", "rotated"), NEEDS_NETWORK)
    elif len(rows) < MIN_SAMPLES:
        unavailable |= dict.fromkeys(("no_car", "part_only", "rotated"), f"needs {MIN_SAMPLES} readable photographs")
    else:
        decisions += judge_views(scan, rows, embeddings, embedder, progress)
    return AuditReport(
        data_folder=data_folder,
        scan=scan,
        class_name=class_name,
        num_classes=classes.num_trained,
        decisions=tuple(decisions),
        unavailable=unavailable,
        num_label_errors=num_label_errors,
        drift=measure_drift(scan, labels, embeddings, config, progress),
        notes=(f"embeddings: {embedder.source}",) if embedder else (),
    )


def scan_train_and_test(
    data_folder: Path, test_folder: Path | None, config: DataConfig, progress: Progress
) -> tuple[PhotoScan, tuple[str, ...]]:
    """One scan of the training and the test photographs, and the class name of each (empty for the test set).

    Raises:
        DataError: No usable layout, a test folder without photographs, or not one photograph of a part that can be read.
    """
    found = find_photos(data_folder, progress)
    test_paths = find_test_photos(data_folder, test_folder, progress)
    paths = [file.relative_to(data_folder).as_posix() for _, file in found] + test_paths
    scan = scan_files(
        data_folder.resolve(), paths, max_megapixels=config.max_megapixels, num_workers=config.num_workers,
        on_photo=count_with(progress, "measuring photographs"),
    )  # fmt: skip
    for part, rows in (("training", scan.rows[: len(found)]), ("test", scan.rows[len(found) :])):
        if rows and all(row.problem for row in rows):
            first = scan.image_id[0 if part == "training" else len(found)]
            raise DataError(f"none of the {len(rows)} {part} photographs can be read, first {first}: {rows[0].problem}")
    num_bad = sum(1 for row in scan.rows if row.problem)
    progress.note(f"{len(found)} training and {len(test_paths)} test photographs measured, {num_bad} cannot be read")
    return scan, (*(name for name, _ in found), *("" for _ in test_paths))


def embed_readable(
    embedder: Embedder | None, scan: PhotoScan, progress: Progress
) -> tuple[PhotoScan, NDArray[np.float32] | None]:
    """(N, D) embeddings, zero for photographs that cannot be read; None without a network.

    A photograph that was read by the scan and cannot be read now has its problem in the scan that comes back: a zero is
    no embedding, and nothing may be judged by it.
    """
    if embedder is None:
        return scan, None
    readable, files, rows = scan.readable(), scan.files(), list(scan.rows)
    found, problems = embedder.embed_files([files[k] for k in readable], progress)
    for place, reason in problems.items():
        k = int(readable[place])
        problem = f"changed during the audit: {reason.removeprefix(f'{files[k]}: ')}"
        rows[k] = dataclasses.replace(rows[k], problem=problem)
        progress.note(f"{scan.image_id[k]}: {problem}")
    embeddings = np.zeros((len(scan), found.shape[1]), dtype=np.float32)
    embeddings[readable] = found
    return dataclasses.replace(scan, rows=tuple(rows)), embeddings


def check_edits(out: Path, overwrite: bool) -> None:
    """Raises ArtifactError where an audit's files were edited since it wrote them, unless they may be lost."""
    if not (out / MARK).is_file() and (out / AUDIT_FILE).is_file():  # of an earlier version: its mark is made now
        facts = read_json(out / AUDIT_FILE)
        written = str(facts.get("decisions_sha256")) if isinstance(facts, dict) else ""
        Mark("audit", {DECISIONS_FILE: (written,)}).write(out / MARK)
    if not overwrite:
        check_unedited(out, EDITED)


def write_audit(report: AuditReport, out: Path, progress: Progress, overwrite: bool = False) -> None:
    """Writes all files or none; audit.json, which makes the folder an audit, comes last.

    Raises:
        ArtifactError: A file was edited while the audit worked.
    """
    fill = partial(_fill_audit, report, out=out, progress=progress)
    publish_folder(out, "audit", fill, last=AUDIT_FILE, overwrite=overwrite, advice=EDITED)


def _fill_audit(report: AuditReport, folder: Path, out: Path, progress: Progress) -> None:
    write_decisions(folder / DECISIONS_FILE, report.decisions)
    save_measurements(report, folder / "photos.parquet")
    shift = report.drift.shift.shift if report.drift and report.drift.shift else None
    if shift is not None and not shift.is_identity:
        write_json(folder / SHIFT_FILE, encode(shift))
    progress.note("drawing the page")
    write_page(report, folder / "audit.html", out)
    train = [k for k, name in enumerate(report.class_name) if name]
    facts = AuditFacts(
        made=utc_now(),
        environment=describe_environment(),
        data=report.data_folder.name,
        num_train=report.num_train,
        num_test=len(report.scan) - report.num_train,
        photos_digest=digest_photos([report.scan.image_id[k] for k in train], [report.scan.rows[k].sha1 for k in train]),
        decisions_sha256=hash_file(folder / DECISIONS_FILE),
        shift_sha256=hash_file(folder / SHIFT_FILE) if (folder / SHIFT_FILE).is_file() else "",
        unavailable=report.unavailable,
        num_label_errors=report.num_label_errors,
        notes=report.notes,
    )
    write_sealed(folder / AUDIT_FILE, facts)


def save_measurements(report: AuditReport, path: Path) -> None:
    """One row per photograph: file, class (empty for the test set) and every measurement but the thumbnail."""
    names = [field.name for field in dataclasses.fields(Measurement) if field.name != "thumb"]
    columns = {"file": list(report.scan.image_id), "class_name": list(report.class_name)}
    table = pa.table(columns | {name: [getattr(row, name) for row in report.scan.rows] for name in names})
    replace_file(path, lambda target: pq.write_table(table, target))


def summarize(report: AuditReport) -> list[Sequence[str]]:
    """A table for the screen: a header, then kind, rows, and how many of each decision."""
    counts = report.counts()
    kinds = dict.fromkeys(kind for kind, _ in counts)
    rows: list[Sequence[str]] = [("kind", "rows", "drop", "group", "keep")]
    for kind in kinds:
        numbers = [counts[kind, decision] for decision in ("drop", "group", "keep")]
        rows.append((kind, str(sum(numbers)), *map(str, numbers)))
    return rows
