"""Contact sheets of the audit's page: for each kind of finding the photographs side by side, the surest first."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import KEEP, KINDS, Decision
from hectocar.pages.pictures import THUMB_LONG_SIDE_PX

DUPLICATE_KINDS = ("exact_duplicate", "duplicate_other_class", "near_duplicate", "train_test_duplicate")
MAX_IN_GROUP = 8
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
    likes: tuple[tuple[str, str, int | None], ...] = ()
    """Other photographs that help to judge it: (what is said of it, class, place)."""


@dataclass(frozen=True)
class GroupHead:
    """What stands above a group, and the reasons that stand below its photographs where they differ."""

    name: str
    words: tuple[str, ...]
    reasons: dict[str, str]
    """File -> reason; empty where all have one, which is then among the words."""


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
        return [item.place for item in items] + [place for item in items for _, _, place in item.likes]

    @property
    def is_grouped(self) -> bool:
        return self.kind in DUPLICATE_KINDS

    def head(self, group: Sequence[Item]) -> GroupHead:
        """Of one of the groups."""
        named = {item.row.file: place for place, item in enumerate(group)}
        rows = [item.row for item in group if not item.is_partner]
        reasons = {row.file: _short_reason(row, named) for row in rows}
        differ, score = len(set(reasons.values())) > 1, max(row.score for row in rows)
        hidden = self.num_hidden.get(rows[0].group or rows[0].file, 0)
        words = (
            "" if differ else reasons[rows[0].file],
            f"likeness {score:.3f}" if score < 1 else "",
            f"{hidden:,} more of this group are not shown" if hidden else "",
        )
        return GroupHead(rows[0].group, tuple(word for word in words if word), reasons if differ else {})


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
        items = [dataclasses.replace(item, likes=_list_likes(item, examples)) for item in items]
    return Sheet(kind, tuple((item,) for item in items), len(rows), count_likely(report, kind, ranked))


def _list_likes(item: Item, examples: dict[str, int]) -> tuple[tuple[str, str, int | None], ...]:
    filed, label = item.class_name, item.row.label
    return ("filed under", filed or "test set", examples.get(filed)), ("looks like", label or "unknown", examples.get(label))


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


def _short_reason(row: Decision, named: dict[str, int]) -> str:
    """The reason without the partner's path where the partner is shown beside it."""
    partner = partner_of(row.reason, named)
    detail, _, more = row.reason.rpartition(f": {partner}") if partner else ("", "", "")
    # Only in training have all partners rows of their own, and so a place on the sheet.
    return detail + (more if row.kind == "train_test_duplicate" else "") if detail else row.reason
