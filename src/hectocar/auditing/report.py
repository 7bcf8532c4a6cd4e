"""What an audit found, before anything is written or drawn."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hectocar.auditing.drift import QuantityDrift, TwoSampleTest
from hectocar.auditing.shift_fit import ShiftFit
from hectocar.dataset.decisions import Decision
from hectocar.dataset.scan import PhotoScan


@dataclass(frozen=True)
class DriftReport:
    """How the test photographs differ from the training photographs."""

    quantities: tuple[QuantityDrift, ...]
    shift: ShiftFit | None
    """None where it could not be fitted."""
    shift_source: str
    """What it was fitted on, for a person."""
    separation: TwoSampleTest | None
    """Over embeddings; None without a network."""

    def table(self) -> list[str]:
        """Lines for the screen."""
        lines = [
            f"drift: {q.name} {q.ref_median:.3g} -> {q.target_median:.3g}, effect size d = {q.cohens_d:+.2f} ({q.verdict})"
            for q in self.quantities
            if q.verdict not in ("none", "small")
        ]
        if self.separation is not None:
            lines.append(f"drift: a classifier tells train from test with AUC {self.separation.auc:.3f} (0.5: not at all)")
        if self.shift is not None:
            lines.append(f"shift from train to test ({self.shift_source}): {self.shift.shift.describe()}")
        return lines


@dataclass(frozen=True)
class AuditReport:
    """Everything about one data folder."""

    data_folder: Path
    scan: PhotoScan
    """Training photographs, then those of the test set."""
    class_name: tuple[str, ...]
    """Of each row of the scan; empty for the test set."""
    num_classes: int
    """Trained classes: equivalent names are one."""
    decisions: tuple[Decision, ...]
    unavailable: dict[str, str]
    """Kind of finding -> why it could not be looked for, and what to give."""
    num_label_errors: int | None
    """Estimated number of wrong labels; None without out-of-fold predictions."""
    drift: DriftReport | None
    """None without test photographs."""
    notes: tuple[str, ...] = ()

    @property
    def num_train(self) -> int:
        return sum(1 for name in self.class_name if name)

    def counts(self) -> Counter[tuple[str, str]]:
        """Number of rows by (kind, decision)."""
        return Counter((row.kind, row.decision) for row in self.decisions)
