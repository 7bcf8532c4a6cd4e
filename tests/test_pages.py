"""Laws of all pages: what a stranger wrote is text and never markup, and every branch of every template is drawn by a test."""

import ast
import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError

import hectocar
from drawn_pages import Page, a_row_of_each_kind, add_drift, make_report
from hectocar.auditing import page as audit_page
from hectocar.auditing.page import write_page
from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import Decision
from hectocar.lab import score_page
from hectocar.lab.bench.plot import draw_plot
from hectocar.lab.score_page import Pictures
from hectocar.pages import environment
from hectocar.pages.environment import ENVIRONMENT, render
from hectocar.photos.shift import PhotoShift
from hectocar.results import Result
from hectocar.scoring.photo_losses import compute_photo_losses
from hectocar.scoring.submission import Submission
from hectocar.scoring.truth import Truth, score_submission
from test_bench import make_bench

SOURCE = Path(hectocar.__file__).parent
TEMPLATES = SOURCE / "pages" / "templates"
EVIL = [
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    "{{7*7}}",
    "{% raw %}",
    "{% include 'style.css' %}{#",
    "\" onmouseover=alert(1) x='",
    "' onfocus=alert(1) autofocus `",
    "&lt;b&gt;&amp;&#60;",
    "-->]]><!--",
    "javascript:alert(1)",
    "\u202e\u2066gnp.exe\u2069",
    "\x00\x1b[31m",
]
LONE = "\udcff\ud800"
"""Halves of surrogate pairs: a name on a disk may have them, UTF-8 does not."""


