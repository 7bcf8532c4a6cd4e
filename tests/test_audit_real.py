"""The audit on real photographs with planted and natural faults, whose truth is not given: what can be checked all the same."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from hectocar.auditing.audit import audit_photos
from hectocar.auditing.report import AuditReport
from hectocar.progress import NoProgress

pytestmark = [pytest.mark.slow, pytest.mark.realdata]


@pytest.fixture(scope="module")
def report(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    return audit_photos(shared / "data" / "cars196", tmp_path_factory.mktemp("real") / "audit", NoProgress())


def files(report: AuditReport, *kinds: str) -> set[str]:
    return {row.file for row in report.decisions if row.kind in kinds}


def test_exact_duplicates_are_those_of_the_bytes(report: AuditReport) -> None:
    """All files whose bytes another training file has, and no others, are exact duplicates or label conflicts."""
    by_bytes: dict[str, list[str]] = {}
    for image_id, name, row in zip(report.scan.image_id, report.class_name, report.scan.rows, strict=True):
        if name and not row.problem:
            by_bytes.setdefault(hashlib.sha1((report.scan.root / image_id).read_bytes()).hexdigest(), []).append(image_id)
    equal = {image_id for members in by_bytes.values() if len(members) > 1 for image_id in members}
    assert equal <= files(report, "exact_duplicate", "duplicate_other_class")
    assert files(report, "exact_duplicate") <= equal


def test_every_recompressed_file_finds_its_original(report: AuditReport) -> None:
    """200 training files were saved at a JPEG quality of 60 to 75 where all others have 86: each has a partner."""
    odd = {
        image_id
        for image_id, name, row in zip(report.scan.image_id, report.class_name, report.scan.rows, strict=True)
        if name and 0 < row.jpeg_quality < 82
    }
    assert len(odd) == 200
    assert odd <= files(report, "near_duplicate", "duplicate_other_class")


def test_damaged_files_are_named_and_odd_ones_kept(report: AuditReport) -> None:
    """Nine files cannot be decoded; CMYK, PNG and turned ones are fine."""
    assert len(files(report, "unusable")) == 9
    assert len(files(report, "odd_but_fine")) >= 20
    assert files(report, "unusable").isdisjoint(files(report, "odd_but_fine"))


def test_the_shift_of_the_test_set_is_a_darkening(report: AuditReport) -> None:
    """The pictures that lie in both sets are darker in the test set by 42 grey levels in the median; the fit, which does
    not look at pairs, agrees."""
    assert report.drift is not None
    assert report.drift.shift is not None
    curve = report.drift.shift.shift.tone_curve().astype(int)
    assert abs(curve[80:240] - (np.arange(80, 240) - 42)).max() <= 6
    assert report.drift.shift.shift.jpeg_quality == 92
