"""The audit on real photographs with planted and natural faults, whose truth is not given: what can be checked all the same."""

import hashlib
from pathlib import Path

import pytest

from hectocar.audit.audit import audit_photos
from hectocar.audit.report import AuditReport
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


def test_the_two_ways_to_the_shift_agree(report: AuditReport) -> None:
    """The pictures that lie in both sets and the distributions of all others give one curve, to a few grey levels."""
    from hectocar.photos.pixel_sample import sample_pixels
    from hectocar.photos.shift_fit import fit_shift

    assert report.drift is not None
    assert report.drift.shift is not None
    paths = report.scan.files()
    sides = ([p for p, name in zip(paths, report.class_name, strict=True) if bool(name) == train] for train in (True, False))
    samples = [sample_pixels(side, seed=1) for side in sides]
    curve = fit_shift(*samples).shift.tone_curve().astype(int)
    assert abs(curve - report.drift.shift.shift.tone_curve()).max() <= 8
