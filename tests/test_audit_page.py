"""The audit's page: self-contained, safe with any file name, honest about its limits, and never in the way of an audit."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from drawn_pages import KOREAN, Page, a_row_of_each_kind, add_drift, make_report
from hectocar.auditing.drift import compare_quantities
from hectocar.auditing.page import decide_photos, write_page
from hectocar.auditing.page_drift import STRIP_SHARES, choose_strip, drift_sentence, format_number, join_words
from hectocar.auditing.page_plots import choose_edges, nice_ticks
from hectocar.auditing.page_sheets import MAX_IN_GROUP, MEANINGS, TITLES, choose_sheets, partner_of
from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import KINDS, Decision
from hectocar.photos.shift import PhotoShift

NASTY = "train/K5/<script>alert(1)</script>\"'&.jpg"


def draw(report: AuditReport, folder: Path, **limits: int) -> str:
    write_page(report, folder / "audit.html", **limits)
    return (folder / "audit.html").read_text("utf-8")


@pytest.fixture
def full(tmp_path: Path) -> AuditReport:
    """One finding of each kind."""
    return make_report(tmp_path / "data", a_row_of_each_kind(), num_test=4, extra=("train/K5/bad.jpg",), num_label_errors=1)


def test_the_page_needs_nothing_beside_it(full: AuditReport, tmp_path: Path) -> None:
    """No script, no handler, no address: every picture is a data URI, every link stays on the page, and a policy says so."""
    page = draw(full, tmp_path)
    parsed = Page(page)
    assert {tag for tag, _ in parsed.elements} & {"script", "link", "iframe", "object", "embed", "form", "base"} == set()
    for tag, attrs in parsed.elements:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data"):
            if (value := attrs.get(name)) is not None:
                assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value[:60])
    assert not re.search(r"https?:|javascript:|url\(|@import", page)
    policies = [attrs["content"] for attrs in parsed.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert "default-src 'none'" in str(policies[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.html", "data"]


def test_every_kind_has_its_section(full: AuditReport, tmp_path: Path) -> None:
    """Title, meaning and a link from the table for each kind that decisions.csv knows."""
    parsed = Page(draw(full, tmp_path))
    ids = [attrs["id"] for attrs in parsed.all("h2")]
    links = {attrs["href"] for attrs in parsed.all("a")}
    assert set(TITLES) == set(MEANINGS) == set(KINDS)
    for kind in KINDS:
        assert ids.count(kind) == 1
        assert f"#{kind}" in links
        assert TITLES[kind] in parsed.text
        assert MEANINGS[kind] in parsed.text
    all_ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert [name for name, count in Counter(all_ids).items() if count > 1] == []
    assert {link[1:] for link in links if link} <= set(all_ids)


def test_pictures_have_alternative_texts_and_tables_have_headers(full: AuditReport, tmp_path: Path) -> None:
    """A person who does not see the page hears what is on it."""
    parsed = Page(draw(full, tmp_path))
    assert all(attrs.get("alt") for attrs in parsed.all("img"))
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in parsed.all("svg"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in parsed.all("th"))
    assert [attrs["lang"] for attrs in parsed.all("html")] == ["en"]
    assert len(list(parsed.all("h1"))) == 1


def test_a_photograph_is_embedded_once(full: AuditReport, tmp_path: Path) -> None:
    """0.jpg and 1.jpg stand in three sheets, and 4.jpg in four; their bytes are there once, and the rest refers to them."""
    parsed = Page(draw(full, tmp_path))
    images = [str(attrs["src"]) for attrs in parsed.all("img")] + [str(attrs["href"]) for attrs in parsed.all("image")]
    assert max(Counter(images).values()) == 1
    uses = Counter(attrs["href"] for attrs in parsed.all("use"))
    places = {name: full.scan.image_id.index(f"train/K5/{name}") for name in ("0.jpg", "1.jpg", "4.jpg")}
    assert {name: uses[f"#p{place}"] for name, place in places.items()} == {"0.jpg": 3, "1.jpg": 3, "4.jpg": 4}


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """Names, reasons, classes, labels, groups, notes and the folder's own name come from strangers."""
    evil = "<img src=x onerror=alert(1)>\"'&"
    rows = (
        Decision(NASTY, "unusable", "drop", reason=evil),
        Decision("train/K5/0.jpg", "near_duplicate", "group", evil, 0.95, f"{evil}: train/K5/1.jpg"),
        Decision("train/K5/1.jpg", "near_duplicate", "group", evil, 0.95, f"{evil}: train/K5/0.jpg"),
        Decision("train/K5/2.jpg", "wrong_label", "keep", score=0.9, reason=evil, label=evil),
        Decision(f"train/{evil}/{evil}", "no_car", "keep", score=0.9, reason=evil),
    )
    root = tmp_path / "<b>data"
    report = make_report(root, rows, extra=(NASTY,), unavailable={"rotated": evil})
    page = draw(report, tmp_path)
    parsed = Page(page)
    assert {tag for tag, _ in parsed.elements} & {"script", "b onerror"} == set()
    assert not [attrs for attrs in parsed.all("img") if not str(attrs["src"]).startswith("data:")]
    assert "<script" not in page
    assert NASTY in parsed.text
    assert evil in parsed.text
    assert "Audit of <b>data" in parsed.text


