"""Plots of the audit's page as inline SVG and CSS bars: histograms, the tone curve, and how large the classes are."""

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from hectocar.auditing.report import AuditReport
from hectocar.dataset.decisions import DROP, RELABEL, Decision
from hectocar.pages.parts import count_html, escape, name_html

Floats = NDArray[np.float64]
_WIDTH, _HEIGHT, _MAX_BINS = 320, 110, 40

VISIBLE_CLASSES = 20
"""What fits into the box of class sizes."""


def histogram_svg(train: Floats, test: Floats, alt: str) -> str:
    """Shares per bin, training filled and test as a line; the outer half percent falls into the outer bins."""
    edges = choose_edges(train, test)
    low, high = float(edges[0]), float(edges[-1])
    shares = [np.histogram(np.clip(part, low, high), edges)[0] / max(1, len(part)) for part in (train, test)]
    top = max(float(share.max()) for share in shares) or 1.0
    steps = [_step_path(share / top) for share in shares]
    marks = "".join(
        f'<text x="{(value - low) / (high - low) * _WIDTH:.1f}" y="{_HEIGHT + 15}" text-anchor="middle">{value:,.12g}</text>'
        for value in nice_ticks(low, high, whole=_are_whole(train, test))
    )
    return (
        f'<svg class="plot" role="img" aria-label="{escape(alt)}" viewBox="0 0 {_WIDTH} {_HEIGHT + 20}">'
        f'<path class="train" d="{steps[0]}V{_HEIGHT}Z"/><path class="test" d="{steps[1]}V{_HEIGHT}"/>'
        f'<path class="axis" d="M0 {_HEIGHT}H{_WIDTH}"/>{marks}</svg>'
    )


def choose_edges(train: Floats, test: Floats) -> Floats:
    """Edges of equal bins over the middle 99 %: the fewer photographs, the wider; whole numbers lie inside of a bin."""
    both = np.concatenate([train, test])
    low, high = (float(value) for value in np.percentile(both, (0.5, 99.5)))
    num_bins = int(np.clip(2 * math.sqrt(min(len(train), len(test))), 8, _MAX_BINS))
    if _are_whole(train, test):
        low, high = (low - 2, high + 2) if high - low < 4 else (math.floor(low), math.ceil(high))
        step = max(1, math.ceil((high - low + 1) / num_bins))
        return np.arange(low - 0.5, high + step, step, dtype=np.float64)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, num_bins + 1)


def _are_whole(*parts: Floats) -> bool:
    return all(bool((part == np.round(part)).all()) for part in parts)


def _step_path(heights: Floats) -> str:
    width = _WIDTH / len(heights)
    points = [f"M0 {_HEIGHT}"]
    for place, height in enumerate(heights):
        points.append(f"V{_HEIGHT - height * (_HEIGHT - 4):.1f}H{(place + 1) * width:.1f}")
    return "".join(points)


def curve_svg(curve: NDArray[np.uint8], alt: str) -> str:
    """A tone curve over the diagonal that changes nothing; both axes are grey levels from 0 to 255."""
    points = " ".join(f"{x},{255 - int(curve[x])}" for x in (*range(0, 255, 3), 255))
    levels = (0, 64, 128, 192, 255)
    below = "".join(f'<text x="{x}" y="272" text-anchor="middle">{x}</text>' for x in levels)
    beside = "".join(f'<text x="-6" y="{259 - y}" text-anchor="end">{y}</text>' for y in levels)
    grid = "".join(f'<path class="guide" d="M{x} 0V255M0 {x}H255"/>' for x in levels)
    return (
        f'<svg class="plot curve" role="img" aria-label="{escape(alt)}" viewBox="-30 -6 300 300">{grid}'
        f'<path class="axis" d="M0 255L255 0"/><polyline class="test" points="{points}"/>{below}{beside}'
        '<text x="128" y="288" text-anchor="middle">grey level before</text></svg>'
    )


def effect_svg(effect: float, is_notable: bool) -> str:
    """A bar to the left or right of zero, full at an effect size of 2; the number itself stands beside it."""
    length = 0.0 if math.isnan(effect) else min(2.0, abs(effect)) * 28
    left = 60 - length if effect < 0 else 60
    kind = "hot" if is_notable else "cold"
    return (
        '<svg class="effect" width="120" height="12" viewBox="0 0 120 12" aria-hidden="true">'
        f'<rect class="{kind}" x="{left:.1f}" y="2" width="{length:.1f}" height="8"/><path d="M60 0V12"/></svg>'
    )


def nice_ticks(low: float, high: float, num_ticks: int = 5, *, whole: bool = False) -> list[float]:
    """About ``num_ticks`` round numbers inside of a range: 1, 2 or 5 times a power of ten apart, and whole if need be."""
    raw = (high - low) / num_ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * 0.999)
    step = max(1.0, step) if whole else step
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def count_classes(report: AuditReport, settled: dict[str, Decision]) -> tuple[Counter[str], Counter[str]]:
    """Training photographs of each class as they lie on the disk, and after drops and relabels."""
    before = Counter(name for name in report.class_name if name)
    after: Counter[str] = Counter()
    for image_id, name in zip(report.scan.image_id, report.class_name, strict=True):
        row = settled.get(image_id)
        if name and not (row and row.decision == DROP):
            after[row.label if row and row.decision == RELABEL else name] += 1
    return before, after


def classes_html(report: AuditReport, settled: dict[str, Decision]) -> str:
    """All classes, the smallest first, with what the decisions leave of them."""
    before, after = count_classes(report, settled)
    names = sorted({*before, *after}, key=lambda name: (after[name], before[name], name))
    if not names:
        return ""
    sizes = [after[name] for name in names]
    least, scale = min(sizes), max([*before.values(), *sizes, 1])
    rows = []
    for name in names:
        kept, lost = after[name], max(0, before[name] - after[name])
        bar = f'<span class="bar"><i style="width:{100 * kept / scale:.2f}%"></i>'
        bar += f'<i class="hot" style="width:{100 * lost / scale:.2f}%"></i></span>' if lost else "</span>"
        mark = ' class="least"' if kept == least else ""
        gone = f'<td class="num">{lost:,}</td>' if lost else '<td class="num zero">0</td>'
        cells = f'<td style="width:45%">{bar}</td><td class="num">{kept:,}</td>{gone}'
        rows.append(f'<tr{mark}><th scope="row">{name_html(name)}</th>{cells}</tr>')
    smallest = [name for name in names if after[name] == least]
    who = name_html(smallest[0]) if len(smallest) == 1 else f"{len(smallest):,} classes"
    lead = f"After the decisions the smallest has {count_html(least, 'photograph')} ({who}), the middle one "
    lead += f"{sizes[len(sizes) // 2]:,} and the largest {sizes[-1]:,}."
    heads = '<th scope="col">class, the smallest first</th><th scope="col">size</th>'
    heads += '<th scope="col" class="num">kept</th><th scope="col" class="num">dropped</th>'
    return (
        f'<section aria-labelledby="classes"><h2 id="classes">Class sizes</h2><p>{lead}</p>'
        f'<p class="note"><span class="key"></span>kept &#160; <span class="key hot"></span>dropped or moved away &#160; '
        f"{count_html(len(names), 'name')}{', the list scrolls' if len(names) > VISIBLE_CLASSES else ''}</p>"
        f'<div class="box" role="region" aria-labelledby="classes" tabindex="0"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )
