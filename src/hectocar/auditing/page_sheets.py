"""Contact sheets of the audit's page: for each kind of finding the photographs side by side, the surest first."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import DECISIONS_FILE, KEEP, KINDS, Decision
from hectocar.pages.parts import THUMB_LONG_SIDE_PX, Album, count_html, escape, name_html

DUPLICATE_KINDS = ("exact_duplicate", "duplicate_other_class", "near_duplicate", "train_test_duplicate")
MAX_IN_GROUP = 8
OPEN_GROUPS, OPEN_SUSPECTS = 12, 20
"""What follows is folded away."""
LIKELY_SCORE = 0.5
"""Suspects below it are folded away: at that score more are right than wrong."""
TITLES = {
    "unusable": "Unusable files",
    "half_lost": "Half lost",
    "exact_duplicate": "Exact duplicates",
    "duplicate_other_class": "One picture in two classes",
    "near_duplicate": "Edited copies",
    "train_test_duplicate": "Training photographs that stand in the test set",
    "wrong_label": "Wrong labels",
    "no_car": "No car",
    "part_only": "Part of a car only",
    "rotated": "On their side or head",
    "odd_but_fine": "Odd but fine",
}
"""In the order of the page."""
MEANINGS = {
    "unusable": "Not a photograph, damaged, one tone, or too small to show anything. Training leaves them out.",
    "half_lost": "JPEGs that decode though a part of their data is gone: grey, repeated or garbled from there on. Dropped; "
    "keep those that show enough.",
    "exact_duplicate": "The same picture twice in one class. One of each stays, the others are dropped.",
    "duplicate_other_class": "The same picture under two names. One of them is wrong and nobody knows which: both are dropped.",
    "near_duplicate": "Cropped, mirrored, brightened or recompressed copies. They stay, but always on one side of a fold.",
    "train_test_duplicate": "The answer to these test photographs lies in training: a score on them proves little. They stay.",
    "wrong_label": "The other photographs contradict the class. Suspects only: nothing is changed until you say so.",
    "no_car": "Interiors, engines, documents, empty streets. Suspects only, surest first.",
    "part_only": "A lamp, a badge, a wheel. Suspects only, surest first.",
    "rotated": "Stored turned, without a note in the file that says so. Suspects only, surest first.",
    "odd_but_fine": "Unusual formats that every step reads rightly. Nothing to do; listed so that nobody wonders.",
}


@dataclass(frozen=True)
class Item:
    """One photograph of a sheet."""

    row: Decision
    place: int | None
    """In the scan; None where the scan does not have it."""
    class_name: str
    """Empty for the test set."""
    is_partner: bool = False
    """It has no row of its own and is shown because a row names it."""
    likes: tuple[tuple[str, int | None], ...] = ()
    """Other photographs that help to judge it: (what it is, place)."""


@dataclass(frozen=True)
class Sheet:
    """What is shown of one kind."""

    kind: str
    groups: tuple[tuple[Item, ...], ...]
    """A suspect is a group of one."""
    num_groups: int
    """With those that are not shown."""
    num_likely: int = 0
    """Of the groups, so many first ones are probably what they are listed as."""
    num_hidden: dict[str, int] = field(default_factory=dict)
    """Group -> photographs of it that are not shown."""

    def places(self) -> list[int | None]:
        """The photographs shown, each as often as it is shown."""
        items = [item for group in self.groups for item in group]
        return [item.place for item in items] + [place for item in items for _, place in item.likes]


def choose_sheets(report: AuditReport, *, max_groups: int, max_suspects: int) -> dict[str, Sheet]:
    """What the page shows of each kind but the unusable files, which have no picture."""
    rows_of: dict[str, list[Decision]] = {kind: [] for kind in KINDS}
    for row in report.decisions:
        rows_of.setdefault(row.kind, []).append(row)
    place_of = {image_id: place for place, image_id in enumerate(report.scan.image_id)}
    sheets = {}
    for kind, rows in rows_of.items():
        if kind in DUPLICATE_KINDS:
            sheets[kind] = _choose_groups(report, kind, rows, place_of, max_groups)
        elif kind != "unusable":
            sheets[kind] = _choose_suspects(report, kind, rows, place_of, max_suspects)
    return sheets


def _item(report: AuditReport, row: Decision, place_of: dict[str, int]) -> Item:
    place = place_of.get(row.file)
    return Item(row, place, "" if place is None else report.class_name[place])


def _choose_groups(report: AuditReport, kind: str, rows: Sequence[Decision], place_of: dict[str, int], limit: int) -> Sheet:
    members: dict[str, list[Item]] = defaultdict(list)
    for row in rows:
        members[row.group or row.file].append(_item(report, row, place_of))
    order = sorted(members, key=lambda key: (-max(item.row.score for item in members[key]), key))
    groups, hidden = [], {}
    for key in order[:limit]:
        listed = members[key]
        named = {item.row.file for item in listed}
        for item in tuple(listed):
            partner = partner_of(item.row.reason, place_of)
            if partner and partner not in named:  # the photograph of the test set has no row of its own
                named.add(partner)
                found = _item(report, Decision(partner, kind, KEEP), place_of)
                listed = [*listed, Item(found.row, found.place, found.class_name, is_partner=True)]
        groups.append(tuple(listed[:MAX_IN_GROUP]))
        if len(listed) > MAX_IN_GROUP:
            hidden[key] = len(listed) - MAX_IN_GROUP
    return Sheet(kind, tuple(groups), len(order), len(groups), hidden)


def partner_of(reason: str, place_of: dict[str, int]) -> str:
    """The photograph that a duplicate's reason ends with (``same bytes: train/K5/a.jpg and 2 more``); empty if none."""
    _, colon, named = reason.partition(": ")
    while colon:
        for name in (named, named.rpartition(" and ")[0]):
            if name in place_of:
                return name
        _, colon, named = named.partition(": ")
    return ""


