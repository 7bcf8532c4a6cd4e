"""The plot of a benchmark: a bar per contestant, a dot per round, as SVG."""

from collections.abc import Iterator
from html import escape

from hectocar.lab.bench.figures import Bench, Comparison, compare_rounds, median_rate

_WIDTH, _LEFT, _BAR, _ROW = 900, 190, 440, 22
_STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-weight:bold}.ours{fill:#1b6e53}.peer{fill:#b9c2cc}"
    ".sample{fill:#333;fill-opacity:.55}.missing{fill:#888}"
)


def draw_plot(bench: Bench) -> str:
    """An SVG document; bars of a case share one scale."""
    parts, top = [], 10
    for comparison in bench.comparisons:
        parts += list(_draw_comparison(bench, comparison, top))
        top += (len(comparison.contestants) + 2) * _ROW
    parts.append(_text(10, top + 6, f"{bench.made}, {', '.join(bench.machine.values())}", "missing"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top + 20}" viewBox="0 0 {_WIDTH} {top + 20}" '
        f'role="img" aria-label="Photographs per second, case by case"><style>{_STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _draw_comparison(bench: Bench, comparison: Comparison, top: int) -> Iterator[str]:
    images = comparison.num_images
    yield _text(10, top + 14, f"{comparison.title}, images/s", "title")
    fastest = max(images / min(one.seconds) for one in comparison.contestants if one.seconds)
    for number, one in enumerate(comparison.contestants, start=1):
        y = top + number * _ROW
        yield _text(10, y + 14, one.name)
        if not one.seconds:
            yield _text(_LEFT, y + 14, one.problem, "missing")
            continue
        rate = median_rate(images, one.seconds)
        kind = "ours" if one is comparison.ours else "peer"
        yield f'<rect class="{kind}" x="{_LEFT}" y="{y + 2}" width="{rate / fastest * _BAR:.1f}" height="{_ROW - 6}"/>'
        for second in one.seconds:
            x = _LEFT + images / second / fastest * _BAR
            yield f'<circle class="sample" cx="{x:.1f}" cy="{y + _ROW / 2 - 1:.0f}" r="2.5"/>'
        text = f"{rate:.1f}"
        if one is not comparison.ours:
            ratio = compare_rounds(one.seconds, comparison.ours.seconds, bench.seed)
            text += f"   hectocar {ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
        yield _text(_LEFT + _BAR + 12, y + 14, text)


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}"' + (f' class="{kind}"' if kind else "") + f">{escape(text)}</text>"