def test_names_of_all_kinds_of_systems_survive(tmp_path: Path) -> None:
    """Korean is kept as it is; half of a surrogate pair, which UTF-8 cannot say, does not stop the page."""
    rows = (
        Decision(f"train/{KOREAN}/0.jpg", "no_car", "keep", score=0.9),
        Decision("train/K5/\udcff.jpg", "unusable", "drop", reason="gone"),
    )
    assert KOREAN in Page(draw(make_report(tmp_path / "data", rows), tmp_path)).text


def test_limits_are_stated(tmp_path: Path) -> None:
    """What is left out is said, with the total and the place where all of it is."""
    rows = [
        Decision(
            f"train/K5/{k}.jpg", "near_duplicate", "group", f"d{k:04d}", 0.91 + k / 100, f"cropped: train/{KOREAN}/{k}.jpg"
        )
        for k in range(5)
    ]
    rows += [Decision(f"train/K5/{k}.jpg", "no_car", "keep", score=0.9 - k / 100) for k in range(6)]
    report = make_report(tmp_path / "data", tuple(rows))
    text = Page(draw(report, tmp_path, max_groups=2, max_suspects=4)).text
    assert "2 of 5 groups shown; all are in decisions.csv" in text
    assert "4 of 6 photographs shown; all are in decisions.csv" in text
    sheets = choose_sheets(report, max_groups=2, max_suspects=4)
    assert [group[0].row.group for group in sheets["near_duplicate"].groups] == ["d0004", "d0003"], "the surest come first"
    assert "0 of 5 groups shown" in Page(draw(report, tmp_path, max_groups=0, max_suspects=0)).text
    with pytest.raises(ValueError, match="allowed: 0 or more"):
        write_page(report, tmp_path / "audit.html", max_groups=-1)


def test_large_groups_are_cut_with_a_word(tmp_path: Path) -> None:
    """One group of ten photographs shows eight and says that two are missing."""
    rows = tuple(Decision(f"train/K5/{k}.jpg", "exact_duplicate", "drop", "d0001") for k in range(MAX_IN_GROUP + 2))
    text = Page(draw(make_report(tmp_path / "data", rows, num_per_class=MAX_IN_GROUP + 2), tmp_path)).text
    assert "2 more of this group are not shown" in text


def test_unusable_files_are_listed(full: AuditReport, tmp_path: Path) -> None:
    """Name, size and reason; they have no picture."""
    text = Page(draw(full, tmp_path)).text
    assert "train/K5/bad.jpg 13 no image header found drop" in text
    assert "1 file cannot be used" in text


