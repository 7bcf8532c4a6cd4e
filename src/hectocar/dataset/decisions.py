"""The table of decisions that an audit hands to folds and training: decisions.csv, which a person may edit.

Nothing on the disk is moved or deleted: a decision is a row. Columns:
file (relative to DATA), kind, decision, group, score, reason, label (the class to relabel to, or that is suggested).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.codec import decode, read_sealed
from hectocar.config.schema import DataConfig
from hectocar.dataset.groups import connect_places
from hectocar.disk.artifacts import hash_file, read_json
from hectocar.disk.writing import replace_file
from hectocar.errors import ArtifactError, DataError
from hectocar.photos.shift import PhotoShift
from hectocar.tables import (
    NUM_SHOWN,
    csv_text,
    describe_problems,
    from_spreadsheet_safe,
    normalize_name,
    read_named_columns,
    with_nearest,
)

KINDS = (
    "unusable", "half_lost", "odd_but_fine", "exact_duplicate", "duplicate_other_class", "near_duplicate",
    "train_test_duplicate", "wrong_label", "no_car", "part_only", "rotated",
)  # fmt: skip
SUSPECT_KINDS = ("duplicate_other_class", "wrong_label", "no_car", "part_only", "rotated")
"""Kinds that doubt a photograph's label or content."""
KEEP, DROP, RELABEL, GROUP = DECISIONS = ("keep", "drop", "relabel", "group")
SOFTEN = "soften"
TEACHINGS = (KEEP, DROP, RELABEL, SOFTEN)
"""Decisions about what a photograph teaches, see teaching.py; ``soften``: in part its own class, in part ``label``."""
COLUMNS = ("file", "kind", "decision", "group", "score", "reason", "label")
DECISIONS_FILE, SHIFT_FILE, AUDIT_FILE = "decisions.csv", "shift.json", "audit.json"


@dataclass(frozen=True)
class Decision:
    """One row. A photograph may stand in several: drop wins over relabel, and relabel over keep and group."""

    file: str
    """Relative to the data folder, NFC, with forward slashes."""
    kind: str
    decision: str
    group: str = ""
    """Photographs of one group never stand on both sides of a fold, whatever the decision."""
    score: float = 1.0
    """How sure, 0 to 1; of ``soften`` the share of ``label`` in the target."""
    reason: str = ""
    label: str = ""
    """The class that ``relabel`` gives, or that the audit suggests."""


@dataclass(frozen=True)
class Verdicts:
    """What the decisions say about the training photographs of a manifest."""

    dropped: dict[str, tuple[str, str]] = field(default_factory=dict)
    """image_id -> (kind, reason)."""
    labels: dict[str, str] = field(default_factory=dict)
    """image_id -> class name."""
    softened: dict[str, tuple[str, float]] = field(default_factory=dict)
    """image_id -> class name, and its share in the target."""
    groups: dict[str, str] = field(default_factory=dict)
    """image_id -> name of the group that it may not leave."""


@dataclass(frozen=True)
class AuditFacts:
    """What stands in audit.json."""

    made: str
    environment: dict[str, str]
    data: str
    num_train: int
    num_test: int
    photos_digest: str
    """See ``digest_photos``."""
    decisions_sha256: str
    """Of decisions.csv as it was written; a person may have edited it since."""
    shift_sha256: str
    """Of shift.json; empty where there is none."""
    unavailable: dict[str, str]
    num_label_errors: int | None
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_test, self.num_label_errors or 0) < 0:
            raise ValueError("a number of photographs is below 0; allowed: 0 or more")


@dataclass(frozen=True)
class AuditInputs:
    """What training takes from an audit's folder."""

    folder: Path
    decisions: tuple[Decision, ...]
    photos_digest: str
    shift: PhotoShift | None
    edited: bool
    """Whether the table of decisions is another than the audit wrote."""