def rename(report: AuditReport, word: str) -> AuditReport:
    """The same audit of photographs, classes, groups and folders that all begin with ``word``; the files lie where they lay."""

    def name(text: str) -> str:
        return text and word + text

    def decide(row: Decision) -> Decision:
        reason = word + re.sub(r"(?=(train|test)/)", lambda _: word, row.reason)
        kind = name(row.kind) if row.kind == "new_kind" else row.kind
        return Decision(name(row.file), kind, row.decision, name(row.group), row.score, reason, name(row.label))

    assert report.drift is not None
    return dataclasses.replace(
        report,
        data_folder=Path("folder") / word,
        scan=dataclasses.replace(report.scan, image_id=tuple(map(name, report.scan.image_id))),
        class_name=tuple(map(name, report.class_name)),
        decisions=tuple(map(decide, report.decisions)),
        unavailable={kind: name(why) for kind, why in report.unavailable.items()},
        drift=dataclasses.replace(report.drift, shift_source=name(report.drift.shift_source)),
        notes=tuple(map(name, report.notes)),
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> AuditReport:
    """Every kind of finding and one that nobody knows, in a drift that is fitted and drawn."""
    rows = (*a_row_of_each_kind(), Decision("train/K5/5.jpg", "new_kind", "relabel", label="K5"))
    rows += (Decision("train/K5/bad.jpg", "half_lost", "drop", score=0.3),)  # decodes no longer
    report = make_report(tmp_path_factory.mktemp("pages") / "data", rows, num_test=9, extra=("train/K5/bad.jpg",))
    report = dataclasses.replace(add_drift(report, PhotoShift(0.5, 0.0, 1.0, 60)), notes=("a note",))
    rows = tuple(row for row in rows if row.kind != "rotated")
    return dataclasses.replace(report, decisions=rows, unavailable={"rotated": "give it"})


def draw_audit(report: AuditReport, folder: Path, **limits: int) -> str:
    write_page(report, folder / "audit.html", **limits)
    return (folder / "audit.html").read_text("utf-8")


def draw_score(word: str, photo: Path, *, top: int = 20, problem: str = "", num_classes: int = 4) -> str:
    """Ids, classes, splits, files and the title begin with ``word``."""
    ids, names = [f"{word}T_{k}" for k in range(4)], [f"{word}car {k}" for k in range(num_classes)]
    probs = np.full((4, num_classes), 0.1 / (num_classes - 2))
    probs[:, 0], probs[:, -1] = 0.9, 0.0
    truth = Truth(tuple(ids), tuple(names[k] for k in (0, 1, 1, 0)), tuple(f"{word}{k % 2}" for k in range(4)))
    table = Submission(tuple(ids), tuple(names), probs)
    pictures = Pictures(
        {} if problem else {ids[0]: photo, ids[1]: photo.with_name(f"{word}gone.jpg".replace("/", ":"))}, problem
    )
    report, losses = score_submission(table, truth), compute_photo_losses(table, truth)
    return score_page.draw_page(report, losses, pictures, title=word + "title", top=top)


class Rows(Result):
    def __init__(self, word: str, num_rows: int = 2) -> None:
        self.rows = [[word + "a", word], *([word, f"{word}{k}"] for k in range(num_rows))]

    def table(self) -> list[list[str]]:
        return self.rows


def draw_all(full: AuditReport, word: str, folder: Path) -> dict[str, str]:
    photo, place = full.scan.files()[0], folder / re.sub(r"[/\0]", "", word)
    place.mkdir()
    return {
        "audit": draw_audit(rename(full, word), place),
        "score": draw_score(word, photo) + draw_score(word, photo, problem=word + "no pictures"),
        "result": Rows(word)._repr_html_(),
    }


def shape(page: str, word: str) -> Counter[tuple[str, tuple[tuple[str, str | None], ...]]]:
    """How often each element is there with its attributes, without the word; names break where they like."""
    elements = [(tag, tuple((key, value and value.replace(word, "")) for key, value in attrs.items()))
                for tag, attrs in Page(page).elements]  # fmt: skip
    return Counter(element for element in elements if element[0] != "wbr")


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_stranger_wrote_is_text(full: AuditReport, tmp_path: Path, evil: str) -> None:
    """Names of all things make the same elements with the same attributes, whatever they are, and are read as they are."""
    harmless, hostile = draw_all(full, "harmless ", tmp_path), draw_all(full, evil, tmp_path)
    for name, page in hostile.items():
        assert shape(page, evil) == shape(harmless[name], "harmless "), name
        assert " ".join(evil.split()) in Page(page).text
        for tag, attrs in Page(page).elements:
            assert not [key for key in attrs if key.startswith("on")]
            assert all(evil not in (attrs.get(key) or "") for key in ("src", "class", "style", "width", "viewbox", "d")), tag


def test_half_a_surrogate_pair_stops_no_page(full: AuditReport, tmp_path: Path) -> None:
    """In a file it becomes a question mark, and nothing else changes."""
    page = draw_audit(rename(full, LONE), tmp_path)
    assert shape(page, "??") == shape(draw_audit(rename(full, "harmless "), tmp_path), "harmless ")
    assert "??train/K5/0.jpg" in Page(page).text
    assert LONE in draw_score(LONE, full.scan.files()[0])
    assert LONE in Rows(LONE)._repr_html_()


def test_no_template_lets_a_value_be_markup() -> None:
    """Escaping is on everywhere and nothing is excepted; no page has a script, a handler or an address."""
    assert ENVIRONMENT.autoescape is True
    assert not {"do", "debug"} & set(ENVIRONMENT.extensions)
    forbidden = re.compile(r"\|\s*(safe|xmlattr|tojson|urlize)|Markup|autoescape|<script|\son\w+=|https?:|url\(|@import")
    for file in TEMPLATES.iterdir():
        assert not forbidden.search(file.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")), file
    for file in SOURCE.rglob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Name)}
        assert not names & {"Markup", "markupsafe", "Template", "from_string"}, file


