"""Findings that need no network: unusable files, odd ones that are fine, and duplicates of all sorts."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hectocar.auditing.duplicates import DuplicateLink, group_links
from hectocar.dataset.decisions import DROP, GROUP, KEEP, Decision
from hectocar.dataset.finder import FORMAT_OF_SUFFIX
from hectocar.dataset.scan import PhotoScan
from hectocar.photos.measure import Measurement

MIN_SIDE_PX, MAX_ASPECT = 16, 10.0
ONE_TONE_CONTRAST, FAINT_CONTRAST = 2.0, 8.0
"""Deviations of luma, in grey levels: below the first there is nothing to see, below the second something to look at. Of
2,400 real photographs of cars the faintest has 15."""


def judge_files(scan: PhotoScan, labels: Sequence[int]) -> list[Decision]:
    """Rows for unusable, half-lost and odd files; photographs with label -1 (the test set's) are kept whatever they are."""
    rows = []
    for image_id, row, label in zip(scan.image_id, scan.rows, labels, strict=True):
        problem = row.problem or describe_absurd(row)
        odd = "" if problem else describe_odd(row, Path(image_id).suffix)
        unless_test = KEEP if label < 0 else DROP
        if problem:
            rows.append(Decision(image_id, "unusable", unless_test, reason=problem))
        if row.damage:
            rows.append(Decision(image_id, "half_lost", unless_test, reason=row.damage))
        if odd:
            rows.append(Decision(image_id, "odd_but_fine", KEEP, score=0.5, reason=odd))
    return rows


def describe_absurd(row: Measurement) -> str:
    """Why a photograph that decodes is none all the same; empty where it is one."""
    short, long = sorted((row.width_px, row.height_px))
    if short < MIN_SIDE_PX:
        return f"{row.width_px} x {row.height_px} px: nothing can be seen at under {MIN_SIDE_PX} px"
    if long > MAX_ASPECT * short:
        return f"{row.width_px} x {row.height_px} px: no photograph is {MAX_ASPECT:g} times as long as wide"
    if row.contrast < ONE_TONE_CONTRAST:
        return f"one tone: {_describe_tone(row)}; nothing can be seen"
    return ""


def _describe_tone(row: Measurement) -> str:
    return f"luma {row.brightness:.0f} of 255, give or take {row.contrast:.1f}"


def describe_odd(row: Measurement, suffix: str) -> str:
    """What is unusual about a photograph that every step here reads rightly; empty where nothing is."""
    parts = []
    named = FORMAT_OF_SUFFIX.get(suffix.lower(), "")
    if row.format != named and not (row.format == "MPO" and named == "JPEG"):
        parts.append(f"{row.format} in a file named {suffix}")
    if row.mode == "L":
        parts.append("grey")
    elif row.mode != "RGB":
        parts.append(f"{row.mode} colours")
    if row.exif_orientation != 1:
        parts.append(f"EXIF orientation {row.exif_orientation}: stored turned, shown upright")
    if row.contrast < FAINT_CONTRAST:
        parts.append(f"nearly one tone: {_describe_tone(row)}")
    return ", ".join(parts)


def judge_duplicates(scan: PhotoScan, links: Sequence[DuplicateLink], labels: Sequence[int]) -> list[Decision]:
    """Rows for every photograph that another one repeats.

    Within a class the first of equal pictures is kept and edited copies stay in one fold; a picture that lies in two
    classes is trusted in neither; a picture that lies in training and in test is reported with the training file.

    Args:
        scan: Photographs.
        links: Between places of the scan.
        labels: Trained class of each place (equivalent names are one), -1 for the test set.
    """
    group_N = group_links(links, len(scan))
    equal_N = group_links([link for link in links if link.how != "near"], len(scan))
    links_of: dict[int, list[DuplicateLink]] = defaultdict(list)
    for link in links:
        links_of[link.first].append(link)
        links_of[link.second].append(link)
    rows = []
    roots = dict.fromkeys(group_N[sorted(links_of)].tolist())
    for number, root in enumerate(roots, start=1):
        members = [k for k in np.flatnonzero(group_N == root).tolist() if k in links_of]
        for place in members:
            for kind, partners in _kinds(place, members, equal_N, labels).items():
                score, reason = _explain(scan, place, partners, links_of[place])
                decision = _decide(place, kind, partners, labels)
                rows.append(Decision(scan.image_id[place], kind, decision, f"d{number:04d}", score, reason))
    return rows


def _kinds(place: int, members: Sequence[int], equal_N: NDArray[np.int64], labels: Sequence[int]) -> dict[str, list[int]]:
    """The kinds of duplicate that a photograph is, each with the members of its group that make it one."""
    others = [k for k in members if k != place]
    if labels[place] < 0:  # of the test set only what repeats inside it; copies in training stand there
        others = [k for k in others if labels[k] < 0]
    equal = [k for k in others if labels[k] == labels[place] and equal_N[k] == equal_N[place]]
    kinds = {
        "exact_duplicate": equal,
        "near_duplicate": [k for k in others if labels[k] == labels[place] and k not in equal],
        "duplicate_other_class": [k for k in others if labels[k] >= 0 and labels[k] != labels[place]],
        "train_test_duplicate": [k for k in others if labels[k] < 0 <= labels[place]],
    }
    return {kind: partners for kind, partners in kinds.items() if partners}


def _explain(scan: PhotoScan, place: int, partners: Sequence[int], links: Sequence[DuplicateLink]) -> tuple[float, str]:
    """Score and reason: the closest direct link to one of the partners, else that of the chain that leads there."""
    direct = [link for link in links if {link.first, link.second} & set(partners)]
    link = max(direct or links, key=lambda link: link.similarity)
    detail = link.detail if direct else f"in a chain: {link.detail}"
    partner = next((k for k in (link.first, link.second) if k in partners), partners[0])
    more = f" and {len(partners) - 1} more" if len(partners) > 1 else ""
    return link.similarity, f"{detail}: {scan.image_id[partner]}{more}"


def _decide(place: int, kind: str, partners: Sequence[int], labels: Sequence[int]) -> str:
    if labels[place] < 0 or kind == "train_test_duplicate":
        return KEEP
    if kind == "duplicate_other_class":
        return DROP
    if kind == "near_duplicate":
        return GROUP
    return DROP if min(partners) < place else KEEP