def write_decisions(path: Path, decisions: Iterable[Decision]) -> None:
    """Writes the table, by kind and falling score; spreadsheets read its byte-order mark."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    rows = sorted(decisions, key=lambda row: (order[row.kind], -row.score, row.group, row.file))
    cells = ((row.file, row.kind, row.decision, row.group, f"{row.score:.4f}", row.reason, row.label) for row in rows)
    text = csv_text(COLUMNS, cells)
    replace_file(path, lambda target: target.write_text(text, encoding="utf-8-sig", newline=""))


def read_decisions(path: Path, allowed: Sequence[str] = DECISIONS) -> tuple[Decision, ...]:
    """Reads the table, as written or edited by hand; a score that says nothing is 1.

    Raises:
        DataError: A column is missing, a decision is not allowed, or a relabel names no class; all mistakes are listed.
    """
    required, optional = ("file", "decision"), ("kind", "group", "score", "reason", "label")
    rows = read_named_columns(path, "decisions", required, optional, allow_empty=True, blank=optional)
    decisions, problems = [], []
    for line, written in rows:
        cells = {name: from_spreadsheet_safe(cell.strip()) for name, cell in written.items()}
        decision = cells["decision"].lower()
        score = _read_share(cells.get("score", ""))
        if decision not in allowed:
            problems.append(f"line {line}: decision is {cells['decision']!r}; allowed: {', '.join(allowed)}")
        if decision in (RELABEL, SOFTEN) and not cells.get("label"):
            problems.append(f"line {line}: {decision} needs the name of a class in the column label")
        if decision == SOFTEN and score is None:
            problems.append(f"line {line}: soften needs the share of the class in the column score; allowed: 0 to 1")
        if decision == GROUP and not cells.get("group"):
            problems.append(f"line {line}: group needs a name in the column group, the same for all photographs of the group")
        decisions.append(
            Decision(
                file=normalize_name(cells["file"]),
                kind=cells.get("kind") or "unusable",
                decision=decision,
                group=cells.get("group", ""),
                score=1.0 if score is None else score,
                reason=cells.get("reason", ""),
                label=normalize_name(cells.get("label", "")),
            )
        )
    if problems:
        raise DataError(describe_problems(f"decisions {path}", problems, "correct the cells"))
    return tuple(decisions)


def _read_share(cell: str) -> float | None:
    """None where a cell is no number from 0 to 1."""
    try:
        share = float(cell)
    except ValueError:
        return None
    return share if 0.0 <= share <= 1.0 else None


def digest_photos(image_ids: Sequence[str], sha1s: Sequence[str]) -> str:
    """SHA-256 over which photographs there are and their bytes."""
    lines = sorted(f"{image_id}\t{sha1}" for image_id, sha1 in zip(image_ids, sha1s, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_audit(folder: Path) -> AuditInputs:
    """Reads what ``hectocar audit --out`` wrote.

    Raises:
        ArtifactError: Not an audit's folder, or damaged.
        DataError: Mistakes in the table of decisions.
    """
    if not (folder / AUDIT_FILE).is_file() or not (folder / DECISIONS_FILE).is_file():
        raise ArtifactError(f"{folder}: not an audit (no {AUDIT_FILE} or {DECISIONS_FILE}); `hectocar audit DATA --out DIR`")
    facts = read_sealed(AuditFacts, folder / AUDIT_FILE, "make the audit again; keep a copy of an edited decisions.csv")
    shift = read_shift(folder / SHIFT_FILE) if (folder / SHIFT_FILE).exists() or facts.shift_sha256 else None
    if shift is not None and hash_file(folder / SHIFT_FILE) != facts.shift_sha256:
        raise ArtifactError(
            f"{folder / SHIFT_FILE}: not the shift that the audit fitted (sha256 differs); make the audit again, or name a "
            "shift of your own by data.shift"
        )
    decisions, edited = read_decisions(folder / DECISIONS_FILE), hash_file(folder / DECISIONS_FILE) != facts.decisions_sha256
    return AuditInputs(folder, decisions, facts.photos_digest, shift, edited)


def read_shift(path: Path) -> PhotoShift:
    """Reads a shift.json.

    Raises:
        ArtifactError: Missing or damaged.
    """
    return decode(PhotoShift, read_json(path), str(path), advice="make the audit again, or correct the file")


def find_shift(config: DataConfig) -> PhotoShift | None:
    """The shift of the second validation: the audit's, that of a file, or none.

    Raises:
        ArtifactError: The file or the audit's folder is missing or damaged.
    """
    if config.shift == "none":
        return None
    if config.shift != "audit":
        return read_shift(Path(config.shift))
    return read_audit(Path(config.audit)).shift if config.audit else None


def judge_photos(decisions: Sequence[Decision], image_ids: Sequence[str], class_names: Iterable[str], where: str) -> Verdicts:
    """Sums up the decisions about the photographs of a manifest; rows that keep others (the test set's) are passed over.

    Raises:
        DataError: A row drops, groups or relabels a file that is no training photograph, two relabels of one photograph
            disagree, or one names a class that is not there.
    """
    known, names = dict.fromkeys(image_ids), set(class_names)
    verdicts = Verdicts()
    strangers, misnamed, problems = [], [], []
    for row in decisions:
        if row.file not in known:
            if row.decision != KEEP:
                strangers.append(row)
            continue
        if row.group:
            verdicts.groups.setdefault(row.file, row.group)
        if row.decision == DROP:
            verdicts.dropped.setdefault(row.file, (row.kind, row.reason))
        if row.decision == RELABEL and verdicts.labels.setdefault(row.file, row.label) != row.label:
            problems.append(f"{row.file} is relabelled to {verdicts.labels[row.file]!r} and to {row.label!r}; allowed: one")
        if row.decision == SOFTEN:
            soft = (row.label, row.score)
            if verdicts.softened.setdefault(row.file, soft) != soft:
                problems.append(f"{row.file} is softened twice; allowed: one row")
        if row.decision in (RELABEL, SOFTEN) and row.label not in names:
            misnamed.append(row)
    # What a name resembles takes a look at all names: for the rows that are shown, not for each of thousands.
    unknown = [
        f"{row.decision} of a file that is no training photograph: {with_nearest([row.file], known)}"
        for row in strangers[:NUM_SHOWN]
    ]
    wrong = [
        f"{row.file}: {row.decision} to an unknown class: {with_nearest([row.label], sorted(names))}"
        for row in misnamed[:NUM_SHOWN]
    ]
    lines = [*problems[:NUM_SHOWN], *unknown, *wrong]
    if lines:
        more = len(problems) + len(strangers) + len(misnamed) - len(lines)
        raise DataError(describe_problems(where, [*lines, *([f"and {more} more rows"] if more else [])], "correct the rows"))
    return verdicts


def suspected_photos(decisions: Sequence[Decision]) -> frozenset[str]:
    """Photographs whose label or content is in doubt and that were neither dropped nor given another label."""
    settled = {row.file for row in decisions if row.decision in (DROP, RELABEL)}
    return frozenset(row.file for row in decisions if row.kind in SUSPECT_KINDS) - settled


def group_photos(
    sha1s: Sequence[str], image_ids: Sequence[str], decisions: Sequence[Decision], alike: Sequence[Sequence[str]] = ()
) -> NDArray[np.int64]:
    """(N,) number of the group of each photograph: equal bytes, alike, or a common group in any row, directly or in a chain.

    Numbers count in order of first appearance.

    Args:
        sha1s: Of the bytes.
        image_ids: Which the rows name.
        decisions: The rows.
        alike: Columns of keys; photographs of one key are of one group, and an empty key says nothing.
    """
    keys_of: dict[str, list[str]] = {}
    for row in decisions:
        if row.group:
            keys_of.setdefault(row.file, []).append(f"group {row.group}")
    number_of: dict[str, int] = {}
    photos, numbers = [], []
    for place, (image_id, sha1, *keys) in enumerate(zip(image_ids, sha1s, *alike, strict=True)):
        same = [f"column {column} {key}" for column, key in enumerate(keys) if key]
        for key in (f"sha1 {sha1}", *keys_of.get(image_id, ()), *same):
            photos.append(place)
            numbers.append(number_of.setdefault(key, len(number_of)))
    ends = np.array(numbers, dtype=np.int64) + len(sha1s)
    lowest = connect_places(len(sha1s) + len(number_of), photos, ends)[: len(sha1s)]
    group_N: NDArray[np.int64] = np.unique(lowest, return_inverse=True)[1].astype(np.int64)
    return group_N


def check_same_photos(audit: AuditInputs, image_ids: Sequence[str], sha1s: Sequence[str]) -> None:
    """Raises ArtifactError when the audit looked at other photographs than these."""
    if digest_photos(image_ids, sha1s) != audit.photos_digest:
        raise ArtifactError(
            f"{audit.folder}: this audit is of other photographs ({len(image_ids)} are there now); "
            f"run `hectocar audit DATA --out {audit.folder}` again, or give another --audit"
        )