def test_a_photograph_that_is_gone_becomes_a_box(full: AuditReport, tmp_path: Path) -> None:
    """Files may vanish between the scan and the page, and rows may name files that were never scanned."""
    (full.data_folder / "train/K5/0.jpg").unlink()
    (full.data_folder / "train/K5/4.jpg").write_bytes(b"\xff\xd8 cut")
    rows = (*full.decisions, Decision("train/K5/never.jpg", "no_car", "keep", score=0.7))
    parsed = Page(draw(dataclasses.replace(full, decisions=rows), tmp_path))
    assert parsed.text.count("no picture: cannot be read (No such file or directory)") == 3
    assert "no picture: not a photograph" in parsed.text
    assert "no picture: not among the photographs of the scan" in parsed.text


def test_nothing_found_is_said(tmp_path: Path) -> None:
    """No findings, no test photographs, nothing unavailable."""
    text = Page(draw(make_report(tmp_path / "data"), tmp_path)).text
    assert "12 training photographs of 2 classes; no test photographs were given" in text
    assert "Nothing wrong was found" in text
    assert text.count("None found.") == len(KINDS)


def test_what_was_not_looked_for_says_why(tmp_path: Path) -> None:
    """In the table and in the section."""
    report = make_report(tmp_path / "data", unavailable={"wrong_label": "needs a run: give --run RUN"})
    assert Page(draw(report, tmp_path)).text.lower().count("not looked for: needs a run: give --run run") == 2


def test_the_headline_counts_photographs_once(full: AuditReport, tmp_path: Path) -> None:
    """0.jpg and 1.jpg are dropped by two kinds and grouped by a third: drop wins, and each counts once."""
    settled = decide_photos(full.decisions)
    assert settled["train/K5/0.jpg"].decision == "drop"
    text = Page(draw(full, tmp_path)).text
    assert "dropped 3, grouped 0 and kept 3 of the 6 photographs with a finding" in text
    assert "hectocar train" in text
    assert "decisions.csv" in text


def test_class_sizes_before_and_after(full: AuditReport, tmp_path: Path) -> None:
    """K5 has seven files, of which two are dropped as duplicates and one is no photograph."""
    text = Page(draw(full, tmp_path)).text
    assert "the smallest has 4 photographs (K5), the middle one 6 and the largest 6" in text


def test_a_test_photograph_without_a_row_stands_beside_its_copy(full: AuditReport) -> None:
    """Only the training side of such a pair is a decision; the page shows both."""
    sheet = choose_sheets(full, max_groups=9, max_suspects=9)["train_test_duplicate"]
    assert [item.row.file for item in sheet.groups[0]] == ["train/K5/2.jpg", "test/TEST_0.jpg"]


@pytest.mark.parametrize(
    ("reason", "partner"),
    [
        ("same bytes: a.jpg", "a.jpg"),
        ("same bytes: a.jpg and 2 more", "a.jpg"),
        ("cropped: x: b and c.jpg", "b and c.jpg"),
        ("same bytes", ""),
        ("a.jpg", ""),
        ("same bytes: gone.jpg", ""),
    ],
)
def test_a_reason_names_its_partner(reason: str, partner: str) -> None:
    """Whatever stands before the last colon, and with or without a number of others."""
    assert partner_of(reason, {"a.jpg": 0, "b and c.jpg": 1}) == partner


def test_drift_is_said_and_drawn(tmp_path: Path) -> None:
    """Darker test photographs: the headline says so with both means, and table, plots, curve and strip show it."""
    report = add_drift(make_report(tmp_path / "data", num_test=9), PhotoShift(0.5, 0.0, 1.0, 60))
    page = draw(report, tmp_path)
    parsed = Page(page)
    sentence = drift_sentence(report)
    assert sentence is not None
    assert sentence[1]
    assert re.match(r"the test photographs are darker \(mean brightness \d\d\.?\d? against 1\d\d\)", sentence[0])
    assert sentence[0] in parsed.text
    labels = [str(attrs["aria-label"]) for attrs in parsed.all("svg") if "aria-label" in attrs]
    assert sum(label.startswith("Histogram of") for label in labels) == 4
    assert "Tone curve: grey level 64 becomes 32, 128 becomes 64, 192 becomes 96" in labels
    assert "A middle grey of 128 becomes 64" in parsed.text
    assert "0.500 ± 0.010" in parsed.text
    assert "Fitted on twelve <b>photographs</b>" in parsed.text
    assert "AUC of 0.950 ± 0.010" in parsed.text
    after = [str(attrs["alt"]) for attrs in parsed.all("img") if str(attrs.get("alt")).endswith("after the shift")]
    assert len(after) == len(STRIP_SHARES)
    assert not re.search(r"https?:|<script", page)


