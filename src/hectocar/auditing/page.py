"""audit.html: what is wrong with a folder of photographs, in the two minutes that a person gives it.

One file that opens anywhere: no network, no script, pictures as data URIs, plots as inline SVG. Here is what it says, as plain
data; pages/templates/audit.html and its neighbours draw it. File and class names come from strangers: the templates escape
every value, and a content policy forbids whatever slips through.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hectocar.auditing.page_drift import choose_strip, describe_drift, drift_sentence
from hectocar.auditing.page_plots import count_classes
from hectocar.auditing.page_sheets import DUPLICATE_KINDS, MEANINGS, TITLES, Sheet, choose_sheets, count_likely
from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import DECISIONS_FILE, DROP, GROUP, KEEP, RELABEL, Decision
from hectocar.disk.writing import replace_file
from hectocar.pages.environment import format_count, render
from hectocar.pages.pictures import build_album

FINE = "odd_but_fine"
SUSPECT_KINDS = ("wrong_label", "no_car", "part_only", "rotated")


@dataclass(frozen=True)
class Section:
    """One kind of finding."""

    kind: str
    title: str
    meaning: str
    rows: tuple[Decision, ...]
    why_not: str
    """Why it was not looked for; empty where it was."""
    sheet: Sheet | None
    """None for unusable files, which are listed."""


@dataclass(frozen=True)
class Fact:
    """A line of the headline that leads to the place of the page with the id ``target``."""

    sign: str
    sentence: str
    target: str
    tone: str = ""
    """``hot``, ``soft`` or plain."""


def write_page(
    report: AuditReport, path: Path, home: Path | None = None, *, max_groups: int = 60, max_suspects: int = 100
) -> None:
    """Draws the audit as one HTML file that needs nothing beside it.

    Args:
        report: What the audit found; photographs that cannot be read now get a box with the reason.
        path: The page.
        home: The folder that training takes, where the page is written elsewhere first.
        max_groups: Groups shown of each kind of duplicate; the page says how many there are.
        max_suspects: Photographs shown of each other kind.

    Raises:
        ValueError: A limit is negative.
    """
    if max_groups < 0 or max_suspects < 0:
        raise ValueError(f"max_groups is {max_groups} and max_suspects {max_suspects}; allowed: 0 or more")
    sections = list_sections(report, choose_sheets(report, max_groups=max_groups, max_suspects=max_suspects))
    strip, settled = choose_strip(report), decide_photos(report.decisions)
    shown = [place for section in sections if section.sheet for place in section.sheet.places()]
    classes, folder = count_classes(report, settled), home or path.parent
    page = render(
        "audit.html",
        title=f"Audit of {report.data_folder.name or report.data_folder}",
        report=report,
        facts=list_facts(report, sections),
        sections=sections,
        counts=report.counts(),
        album=build_album(report.scan, [*shown, *strip.places()]),
        num_settled=Counter(row.decision for row in settled.values()),
        decisions_file=DECISIONS_FILE,
        decisions_path=folder / DECISIONS_FILE,
        quoted_folder=shlex.quote(str(folder)),
        quoted_data=shlex.quote(str(report.data_folder)),
        place_of={image_id: place for place, image_id in enumerate(report.scan.image_id)},
        drift=describe_drift(report, strip),
        classes=classes,
        largest_class=max((kept + lost for _, kept, lost in classes), default=0) or 1,
    )
    # A name may hold what UTF-8 cannot: half a surrogate pair from a file system that does not care.
    replace_file(path, lambda target: target.write_text(page, encoding="utf-8", errors="replace"))


def decide_photos(decisions: Sequence[Decision]) -> dict[str, Decision]:
    """The row that settles each photograph: drop wins over relabel, relabel over group, group over keep."""
    rank = {DROP: 0, RELABEL: 1, GROUP: 2, KEEP: 3}
    settled: dict[str, Decision] = {}
    for row in decisions:
        if row.file not in settled or rank[row.decision] < rank[settled[row.file].decision]:
            settled[row.file] = row
    return settled


def list_sections(report: AuditReport, sheets: dict[str, Sheet]) -> list[Section]:
    """Every kind there is in the order of the page, then those that only this report knows."""
    sections = []
    for kind in dict.fromkeys((*TITLES, *(row.kind for row in report.decisions))):
        rows = tuple(row for row in report.decisions if row.kind == kind)
        why_not = "" if rows else report.unavailable.get(kind, "")
        sections.append(Section(kind, TITLES.get(kind, kind), MEANINGS.get(kind, ""), rows, why_not, sheets.get(kind)))
    return sections


def list_facts(report: AuditReport, sections: Sequence[Section]) -> list[Fact]:
    """What is wrong, in plain words."""
    facts = [_state_fact(report, section.kind, section.rows) for section in sections if section.rows and section.kind != FINE]
    if all(row.kind == FINE for row in report.decisions):
        facts.append(Fact("0", "Nothing wrong was found with the files.", ""))
    if drift := drift_sentence(report):
        facts.append(Fact("≠" if drift[1] else "=", drift[0], "drift", "hot" if drift[1] else "soft"))
    if missing := [section.title.lower() for section in sections if section.why_not]:
        sentence = f"not looked for: {', '.join(missing)}; the table below says what they need"
        facts.append(Fact("–", sentence, "summary", "soft"))
    return facts


def _state_fact(report: AuditReport, kind: str, rows: Sequence[Decision]) -> Fact:
    if kind in SUSPECT_KINDS:
        count = count_likely(report, kind, rows)
        what = {
            "wrong_label": "label is probably wrong" if count == 1 else "labels are probably wrong",
            "no_car": "probably without a car",
            "part_only": "probably with a part of a car only",
            "rotated": "probably on the side or head",
        }[kind]
        return Fact(f"≈ {count:,}", f"{what} ({format_count(len(rows), 'suspect')} listed)", kind, "hot" if count else "")
    count = len({row.group or row.file for row in rows}) if kind in DUPLICATE_KINDS else len(rows)
    photos, many = format_count(len(rows), "photograph"), count != 1
    sentence = {
        "unusable": f"{'files' if many else 'file'} cannot be used",
        "half_lost": f"{'photographs have' if many else 'photograph has'} lost a part of the data",
        "exact_duplicate": f"{'pictures are' if many else 'picture is'} there more than once ({photos})",
        "duplicate_other_class": f"{'pictures lie' if many else 'picture lies'} in two classes ({photos})",
        "near_duplicate": f"{'pictures have' if many else 'picture has'} edited copies ({photos})",
        "train_test_duplicate": f"{'pictures stand' if many else 'picture stands'} in training and in test ({photos})",
    }.get(kind, "")
    return Fact(f"{count:,}", sentence, kind, "hot")
