"""Laws of an audit with a network: no photograph is judged by an embedding of what was not read; a few are no traceback."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hectocar.auditing.audit import audit_photos
from hectocar.auditing.embedder import build_embedder
from hectocar.auditing.report import AuditReport
from hectocar.auditing.suspect_findings import judge_views
from hectocar.auditing.view_suspects import MIN_SAMPLES
from hectocar.dataset.scan import scan_files
from hectocar.errors import DataError
from hectocar.progress import NoProgress
from tiny import CPU, NUM_PER_CLASS, write_photos

VIEW_KINDS = ("no_car", "part_only", "rotated")


class LoseAFile(NoProgress):
    """Empties a file when the scan is done."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        if "photographs measured" in text:
            self.file.write_bytes(b"")


def audit(folder: Path, progress: NoProgress) -> AuditReport:
    torch.manual_seed(0)
    return audit_photos(folder, folder.parent / "audit", progress, weights="none", backbone="test_efficientnet", device=CPU)


def test_a_photograph_lost_between_scan_and_embedding_is_unusable_and_nothing_else(tmp_path: Path) -> None:
    """It is named with its reason and dropped; it has no links, is in no list of odd views, and the others are judged."""
    files = write_photos(tmp_path / "data")
    copy = files[3].with_name("copy of it.jpg")
    copy.write_bytes(files[3].read_bytes())
    progress = LoseAFile(files[3])
    report = audit(tmp_path / "data", progress)
    lost = files[3].relative_to(tmp_path / "data").as_posix()
    rows = [row for row in report.decisions if row.file == lost]
    assert [(row.kind, row.decision) for row in rows] == [("unusable", "drop")]
    assert "changed during the audit: the file is empty" in rows[0].reason
    assert any(note.startswith(f"{lost}: changed during the audit") for note in progress.notes)
    assert not any(row.file.endswith("copy of it.jpg") and row.kind == "exact_duplicate" for row in report.decisions)
    assert {row.file for row in report.decisions if row.kind in VIEW_KINDS} >= {
        file.relative_to(tmp_path / "data").as_posix() for file in files[4:8]
    }


def test_the_detectors_of_odd_views_learn_from_no_photograph_that_was_not_read(tmp_path: Path) -> None:
    """One that is lost after its embedding teaches nothing; with too few left the audit says so instead of guessing."""
    files = write_photos(tmp_path)
    embedder = build_embedder(run=None, weights="none", backbone="test_efficientnet", device=CPU, max_megapixels=100.0)
    assert embedder is not None
    scan = scan_files(tmp_path, [file.relative_to(tmp_path).as_posix() for file in files], max_megapixels=100.0)
    embeddings, problems = embedder.embed_files(files, NoProgress())
    assert problems == {}
    rows = np.arange(len(files))
    seen: list[np.ndarray] = []

    class Watching(type(embedder)):  # type: ignore[misc]
        def embed_pixels(self, images: np.ndarray) -> np.ndarray:
            seen.append(images)
            return super().embed_pixels(images)  # type: ignore[no-any-return]

    watching = Watching(embedder.network, embedder.source, embedder.max_megapixels)
    files[0].write_bytes(b"")
    judge_views(scan, rows, embeddings, watching, NoProgress())
    assert not any((picture == 0).all() for images in seen[-6:] for picture in images), "a black square was taught as turned"
    for file in files[: len(files) - MIN_SAMPLES + 1]:
        file.unlink(missing_ok=True)
    with pytest.raises(DataError, match="cannot be read any more, and"):
        judge_views(scan, rows, embeddings, watching, NoProgress())


def test_a_few_photographs_are_audited_without_detectors(tmp_path: Path) -> None:
    """Eight photographs are too few to teach a detector: the audit says that it did not look, and ends."""
    for file in write_photos(tmp_path / "data"):
        if int(file.stem) >= NUM_PER_CLASS // 4:
            file.unlink()
    report = audit(tmp_path / "data", NoProgress())
    assert {report.unavailable[kind] for kind in VIEW_KINDS} == {f"needs {MIN_SAMPLES} readable photographs"}
