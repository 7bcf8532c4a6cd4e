"""audit.html: what is wrong with a folder of photographs, in the two minutes that a person gives it.

One file that opens anywhere: no network, no script, pictures as data URIs, plots as inline SVG. File and class names come
from strangers, so that every text passes through ``escape`` and a content policy forbids whatever slips through.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from hectocar.auditing.page_drift import choose_strip, drift_html, drift_sentence
from hectocar.auditing.page_plots import classes_html
from hectocar.auditing.page_sheets import (
    DUPLICATE_KINDS,
    MEANINGS,
    TITLES,
    Sheet,
    choose_sheets,
    count_likely,
    sheet_html,
    tag_html,
)
from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import DECISIONS, DECISIONS_FILE, DROP, GROUP, KEEP, RELABEL, Decision
from hectocar.disk.writing import replace_file
from hectocar.pages.parts import CONTENT_POLICY, STYLE, Album, build_album, count_html, escape, name_html

SUSPECT_KINDS = ("wrong_label", "no_car", "part_only", "rotated")


def write_page(report: AuditReport, path: Path, *, max_groups: int = 60, max_suspects: int = 100) -> None:
    """Draws the audit as one HTML file that needs nothing beside it.

    Args:
        report: What the audit found; photographs that cannot be read now get a box with the reason.
        path: The page; its folder is named as the one that training takes.
        max_groups: Groups shown of each kind of duplicate; the page says how many there are.
        max_suspects: Photographs shown of each other kind.

    Raises:
        ValueError: A limit is negative.
    """
    if max_groups < 0 or max_suspects < 0:
        raise ValueError(f"max_groups is {max_groups} and max_suspects {max_suspects}; allowed: 0 or more")
    sheets = choose_sheets(report, max_groups=max_groups, max_suspects=max_suspects)
    strip = choose_strip(report)
    album = build_album(report.scan, [place for sheet in sheets.values() for place in sheet.places()] + strip.places())
    title = f"Audit of {report.data_folder.name or report.data_folder}"
    parts = [
        f"<header><h1>{escape(title)}</h1>{headline_html(report)}{next_html(report, path)}</header>",
        summary_html(report),
        *(section_html(report, kind, sheets.get(kind), album) for kind in _kinds(report)),
        drift_html(report, strip, album),
        classes_html(report, decide_photos(report.decisions)),
        notes_html(report.notes),
    ]
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{album.store_html()}\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
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


def headline_html(report: AuditReport) -> str:
    """How much there is and what is wrong with it, in plain words."""
    num_test = len(report.scan) - report.num_train
    test = f" and {count_html(num_test, 'test photograph')}" if num_test else "; no test photographs were given"
    classes = count_html(report.num_classes, "class", "classes")
    lead = f'<p class="lead">{count_html(report.num_train, "training photograph")} of {classes}{test}.</p>'
    facts = [fact for kind in _kinds(report) if (fact := _fact_html(report, kind))]
    if drift := drift_sentence(report):
        text, is_notable = drift
        sign = '<span class="big hot">≠</span>' if is_notable else '<span class="big soft">=</span>'
        facts.append(f'<li>{sign}<a href="#drift">{escape(text)}</a></li>')
    missing = [_title(kind).lower() for kind in report.unavailable if not any(row.kind == kind for row in report.decisions)]
    if missing:
        sentence = f"not looked for: {', '.join(missing)}; the table below says what they need"
        facts.append(f'<li><span class="big soft">–</span><a href="#summary">{sentence}</a></li>')
    if not any(row.kind != "odd_but_fine" for row in report.decisions):
        facts.insert(0, '<li><span class="big">0</span><span>Nothing wrong was found with the files.</span></li>')
    return f'{lead}<ul class="facts">{"".join(facts)}</ul>'


def _fact_html(report: AuditReport, kind: str) -> str:
    rows = [row for row in report.decisions if row.kind == kind]
    if not rows or kind == "odd_but_fine":
        return ""
    count = len({row.group or row.file for row in rows}) if kind in DUPLICATE_KINDS else len(rows)
    photos = count_html(len(rows), "photograph")
    many = count != 1
    sentence = {
        "unusable": f"{'files' if many else 'file'} cannot be used",
        "half_lost": f"{'photographs have' if many else 'photograph has'} lost a part of the data",
        "exact_duplicate": f"{'pictures are' if many else 'picture is'} there more than once ({photos})",
        "duplicate_other_class": f"{'pictures lie' if many else 'picture lies'} in two classes ({photos})",
        "near_duplicate": f"{'pictures have' if many else 'picture has'} edited copies ({photos})",
        "train_test_duplicate": f"{'pictures stand' if many else 'picture stands'} in training and in test ({photos})",
    }.get(kind, "")
    hot = " hot"
    if kind in SUSPECT_KINDS:
        count = count_likely(report, kind, rows)
        hot = hot if count else ""
        what = {
            "wrong_label": "label is probably wrong" if count == 1 else "labels are probably wrong",
            "no_car": "probably without a car",
            "part_only": "probably with a part of a car only",
            "rotated": "probably on the side or head",
        }[kind]
        sentence = f"{what} ({count_html(len(rows), 'suspect')} listed)"
    number = f"≈ {count:,}" if kind in SUSPECT_KINDS else f"{count:,}"
    return f'<li><span class="big{hot}">{number}</span><a href="#{kind}">{sentence}</a></li>'


def next_html(report: AuditReport, path: Path) -> str:
    """What was decided without asking, and what a person does now."""
    settled = decide_photos(report.decisions)
    count = {decision: sum(1 for row in settled.values() if row.decision == decision) for decision in DECISIONS}
    did = f"dropped <b>{count[DROP]:,}</b>, grouped <b>{count[GROUP]:,}</b>"
    did += f", relabelled <b>{count[RELABEL]:,}</b>" if count[RELABEL] else ""
    table, folder = escape(path.parent / DECISIONS_FILE), escape(shlex.quote(str(path.parent)))
    data = escape(shlex.quote(str(report.data_folder)))
    return (
        f'<div class="next"><p><b>Decided by default:</b> {did} and kept <b>{count[KEEP]:,}</b> of the '
        f"{count_html(len(settled), 'photograph')} with a finding. No file was touched: a decision is a row in a table.</p>"
        f"<ol><li>Look through the sheets below.</li><li>Disagree? Edit the column decision in <code>{table}</code>: "
        f"{DROP}, {KEEP}, {GROUP}, or {RELABEL} with the right class in the column label.</li>"
        f"<li>Train on what is left: <code>hectocar train {data} --audit {folder}</code></li></ol></div>"
    )


def summary_html(report: AuditReport) -> str:
    """Counts by kind and decision; kinds that were not looked for say why."""
    counts = report.counts()
    used = [DROP, *([RELABEL] if any(decision == RELABEL for _, decision in counts) else []), GROUP, KEEP]
    rows = []
    for kind in _kinds(report):
        meaning = f"<small>{escape(MEANINGS.get(kind, ''))}</small>"
        head = f'<th scope="row"><a href="#{escape(kind)}">{_title(kind)}</a>{meaning}</th>'
        numbers = [counts[kind, decision] for decision in used]
        if kind in report.unavailable and not sum(numbers):
            cells = f'<td colspan="{len(used) + 1}" class="soft">not looked for: {escape(report.unavailable[kind])}</td>'
        else:
            cells = "".join(_cell(number) for number in (sum(numbers), *numbers))
        rows.append(f"<tr>{head}{cells}</tr>")
    names = {DROP: "dropped", RELABEL: "relabelled", GROUP: "grouped", KEEP: "kept"}
    heads = "".join(f'<th scope="col" class="num">{name}</th>' for name in ("photographs", *(names[d] for d in used)))
    return (
        '<section aria-labelledby="summary"><h2 id="summary">Findings by kind and decision</h2>'
        '<p class="soft">A photograph may stand in several rows.</p><div class="scroll"><table class="summary"><thead><tr>'
        f'<th scope="col">kind</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _cell(number: int) -> str:
    return f'<td class="num">{number:,}</td>' if number else '<td class="num zero">0</td>'


def section_html(report: AuditReport, kind: str, sheet: Sheet | None, album: Album) -> str:
    """One kind: what it is, then its photographs, or why it was not looked for."""
    head = f'<h2 id="{escape(kind)}">{_title(kind)}</h2><p class="soft">{escape(MEANINGS.get(kind, ""))}</p>'
    rows = [row for row in report.decisions if row.kind == kind]
    if kind in report.unavailable and not rows:
        body = f"<p>Not looked for: {escape(report.unavailable[kind])}</p>"
    elif sheet is None:
        body = _unusable_html(report, rows)
    else:
        body = sheet_html(sheet, album)
    return f'<section aria-labelledby="{escape(kind)}">{head}{body}</section>'


def _unusable_html(report: AuditReport, rows: Sequence[Decision]) -> str:
    if not rows:
        return '<p class="soft">None found.</p>'
    place_of = {image_id: place for place, image_id in enumerate(report.scan.image_id)}
    lines = []
    for row in sorted(rows, key=lambda row: row.file):
        place = place_of.get(row.file)
        size = "?" if place is None else f"{report.scan.rows[place].num_bytes:,}"
        lines.append(
            f'<tr><th scope="row">{name_html(row.file)}</th><td class="num">{size}</td>'
            f"<td>{escape(row.reason)}</td><td>{tag_html(row.decision)}</td></tr>"
        )
    heads = '<th scope="col">file</th><th scope="col" class="num">bytes</th>'
    heads += '<th scope="col">reason</th><th scope="col">decision</th>'
    table = f'<table class="files"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<p class="note">{count_html(len(rows), "file")}, all listed.</p><div class="scroll">{table}</div>'


def notes_html(notes: Sequence[str]) -> str:
    """What the audit worked with."""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<section aria-labelledby="notes"><h2 id="notes">Notes</h2><ul>{items}</ul></section>' if items else ""


def _kinds(report: AuditReport) -> list[str]:
    """Every kind there is in the order of the page, then those that only this report knows."""
    return list(dict.fromkeys((*TITLES, *(row.kind for row in report.decisions))))


def _title(kind: str) -> str:
    return escape(TITLES.get(kind, kind))
