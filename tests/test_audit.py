"""The audit on a small showroom with planted faults: it finds them, changes nothing, and training obeys it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hectocar.auditing.audit import audit_photos, check_edits, summarize, write_audit
from hectocar.auditing.report import AuditReport
from hectocar.cli import main
from hectocar.dataset.decisions import Decision, read_decisions
from hectocar.disk.artifacts import EventLog
from hectocar.errors import ArtifactError, DataError
from hectocar.progress import NoProgress
from hectocar.showroom import ShowroomSpec, write_showroom

NUM_FAULTS = 5
EXACT = ("exact_duplicate", "duplicate_other_class", "near_duplicate")


@pytest.fixture(scope="module")
def showroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, five faults of each kind, a darker test set."""
    folder = tmp_path_factory.mktemp("audit") / "showroom"
    write_showroom(folder, ShowroomSpec(num_classes=6, train_per_class=14, test_per_class=6, num_faults=NUM_FAULTS))
    return folder


@pytest.fixture(scope="module")
def report(showroom: Path) -> AuditReport:
    """An audit without a network, written beside the showroom."""
    return audit_photos(showroom, showroom.parent / "audit", NoProgress())


def truth(showroom: Path) -> dict[str, set[str]]:
    """Planted files by kind."""
    planted: dict[str, set[str]] = {}
    with (showroom / "truth" / "faults.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            planted.setdefault(row["fault"], set()).add(row["file"])
    return planted


def sources(showroom: Path) -> dict[str, str]:
    """The photograph that each planted copy repeats."""
    with (showroom / "truth" / "faults.csv").open(encoding="utf-8") as file:
        return {row["file"]: row["detail"] for row in csv.DictReader(file) if row["fault"] in (*EXACT, "train_test_duplicate")}


def files(report: AuditReport, kind: str) -> set[str]:
    return {row.file for row in report.decisions if row.kind == kind}


@pytest.mark.parametrize("kind", ["unusable", "odd_but_fine", "train_test_duplicate"])
def test_planted_files_are_found_and_no_others(showroom: Path, report: AuditReport, kind: str) -> None:
    """Every unusable file is named and no usable one; the odd ones are told apart; copies of test photographs are known."""
    assert files(report, kind) == truth(showroom)[kind]


@pytest.mark.parametrize("kind", EXACT)
def test_planted_copies_are_grouped_with_their_source(showroom: Path, report: AuditReport, kind: str) -> None:
    """Copies and their sources, and nothing else, are named; each pair shares a group."""
    planted, source_of = truth(showroom)[kind], sources(showroom)
    assert files(report, kind) == planted | {source_of[file] for file in planted}
    group_of = {row.file: row.group for row in report.decisions if row.kind == kind}
    assert all(group_of[file] == group_of[source_of[file]] for file in planted)


def test_what_needs_a_network_is_said_to_be_unavailable(report: AuditReport) -> None:
    """Nothing is left out silently: each kind names what to give."""
    assert set(report.unavailable) == {"wrong_label", "no_car", "part_only", "rotated"}
    assert "--run RUN" in report.unavailable["wrong_label"]
    assert "--weights FILE" in report.unavailable["no_car"]


def test_the_darker_test_set_is_noticed(report: AuditReport) -> None:
    """The showroom's test photographs are darkened: the drift says so and the shift is a gain below one."""
    assert report.drift is not None
    brightness = next(q for q in report.drift.quantities if q.name == "brightness")
    assert brightness.target_median < brightness.ref_median
    assert report.drift.shift is not None
    curve = report.drift.shift.shift.tone_curve()
    assert curve[200] < 190


def test_nothing_in_the_data_folder_changes(showroom: Path, report: AuditReport) -> None:
    """All that the audit writes lies in its own folder."""
    out = showroom.parent / "audit"
    assert sorted(path.name for path in out.iterdir()) == [
        ".hectocar", "audit.html", "audit.json", "decisions.csv", "photos.parquet", "shift.json"
    ]  # fmt: skip
    assert f"<code>{out / 'decisions.csv'}</code>" in (out / "audit.html").read_text("utf-8"), "not where it was written first"
    assert not [path for path in showroom.rglob("*") if path.suffix in (".html", ".parquet", ".part")]


def test_rows_are_sorted_by_kind_and_score(showroom: Path, report: AuditReport) -> None:
    """decisions.csv is what a person reads: one block per kind, the surest first."""
    with (showroom.parent / "audit" / "decisions.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "kind", "decision", "group", "score", "reason", "label"]
    assert len(rows) == len(report.decisions)
    for kind in {row["kind"] for row in rows}:
        scores = [float(row["score"]) for row in rows if row["kind"] == kind]
        assert scores == sorted(scores, reverse=True)
    kinds = [row["kind"] for row in rows]
    assert [kind for k, kind in enumerate(kinds) if k == 0 or kinds[k - 1] != kind] == list(dict.fromkeys(kinds))
    assert [row[0] for row in summarize(report)[1:]]


def test_edited_decisions_are_never_lost(showroom: Path, report: AuditReport, tmp_path: Path) -> None:
    """A second audit refuses to overwrite a person's edits unless told to; without edits it replaces itself."""
    out = tmp_path / "audit"
    audit_photos(showroom, out, NoProgress())
    before = (out / "decisions.csv").read_bytes()
    audit_photos(showroom, out, NoProgress())
    assert (out / "decisions.csv").read_bytes() == before
    edited = before.replace(b",drop,", b",keep,", 1)
    (out / "decisions.csv").write_bytes(edited)
    with pytest.raises(ArtifactError, match=r"decisions\.csv: edited since hectocar wrote it; .* --overwrite"):
        audit_photos(showroom, out, NoProgress())
    assert (out / "decisions.csv").read_bytes() == edited
    audit_photos(showroom, out, NoProgress(), overwrite=True)
    assert (out / "decisions.csv").read_bytes() == before


def test_edits_made_while_an_audit_works_are_kept(
    showroom: Path, report: AuditReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decisions are looked at again at the moment of writing; nothing is replaced where a person was quicker."""
    out = tmp_path / "audit"
    write_audit(report, out, NoProgress())
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def edit(report: AuditReport, path: Path, home: Path) -> None:
        path.write_text("page")
        (out / "decisions.csv").write_bytes(before["decisions.csv"] + b"mine")

    monkeypatch.setattr("hectocar.auditing.audit.write_page", edit)
    with pytest.raises(ArtifactError, match="edited since hectocar wrote it"):
        write_audit(report, out, NoProgress())
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before | {
        "decisions.csv": before["decisions.csv"] + b"mine"
    }


def test_an_audit_of_an_earlier_version_is_known(report: AuditReport, tmp_path: Path) -> None:
    """It has no mark, but the digest of its decisions in audit.json: unedited it is replaced, edited it is not."""
    write_audit(report, tmp_path / "audit", NoProgress())
    (tmp_path / "audit" / ".hectocar").unlink()
    check_edits(tmp_path / "audit", overwrite=False)
    with (tmp_path / "audit" / "decisions.csv").open("ab") as file:
        file.write(b"mine")
    (tmp_path / "audit" / ".hectocar").unlink()
    with pytest.raises(ArtifactError, match="edited since hectocar wrote it"):
        check_edits(tmp_path / "audit", overwrite=False)


def test_a_folder_of_something_else_is_not_touched(showroom: Path, tmp_path: Path) -> None:
    """--out must be free."""
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="exists and is not an audit"):
        audit_photos(showroom, tmp_path, NoProgress())
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_any_two_folders_are_compared(showroom: Path, tmp_path: Path) -> None:
    """--test takes any folder; one without photographs is refused."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(DataError, match=r"--test .*: no photographs below it"):
        audit_photos(showroom, tmp_path / "audit", NoProgress(), test_folder=elsewhere)
    (elsewhere / "x.jpg").write_bytes((showroom / "test" / "TEST_00001.jpg").read_bytes())
    found = audit_photos(showroom, tmp_path / "audit", NoProgress(), test_folder=elsewhere)
    assert len(found.scan) - found.num_train == 1


def test_training_obeys_the_audit_and_prints_both_losses(
    showroom: Path, report: AuditReport, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`train --audit` leaves out what was dropped, keeps groups together, and validates on shifted photographs too;
    then `audit --run` ranks wrong labels, and `folds` deals the same folds."""
    audit, run = showroom.parent / "audit", tmp_path / "run"
    small = ["network.backbone=test_efficientnet", "training.epochs=2", "data.num_folds=2", "training.precision=float32"]
    settings = [word for setting in small for word in ("--set", setting)]
    arguments = ["--preset", "demo", *settings, "--audit", str(audit), "--out", str(run)]
    assert main(["train", str(showroom), *arguments, "--fold", "all", "--device", "cpu"]) == 0
    printed = capfd.readouterr()
    assert printed.out.count("(shifted ") == 2
    assert "validation is repeated on photographs shifted like the test set" in printed.err
    events = [event for event in EventLog(run / "fold0" / "events.jsonl").read() if event["kind"] == "epoch"]
    assert all(np.isfinite(event["ema"]["shifted_log_loss"]) for event in events)

    assert main(["folds", str(showroom), "--audit", str(audit), "--preset", "demo", "--set", "data.num_folds=2",
                 "--out", str(tmp_path / "folds.csv")]) == 0  # fmt: skip
    with (tmp_path / "folds.csv").open(encoding="utf-8") as file:
        fold_of = {row["image_id"]: int(row["fold"]) for row in csv.DictReader(file)}
    dropped = {row.file for row in read_decisions(audit / "decisions.csv") if row.decision == "drop"}
    assert {image_id for image_id, fold in fold_of.items() if fold == -1} == dropped
    for group in {row.group for row in report.decisions if row.group}:
        members = {row.file for row in report.decisions if row.group == group} & set(fold_of)
        assert len({fold_of[file] for file in members} - {-1}) <= 1

    second = tmp_path / "audit with run"
    assert main(["audit", str(showroom), "--out", str(second), "--run", str(run), "--device", "cpu"]) == 0
    assert "wrong_label" in capfd.readouterr().out
    rows = [row for row in read_decisions(second / "decisions.csv") if row.kind == "wrong_label"]
    assert rows
    assert all(row.label and row.label not in row.file for row in rows)
    assert json.loads((second / "audit.json").read_text("utf-8"))["unavailable"] == {}
    assert list((run / "oof").glob("clean_fold0*.npz"))


def test_a_run_of_other_photographs_is_refused(showroom: Path, tmp_path: Path) -> None:
    """Out-of-fold predictions are joined by id and bytes; a run of something else is not guessed at."""
    other = tmp_path / "other"
    write_showroom(other, ShowroomSpec(num_classes=4, train_per_class=4, test_per_class=1, num_faults=0))
    run = str(tmp_path / "run")
    settings = ["--set", "network.backbone=test_efficientnet", "--set", "training.epochs=1", "--set", "data.num_folds=2"]
    assert main(["train", str(other), "--preset", "demo", *settings, "--out", run, "--device", "cpu"]) == 0
    with pytest.raises(ArtifactError, match="trained on other classes"):
        audit_photos(showroom, tmp_path / "audit", NoProgress(), run=Path(run), device=torch.device("cpu"))
    assert not (tmp_path / "audit").exists()


def test_decisions_of_the_audit_are_rows(report: AuditReport) -> None:
    """Each file stands once per kind."""
    keys = [(row.file, row.kind) for row in report.decisions]
    assert len(keys) == len(set(keys))
    assert all(isinstance(row, Decision) for row in report.decisions)