def _choose_suspects(report: AuditReport, kind: str, rows: Sequence[Decision], place_of: dict[str, int], limit: int) -> Sheet:
    ranked = sorted(rows, key=lambda row: -row.score)
    items = [_item(report, row, place_of) for row in ranked[:limit]]
    if kind == "wrong_label":
        examples = _choose_examples(report)
        items = [
            Item(
                item.row,
                item.place,
                item.class_name,
                likes=(("filed under", examples.get(item.class_name)), ("looks like", examples.get(item.row.label))),
            )
            for item in items
        ]
    return Sheet(kind, tuple((item,) for item in items), len(rows), count_likely(report, kind, ranked))


def count_likely(report: AuditReport, kind: str, rows: Sequence[Decision]) -> int:
    """How many suspects are probably what they are listed as: the estimate where there is one, else those that score high."""
    if kind == "wrong_label" and report.num_label_errors is not None:
        return min(report.num_label_errors, len(rows))
    return sum(1 for row in rows if row.score >= LIKELY_SCORE)


def _choose_examples(report: AuditReport) -> dict[str, int]:
    """A photograph of each class about which there is nothing to say: the first that is broad and fills a thumbnail."""
    doubted = {row.file for row in report.decisions}
    seen: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(report.class_name):
        if name and report.scan.image_id[place] not in doubted and not report.scan.rows[place].problem and len(seen[name]) < 20:
            seen[name].append(place)
    rows = report.scan.rows

    def merit(k: int) -> tuple[bool, int]:
        return rows[k].width_px >= rows[k].height_px, min(rows[k].width_px, THUMB_LONG_SIDE_PX)

    return {name: max(places, key=merit) for name, places in seen.items()}


def sheet_html(sheet: Sheet, album: Album) -> str:
    """The photographs of one kind, and how many are not shown."""
    shown, noun = len(sheet.groups), "group" if sheet.kind in DUPLICATE_KINDS else "photograph"
    if not shown:
        return '<p class="soft">None found.</p>' if not sheet.num_groups else _limit_html(sheet, noun)
    if sheet.kind in DUPLICATE_KINDS:
        body = _fold([_group_html(group, sheet.num_hidden, album) for group in sheet.groups], "groups", OPEN_GROUPS, "group")
    elif sheet.kind == "odd_but_fine":
        body = _fold([_suspect_html(group[0], album) for group in sheet.groups], "grid", OPEN_SUSPECTS, "photograph")
    else:
        body = _suspects_html(sheet, album)
    return _limit_html(sheet, noun) + body


def _limit_html(sheet: Sheet, noun: str) -> str:
    shown, total = len(sheet.groups), sheet.num_groups
    if shown == total:
        return f'<p class="note">{count_html(total, noun)}, all shown.</p>'
    return f'<p class="note">{shown:,} of {count_html(total, noun)} shown; all are in {DECISIONS_FILE}.</p>'


