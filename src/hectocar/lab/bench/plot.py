"""The plot of a benchmark: a bar per contestant, a dot per round, as SVG."""

from dataclasses import dataclass

from hectocar.lab.bench.figures import Bench, Comparison, compare_rounds, median_rate
from hectocar.pages.environment import render

_WIDTH, _LEFT, _BAR, _ROW = 900, 190, 440, 22


@dataclass(frozen=True)
class _Text:
    x: int
    y: int
    words: str
    kind: str = "plain"


@dataclass(frozen=True)
class _Bar:
    """A median rate, and each round's as a place on the same scale."""

    kind: str
    y: int
    width: float
    samples: list[float]
    x: int = _LEFT
    height: int = _ROW - 6


def draw_plot(bench: Bench) -> str:
    """An SVG document; bars of a case share one scale."""
    texts: list[_Text] = []
    bars: list[_Bar] = []
    top = 10
    for comparison in bench.comparisons:
        _place_comparison(bench, comparison, top, texts, bars)
        top += (len(comparison.contestants) + 2) * _ROW
    texts.append(_Text(10, top + 6, f"{bench.made}, {', '.join(bench.machine.values())}", "missing"))
    return render("bench.svg", width=_WIDTH, height=top + 20, bars=bars, texts=texts)


def _place_comparison(bench: Bench, comparison: Comparison, top: int, texts: list[_Text], bars: list[_Bar]) -> None:
    images = comparison.num_images
    texts.append(_Text(10, top + 14, f"{comparison.title}, images/s", "title"))
    fastest = max((images / min(one.seconds) for one in comparison.contestants if one.seconds), default=1.0)
    for number, one in enumerate(comparison.contestants, start=1):
        y = top + number * _ROW
        texts.append(_Text(10, y + 14, one.name))
        if not one.seconds:
            texts.append(_Text(_LEFT, y + 14, one.problem, "missing"))
            continue
        rate = median_rate(images, one.seconds)
        samples = [_LEFT + images / second / fastest * _BAR for second in one.seconds]
        bars.append(_Bar("ours" if one is comparison.ours else "peer", y + 2, rate / fastest * _BAR, samples))
        words = f"{rate:.1f}"
        if one is not comparison.ours:
            ratio = compare_rounds(one.seconds, comparison.ours.seconds, bench.seed)
            words += f"   hectocar {ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
        texts.append(_Text(_LEFT + _BAR + 12, y + 14, words))