def test_the_strip_goes_from_dark_to_bright(tmp_path: Path) -> None:
    """Photographs of either set at the same places in its order of brightness; dropped ones are not shown."""
    rows = (Decision("train/K5/0.jpg", "unusable", "drop"),)
    report = add_drift(make_report(tmp_path / "data", rows, num_test=9), None)
    strip, brightness = choose_strip(report), report.scan.numbers("brightness")
    assert len(strip.train) == len(strip.test) == len(STRIP_SHARES)
    for places in (strip.train, strip.test):
        assert list(brightness[list(places)]) == sorted(brightness[list(places)])
    assert all(report.class_name[k] for k in strip.train)
    assert not any(report.class_name[k] for k in strip.test)
    assert report.scan.image_id.index("train/K5/0.jpg") not in strip.train


@pytest.mark.parametrize(
    ("shift", "auc", "words"),
    [
        (None, None, ("It could not be fitted", "needs a network")),
        (PhotoShift(), 0.51, ("None: neither the grey levels nor the compression differ", "No. A classifier")),
        (PhotoShift(jpeg_quality=40), 0.7, ("A middle grey of 128 becomes 128", "A little. A classifier")),
    ],
)
def test_drift_with_gaps(tmp_path: Path, shift: PhotoShift | None, auc: float | None, words: tuple[str, ...]) -> None:
    """No fit, no network, nothing to shift: each is said in words."""
    report = add_drift(make_report(tmp_path / "data", num_test=9), shift, auc=auc)
    text = Page(draw(report, tmp_path)).text
    assert [word for word in words if word not in text] == []


def test_equal_sets_are_called_equal(tmp_path: Path) -> None:
    """No quantity stands out, and one that nobody could measure stops nothing."""
    report = add_drift(make_report(tmp_path / "data", num_test=9), None)
    assert report.drift is not None
    one = compare_quantities(["brightness", "aspect"], *[{"brightness": [1.0, 2.0, 3.0], "aspect": [np.nan]}] * 2)
    report = dataclasses.replace(report, drift=dataclasses.replace(report.drift, quantities=one))
    text = Page(draw(report, tmp_path)).text
    assert "the test photographs look like the training photographs" in text
    assert "width over height – – – unknown" in text


@pytest.mark.parametrize(
    ("train", "test"),
    [([80.0] * 5, [80.0] * 3), ([0.1, 0.2, 0.3], [0.15]), ([1.0, 300.0, 2.0], [5.0] * 400), ([0.5], [0.5])],
)
def test_histograms_hold_every_value(train: list[float], test: list[float]) -> None:
    """Rising edges around the middle 99 %, no more bins than the smaller set can fill, and ticks inside of them."""
    edges = choose_edges(np.array(train), np.array(test))
    both = np.concatenate([train, test])
    assert (np.diff(edges) > 0).all()
    assert edges[0] <= np.percentile(both, 0.5)
    assert edges[-1] >= np.percentile(both, 99.5)
    assert len(edges) <= 42
    ticks = nice_ticks(float(edges[0]), float(edges[-1]))
    assert ticks
    assert edges[0] <= ticks[0] <= ticks[-1] <= edges[-1]


def test_words_and_numbers() -> None:
    """As a person writes them."""
    assert [format_number(value) for value in (0.01234, 5.0, 99.96, 12345.6, float("nan"))] == [
        "0.0123",
        "5",
        "100",
        "12,346",
        "–",
    ]
    assert [join_words(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