def test_no_python_file_has_html_in_it() -> None:
    """Tags stand in templates; the showroom's one planted page is a fault that it renders."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"</\w+>|<\w+ \w+=|/>", node.value):
                found.add(file.relative_to(SOURCE).as_posix())
    assert found == {"showroom/faults.py"}


def lines_of(code: CodeType) -> Iterator[int]:
    """Of a function and those inside of it."""
    yield from (line for _, _, line in code.co_lines() if line)
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from lines_of(part)


def draw_every_case(full: AuditReport, folder: Path) -> None:
    """All that a page may have to say."""
    photo, drift = full.scan.files()[0], full.drift
    assert drift is not None
    draw_audit(full, folder)
    files = [name for name in full.scan.image_id if name.startswith("train/K5/") and "bad" not in name]
    rows = [Decision(f"{files[k % 6]}", "odd_but_fine", "keep", score=0.9) for k in range(21)]
    rows += [Decision(files[k], "part_only", "keep", score=0.1) for k in range(3)]
    rows += [Decision(files[k], "near_duplicate", "group", score=0.9, group="g") for k in range(3)]
    for unfitted in (None, dataclasses.replace(drift, shift=None, separation=None, quantities=())):
        draw_audit(
            dataclasses.replace(full, decisions=tuple(rows), drift=unfitted, notes=()), folder, max_groups=0, max_suspects=30
        )
    draw_audit(add_drift(full, PhotoShift()), folder)
    names = tuple(f"car {k}" if name else "" for k, name in enumerate(full.class_name))
    draw_audit(dataclasses.replace(full, decisions=(), class_name=names), folder)
    for all_of_one_set in ("", "K5"):
        draw_audit(dataclasses.replace(full, decisions=(), class_name=(all_of_one_set,) * len(names), drift=None), folder)
    draw_all(full, "a/", folder)
    assert draw_plot(make_bench()).startswith("<svg")
    draw_score("", photo, top=0, num_classes=20)
    Rows("", 40)._repr_html_()


def test_every_branch_of_every_template_is_drawn(full: AuditReport, tmp_path: Path) -> None:
    """Each statement of the compiled templates that writes has run: what no test renders would fail before a person first."""
    met: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(str(TEMPLATES)):
            return None
        met.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    assert ENVIRONMENT.cache is not None
    ENVIRONMENT.cache.clear()  # macros are loaded once in a process
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        draw_every_case(full, tmp_path)
    finally:
        sys.settrace(before)
    for name in ENVIRONMENT.list_templates():
        assert ENVIRONMENT.loader is not None
        text, file, _ = ENVIRONMENT.loader.get_source(ENVIRONMENT, name)
        code, lines = ENVIRONMENT.compile(text, name, file), ENVIRONMENT.compile(text, name, file, raw=True).splitlines()
        inside = {line for part in code.co_consts if isinstance(part, CodeType) for line in lines_of(part)}
        missed = [lines[line - 1].strip() for line in sorted(inside) if (file, line) not in met]
        assert [line for line in missed if re.match(r"yield |t_\d+(\.extend|\.append)?\(", line)] == [], name


def test_a_value_that_a_template_names_and_does_not_get_is_an_error(
    full: AuditReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value of each page is needed: without it nothing is drawn, where a blank would be overlooked."""
    given: dict[str, dict[str, object]] = {}

    def keep(template: str, **values: object) -> str:
        given[template] = values
        return render(template, **values)

    monkeypatch.setattr(audit_page, "render", keep)
    monkeypatch.setattr(score_page, "render", keep)
    monkeypatch.setattr(environment, "render", keep)
    draw_audit(full, tmp_path, max_suspects=0)
    draw_score("", full.scan.files()[0])
    Rows("")._repr_html_()
    assert sorted(given) == ["audit.html", "score.html", "table.html"]
    for template, values in given.items():
        assert render(template, **values)
        for name in values:
            with pytest.raises((UndefinedError, TypeError), match=r"is undefined|StrictUndefined"):
                render(template, **{key: value for key, value in values.items() if key != name})
