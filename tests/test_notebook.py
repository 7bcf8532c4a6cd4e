"""The notebook: what a reader sees in it is clean, and what it does still works, cell by cell, in a folder of its own."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from hectocar.dataset.manifest import find_equivalent_pairs
from hectocar.scoring.submission import check_submission, read_sample, read_submission
from hectocar.scoring.truth import read_truth, score_submission

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "pipeline.ipynb"
MAX_BYTES, MAX_CELL_LINES = 1_500_000, 18
PICTURE_CELLS = {"findings", "drift", "preview", "curve", "calibration", "predictions", "explained"}
TINY = """
SHOWROOM = {"num_classes": 4, "train_per_class": 8, "test_per_class": 2, "num_faults": 1, "long_edge_px": 96}
FOLDS, VIEWS = 2, ["plain", "mirror"]
SETTINGS = ["network.backbone=test_efficientnet", "training.epochs=1", "training.warmup_epochs=0", "training.ema_decay=0"]
SETTINGS += ["training.sizes=[{epochs: 1, size_px: 48, batch_size: 8, learning_rate: 1e-3}]", "training.precision=float32"]
"""


AGAIN = """
kept = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.suffix in (".safetensors", ".html", ".md")}
hidden = truth_file.rename(truth_file.with_name("hidden.csv"))
DATA, PRESET = str(data), "demo"
"""
AFTER = """
print("unchanged:", kept == {path: path.stat().st_mtime_ns for path in kept})
hidden.rename(truth_file)
"""


def read_notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: Any) -> dict[str, Any]:
    """By id."""
    return {cell["id"]: cell for cell in notebook.cells if cell.cell_type == "code"}


def execute(folder: Path, injected: str = "", again: str = "") -> Any:
    """Runs the notebook as its readers do; an error in a cell is raised.

    Args:
        folder: Where it is run.
        injected: Settings in a cell after the settings.
        again: Code after the last cell, followed by all cells below the settings once more (ids end in ``-again``).
    """
    notebook = read_notebook()
    for cell in code_cells(notebook).values():
        cell.outputs, cell.execution_count = [], None
    ids = [cell["id"] for cell in notebook.cells]
    copies = [cell for cell in deepcopy(notebook.cells[ids.index("resolve") :]) if again and cell.cell_type == "code"]
    for cell in copies:
        cell["id"] += "-again"
    if injected:
        notebook.cells.insert(ids.index("settings") + 1, new_code_cell(injected, id="injected"))
    notebook.cells += [new_code_cell(again, id="between"), *copies, new_code_cell(AFTER, id="after-again")] if again else []
    NotebookClient(notebook, timeout=3000, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def pictures_of(cell: Any) -> int:
    kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
    return sum(kind in ("image/png", "image/jpeg") for kind in kinds)


def text_of(cell: Any) -> str:
    parts = [output.get("text", "") + output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
    return "\n".join(parts)


def check_executed(cells: dict[str, Any], folder: Path) -> None:
    """Every cell ran, showed its picture, and the submission that it left passes its check and scores what it says."""
    assert [cell.execution_count for cell in cells.values()] == list(range(1, len(cells) + 1))
    errors = [output for cell in cells.values() for output in cell.outputs if output.output_type in ("error", "stream")]
    assert [output for output in errors if output.output_type == "error" or output.name == "stderr"] == []
    assert {name for name, cell in cells.items() if pictures_of(cell)} == PICTURE_CELLS
    work = folder / "pipeline_work"
    submission, sample = read_submission(work / "submission.csv"), read_sample(work / "showroom" / "sample_submission.csv")
    check_submission(submission, sample)
    answers = read_truth(work / "showroom" / "truth" / "answers.csv")
    report = score_submission(submission, answers, find_equivalent_pairs(work / "showroom", submission.columns))
    assert f"{report.summed:.5f}" in text_of(cells["score"])
    for page in ("audit/audit.html", "score/score.html", "bundle/report/report.md"):
        assert (work / page).is_file()


def test_the_notebook_runs_and_a_second_run_goes_on(tmp_path: Path) -> None:
    """All cells on a handful of rendered cars, so that the stored notebook cannot be older than the library.

    Then once more over that folder as if it were one's own: nothing is trained or fitted twice, and where the truth is not
    known nothing is scored.
    """
    cells = code_cells(execute(tmp_path, TINY, AGAIN))
    check_executed({name: cell for name, cell in cells.items() if not name.endswith("-again")}, tmp_path)
    assert "near_duplicate" in text_of(cells["audit"])
    assert "cannot be scored here" in text_of(cells["score-again"])
    assert "unchanged: True" in text_of(cells["after-again"])


@pytest.mark.slow
def test_the_notebook_runs_as_it_is(tmp_path: Path) -> None:
    """Unchanged, as a reader would; it must have learned something."""
    check_executed(code_cells(execute(tmp_path)), tmp_path)
    work = tmp_path / "pipeline_work"
    answers = read_truth(work / "showroom" / "truth" / "answers.csv")
    submission = read_submission(work / "submission.csv")
    report = score_submission(submission, answers, find_equivalent_pairs(work / "showroom", submission.columns))
    assert report.summed < 1.5  # a uniform guess has 2.08


def test_the_stored_notebook_is_small_and_knows_no_machine() -> None:
    """No folder of the machine that ran it, no errors, no warnings, all of it executed in order or not at all."""
    text = NOTEBOOK.read_text("utf-8")
    assert len(text.encode()) < MAX_BYTES
    assert re.findall(r"(?<![\w.])/(?:work|tmp|root|home|usr|opt|Users)\b", text) == []
    cells = code_cells(read_notebook())
    counts = [cell.execution_count for cell in cells.values()]
    assert counts in ([None] * len(cells), list(range(1, len(cells) + 1)))
    outputs = [output for cell in cells.values() for output in cell.outputs]
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)


def test_the_notebook_knows_the_public_face_only() -> None:
    """Whatever it needs, a reader's own program finds in ``hectocar`` itself."""
    source = "\n".join(cell.source for cell in code_cells(read_notebook()).values())
    assert re.findall(r"^(?:from|import) hectocar\S+", source, re.MULTILINE) == []


def test_cells_are_named_and_short() -> None:
    """Ids say what a cell does and stay as they are; what is longer than a few lines belongs to the library."""
    notebook = read_notebook()
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)?", cell["id"]) for cell in notebook.cells)
    lines = {name: len(cell.source.splitlines()) for name, cell in code_cells(notebook).items() if "imports" not in name}
    assert {name: number for name, number in lines.items() if number > MAX_CELL_LINES} == {}
    unexplained = [
        here["id"]
        for before, here in zip(notebook.cells, notebook.cells[1:], strict=False)
        if here.cell_type == "code" and before.cell_type == "code"
    ]
    assert unexplained == ["imports", "imports-hectocar", "resolve"]
