"""Verbs that look at photographs: ``audit``, ``read_audit``, ``deal_folds``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hectocar.config.schema import Config, DataConfig
from hectocar.disk.outputs import claim_file
from hectocar.progress import NoProgress, Progress
from hectocar.results import Result
from hectocar.verbs.configuration import complete_config
from hectocar.verbs.paths import AnyPath, to_path

if TYPE_CHECKING:
    from hectocar.auditing.report import AuditReport
    from hectocar.dataset.classes import ClassList
    from hectocar.dataset.decisions import Decision
    from hectocar.dataset.folds import Folds
    from hectocar.dataset.manifest import Manifest
    from hectocar.photos.shift import PhotoShift


@dataclass(frozen=True, repr=False)
class AuditResult(Result):
    """What an audit found; the decisions lie in ``folder / "decisions.csv"`` and may be edited."""

    folder: Path
    report: "AuditReport"

    def table(self) -> list[Sequence[str]]:
        from hectocar.auditing.audit import summarize

        return summarize(self.report)


def audit(
    data: AnyPath,
    out: AnyPath,
    *,
    test: AnyPath | None = None,
    run: AnyPath | None = None,
    weights: AnyPath | None = None,
    backbone: str = "mobilenetv2_100",
    max_megapixels: float = 100.0,
    workers: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AuditResult:
    """Finds duplicates, damaged files, wrong labels, photographs without a car, and the drift from training to test.

    Args:
        data: The photographs; none of them is changed.
        out: Gets audit.html, decisions.csv, shift.json.
        test: Photographs to compare with; None means the data's own test folder.
        run: A trained run: its out-of-fold answers tell wrong labels.
        weights: Pretrained weights of ``backbone``: tell what shows no car.
        backbone: timm model of the weights.
        max_megapixels: Larger photographs count as unusable.
        workers: 0 takes one per core.
        device: ``auto``, ``cpu``, ``cuda`` ...
        overwrite: Replace decisions that were edited.
        progress: Receives bars and lines.

    Raises:
        DataError: No photographs.
        ArtifactError: Something else stands in ``out``.
    """
    from hectocar.auditing.audit import audit_photos
    from hectocar.network.arithmetic import choose_device

    report = audit_photos(
        Path(data),
        Path(out),
        progress or NoProgress(),
        test_folder=to_path(test),
        run=to_path(run),
        weights=None if weights is None else str(weights),
        backbone=backbone,
        device=choose_device(device),
        config=DataConfig(max_megapixels=max_megapixels, num_workers=workers),
        overwrite=overwrite,
    )
    return AuditResult(Path(out), report)


@dataclass(frozen=True, repr=False)
class Findings(Result):
    """What stands in an audit's folder now, edits included."""

    folder: Path
    decisions: "tuple[Decision, ...]"
    shift: "PhotoShift | None"
    """From the training photographs to the test set's, where one was found."""

    def table(self) -> list[list[str]]:
        counts = Counter((row.kind, row.decision) for row in self.decisions)
        return [["finding", "decision", "photographs"], *([*key, str(count)] for key, count in counts.items())]


def read_audit(folder: AnyPath) -> Findings:
    """Reads what ``audit`` wrote.

    Raises:
        ArtifactError: Not an audit's folder, or damaged.
        DataError: Mistakes in the table of decisions.
    """
    from hectocar.dataset.decisions import read_audit as read

    found = read(Path(folder))
    return Findings(found.folder, found.decisions, found.shift)


@dataclass(frozen=True, repr=False)
class FoldsResult(Result):
    """Which photograph is held out where."""

    manifest: "Manifest"
    classes: "ClassList"
    folds: "Folds"
    num_folds: int

    def table(self) -> list[list[str]]:
        from hectocar.dataset.folds import fold_rows

        return fold_rows(self.manifest, self.classes, self.folds, self.num_folds)

    def save(self, path: AnyPath, *, overwrite: bool = False) -> None:
        """Writes a csv: image_id, class_name, fold (-1: not used), group, status, problem."""
        with claim_file(Path(path), "folds", data=self.manifest.root, overwrite=overwrite):
            self.write(Path(path))

    def write(self, path: Path) -> None:
        """As ``save``, for a caller who has claimed the place."""
        from hectocar.dataset.folds import write_fold_table

        write_fold_table(path, self.manifest, self.folds)


def deal_folds(
    data: AnyPath, config: Config | str | None = None, *, audit: AnyPath | None = None, progress: Progress | None = None
) -> FoldsResult:
    """Deals the photographs into folds: classes spread evenly, copies of a photograph always in one.

    Raises:
        DataError: No photographs, or too few.
    """
    from hectocar.dataset.folds import deal_folds as deal
    from hectocar.dataset.manifest import scan_photos

    whole, receiver = complete_config(config, audit).data, progress or NoProgress()
    manifest, classes = scan_photos(Path(data), whole, receiver)
    return FoldsResult(manifest, classes, deal(manifest, classes, whole, receiver), whole.num_folds)
