"""Tables that people open in a spreadsheet run no formula there, and hold exactly what was written when they are read again."""

import csv
import io
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from folders import write_photo
from hectocar.config.reader import read_config
from hectocar.config.schema import DataConfig
from hectocar.dataset.decisions import Decision, read_decisions, write_decisions
from hectocar.dataset.folds import Folds, write_fold_table
from hectocar.dataset.manifest import scan_photos
from hectocar.lab.ablation import AblationPlan, AblationRun
from hectocar.lab.ablation_report import save_ablation
from hectocar.tables import csv_text, from_spreadsheet_safe, spreadsheet_safe

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "＋1", "－1", "＠A")
DANGEROUS = tuple("=+-@\t\r\n ＝＋－＠")


@given(st.text(alphabet="='+-@\t\n a1,\"", max_size=6))
@settings(max_examples=300, deadline=None)
def test_what_is_made_safe_is_given_back_exactly(cell: str) -> None:
    """Any text, apostrophes of its own included, survives the way into a table and back, and begins like no formula in it."""
    safe = spreadsheet_safe(cell)
    assert from_spreadsheet_safe(safe) == cell
    assert not safe.startswith(DANGEROUS)
    ((_,), (read,)) = csv.reader(io.StringIO(csv_text(("name",), [(cell or "x",)]), newline=""), strict=True)
    assert from_spreadsheet_safe(read) == (cell or "x")


@pytest.mark.parametrize("text", ["Kia", "", "'81 Beetle", "a=b", "718_박스터", "'", "''"])
def test_harmless_texts_are_left_alone(text: str) -> None:
    """Only what begins like a formula is touched, so that ordinary tables look as ever."""
    assert spreadsheet_safe(text) == text == from_spreadsheet_safe(text)


def test_numbers_stay_numbers() -> None:
    """A number below zero is no formula: only texts get an apostrophe, and nothing is an empty cell."""
    assert csv_text(("a", "b", "c", "d"), [(-1, -0.5, None, "-1")]) == "a,b,c,d\n-1,-0.5,,'-1\n"


@pytest.mark.parametrize("text", FORMULAS)
def test_decisions_about_files_that_look_like_formulas_come_back(text: str, tmp_path: Path) -> None:
    """decisions.csv is edited in spreadsheets and read again: file, group, reason and label are what the audit meant."""
    row = Decision(f"{text}/a.jpg", "wrong_label", "relabel", group=text, score=0.5, reason=f"{text}?", label=f"{text}x")
    write_decisions(tmp_path / "d.csv", [row])
    with (tmp_path / "d.csv").open(encoding="utf-8-sig", newline="") as file:
        _, cells = csv.reader(file)
    assert not any(cell.startswith(DANGEROUS) for cell in cells)
    (read,) = read_decisions(tmp_path / "d.csv")
    assert (read.file, read.group, read.reason, read.label) == (row.file, row.group, row.reason, row.label)


def test_a_hand_written_decision_needs_no_apostrophe(tmp_path: Path) -> None:
    """Who writes the table without a spreadsheet writes the name as it is."""
    (tmp_path / "d.csv").write_text("file,decision\n=kia/a.jpg,drop\n'=kia/b.jpg, drop \n")
    assert [(row.file, row.decision) for row in read_decisions(tmp_path / "d.csv")] == [
        ("=kia/a.jpg", "drop"),
        ("=kia/b.jpg", "drop"),
    ]


def test_folds_and_ablations_are_written_safely(tmp_path: Path) -> None:
    """folds.csv and runs.csv name classes, files and variants of the user's; fold -1 stays a number."""
    for place, name in enumerate(("=cmd", "@b")):
        write_photo(tmp_path / f"train/{name}/a.jpg", place)
    manifest, _ = scan_photos(tmp_path, DataConfig())
    write_fold_table(tmp_path / "folds.csv", manifest, Folds(manifest.image_id, np.zeros(2, np.int64), np.full(2, -1)))
    assert [line.split(",")[1:3] for line in (tmp_path / "folds.csv").read_text().splitlines()[1:]] == [
        ["'=cmd", "-1"],
        ["'@b", "-1"],
    ]
    plan = AblationPlan("t", (1,), (0,), {name: read_config() for name in ("base", "+ema")})
    save_ablation(plan, [AblationRun(name, 1, 0, 1.0, 0.5, 1.0, 1.0) for name in plan.variants], tmp_path)
    assert [line.split(",")[0] for line in (tmp_path / "runs.csv").read_text().splitlines()] == ["variant", "base", "'+ema"]
