"""Figures of a proof, written as they are measured, under a budget of time; a stage that fails or is skipped is one too."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

FIGURES_FILE, TABLE_FILE, VERDICTS_FILE = "figures.jsonl", "table.md", "verdicts.json"
ERROR, SKIPPED = "error", "skipped"
EAGER, COMPILED = "step eager", "step compiled"
"""Two stages whose figures others read."""


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    stage: str
    name: str
    value: float | None
    """None where there is none: an error, or a stage that was skipped."""
    unit: str = ""
    spread: tuple[float, float] | None = None
    """Least and largest of what ``value`` is the median of."""
    note: str = ""
    """How it was come by, or what went wrong."""
    at_seconds: float = 0.0
    """Since the start."""

    def line(self) -> str:
        """For the screen, at once."""
        spread = "" if self.spread is None else f" ({show_number(self.spread[0])} to {show_number(self.spread[1])})"
        value = f"{show_number(self.value)} {self.unit}{spread}"
        return f"{self.at_seconds:7.1f} s  {self.stage}: {self.name}: {value}  {self.note}"


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, least and largest."""

    seconds: float
    low: float
    high: float

    def as_ms(self) -> tuple[float, tuple[float, float]]:
        """Value and spread of a figure."""
        return 1e3 * self.seconds, (1e3 * self.low, 1e3 * self.high)


class Recorder:
    """Writes figures.jsonl, guards each stage, and knows how much time is left."""

    def __init__(
        self, folder: Path, seconds: float, fingerprint: Mapping[str, str], on_figure: Callable[[Figure], None] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.seconds, self.on_figure = folder / FIGURES_FILE, seconds, on_figure
        self.started = time.monotonic()
        self.figures: list[Figure] = []
        self.path.write_text(json.dumps({"fingerprint": dict(fingerprint)}, ensure_ascii=False) + "\n", "utf-8")

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.seconds - (time.monotonic() - self.started)

    def add(
        self,
        stage: str,
        name: str,
        value: float | None,
        unit: str = "",
        spread: tuple[float, float] | None = None,
        note: str = "",
    ) -> None:
        """Keeps a figure, in memory and on the disk at once."""
        figure = Figure(stage, name, value, unit, spread, note, round(time.monotonic() - self.started, 2))
        self.figures.append(figure)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figure), ensure_ascii=False) + "\n")
        if self.on_figure:
            self.on_figure(figure)

    def add_timing(self, stage: str, name: str, timing: Timing, note: str = "") -> None:
        """A time in milliseconds."""
        value, spread = timing.as_ms()
        self.add(stage, name, value, "ms", spread, note)

    @contextmanager
    def guard(self, stage: str) -> Iterator[None]:
        """What fails inside becomes a figure, and the proof goes on; an interruption by the user does not."""
        try:
            yield
        except Exception as error:  # a stage may fail in any way that a GPU, a driver or a compiler can
            self.add(stage, ERROR, None, note=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
        finally:
            torch.cuda.empty_cache()  # does nothing where there is no GPU

    def fits(self, stage: str, needs_seconds: float) -> bool:
        """Whether there is time for it; if not, that is said."""
        if self.left() >= needs_seconds:
            return True
        self.add(stage, SKIPPED, None, note=f"needs about {needs_seconds:g} s, {max(0.0, self.left()):.0f} s are left")
        return False

    def find(self, stage: str, name: str) -> Figure | None:
        """The last figure of that name."""
        return next((f for f in reversed(self.figures) if (f.stage, f.name) == (stage, name) and f.value is not None), None)


def clock(work: Callable[[], object], wait: Callable[[], None], repeats: int, warmup: int = 2) -> Timing:
    """Times a call ``repeats`` times after a warm-up, the device waited for before and after each."""
    for _ in range(warmup):
        work()
    times = []
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return Timing(statistics.median(times), min(times), max(times))


def show_number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def figure_table(figures: list[Figure]) -> str:
    """A Markdown table, a row per figure."""
    lines = ["| stage | figure | value | unit | from - to | note |", "|---|---|---|---|---|---|"]
    for figure in figures:
        spread = "" if figure.spread is None else f"{show_number(figure.spread[0])} - {show_number(figure.spread[1])}"
        note = figure.note.replace("|", "/")
        cells = (figure.stage, figure.name, show_number(figure.value), figure.unit, spread, note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