def _suspects_html(sheet: Sheet, album: Album) -> str:
    layout = "grid wide" if sheet.kind == "wrong_label" else "grid"
    cards = [_suspect_html(group[0], album) for group in sheet.groups]
    likely, others = cards[: sheet.num_likely], cards[sheet.num_likely :]
    body = _fold(likely, layout, OPEN_SUSPECTS, "likely one") if likely else '<p class="soft">None of them is likely.</p>'
    less = f"{count_html(len(others), 'less sure suspect')}: here most photographs are probably right"
    return body + (_details_html(less, others, layout) if others else "")


def _fold(cards: Sequence[str], layout: str, num_open: int, noun: str) -> str:
    """The first cards, and the rest behind a line that opens: a page that ends is read to its end."""
    first = f'<div class="{layout}">{"".join(cards[:num_open])}</div>'
    rest = cards[num_open:]
    return first + (_details_html(f"{count_html(len(rest), f'more {noun}')}", rest, layout) if rest else "")


def _details_html(label: str, cards: Sequence[str], layout: str) -> str:
    return f'<details><summary>{label}</summary><div class="{layout}">{"".join(cards)}</div></details>'


def _suspect_html(item: Item, album: Album) -> str:
    row, given = item.row, item.class_name or "test set"
    picture = f'<div class="frame">{album.picture(item.place, f"{row.file}, class {given}")}</div>'
    tag = tag_html(row.decision)
    path = f'<div class="path">{name_html(row.file)}</div>'
    score = "" if row.kind == "odd_but_fine" else f'<span class="num" title="how sure, 0 to 1">{row.score:.2f}</span> '
    if row.kind != "wrong_label":
        caption = f"{tag}{score}<b>{name_html(given)}</b><div>{escape(row.reason)}</div>{path}"
        return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
    names = {"filed under": given, "looks like": row.label or "unknown"}
    likes = "".join(
        f"<div>{what} <b>{name_html(names[what])}</b>{_example_html(place, names[what], album)}</div>"
        for what, place in item.likes
    )
    caption = f"<figcaption>{tag}{score}{escape(row.reason)}{path}</figcaption>"
    return f'<figure class="suspect">{picture}<div class="like">{likes}</div>{caption}</figure>'


def _example_html(place: int | None, name: str, album: Album) -> str:
    return "" if place is None else album.picture(place, f"another photograph of {name}")


def _group_html(group: Sequence[Item], num_hidden: dict[str, int], album: Album) -> str:
    named = {item.row.file: place for place, item in enumerate(group)}
    rows = [item.row for item in group if not item.is_partner]
    reasons = {item.row.file: _short_reason(item.row, named) for item in group}
    shared = {reasons[row.file] for row in rows}
    key = rows[0].group or rows[0].file
    score = max(row.score for row in rows)
    head = [f"<b>{name_html(rows[0].group)}</b>"] if rows[0].group else []
    head += [escape(*shared)] if len(shared) == 1 else []
    head += [f'likeness <span class="num">{score:.3f}</span>'] if score < 1 else []
    head += [f"{num_hidden[key]:,} more of this group are not shown"] if key in num_hidden else []
    figures = "".join(_member_html(item, reasons[item.row.file] if len(shared) > 1 else "", album) for item in group)
    pair = " pair" if len(group) <= 2 else ""
    return f'<div class="group{pair}"><p class="soft">{" · ".join(head)}</p><div class="row">{figures}</div></div>'


def _short_reason(row: Decision, named: dict[str, int]) -> str:
    """The reason without the partner's path where the partner is shown beside it."""
    partner = partner_of(row.reason, named)
    detail, _, more = row.reason.rpartition(f": {partner}") if partner else ("", "", "")
    # Only in training have all partners rows of their own, and so a place on the sheet.
    return detail + (more if row.kind == "train_test_duplicate" else "") if detail else row.reason


def _member_html(item: Item, reason: str, album: Album) -> str:
    row = item.row
    alt = f"{row.file}, class {item.class_name}" if item.class_name else f"{row.file}, test set"
    tag = '<span class="tag">test set</span>' if not item.class_name else tag_html(row.decision)
    name = f"<b>{name_html(item.class_name)}</b>" if item.class_name else ""
    why = f"<div>{escape(reason)}</div>" if reason and not item.is_partner else ""
    caption = f'<figcaption>{tag}{name}<div class="path">{name_html(row.file)}</div>{why}</figcaption>'
    return f'<figure><div class="frame">{album.picture(item.place, alt)}</div>{caption}</figure>'


def tag_html(decision: str) -> str:
    """A decision as a small label."""
    return f'<span class="tag {escape(decision)}">{escape(decision)}</span>'
